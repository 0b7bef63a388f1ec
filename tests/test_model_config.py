"""What a model section may say, and what contradicts itself."""

import re

import pytest

from ray_st.config import UserError
from ray_st.models import ModelConfig, build

pytestmark = pytest.mark.pure

SPINENET = {"backbone": "spinenet49s", "pyramid": "none", "levels": (3, 7)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**SPINENET, "pyramid": "fpn"}, "pyramid: must be none with backbone spinenet49s, got"),
        ({**SPINENET, "pyramid": "nasfpn"}, "pyramid: must be none with backbone spinenet49s"),
        ({**SPINENET, "levels": (3, 6)}, "levels: must be (3, 7) with backbone spinenet49s"),
        ({"pyramid": "none"}, "pyramid: must be fpn or nasfpn with backbone resnet18, got 'none'"),
        ({"pyramid": "nasfpn", "levels": (3, 6)}, "levels: must be five levels with pyramid nasf"),
        ({"separable": True}, "separable: must be left at False with pyramid fpn, got True; set "),
        ({**SPINENET, "separable": True}, "separable: must be left at False with pyramid none"),
        ({"pyramid_repeats": 5}, "pyramid_repeats: must be left at 7 with pyramid fpn, got 5"),
    ],
)
def test_config_refuses_what_contradicts_itself(changes, said):
    with pytest.raises(UserError, match=re.escape(f"model.{said}")):
        ModelConfig(**changes)


@pytest.mark.parametrize("name", ["spinenet50", "spinnet49", "SpineNet-49", "spinenet49 "])
@pytest.mark.parametrize("pyramid", ["none", "fpn"])
def test_a_misspelt_spinenet_is_a_wrong_backbone_whatever_the_pyramid(name, pyramid):
    line = rf"^model\.backbone: must be a timm model, got '{name}'; did you mean .*spinenet\d"
    with pytest.raises(UserError, match=line):
        build(ModelConfig(**{**SPINENET, "backbone": name, "pyramid": pyramid}), "detection", 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", (4, 3)),
        ("head_channels", 0),
        ("drop_path", -0.1),
        ("drop_path", 1.0),
        ("norm_eps", 0.0),
        ("norm_momentum", 0.0),
        ("norm_momentum", 1.5),
        ("levels", (1, 3)),
        ("image_size_px", 64),
        ("image_size_px", 100_000),
        ("channels", 0),
        ("head_convs", -1),
        ("anchor_scale", 0.0),
    ],
)
def test_config_names_the_field_that_is_wrong(field, value):
    with pytest.raises(UserError, match=rf"^model\.{field}: .*got {re.escape(str(value))}"):
        ModelConfig(**{field: value})


def test_a_pyramid_of_no_cells_is_refused():
    with pytest.raises(UserError, match=r"^model\.pyramid_repeats: must be at least 1, got 0"):
        ModelConfig(pyramid="nasfpn", pyramid_repeats=0)
