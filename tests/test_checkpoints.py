"""A run that was interrupted is the run that was not; a saved model is the model."""

import json
import math
import shutil

import pytest
import safetensors.torch
import torch
from tiny import (
    CLASSES,
    MODEL,
    joint_batch,
    joint_task,
    save_tiny,
    tiny_batch,
    tiny_card,
    tiny_model,
    tiny_state,
    tiny_task,
)
from torch import nn

from ray_st.config import UserError
from ray_st.models.saved import CARD, WEIGHTS, read_model, require_classes, save_model
from ray_st.training.checkpoints import (
    STATE,
    finite,
    load_log,
    load_state,
    save_log,
    save_state,
)
from ray_st.training.guard import Skipped
from ray_st.training.joint import JointConfig
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import train_step

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


def run(state, config, first, last):
    for step in range(first, last):
        train_step(state, tiny_batch(step), tiny_task(), config)
    return state


def assert_equal(got, expected):
    """Bit for bit, through all of a state."""
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype
        assert got.equal(expected)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            assert_equal(got[key], expected[key])
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert_equal(a, b)
    else:
        assert got == expected


def test_joint_training_goes_on_with_its_classes(tmp_path):
    config = TrainConfig(steps=4, warmup_steps=1, joint=JointConfig(images="classes:some"))

    def go_on(state, first, last):
        for step in range(first, last):
            train_step(state, joint_batch(step), joint_task(), config)
        return state

    straight = go_on(tiny_state(config), 0, 4)
    early = go_on(tiny_state(config), 0, 2)
    save_model(tmp_path, early.trained, tiny_card())
    save_state(tmp_path, early)
    saved = safetensors.torch.load_file(tmp_path / WEIGHTS)
    assert saved.keys() == tiny_model().state_dict().keys()
    late = tiny_state(config, seed=99)
    load_state(tmp_path, late)
    go_on(late, 2, 4)
    assert_equal(late.model.state_dict(), straight.model.state_dict())
    assert_equal(late.balance.state_dict(), straight.balance.state_dict())
    assert_equal(late.optimizer.state_dict(), straight.optimizer.state_dict())
    assert late.trail.joined() == straight.trail.joined()


@pytest.mark.parametrize("ema_decay", [None, 0.7])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("saved_at", [0, 1, 4])
def test_resumed_equals_never_interrupted(tmp_path, optimizer, saved_at, ema_decay):
    config = TrainConfig(
        steps=5,
        warmup_steps=2,
        optimizer=optimizer,
        lr=0.01,
        mean_decay=0.8,
        ema_decay=ema_decay,
    )
    straight = run(tiny_state(config), config, 0, 5)
    early = run(tiny_state(config), config, 0, saved_at)
    early.skipped = Skipped(total=3, in_a_row=1)  # before it
    save_model(tmp_path, early.trained, tiny_card())
    save_state(tmp_path, early)
    late = tiny_state(config, seed=99)  # other weights, to be replaced
    load_state(tmp_path, late)
    assert late.step == saved_at
    assert late.skipped == early.skipped
    run(late, config, saved_at, 5)
    assert late.step == straight.step == 5
    assert late.trail.joined() == straight.trail.joined() != early.trail.joined()
    assert_equal(late.model.state_dict(), straight.model.state_dict())
    assert_equal(late.balance.state_dict(), straight.balance.state_dict())
    assert_equal(late.optimizer.state_dict(), straight.optimizer.state_dict())
    assert_equal(late.trained.state_dict(), straight.trained.state_dict())
    assert (late.trained is late.model) == (ema_decay is None)


def test_the_state_is_read_without_unpickling_objects(tmp_path):
    config = TrainConfig()
    save_state(tmp_path, run(tiny_state(config), config, 0, 1))
    saved = torch.load(tmp_path / STATE, weights_only=True)
    assert saved.keys() == {"step", "optimizer", "balance", "skipped", "order"}
    assert saved["step"] == 1
    assert saved["balance"].keys() == {"totals", "weights"}


def test_a_saved_model_is_the_model(tmp_path):
    model = tiny_model(seed=3).train()
    with torch.no_grad():
        model(tiny_batch().pixels)  # so that running statistics are not their start
    save_model(tmp_path / "new" / "folder", model, tiny_card())
    saved = read_model(tmp_path / "new" / "folder", "init")
    assert saved.card == tiny_card()
    loaded = saved.load()
    assert not loaded.training
    pixels = tiny_batch(5).pixels
    with torch.no_grad():
        got, expected = loaded(pixels), model.eval()(pixels)
    # BatchNorms are folded into convolutions, which rounds otherwise; what is stored is exact.
    torch.testing.assert_close(got.class_logits, expected.class_logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.box_codes, expected.box_codes, rtol=1e-5, atol=1e-6)
    assert_equal(safetensors.torch.load(saved.weights), dict(model.state_dict()))
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in of.modules()) for of in (model, loaded)]
    assert norms[0] > norms[1] == 4  # a head's convolution is shared by two levels
    for name in (WEIGHTS, CARD):  # a file of the folder names the folder
        assert read_model(tmp_path / "new" / "folder" / name, "init").digest == saved.digest


