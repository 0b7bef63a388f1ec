"""The `augment:` section: what each policy sets by itself, and what it refuses."""

import pytest

from ray_st.config import UserError
from ray_st.data.augment import AugmentConfig
from ray_st.data.augment.policies import AUTOAUGMENT, RANDAUGMENT, Policy

pytestmark = pytest.mark.pure

POLICIES = ("S1", "S2", "S3", "S4")
OWN = ("Rotate_BBox .6/10 + Color 1/6",)


@pytest.mark.parametrize(
    ("policy", "jitter", "drawn"),
    [
        ("S1", (0.8, 1.2), Policy()),
        ("S2", (0.8, 1.2), Policy.autoaugment(AUTOAUGMENT["v0"])),
        ("S3", (0.5, 2.0), Policy.autoaugment(AUTOAUGMENT["v0"])),
        ("S4", (0.5, 2.0), Policy.randaugment(RANDAUGMENT, layers=2, magnitude=10)),
    ],
)
def test_the_papers_four(policy, jitter, drawn):
    config = AugmentConfig(policy=policy)
    assert config.jitter == jitter
    assert config.drawn == drawn
    assert config.flip_probability == 0.5
    assert (config.colour_jitter, config.grey_probability) == (0, 0)
    assert AugmentConfig(policy=policy, scale_jitter=(0.1, 2.0)).jitter == (0.1, 2.0)


def test_s1_is_what_is_left_out():
    assert AugmentConfig() == AugmentConfig(policy="S1")


@pytest.mark.parametrize("policy", ["S2", "S3"])
def test_tables_of_ones_own_come_after_the_papers_or_alone(policy):
    for version, lines in AUTOAUGMENT.items():
        config = AugmentConfig(policy=policy, autoaugment=version)
        assert config.drawn == Policy.autoaugment(lines)
        config = AugmentConfig(policy=policy, autoaugment=version, sub_policies=OWN)
        assert config.drawn == Policy.autoaugment([*lines, *OWN])
    alone = AugmentConfig(policy=policy, autoaugment="none", sub_policies=OWN)
    assert alone.drawn == Policy.autoaugment(OWN)
    with pytest.raises(UserError, match=r"augment\.sub_policies: must be one line or more"):
        AugmentConfig(policy=policy, autoaugment="none")


def test_randaugment_can_be_varied():
    operations = ("Invert", "Cutout_Only_BBoxes")
    config = AugmentConfig(policy="S4", layers=1, magnitude=30.0, operations=operations)
    assert config.drawn == Policy.randaugment(operations, layers=1, magnitude=30)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("field", "value", "users"),
    [
        ("autoaugment", "v1", "S2 and S3"),
        ("sub_policies", OWN, "S2 and S3"),
        ("layers", 3, "S4"),
        ("magnitude", 5.0, "S4"),
        ("operations", ("Invert",), "S4"),
        ("reference_px", 0, "S2 and S3 and S4"),
    ],
)
def test_what_a_policy_does_not_use_is_refused(policy, field, value, users):
    if policy in users.split(" and "):
        config = AugmentConfig(policy=policy, **{field: value})
        assert getattr(config, field) == value
        return
    words = rf"^augment\.{field}: must be its default.* augment\.policy {policy}, .*{users} use"
    with pytest.raises(UserError, match=words):
        AugmentConfig(policy=policy, **{field: value})


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_can_be_flipped_scaled_and_coloured(policy):
    options = {"flip_probability": 0.0, "scale_jitter": (0.1, 2.0)}
    AugmentConfig(policy=policy, **options, colour_jitter=0.5, grey_probability=0.2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"policy": "S4", "layers": 0}, "layers: must be from 1 to 20"),
        ({"policy": "S4", "magnitude": -1.0}, "magnitude: must be from 0 to 30"),
        ({"policy": "S4", "magnitude": 30.5}, "magnitude: must be from 0 to 30"),
        ({"policy": "S4", "magnitude": float("nan")}, "magnitude: must be from 0 to 30"),
        ({"policy": "S4", "operations": ()}, "operations: must be one or more names"),
        ({"policy": "S4", "operations": ("Invert", "Rotat")}, "operations: 'Rotat'.*Rotate_BBox"),
        ({"policy": "S4", "reference_px": -1}, "reference_px: must be 0 or more"),
        ({"policy": "S2", "sub_policies": ("Colour 1/1",)}, "sub_policies: 'Colour'.*Color"),
        ({"policy": "S3", "sub_policies": ("Color 2/1",)}, "sub_policies: must be probability"),
    ],
)
def test_wrong_settings_name_their_field(given, words):
    with pytest.raises(UserError, match=rf"^augment\.{words}"):
        AugmentConfig(**given)
