"""The paper's models and how large they are in print: the oracle of our own.

In: the recipes. Out: `ROWS`, and what `measure` finds for one of them. Next: `files.py`.

Printed figures are those of the authors' model zoo and of the paper's tables. A recount is from
the layers of the released code (paper.md 5.7). Where there is one, it is what we hold ourselves
to: it has more digits, and says what the printed figure left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_st.config import convert
from ray_st.models import ModelConfig
from ray_st.models.count import count
from ray_st.recipe import find_recipe, read_yaml


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Parameters in millions, multiply-adds of one image in billions."""

    parameters_m: float
    multiply_adds_b: float

    def off_percent(self, expected: Figures) -> Figures:
        """By how many percent these differ from the expected ones."""
        return Figures(
            parameters_m=100 * (self.parameters_m / expected.parameters_m - 1),
            multiply_adds_b=100 * (self.multiply_adds_b / expected.multiply_adds_b - 1),
        )


TOLERANCE_PERCENT = Figures(parameters_m=0.1, multiply_adds_b=0.5)
# Half of the last printed digit, where nobody recounted.
ROUNDED_PERCENT = Figures(parameters_m=0.25, multiply_adds_b=1.5)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model as it was printed; `printed` or `recount` may be missing, not both."""

    name: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe's model section that this row sets otherwise."""
    task: str = "detection"
    num_classes: int = 91
    """Outputs of the head: 91 slots for COCO's 80 classes, 21 for VOC, 1001 for ImageNet."""
    printed: Figures | None = None
    recount: Figures | None = None
    source: str

    @property
    def model(self) -> ModelConfig:
        """Read the model section of the recipe."""
        path = find_recipe(self.recipe)
        section = {**read_yaml(path)["model"], **self.changes}
        config: ModelConfig = convert(ModelConfig, section, where=str(path), path="model")
        return config

    @property
    def expected(self) -> Figures:
        """What we hold ourselves to."""
        figures = self.recount or self.printed
        assert figures is not None
        return figures

    @property
    def tolerance_percent(self) -> Figures:
        """How far we may be off."""
        return TOLERANCE_PERCENT if self.recount else ROUNDED_PERCENT


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row beside what our model counts."""

    row: Row
    image_size_px: int
    counted: Figures

    @property
    def off_percent(self) -> Figures:
        """By how much ours differs from `row.expected`."""
        return self.counted.off_percent(self.row.expected)

    @property
    def wrong(self) -> list[str]:
        """Names of the figures outside the row's tolerance."""
        off, allowed = vars(self.off_percent), vars(self.row.tolerance_percent)
        return [name for name, by in off.items() if abs(by) > allowed[name]]


def measure(row: Row) -> Measured:
    """Build the row's model without memory, and count."""
    config = row.model
    found = count(config, row.task, row.num_classes)
    return Measured(
        row=row,
        image_size_px=config.image_size_px,
        counted=Figures(
            parameters_m=found.parameters / 1e6, multiply_adds_b=found.multiply_adds / 1e9
        ),
    )


def _row(
    name: str,
    recipe: str,
    printed: tuple[float, float] | None,
    recount: tuple[float, float] | None,
    source: str,
    **others: Any,
) -> Row:
    def figures(pair: tuple[float, float] | None) -> Figures | None:
        return Figures(parameters_m=pair[0], multiply_adds_b=pair[1]) if pair else None

    return Row(
        name=name,
        recipe=recipe,
        printed=figures(printed),
        recount=figures(recount),
        source=source,
        **others,
    )


_ZOO = "tensorflow/tpu, detection/MODEL_ZOO.md"
_TABLES = "the paper's tables 5 and 6"
_CODE = "the released layers"
_AS_PRINTED = {"channels": 256, "head_channels": 128}  # the released layers have 128 for both
_VOC: dict[str, Any] = {"task": "segmentation", "num_classes": 21}
_CLASSIFIER: dict[str, Any] = {
    "task": "classification",
    "num_classes": 1001,
    "changes": {"image_size_px": 224},
}

# Each: printed, then recounted. The recounts of EfficientNet leave out its own classifier, which
# the printed figures hold though nothing uses it (B7 with it: 71.73, L2: 485.97).
ROWS = (
    _row("SpineNet-49S", "coco_spinenet49s", None, (11.27, 30.78), _CODE),
    _row(
        "SpineNet-49S as printed",
        "coco_spinenet49s",
        (11.9, 33.8),
        (11.94, 33.75),
        _ZOO,
        changes=_AS_PRINTED,
    ),
    _row("SpineNet-49", "coco_spinenet49", (28.5, 85.4), (28.54, 85.28), _ZOO),
    _row("SpineNet-96", "coco_spinenet96", (43.0, 265.4), (42.97, 265.0), _ZOO),
    _row("SpineNet-143", "coco_spinenet143", (67.0, 524.0), (66.96, 523.3), _ZOO),
    _row("SpineNet-190", "coco_spinenet190", (163.6, 1885.0), (163.64, 1881.7), _ZOO),
    _row("ResNet-50 FPN", "coco_r50_fpn_s4", (34.0, 97.0), (34.09, 96.88), _ZOO),
    _row(
        "ResNet-101 FPN",
        "coco_r101_fpn_s4",
        (53.1, 326.3),
        (53.08, 325.6),
        _ZOO,
        changes={"image_size_px": 1024},
    ),
    _row("ResNet-152 FPN", "coco_r152_fpn", (68.7, 630.5), (68.73, 630.0), _ZOO),
    _row("ResNet-50 NAS-FPN", "coco_r50_nasfpn", (60.3, 140.6), (60.08, 140.3), _ZOO),
    _row(
        "ResNet-50 NAS-FPN x5",
        "coco_r50_nasfpn",
        None,
        (51.8, 126.4),
        _CODE,
        changes={"pyramid_repeats": 5},  # the code's default, which the printed figures do not fit
    ),
    _row("EfficientNet-B7 FPN", "coco_b7_fpn_s4", None, (72.05, 103.8), _CODE),
    _row("the same, 80 slots", "coco_b7_fpn_s4", None, (71.82, 101.8), _CODE, num_classes=80),
    _row("EfficientNet-B7 NAS-FPN", "voc_b7_nasfpn", (71, 60), (67.53, 59.35), _TABLES, **_VOC),
    _row("EfficientNet-L2 NAS-FPN", "voc_l2_nasfpn", (485, 229), (472.88, 226.0), _TABLES, **_VOC),
    _row("SpineNet-49 classifier", "coco_spinenet49", (22.1, 3.5), None, _ZOO, **_CLASSIFIER),
    _row("SpineNet-96 classifier", "coco_spinenet96", (36.5, 5.7), None, _ZOO, **_CLASSIFIER),
    _row("SpineNet-143 classifier", "coco_spinenet143", (60.5, 9.1), None, _ZOO, **_CLASSIFIER),
    _row("SpineNet-190 classifier", "coco_spinenet190", (127.1, 19.1), None, _ZOO, **_CLASSIFIER),
)