def test_the_digest_is_of_the_weights_alone(tmp_path):
    first = read_model(save_tiny(tmp_path / "a", seed=1), "init")
    again = read_model(save_tiny(tmp_path / "b", seed=1), "init")
    other = read_model(save_tiny(tmp_path / "c", seed=2), "init")
    assert first.digest == again.digest != other.digest
    assert len(first.digest) == 64
    model = tiny_model(seed=1)
    with torch.no_grad():
        next(model.parameters())[0, 0, 0, 0] += 1e-3
    save_model(tmp_path / "d", model, tiny_card())
    assert read_model(tmp_path / "d", "init").digest != first.digest


def one_line(folder, what="teacher"):
    with pytest.raises(UserError) as caught:
        read_model(folder, what)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_folder_without_a_card_or_weights(tmp_path, name):
    save_tiny(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    line = one_line(tmp_path / "m")
    assert line.startswith(f"teacher: {tmp_path / 'm'} holds no {name}; pass ")


def test_no_folder(tmp_path):
    assert one_line(tmp_path / "none").startswith(f"teacher: {tmp_path / 'none'} holds no {CARD}")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe\x00", b'{"task": "detection"}'],
)
def test_a_card_that_is_none(tmp_path, content):
    save_tiny(tmp_path / "m")
    (tmp_path / "m" / CARD).write_bytes(content)
    line = one_line(tmp_path / "m")
    assert line.startswith(f"teacher: {tmp_path / 'm' / CARD} is not a model card")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": 5}, "classes"),
        ({"classes": [1, 2]}, "classes"),
        ({"classes": "cat"}, "classes"),
        ({"classes": []}, "classes"),
        ({"format": 3}, "format"),
        ({"format": "2"}, "model card"),
        ({"model": []}, "model: must be a section"),
        ({"model": {"levels": [9, 3]}}, "model.levels"),
        ({"model": {"hat": 1}}, "model.hat: unknown key"),
    ],
)
def test_a_card_with_a_wrong_entry(tmp_path, changes, named):
    card = tmp_path / "m" / CARD
    save_tiny(tmp_path / "m")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))
    line = one_line(tmp_path / "m")
    assert line.startswith(f"teacher: {card} is not a model card (")
    assert named in line


def test_a_folder_of_an_older_version(tmp_path):
    card = tmp_path / "m" / CARD
    save_tiny(tmp_path / "m")
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 1}))
    assert one_line(tmp_path / "m") == (
        f"teacher: {tmp_path / 'm'} was written by an older ray-st (format 1, this one reads 2); "
        "train it again"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "resnt18"}, "model.backbone: must be a timm model, got 'resnt18'; did you "),
        (
            {"head_convs": 2},
            f"{WEIGHTS} and {CARD} disagree on 24 tensors (classes.convs.1.weight, ",
        ),
        ({"channels": 8}, f"{WEIGHTS} and {CARD} disagree on "),
    ],
)
def test_a_card_that_does_not_describe_its_weights(tmp_path, changes, said):
    card = tmp_path / "m" / CARD
    save_tiny(tmp_path / "m")
    text = json.loads(card.read_text())
    card.write_text(json.dumps({**text, "model": {**text["model"], **changes}}))
    assert one_line(tmp_path / "m").startswith(f"teacher: {tmp_path / 'm'}: {said}")


def test_weights_that_were_cut_off(tmp_path):
    save_tiny(tmp_path / "m")
    weights = tmp_path / "m" / WEIGHTS
    for size in (0, 5, 1000, weights.stat().st_size - 1):
        shutil.copyfile(weights, tmp_path / "whole")
        weights.write_bytes(weights.read_bytes()[:size])
        line = one_line(tmp_path / "m")
        assert line.startswith(f"teacher: {weights} ")
        shutil.copyfile(tmp_path / "whole", weights)
    assert read_model(tmp_path / "m", "teacher").card.model == MODEL


def test_other_classes(tmp_path):
    saved = read_model(save_tiny(tmp_path), "init")
    require_classes(saved, CLASSES, what="init", data="d.json")
    for classes, said in (
        (("cat", "emu"), "lacks ['emu'], has ['dog'] besides"),
        (("dog", "cat"), "has them in other order"),
        (("cat",), "lacks [], has ['dog'] besides"),
    ):
        with pytest.raises(UserError) as caught:
            require_classes(saved, classes, what="init", data="d.json")
        line = str(caught.value)
        assert line.startswith("init: ")
        assert said in line
        assert "d.json" in line
        assert "\n" not in line


def test_the_log_goes_through_its_file(tmp_path):
    rows = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": math.nan, "by": [math.inf, 1]}]
    save_log(tmp_path, rows)
    assert load_log(tmp_path) == [rows[0], {"step": 2, "loss": None, "by": [None, 1]}]
    save_log(tmp_path, [])
    assert load_log(tmp_path) == []


def test_finite_leaves_what_is_finite():
    value = {"a": [1, 2.5, "nan", None, True], "b": {"c": -math.inf}, "d": (math.nan,)}
    assert finite(value) == {"a": [1, 2.5, "nan", None, True], "b": {"c": None}, "d": [None]}
