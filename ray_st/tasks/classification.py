"""Classification as a task: logits to loss sums, to the likeliest classes, and those to accuracy.

In: logits of the model, `ClassLabel`. Out: `LossSums`, labels, metrics. Next: `joint.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float32, Int64
from torch import Tensor

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Labels
from ray_st.data.rows import unpack
from ray_st.tasks.soft_targets import class_probabilities
from ray_st.tasks.task import LossSums, Shown

TOP = 5  # classes of an image that are kept
_UNKNOWN = -1  # target of an image without a class
_WRONG, _UNLABELLED = 2**30, 2**31  # beyond any place among the labels


@dataclass(kw_only=True, eq=False)
class Classification:
    """The `Task` of a model that gives class logits of a whole image."""

    num_classes: int
    name: str = field(default="classification", init=False)
    kind: type[Labels] = field(default=ClassLabel, init=False)
    figures: tuple[str, ...] = field(default=("top1", "top5"), init=False)

    def targets(
        self, labels: Sequence[ClassLabel], size_hw: tuple[int, int], device: torch.device
    ) -> Int64[Tensor, " b"] | Float32[Tensor, "b k"]:
        """The class of each image; -1 where there is none.

        With a soft label among them, the probabilities of each; all 0 where there is no class.
        """
        del size_hw  # a class has no place
        is_soft = any(one.is_soft for one in labels)
        if is_soft:
            known = [k for one in labels for k in one.top_class_ids.tolist()]
        else:
            known = [one.top_class_ids[0] if len(one.top_class_ids) else _UNKNOWN for one in labels]
        if known and not _UNKNOWN <= min(known) <= max(known) < self.num_classes:
            raise UserError(
                f"data.classes: class ids must be 0..{self.num_classes - 1}, got "
                f"{min(known)}..{max(known)}; give the class list of these labels"
            )
        if is_soft:
            return torch.from_numpy(class_probabilities(labels, self.num_classes)).to(device)
        return torch.tensor(np.array(known, np.int64), device=device)

    def loss_sums(
        self,
        outputs: Float32[Tensor, "b k"],
        targets: Int64[Tensor, " b"] | Float32[Tensor, "b k"],
    ) -> LossSums:
        """Cross entropy of each image; an image without a class counts for nothing."""
        if targets.is_floating_point():
            sums = F.cross_entropy(outputs, targets, reduction="none")
        else:
            sums = F.cross_entropy(outputs, targets, ignore_index=_UNKNOWN, reduction="none")
        return LossSums(
            sums=sums,
            counts=self.counts(outputs, targets),
            parts={"class": sums.detach()},
            count_offset=0.0,
        )

    def counts(
        self,
        outputs: Float32[Tensor, "_ k"],
        targets: Int64[Tensor, " b"] | Float32[Tensor, "b k"],
    ) -> Float32[Tensor, " b"]:
        """1 for an image with a class."""
        del outputs
        if targets.is_floating_point():
            return (targets > 0).any(dim=1).float()
        return (targets != _UNKNOWN).float()

    @torch.no_grad()
    def predictions(
        self, outputs: Float32[Tensor, "b k"], size_hw: tuple[int, int]
    ) -> list[ClassLabel]:
        """The likeliest classes of each image, and their probabilities."""
        del size_hw
        return self._likeliest(outputs.softmax(dim=1))

    @torch.no_grad()
    def merged(self, views: Iterable[tuple[Float32[Tensor, "b k"], Shown]]) -> list[ClassLabel]:
        """The same of the mean of the probabilities in all views."""
        seen = [outputs.softmax(dim=1) for outputs, _ in views]
        return self._likeliest(torch.stack(seen).mean(dim=0))

    def _likeliest(self, probabilities: Float32[Tensor, "b k"]) -> list[ClassLabel]:
        scores, ids = probabilities.topk(min(TOP, self.num_classes), dim=1)
        pairs = zip(ids.cpu().numpy(), scores.cpu().numpy(), strict=True)
        return [ClassLabel.of(i, s) for i, s in pairs]

    def metrics(
        self, truths: pa.Table, predictions: pa.Table, classes: Sequence[str]
    ) -> dict[str, float]:
        """Top-1 and top-5 accuracy and top1/<class>, 0..100; an image without prediction is wrong.

        NaN for a class without an image.
        """
        truth, ranks = _ranked(truths, predictions)
        figures = {"top1": _percent(ranks < 1), "top5": _percent(ranks < TOP)}
        for k, name in enumerate(classes):
            figures[f"top1/{name}"] = _percent(ranks[truth == k] < 1)
        return figures

    def agreement(self, truths: pa.Table, labels: pa.Table) -> tuple[float, float]:
        """Share of labelled images that are right, and of all images that are labelled rightly."""
        _, ranks = _ranked(truths, labels)
        return _share((ranks < 1)[ranks < _UNLABELLED]), _share(ranks < 1)


def _ranked(truths: pa.Table, labels: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """True class of each image that has one, and its place among the labels, from 0.

    The place is `_WRONG` where others were given, `_UNLABELLED` where none was.
    """
    found = dict(zip(labels.column("image_id").to_pylist(), unpack(labels), strict=True))
    pairs = zip(truths.column("image_id").to_pylist(), unpack(truths), strict=True)
    truth, ranks = [], []
    for image_id, one in pairs:
        if not len(one.top_class_ids):
            continue
        class_id = int(one.top_class_ids[0])
        guesses = found[image_id].top_class_ids.tolist() if image_id in found else []
        truth.append(class_id)
        missed = _WRONG if guesses else _UNLABELLED
        ranks.append(guesses.index(class_id) if class_id in guesses else missed)
    return np.array(truth, np.int64), np.array(ranks, np.int64)


def _percent(is_right: np.ndarray) -> float:
    return 100 * _share(is_right)


def _share(is_right: np.ndarray) -> float:
    return float(is_right.mean()) if len(is_right) else float("nan")
