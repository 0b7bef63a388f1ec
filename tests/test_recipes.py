"""Every recipe is read whole, its model can be built, and the commands of its head can be given."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch

from ray_st.config import convert
from ray_st.data.sources.digits import check_world, classes_of
from ray_st.flags import resolve
from ray_st.models import ModelConfig, build
from ray_st.recipe import load, read_yaml
from ray_st.tasks import make_task
from ray_st.training.schedule import TrainConfig
from ray_st.verbs.verb import Recipe

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
OF_THE_PAPER = [path for path in RECIPES if path.stem.startswith(("coco_", "voc_"))]
DEMOS = [path for path in RECIPES if path.stem.startswith("demo")]
NUM_CLASSES = {"coco": 80, "voc": 21}


def named(paths):
    return [pytest.param(path, id=path.stem) for path in paths]


def head_of(path):
    """The comment that a recipe opens with, lines that end in a backslash joined."""
    lines = path.read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return re.sub(r"\\\n\s*", " ", "\n".join(line[1:] for line in lines[:end]))


def commands_of(path):
    """Words of each command in a head; each of `other rows` is the baseline with more flags."""
    head = head_of(path)
    data = re.search(r"DATA:((?:\s+--data\.\w+ \S+)+)", head)[1]
    found = [line.replace("DATA", data) for line in re.findall(r"ray-st (.*)", head)]
    more = re.findall(r"(?:other rows|with ReLU|Table 8 \(R\)|Fractions[^:]*): (--.*)", head)
    found += [f"{found[0]} {flags}" for line in more for flags in line.split(", ")]
    return [shlex.split(command) for command in found]


def test_all_tables_have_their_recipes():
    names = {path.stem for path in OF_THE_PAPER}
    assert names == {
        *(f"coco_b7_fpn_s{policy}" for policy in (1, 2, 3, 4)),
        *("coco_r50_fpn_s4", "coco_r101_fpn_s4", "coco_r152_fpn", "coco_r50_nasfpn"),
        *(f"coco_spinenet{size}" for size in ("49s", "49", "96", "143", "190")),
        *("voc_b7_nasfpn", "voc_l2_nasfpn"),
    }


@pytest.mark.parametrize("path", named(RECIPES))
def test_it_is_read_strictly(path):
    load(Recipe, path)


@pytest.mark.parametrize("path", named(RECIPES))
def test_it_opens_with_what_it_is_for(path):
    assert len(head_of(path).split()) > 10


@pytest.mark.parametrize("path", named(OF_THE_PAPER))
def test_its_commands_can_be_given(path):
    commands = commands_of(path)
    verbs = [words[0] for words in commands]
    assert verbs[0] == "train"
    assert "run" in verbs or verbs[1:3] == ["label", "train"]
    for verb, *flags in commands:
        assert flags[:2] == ["--config", path.stem]
        config = resolve(import_module(f"ray_st.verbs.{verb}").CONFIG, flags, recipe_schema=Recipe)
        assert config.out.startswith("runs/")


@pytest.mark.parametrize("path", named(OF_THE_PAPER))
def test_its_model_can_be_built(path):
    recipe = read_yaml(path)
    config = convert(ModelConfig, recipe["model"], path="model")
    with torch.device("meta"):
        model = build(config, recipe["task"], NUM_CLASSES[path.stem.partition("_")[0]])
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("path", named(OF_THE_PAPER))
def test_human_and_pseudo_halves_can_be_shared_out(path):
    train = convert(TrainConfig, read_yaml(path)["train"], path="train")
    assert train.num_pseudo in (train.batch_size, train.batch_size // 2)
    assert train.use_gpu
    assert train.sync_batchnorm  # a worker's images are too few for statistics of their own


@pytest.mark.parametrize("path", named(path for path in OF_THE_PAPER if "coco" in path.stem))
def test_a_detector_keeps_the_candidates_that_the_papers_code_keeps(path):
    detect = load(Recipe, path).detect
    assert (detect.candidates, detect.max_candidates) == ("class", 5000)


@pytest.mark.parametrize("name", ["coco_r152_fpn", "coco_r50_nasfpn"])
def test_what_a_resnet_has_from_spinenet_is_marked(name):
    text = (ROOT / "jobs" / "recipes" / f"{name}.yaml").read_text()
    for field in ("scale_jitter", "lr", "schedule", "lr_drops", "warmup_steps", "weight_decay"):
        assert re.search(rf"\n  {field}: .*# \? SpineNet's", text), field
    for field, mark in (("batch_size", "R"), ("pseudo_batch_size", "R"), ("norm_momentum", r"\?")):
        assert re.search(rf"\n  {field}: .*# {mark} ", text), field


def test_there_is_a_demo_of_each_task():
    tasks = {load(Recipe, path).task for path in DEMOS}
    assert tasks == {"detection", "segmentation", "classification"}


@pytest.mark.parametrize("path", named(DEMOS))
def test_a_demo_has_a_world_and_a_model_for_it(path):
    recipe = load(Recipe, path)
    kind = make_task(recipe.task, recipe.model, 1).kind
    check_world(recipe.digits, kind)
    assert recipe.digits.scene_px == recipe.model.image_size_px
    assert not recipe.augment.flip_probability  # mirrored digits are none
    with torch.device("meta"):
        build(recipe.model, recipe.task, len(classes_of(recipe.digits, kind)))


@pytest.mark.parametrize("path", named(DEMOS))
def test_the_teacher_of_a_demo_sees_as_many_images_as_the_student(path):
    recipe = load(Recipe, path)
    seen = recipe.train.steps * (recipe.train.batch_size + recipe.train.num_pseudo)
    assert recipe.loop.teacher_steps * recipe.train.batch_size == seen
    assert recipe.loop.student_start == "init"
