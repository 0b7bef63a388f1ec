"""The policies against a second transcription of the listing, how they draw, what they refuse."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ray_st.config import UserError
from ray_st.data.augment.operations import names
from ray_st.data.augment.policies import AUTOAUGMENT, RANDAUGMENT, Policy, Step, read_line
from ray_st.data.augment.scene import Scene
from ray_st.data.labels import ClassLabel, Detections

pytestmark = pytest.mark.pure

# (operation, probability in tenths, level), with the names' ends left out: what moves an image
# moves its boxes too, and "only" is within boxes.
LISTED_V0 = [
    [("TranslateX", 6, 4), ("Equalize", 8, 10)],
    [("only TranslateY", 2, 2), ("Cutout", 8, 8)],
    [("Sharpness", 0, 8), ("ShearX", 4, 0)],
    [("ShearY", 10, 2), ("only TranslateY", 6, 6)],
    [("Rotate", 6, 10), ("Color", 10, 6)],
]
LISTED_V1 = [
    *LISTED_V0,
    [("Color", 0, 0), ("only ShearX", 8, 4)],
    [("only ShearY", 8, 2), ("only Flip", 0, 10)],
    [("Equalize", 6, 10), ("TranslateX", 2, 2)],
    [("Color", 10, 10), ("only TranslateY", 4, 6)],
    [("Rotate", 8, 10), ("Contrast", 0, 10)],
    [("Cutout", 2, 2), ("Brightness", 8, 10)],
    [("Color", 10, 6), ("Equalize", 10, 2)],
    [("only Cutout", 4, 6), ("only TranslateY", 8, 2)],
    [("Color", 2, 8), ("Rotate", 8, 10)],
    [("Sharpness", 4, 4), ("only TranslateY", 0, 4)],
    [("Sharpness", 10, 4), ("SolarizeAdd", 4, 4)],
    [("Rotate", 10, 8), ("Sharpness", 2, 8)],
    [("ShearY", 6, 10), ("only Equalize", 6, 8)],
    [("ShearX", 2, 6), ("only TranslateY", 2, 10)],
    [("SolarizeAdd", 6, 8), ("Brightness", 8, 10)],
]
LISTED_V2 = [
    [("Color", 0, 6), ("Cutout", 6, 8), ("Sharpness", 4, 8)],
    [("Rotate", 4, 8), ("Sharpness", 4, 2), ("Rotate", 8, 10)],
    [("TranslateY", 10, 8), ("AutoContrast", 8, 2)],
    [("AutoContrast", 4, 6), ("ShearX", 8, 8), ("Brightness", 0, 10)],
    [("SolarizeAdd", 2, 6), ("Contrast", 0, 10), ("AutoContrast", 6, 0)],
    [("Cutout", 2, 0), ("Solarize", 8, 8), ("Color", 10, 4)],
    [("TranslateY", 0, 4), ("Equalize", 6, 8), ("Solarize", 0, 10)],
    [("TranslateY", 2, 2), ("ShearY", 8, 8), ("Rotate", 8, 8)],
    [("Cutout", 8, 8), ("Brightness", 8, 8), ("Cutout", 2, 2)],
    [("Color", 8, 4), ("TranslateY", 10, 6), ("Rotate", 6, 6)],
    [("Rotate", 6, 10), ("BBox_Cutout", 10, 4), ("Cutout", 2, 8)],
    [("Rotate", 0, 0), ("Equalize", 6, 6), ("ShearY", 6, 8)],
    [("Brightness", 8, 8), ("AutoContrast", 4, 2), ("Brightness", 2, 2)],
    [("TranslateY", 4, 8), ("Solarize", 4, 6), ("SolarizeAdd", 2, 10)],
    [("Contrast", 10, 10), ("SolarizeAdd", 2, 8), ("Equalize", 2, 4)],
]
LISTED_V3 = [
    [("Posterize", 8, 2), ("TranslateX", 10, 8)],
    [("BBox_Cutout", 2, 10), ("Sharpness", 10, 8)],
    [("Rotate", 6, 8), ("Rotate", 8, 10)],
    [("Equalize", 8, 10), ("AutoContrast", 2, 10)],
    [("SolarizeAdd", 2, 2), ("TranslateY", 2, 8)],
    [("Sharpness", 0, 2), ("Color", 4, 8)],
    [("Equalize", 10, 8), ("TranslateY", 10, 8)],
    [("Posterize", 6, 2), ("Rotate", 0, 10)],
    [("AutoContrast", 6, 0), ("Rotate", 10, 6)],
    [("Equalize", 0, 4), ("Cutout", 8, 10)],
    [("Brightness", 10, 2), ("TranslateY", 10, 6)],
    [("Contrast", 0, 2), ("ShearY", 8, 0)],
    [("AutoContrast", 8, 10), ("Contrast", 2, 10)],
    [("Rotate", 10, 10), ("Cutout", 10, 10)],
    [("SolarizeAdd", 8, 6), ("Equalize", 8, 8)],
]
LISTED = {"v0": LISTED_V0, "v1": LISTED_V1, "v2": LISTED_V2, "v3": LISTED_V3}
MOVING = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


def full_name(short):
    if short.startswith("only "):
        return short.removeprefix("only ") + "_Only_BBoxes"
    return short + "_BBox" if short in MOVING else short


@pytest.mark.parametrize(("version", "count"), [("v0", 5), ("v1", 20), ("v2", 15), ("v3", 15)])
def test_each_sub_policy_is_the_papers(version, count):
    table = Policy.autoaugment(AUTOAUGMENT[version]).table
    assert len(table) == len(LISTED[version]) == count
    for found, listed in zip(table, LISTED[version], strict=True):
        assert found == tuple(Step(full_name(name), tenths / 10, level)
                              for name, tenths, level in listed)  # fmt: skip


def test_randaugment_has_the_papers_sixteen_and_none():
    listed = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color"]
    listed += ["Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX"]
    listed += ["TranslateY", "Cutout", "SolarizeAdd"]
    assert len(listed) == 16
    assert list(RANDAUGMENT) == [*map(full_name, listed), "Identity"]
    policy = Policy.randaugment(RANDAUGMENT, layers=2, magnitude=10.0)
    assert policy.table == tuple((Step(name, 1.0, 10.0),) for name in RANDAUGMENT)
    assert policy.draws == 2
    assert (policy.ranges.translate_px, policy.ranges.cutout_px) == (100, 40)
    autoaugment = Policy.autoaugment(AUTOAUGMENT["v0"])
    assert autoaugment.draws == 1
    assert (autoaugment.ranges.translate_px, autoaugment.ranges.cutout_px) == (250, 100)


def flat(value, size_hw=(3, 4)):
    image = Image.new("RGB", size_hw[::-1], (value,) * 3)
    return Scene(image=image, labels=ClassLabel.unknown(), size_hw=size_hw)


def values(policy, value, count):
    """What a flat picture of this grey becomes, drawn so many times."""
    draw = np.random.default_rng(0)
    return [policy(flat(value), draw).image.getpixel((1, 1))[0] for _ in range(count)]


def is_likely(found, count, probability):
    """Within four standard deviations."""
    return abs(found - count * probability) < 4 * np.sqrt(count * probability * (1 - probability))


def test_every_operation_of_randaugment_is_drawn_as_often():
    pixels = np.random.default_rng(1).integers(20, 240, (24, 32, 3), np.uint8)
    scene = Scene(
        image=Image.fromarray(pixels),
        labels=ClassLabel.unknown(),
        size_hw=(24, 32),
        unit_px=0.04,
    )
    drawn, known = np.random.default_rng(0), {}
    for name in [name for name in RANDAUGMENT if name != "Cutout"]:
        alone = Policy.randaugment([name], layers=1, magnitude=8)
        outcomes = {alone(scene, drawn).image.tobytes() for _ in range(40)}
        assert len(outcomes) == (2 if name.endswith("_BBox") else 1)
        assert not outcomes & set(known)  # what an image became tells which it was
        known |= dict.fromkeys(outcomes, name)
    policy = Policy.randaugment(RANDAUGMENT, layers=1, magnitude=8)
    count = 17 * 60
    found = Counter(known.get(policy(scene, drawn).image.tobytes(), "Cutout") for _ in range(count))
    assert set(found) == set(RANDAUGMENT)
    # Chi-square of 16 degrees of freedom: above 45 once in ten thousand fair draws.
    assert sum((found[name] - 60) ** 2 / 60 for name in RANDAUGMENT) < 45


def test_every_sub_policy_is_drawn_as_often_one_an_image():
    policy = Policy.autoaugment([f"SolarizeAdd 1/{level}" for level in range(1, 6)])
    found = Counter(values(policy, 0, 1000))
    assert set(found) == {11, 22, 33, 44, 55}  # int(110 level / 10), once
    assert sum((found[value] - 200) ** 2 / 200 for value in found) < 23.5  # 4 degrees, as above


@pytest.mark.parametrize("layers", [1, 2, 3, 7])
def test_each_layer_draws_one_operation(layers):
    policy = Policy.randaugment(["SolarizeAdd"], layers=layers, magnitude=1)
    assert set(values(policy, 0, 5)) == {11 * layers}


def test_layers_draw_by_themselves():
    policy = Policy.randaugment(["SolarizeAdd", "Identity"], layers=2, magnitude=1)
    found = Counter(values(policy, 0, 1000))
    for value, probability in ((0, 0.25), (11, 0.5), (22, 0.25)):
        assert is_likely(found[value], 1000, probability)


def test_steps_happen_with_their_probabilities_each_by_itself():
    found = Counter(values(Policy.autoaugment(["SolarizeAdd .6/1 + Invert .3/0"]), 0, 2000))
    assert set(found) == {0, 11, 255, 244}
    for value, probability in ((0, 0.28), (11, 0.42), (255, 0.12), (244, 0.18)):
        assert is_likely(found[value], 2000, probability)


def test_what_is_certain_always_happens_and_what_is_impossible_never():
    assert set(values(Policy.autoaugment(["SolarizeAdd 1/1 + Invert 0/0"]), 0, 300)) == {11}


def test_steps_are_taken_in_order():
    first = Policy.autoaugment(["Brightness 1/10 + Invert 1/0"])
    assert set(values(first, 100, 3)) == {255 - 190}
    second = Policy.autoaugment(["Invert 1/0 + Brightness 1/10"])
    assert set(values(second, 200, 3)) == {int(1.9 * 55)}


def test_an_empty_table_draws_nothing():
    draw, expected = np.random.default_rng(0), np.random.default_rng(0).bit_generator.state
    scene = flat(7)
    assert Policy()(scene, draw) is scene
    assert draw.bit_generator.state == expected


@pytest.mark.parametrize("version", AUTOAUGMENT)
def test_the_state_of_the_generator_decides(version):
    pixels = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    labels = Detections.of([[2, 2, 9, 9], [10, 4, 28, 18]], [0, 1])
    scene = Scene(image=Image.fromarray(pixels), labels=labels, size_hw=(20, 30), unit_px=0.05)
    policy, outcomes = Policy.autoaugment(AUTOAUGMENT[version]), set()
    for seed in range(40):
        made, again = (policy(scene, np.random.default_rng(seed)) for _ in range(2))
        assert made.image.tobytes() == again.image.tobytes()
        np.testing.assert_array_equal(made.labels.boxes_xyxy, again.labels.boxes_xyxy)
        outcomes.add(made.image.tobytes())
    assert len(outcomes) > 10
    np.testing.assert_array_equal(np.array(scene.image), pixels)


def test_lines_are_read_with_and_without_spaces_and_points():
    steps = (Step("Rotate_BBox", 0.6, 10), Step("Color", 1, 6.5))
    for line in ("Rotate_BBox .6/10 + Color 1/6.5", "  Rotate_BBox  0.6/10.0+Color 1.0/6.5 "):
        assert read_line(line, "f") == steps
    assert read_line("Identity 0/0", "f") == (Step("Identity", 0, 0),)
    for name in names():
        assert read_line(f"{name} 1/10", "f") == (Step(name, 1, 10),)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Rotate .6/10", r"'Rotate' is no operation; did you mean Rotate_BBox\?"),
        ("Color 1/6 + TranslateY_Only .2/2", "did you mean TranslateY_Only_BBoxes"),
        ("equalize 1/1", r"did you mean Equalize\?"),
        ("Identity_Only_BBoxes 1/1", "is no operation"),
        ("Color 1.01/6", r"probability 0 to 1 / level 0 to 10, got 'Color 1.01/6'"),
        ("Color 1/6 + Color 1/11", r"probability 0 to 1 / level 0 to 10, got 'Color 1/11'"),
        ("Color -.1/6", "is no OPERATION PROBABILITY/LEVEL"),
        ("Color 1", r"'Color 1' is no OPERATION PROBABILITY/LEVEL; write Rotate_BBox .6/10"),
        ("Color 1/", "is no OPERATION"),
        ("Color nan/6", "is no OPERATION"),
        ("Color .5 6", "is no OPERATION"),
        ("Color 1/6 +", "'' is no OPERATION"),
        ("Color 1/6, Invert 1/1", "is no OPERATION"),
        ("", "'' is no OPERATION"),
    ],
)
def test_a_line_that_is_wrong_names_the_field_and_the_step(line, words):
    with pytest.raises(UserError, match=rf"^augment\.sub_policies: .*{words}") as caught:
        read_line(line, "augment.sub_policies")
    assert "\n" not in str(caught.value)
