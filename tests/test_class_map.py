"""A teacher's class names become those of the student: by name, by pairs, or not at all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_card, tiny_model

from ray_st.config import UserError, convert
from ray_st.data.labels import IGNORE, ClassLabel, Detections, SegmentationMap
from ray_st.labeling.teachers.class_map import (
    DROPPED,
    ClassMap,
    class_map,
    read_names,
    target_classes,
)
from ray_st.labeling.teachers.merging import merged_logits
from ray_st.labeling.teachers.opening import open_teacher
from ray_st.labeling.teachers.origin import Wishes
from ray_st.models import ModelConfig, build
from ray_st.models.saved import ModelCard, save_model
from ray_st.verbs.label import LabelVerb

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

TEACHER = ("car", "truck", "person", "sky")


@st.composite
def maps(draw):
    """A map in which every target has at least one teacher class, as `class_map` makes them."""
    size = draw(st.integers(1, 4))
    more = draw(st.lists(st.integers(-1, size - 1), max_size=4))
    ids = tuple(draw(st.permutations([*range(size), *more])))
    names = tuple(f"t{k}" for k in range(len(ids)))
    return ClassMap(teacher=names, target=tuple(f"s{k}" for k in range(size)), ids=ids)


@pytest.mark.parametrize(
    ("target", "pairs", "wanted", "ids"),
    [
        (None, ["car=auto"], ("auto", "truck", "person", "sky"), (0, 1, 2, 3)),
        (None, ["car=v", "truck=v"], ("v", "person", "sky"), (0, 0, 1, 2)),
        (("person", "car"), [], ("person", "car"), (1, DROPPED, 0, DROPPED)),
        (("car",), ["truck=car"], ("car",), (0, 0, DROPPED, DROPPED)),
        (("car",), {"truck": "car", "car": "car"}, ("car",), (0, 0, DROPPED, DROPPED)),
        (TEACHER, [], TEACHER, (0, 1, 2, 3)),
        (None, ["car=truck", "truck=car"], ("truck", "car", "person", "sky"), (0, 1, 2, 3)),
        (None, ["sky=a=b"], ("car", "truck", "person", "a=b"), (0, 1, 2, 3)),
    ],
)
def test_names_become_ids(target, pairs, wanted, ids):
    found = class_map(TEACHER, target, pairs)
    assert (found.target, found.ids) == (wanted, ids)
    assert found.dropped == tuple(n for n, k in zip(TEACHER, ids, strict=True) if k == DROPPED)


def test_without_both_the_classes_are_the_teachers():
    assert class_map(TEACHER, None) is None
    assert class_map(TEACHER, None, {}) is None


@pytest.mark.parametrize(
    ("target", "pairs", "line"),
    [
        (("vehicle", "person"), [], "classes: no class of the teacher becomes 'vehicle'; pass "
         "--class-map TEACHER_NAME=vehicle, it has 'car', 'truck', 'person', 'sky'"),
        (("persons", "cars"), [], "classes: no class of the teacher becomes 'persons', 'cars'; "
         "pass --class-map TEACHER_NAME=persons, did you mean --class-map person=persons "
         "car=cars?"),
        (("person",), ["persn=person"],
         "class_map: the teacher has no class 'persn'; did you mean 'person'?"),
        (("person",), ["car=persom"],
         "class_map: --classes has no class 'persom'; did you mean 'person'?"),
        (None, ["bus=car", "tram=car"], "class_map: the teacher has no class 'bus', 'tram'; it has "
         "'car', 'truck', 'person', 'sky'"),
        (None, ["car"], "class_map: must be TEACHER_NAME=TARGET_NAME, got 'car'"),
        (None, ["car="], "class_map: must be TEACHER_NAME=TARGET_NAME, got 'car='"),
        (None, ["car=a", "car=b"], "class_map: must be one target a teacher class, got 'car=b'"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_one_line(target, pairs, line):
    with pytest.raises(UserError) as caught:
        class_map(TEACHER, target, pairs)
    assert str(caught.value) == line


def test_a_map_is_a_list_of_flags_or_a_mapping_of_a_recipe():
    for given_, wanted in ((["a=b"], ("a=b",)), ({"a": "b"}, {"a": "b"})):
        words = {"images": "x", "teacher": "y", "class_map": given_}
        assert convert(LabelVerb, words).class_map == wanted
    for wrong, line in (
        ("a", "class_map: must be a list or a mapping, got 'a'"),
        ([1], "class_map: must be a list or a mapping, got [1]"),
        ({"a": 1}, "class_map[a]: must be text in quotes, got 1"),
        ({1: "b"}, "class_map[1]: must be text in quotes, got 1"),
    ):
        with pytest.raises(UserError) as caught:
            convert(LabelVerb, {"images": "x", "teacher": "y", "class_map": wrong})
        assert str(caught.value) == line


@given(maps(), st.data())
def test_boxes_of_both_stay_and_those_of_none_go(to, data):
    ids = data.draw(st.lists(st.integers(0, len(to.ids) - 1), max_size=6))
    boxes = [[k, k, k + 2, k + 1] for k in range(len(ids))]
    labels = Detections.of(boxes, ids, scores=np.linspace(0.9, 0.1, len(ids)))
    found = to.apply(labels)
    kept = [k for k, each in enumerate(ids) if to.ids[each] != DROPPED]
    assert found.class_ids.tolist() == [to.ids[ids[k]] for k in kept]
    assert found.boxes_xyxy.tolist() == [boxes[k] for k in kept]
    assert found.scores.tolist() == labels.scores[kept].tolist()


@given(maps(), st.data())
def test_pixels_follow_their_class(to, data):
    values = data.draw(st.lists(st.sampled_from([*range(len(to.ids)), IGNORE]), min_size=1))
    confidence = np.arange(len(values), dtype=np.uint8)[None]
    class_map_ = np.array([values], np.uint8)
    found = to.apply(SegmentationMap(class_map=class_map_, confidence=confidence))
    wanted = [IGNORE if v == IGNORE or to.ids[v] == DROPPED else to.ids[v] for v in values]
    assert found.class_map.tolist() == [wanted]
    assert found.class_map.dtype == np.uint8
    assert found.confidence is confidence


@given(maps(), st.data())
def test_probabilities_of_an_image_add_up(to, data):
    ids = data.draw(st.lists(st.integers(0, len(to.ids) - 1), unique=True))
    scores = np.float32([1 / (k + 2) / len(to.ids) for k in range(len(ids))])
    found = to.apply(ClassLabel.of(ids, scores))
    sums = {}
    for each, score in zip(ids, scores, strict=True):
        if to.ids[each] != DROPPED:
            sums[to.ids[each]] = sums.get(to.ids[each], 0.0) + float(score)
    assert {*found.top_class_ids.tolist()} == {*sums}
    for k, score in zip(found.top_class_ids.tolist(), found.top_scores.tolist(), strict=True):
        assert score == pytest.approx(sums[k], rel=1e-5)
    assert (np.diff(found.top_scores) <= 0).all()


@given(maps(), st.integers(0, 9), st.sampled_from([(2,), (2, 3, 4)]))
def test_merged_logits_have_the_sums_of_the_probabilities(to, seed, shape):
    count = len(to.ids)
    torch.manual_seed(seed)
    logits = 3 * torch.randn(shape[0], count, *shape[1:])
    before, after = logits.softmax(1), merged_logits(logits, to.order).softmax(1)
    for target in range(len(to.target)):
        members = [k for k, each in enumerate(to.ids) if each == target]
        torch.testing.assert_close(after[:, target], before[:, members].sum(1))
    for place, k in enumerate([k for k, each in enumerate(to.ids) if each == DROPPED]):
        torch.testing.assert_close(after[:, len(to.target) + place], before[:, k])
    assert to.merged.ids == (*range(len(to.target)), *[DROPPED] * len(to.dropped))


def test_a_file_of_names(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("cat\n\n  traffic light \n")
    assert read_names(file, "classes") == target_classes(str(file)) == ("cat", "traffic light")
    file.write_text("a\nb\na\n")
    with pytest.raises(UserError, match=r"names\.txt: must be a class name a line, each once, got"):
        read_names(file, "classes")
    file.write_text("\n")
    with pytest.raises(UserError, match="must be class names, a line each, got 'none'"):
        read_names(file, "classes")
    with pytest.raises(UserError, match=r"classes: .*absent cannot be read"):
        target_classes(str(tmp_path / "absent"))
    (tmp_path / "raw").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="raw cannot be read"):
        target_classes(str(tmp_path / "raw"))


def test_a_labelled_set_gives_its_classes(tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"")
    assert target_classes(f"classes:{tmp_path}") == ("cat", "dog")


def views(side, count=2):
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), np.uint8)
    return pixels, np.array([(side, side - 9), (30, 77)][:count])


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_our_own_teacher_merges_before_it_chooses(tmp_path, task):
    config = ModelConfig(
        backbone="test_resnet", image_size_px=64, levels=(3, 4), channels=16, head_convs=1
    )
    torch.manual_seed(0)
    model = build(config, task, len(TEACHER))
    card = ModelCard(task=task, classes=TEACHER, model=config, preprocessing={})
    save_model(tmp_path, model, card)
    plain = open_teacher(str(tmp_path), Wishes())
    opened = open_teacher(str(tmp_path), Wishes(), None, ["car=v", "truck=v"])
    (tmp_path / "n.txt").write_text("v\nperson")
    less = open_teacher(
        str(tmp_path), Wishes(), str(tmp_path / "n.txt"), {"car": "v", "truck": "v"}
    )
    assert opened.source.classes == ("v", "person", "sky")
    assert opened.dropped == ()
    assert less.dropped == ("sky",)
    assert less.warnings == ["1 classes of the teacher become none and are dropped: sky"]
    assert len({each.source.digest for each in (plain, opened, less)}) == 3
    pixels, sizes_hw = views(64)
    raw = plain.source.load("cpu")._model(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    shares = raw.detach().softmax(1)
    wanted = torch.stack([shares[:, 0] + shares[:, 1], shares[:, 2], shares[:, 3]], 1)
    merged = opened.source.load("cpu").predict(pixels, sizes_hw)
    fewer = less.source.load("cpu").predict(pixels, sizes_hw)
    for one, few, truth in zip(merged, fewer, wanted, strict=True):
        if task == "classification":
            assert one.top_class_ids[0] == truth.argmax()
            assert one.top_scores[0] == pytest.approx(float(truth.max()), abs=1e-5)
            assert 2 not in few.top_class_ids.tolist()
            assert few.top_scores.sum() == pytest.approx(float(truth[:2].sum()), abs=1e-5)
        else:
            assert {*np.unique(few.class_map)} <= {0, 1, IGNORE}
            np.testing.assert_array_equal(few.class_map == IGNORE, one.class_map == 2)
    with pytest.raises(UserError, match=r"image_size_px: must be left out, .* see 64 px, got 96"):
        open_teacher(str(tmp_path), Wishes(image_size_px=96))


def test_our_own_detector_with_other_names(tmp_path):
    model = tiny_model()
    torch.nn.init.constant_(model.classes.predict.bias, -2.0)  # 0.12 a class: above the floor
    save_model(tmp_path, model, tiny_card())
    plain = open_teacher(str(tmp_path), Wishes()).source
    turned = open_teacher(str(tmp_path), Wishes(), None, ["cat=dog", "dog=cat"]).source
    both = open_teacher(str(tmp_path), Wishes(), None, ["cat=pet", "dog=pet"]).source
    assert plain.digest == plain.saved.digest
    assert (turned.classes, both.classes) == (("dog", "cat"), ("pet",))
    assert (turned.task.name, turned.image_size_px) == ("detection", 64)
    pixels, sizes_hw = views(64)
    before = plain.load("cpu").predict(pixels, sizes_hw)
    assert {k for one in before for k in one.class_ids.tolist()} == {0, 1}
    # "cat=dog" gives class 0 the name dog; its id in a list without other wishes stays 0.
    for source, ids in ((turned, [0, 1]), (both, [0, 0])):
        assert source.load("cpu").kind is Detections
        for one, raw in zip(source.load("cpu").predict(pixels, sizes_hw), before, strict=True):
            assert one.class_ids.tolist() == np.array(ids)[raw.class_ids].tolist()
            np.testing.assert_array_equal(one.boxes_xyxy, raw.boxes_xyxy)
