"""Training views of a few images under several policies, drawn with their labels.

In: a `Sample` and a recipe's `AugmentConfig`. Out: a `Sheet`. Next: `checked.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from PIL import Image

from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.data.labels import Labels, Origin
from ray_st.data.order import stream_seed
from ray_st.data.rows import unpack
from ray_st.data.views import augmented_views
from ray_st.report.drawing import Drawing, Seen, Viewer, draw
from ray_st.report.sampling import Sample
from ray_st.report.sheet import Sheet, SheetRow

_Policy = Literal["S1", "S2", "S3", "S4"]
_PEOPLE = Viewer(title="Human labels", colour="human")
_FOR_ALL: Final = ("flip_probability", "colour_jitter", "grey_probability")
_AUTOAUGMENT: Final[tuple[_Policy, ...]] = ("S2", "S3")


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What a sheet shows of each image, and how large."""

    recipe: AugmentConfig
    magnitudes: Sequence[float]  # of S4
    size_px: int  # side of a training view
    seed: int  # of the training run
    classes: Sequence[str]
    side_px: int  # of a picture on the sheet

    def drawn(self, picture: Image.Image, labels: Labels) -> Drawing:
        """Draw what people labelled, without tags: a colour a class."""
        return draw(
            Seen(
                picture=picture,
                labels=labels,
                truth=None,
                classes=self.classes,
                viewer=_PEOPLE,
                side_px=self.side_px,
                by_class=True,
            )
        )


def policies(recipe: AugmentConfig, magnitudes: Sequence[float]) -> dict[AugmentConfig, str]:
    """Give the recipe, then the paper's four policies, with a title each.

    Their scales are the paper's; all else that the recipe sets holds where a policy knows it.
    """
    weaker: tuple[_Policy, ...] = ("S1", *_AUTOAUGMENT)
    others: dict[AugmentConfig, str] = {_under(recipe, policy): policy for policy in weaker}
    for magnitude in magnitudes:
        strong = replace(_under(recipe, "S4"), magnitude=magnitude)
        others[strong] = _name(strong)
    others.pop(recipe, None)  # a second row would show the same pictures
    return {recipe: "This recipe", **others}


def _under(recipe: AugmentConfig, policy: _Policy) -> AugmentConfig:
    if recipe.policy == policy or {recipe.policy, policy} == {*_AUTOAUGMENT}:
        return replace(recipe, policy=policy, scale_jitter=None)
    names = _FOR_ALL if policy == "S1" else (*_FOR_ALL, "reference_px")
    kept: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    return AugmentConfig(policy=policy, **kept)


def _name(policy: AugmentConfig) -> str:
    return f"S4, magnitude {policy.magnitude:g}" if policy.policy == "S4" else policy.policy


def _notes(policy: AugmentConfig) -> list[str]:
    """Say what a policy does, in a few short lines."""
    low, high = policy.jitter
    chance = policy.flip_probability
    return [
        *_operations(policy),
        f"scale {low:g} to {high:g}",
        f"flip {chance:.0%}" if chance else "no flip",
        *(["colour jitter"] if policy.colour_jitter else []),
        *(["grey at times"] if policy.grey_probability else []),
    ]


def _operations(policy: AugmentConfig) -> list[str]:
    if policy.policy == "S1":
        return ["no operations"]
    if policy.policy == "S4":
        return ["RandAugment", f"{policy.layers} of {len(policy.operations)} operations"]
    tables = [policy.autoaugment] if policy.autoaugment != "none" else []
    count = len(policy.sub_policies)
    own = [f"{count} own {'line' if count == 1 else 'lines'}"] if count else []
    return [f"AutoAugment {' and '.join(tables + own)}"]


def augmented_sheet(chosen: Sample, showing: Showing) -> Sheet:
    """Draw the images as labelled, then their training views under each policy."""
    sources = map(showing.drawn, chosen.pictures, unpack(chosen.rows))
    rows = [SheetRow(title="Source", notes=["as people labelled it"], drawings=[*sources])]
    for policy, title in policies(showing.recipe, showing.magnitudes).items():
        notes = _notes(policy)
        if policy == showing.recipe:
            notes = [_name(policy), *notes]
        rows.append(SheetRow(title=title, notes=notes, drawings=_views(chosen, policy, showing)))
    return Sheet(
        title="What training sees",
        notes=[
            f"One column an image, one row a policy: what training with seed {showing.seed} shows "
            f"in its first epoch, in views of {showing.size_px} px.",
            "Brown is padding; grey was covered, or left empty, by an operation.",
        ],
        columns=[PurePosixPath(uri).name for uri in chosen.rows["uri"].to_pylist()],
        rows=rows,
        side_px=showing.side_px,
    )


def _views(chosen: Sample, policy: AugmentConfig, showing: Showing) -> list[Drawing]:
    epochs = [0] * chosen.rows.num_rows  # the first: views of another are no less random
    seed = stream_seed(showing.seed, Origin.HUMAN)
    views = augmented_views(chosen.rows, epochs, showing.size_px, policy, seed)
    for uri, reason in zip(views.uris, views.reasons, strict=True):
        if reason is not None:
            raise UserError(f"data.train: {uri} could be read before, got {reason}; try again")
    return [*map(showing.drawn, map(Image.fromarray, views.pixels), views.labels)]
