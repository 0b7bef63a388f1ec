"""Fitted views -> images without their padding, and labels of them back in source pixels.

In: what `Predictor.predict` gets. Out: images (h, w, 3), and labels an image. Next: `origin.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ray_st.data.labels import Detections, Labels
from ray_st.data.placed import Placed
from ray_st.labeling.teacher import PredictionError
from ray_st.models.weight_files import reason_of
from ray_st.tasks.detection import DetectConfig


def placed_in(sizes_hw: np.ndarray, side_px: int) -> list[Placed]:
    """How each source image lies in its view."""
    return [Placed.fitting((int(h), int(w)), side_px) for h, w in sizes_hw]


def unpadded(pixels: np.ndarray, placed: Sequence[Placed]) -> list[np.ndarray]:
    """Each view without its padding: uint8, (h, w, 3), a copy of its own."""
    sizes = [one.resized_hw for one in placed]
    return [view[:h, :w].copy() for view, (h, w) in zip(pixels, sizes, strict=True)]


class BySize:
    """A `Predictor` out of a function that labels images of one size."""

    def __init__(
        self,
        kind: type[Labels],
        label: Callable[[np.ndarray], Sequence[Labels]],
        *,
        most: int = 0,
        cut: bool = True,
    ) -> None:
        """`label`: uint8 (n, h, w, 3) -> labels in its pixels.

        `most`: of n, 0 for any; `cut`: whether the padding of the views goes.
        """
        self._kind, self._label, self._most, self._cut = kind, label, most, cut

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that it gives."""
        return self._kind

    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """Label fitted views, those of one size at a time, so that none depends on the others."""
        placed = placed_in(sizes_hw, pixels.shape[1])
        images = unpadded(pixels, placed) if self._cut else list(pixels)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(image.shape, []).append(i)
        found: dict[int, Labels] = {}
        for members in groups.values():
            step = self._most or len(members)
            for some in (members[k : k + step] for k in range(0, len(members), step)):
                labels = self._labelled(np.stack([images[i] for i in some]))
                found.update(zip(some, labels, strict=True))
        return [found[i].in_source(placed[i]) for i in range(len(images))]

    def _labelled(self, images: np.ndarray) -> Sequence[Labels]:
        try:
            return self._label(images)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # of the machine: the image is not to blame
        except (ValueError, RuntimeError) as error:  # such as of a side too short for a network
            height, width = images.shape[1:3]
            raise PredictionError(
                f"could not label {height} x {width} pixels ({reason_of(error)})"
            ) from error


def detections(
    boxes_xyxy: Tensor, scores: Tensor, names: Tensor, ids: np.ndarray, detect: DetectConfig
) -> Detections:
    """A foreign detector's answer for one image: best first, above the floor, under our ids.

    `ids`: class id of each of its outputs; below 0 for those that stand for nothing.
    """
    columns = (x.detach().cpu().float().numpy() for x in (boxes_xyxy, scores, names))
    boxes, score, outputs = columns
    class_ids = ids[outputs.astype(np.int64)]
    found = Detections.of(boxes, class_ids, scores=score)
    found = found[(class_ids >= 0) & (score > detect.score_floor)]
    return found[np.argsort(-found.scores, kind="stable")[: detect.max_detections]]
