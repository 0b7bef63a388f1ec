"""How a teacher looks at one image: once, or mirrored too, or at several sizes.

In: a recipe and a model; then batches of the largest views. Out: `Looks`; every view of a batch,
and how its images lie in it. What is seen in them the task merges. Next: `teacher.py`.

Each view lies as a view in training does: the image top left, padding right and below. So it is the
image's own area that is resized and mirrored, never the padded square: mirrored as a whole, that
would have its padding on the left, where no model has met any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import UInt8
from torch import Tensor

from ray_st.config import UserError, require
from ray_st.data.images import PAD_RGB
from ray_st.labeling.config import LabelConfig
from ray_st.models import ModelConfig, build
from ray_st.models.backbone import COARSEST_TAP
from ray_st.tasks.task import Shown

_FIELD = "label.scales"


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Which views a teacher takes of each image; each is a forward pass."""

    sides_px: tuple[int, ...]  # of the square views, the largest first
    flip: bool = False  # each of them mirrored too

    @property
    def largest_px(self) -> int:
        """Side of the views to decode: smaller ones are made from them, so none is enlarged."""
        return self.sides_px[0]

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to merge."""
        return len(self.sides_px) == 1 and not self.flip

    @property
    def card(self) -> dict[str, Any]:
        """The same in values for JSON: labels of other views are other labels."""
        return {"sides_px": list(self.sides_px), "flip": self.flip}


def looks_of(config: LabelConfig, model: ModelConfig, task: str) -> Looks:
    """Sides of all scales, each the nearest multiple of the coarsest stride of the backbone.

    Scale 1 is `model.image_size_px` as it is. Raises `UserError` for a scale that comes to less
    than the coarsest stride of the model, for two that come to one size, and for a backbone that
    takes one size only.
    """
    (_, coarsest), sides = model.levels, [_side_px(scale, model) for scale in config.scales]
    of = f"of model.image_size_px {model.image_size_px}"
    least = 2**coarsest
    require(
        min(sides) >= least,
        _FIELD,
        f"scales {of} that come to the coarsest stride {least} or more",
        config.scales,
        f"the least comes to {min(sides)}",
    )
    rule = f"scales {of} that come to sizes apart, in steps of {_step_px(model)}"
    require(len(set(sides)) == len(sides), _FIELD, rule, config.scales, f"they come to {sides}")
    for side in sides:
        if side != model.image_size_px:
            _require_taken(model, task, side)
    return Looks(sides_px=tuple(sorted(sides, reverse=True)), flip=config.flip)


def _step_px(model: ModelConfig) -> int:
    return int(2 ** min(model.levels[1], COARSEST_TAP))


def _side_px(scale: float, model: ModelConfig) -> int:
    step = _step_px(model)
    exact = scale * model.image_size_px
    return model.image_size_px if scale == 1 else int(exact / step + 0.5) * step


def _require_taken(model: ModelConfig, task: str, side: int) -> None:
    """Try one forward pass of shapes, for some transformers know one size only."""
    with torch.device("meta"), torch.no_grad():
        built = build(model, task, 1).eval()
        try:
            built(torch.empty(1, 3, side, side, dtype=torch.uint8))
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{_FIELD}: must be 1 with model.backbone {model.backbone!r}, which takes no views "
                f"of {side} px ({said:.160}); leave it out"
            ) from error


def views(
    decoded: UInt8[Tensor, "n 3 s s"], sizes_hw: Sequence[tuple[int, int]], looks: Looks
) -> Iterator[tuple[UInt8[Tensor, "n 3 v v"], Shown]]:
    """Every view of a batch, one after another: the largest first, each before its mirror image.

    Args:
        decoded: the batch in views of `looks.largest_px`.
        sizes_hw: size of each source image in pixels.
        looks: which views.
    """
    assert decoded.shape[-1] == looks.largest_px, "smaller views are made from the largest"
    whole = Shown.of(sizes_hw, looks.largest_px)
    for side in looks.sides_px:
        shown = Shown.of(sizes_hw, side)
        view = decoded if shown == whole else _resized(decoded, whole, shown)
        yield view, shown
        if looks.flip:
            yield _mirrored(view, shown), shown.mirrored()


def _resized(decoded: Tensor, whole: Shown, shown: Shown) -> Tensor:
    """Shrink each image's own area, over all pixels, into a padded view."""
    padding = torch.tensor(PAD_RGB, dtype=torch.uint8, device=decoded.device).view(1, 3, 1, 1)
    shape = (len(decoded), 3, *shown.size_hw)
    view = padding.expand(shape).clone(memory_format=torch.channels_last)
    for i, ((height, width), (old_h, old_w)) in enumerate(
        zip(shown.areas_hw, whole.areas_hw, strict=True)
    ):
        # In floats: torch shrinks bytes with antialias on a CPU only.
        area = decoded[i : i + 1, :, :old_h, :old_w].float()
        area = F.interpolate(area, (height, width), mode="bilinear", antialias=True)
        view[i, :, :height, :width] = area[0].round().clamp(0, 255).byte()
    return view


def _mirrored(view: Tensor, shown: Shown) -> Tensor:
    turned = view.clone(memory_format=torch.channels_last)
    for i, (height, width) in enumerate(shown.areas_hw):
        turned[i, :, :height, :width] = view[i, :, :height, :width].flip(2)
    return turned
