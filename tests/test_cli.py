"""What a user types, in process; no test here starts Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image
from tiny import MODEL, save_tiny, tiny_task

from ray_st.cli import main
from ray_st.config import as_dict
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import open_pool
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.teacher import SavedTeacher
from ray_st.models.saved import CARD, WEIGHTS, read_model
from ray_st.selftraining import folder
from ray_st.selftraining.stages import label_stage
from ray_st.verbs import VERBS

pytestmark = pytest.mark.pure
torch.set_num_threads(1)

# The others start nothing.
_DRY = ("augment", "doctor", "plan", "index", "verify", "report", "submit", "status", "models")
DRY_VERBS = [verb for verb in VERBS if verb not in _DRY]


def write_coco(path, *, classes=("cat", "dog"), category_id=1, bbox="[1, 2, 10, 10]"):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(3)]
    annotation = f'{{"id": 1, "image_id": 0, "category_id": {category_id}, "bbox": {bbox}}}'
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    path.write_text(
        f'{{"images": {json.dumps(images)}, "annotations": [{annotation}], '
        f'"categories": {json.dumps(categories)}}}'
    )
    return f"coco:{path}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world to make mistakes in: images, labels, model folders, pseudo labels."""
    # A long name: what is printed must not be broken at the 80th column.
    root = tmp_path_factory.mktemp("a folder with a long name, as those of users " + 40 * "x")
    (root / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30)).save(root / "images" / f"{i}.jpg")
    write_coco(root / "images" / "good.json")
    write_coco(root / "images" / "one_class.json", classes=("cat",))
    save_tiny(root / "teacher")
    save_tiny(root / "other_teacher", classes=("cat",))
    images = open_pool(str(root / "images"))
    for teacher, name in (("teacher", "pseudo"), ("other_teacher", "other_pseudo")):
        (root / name).mkdir()
        saved = read_model(root / teacher, "teacher")
        here = LabelConfig(actors=(0, 0))
        all_of_it = PolicyConfig(score_threshold=0.0)
        source = SavedTeacher(saved=saved, task=tiny_task())
        label_stage(images, source, str(root / name), here, all_of_it, None)
    return root


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    """Where a command runs: a folder of its own, so that all that is written can be seen."""
    monkeypatch.chdir(tmp_path)
    return made


def data_flags(world):
    good = f"coco:{world}/images/good.json"
    return ["--data.train", good, "--data.val", good]


def model_flags():
    return [
        *("--model.backbone", "test_resnet", "--model.image-size-px", "64"),
        *("--model.levels", "3", "4", "--model.channels", "16", "--model.head-convs", "1"),
    ]


def command(verb, world):
    """A command of each verb with nothing wrong in it."""
    teacher, images = str(world / "teacher"), str(world / "images")
    good = f"coco:{world}/images/good.json"
    student = [*data_flags(world), *model_flags(), "--pseudo", str(world / "pseudo")]
    return [
        verb,
        *{
            "demo": [],
            "run": [*data_flags(world), "--data.unlabeled", images],
            "pretrain": ["--images", images, *model_flags()],
            "train": student,
            "label": ["--images", images, "--teacher", teacher],
            "policy": ["--pseudo", str(world / "pseudo")],
            "export": ["--pseudo", str(world / "pseudo"), "--format", "coco"],
            "export-model": ["--model", teacher, "--format", "torch"],
            "eval": ["--model", teacher, "--data", good],
            "sweep": [*student, "--sweep.alphas", "0.5", "2"],
            "report": [str(world / "pseudo")],
        }[verb],
    ]


def files(root):
    return {path: path.is_file() and path.read_bytes() for path in Path(root).rglob("*")}


def refused(capsys, words, root):
    """The one line that a mistake gives; nothing is written."""
    if words[:1] and words[0] in DRY_VERBS:  # a mistake that is overlooked must not start Ray
        assert main([*words, "--dry-run"]) == 2
    before = files(root), files(".")
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (files(root), files(".")) == before
    assert out == ""
    assert err.startswith("ray-st: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("ray-st: ").rstrip("\n")


def test_a_missing_coco_file(world, capsys):
    line = refused(capsys, [*command("train", world), "--data.train", "coco:none.json"], world)
    assert "none.json" in line
    assert "check the path" in line


@pytest.mark.parametrize(
    ("dirt", "said"),
    [
        ({"category_id": 77}, "category_id must be one of the ids under 'categories', got 77"),
        ({"bbox": "[1, NaN, 10, 10]"}, "bbox must be four finite numbers"),
        ({"bbox": "[1, 2, 10]"}, "bbox must be four finite numbers"),
    ],
)
def test_dirt_that_cannot_be_meant(world, capsys, tmp_path, dirt, said):
    bad = write_coco(tmp_path / "bad.json", **dirt)
    images = ["--data.images", str(world / "images")]
    for field in ("train", "val"):
        words = [*command("train", world), f"--data.{field}", bad, *images]
        line = refused(capsys, words, world)
        assert str(tmp_path / "bad.json") in line
        assert said in line
        assert "annotation 1; correct or remove it" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "train:\n  alhpa: 2\n",
            "recipe.yaml: train.alhpa: unknown key; did you mean train.alpha?",
        ),
        ("trian:\n  alpha: 2\n", "recipe.yaml: trian: unknown key; did you mean train?"),
        (
            "train:\n  alpha: much\n",
            "recipe.yaml: train.alpha: must be a finite number, got 'much'",
        ),
        (
            "train:\n  alpha: -1\n",
            "recipe.yaml: train.alpha: must be 0 or more, got -1.0",
        ),
        ("train: [1]\n", "recipe.yaml: train: must be a section of fields, got [1]"),
        ("a: [\n", "recipe.yaml:2: is not valid YAML"),
        ("", "recipe.yaml: is empty; "),
    ],
)
@pytest.mark.parametrize("verb", ["train", "demo"])
def test_a_wrong_recipe(world, capsys, verb, text, said):
    Path("recipe.yaml").write_text(text)
    line = refused(capsys, [*command(verb, world), "--config", "recipe.yaml"], world)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train.alhpa", "2"], "--train.alhpa: unknown flag; did you mean --train.alpha?"),
        (["--train.alpha", "-1"], "train.alpha: must be 0 or more, got -1.0"),
        (["--train.alpha=-1"], "train.alpha: must be 0 or more, got -1.0"),
        (["--train.alpha"], "--train.alpha: needs a value; write --train.alpha VALUE"),
        (["--train", "2"], "--train: is a section; set its fields, such as --train.steps"),
        (["--train.optimizer", "lion"], "train.optimizer: must be one of 'sgd', 'adamw'"),
        (
            ["--train.batch-size", "3", "--train.num-workers", "4"],
            "train.batch_size: must be at least ",
        ),
        (
            ["--policy.class-thresholds", "dgo 0.6"],
            "policy.class_thresholds: 'dgo' is no class",
        ),
        (["--policy.score-threshold", "1.5"], "policy.score_threshold: must be in [0, 1], got 1.5"),
        (["--model.levels", "5", "3"], "model.levels: "),
        (["--config", "nothing"], "--config: no file or recipe 'nothing'; known recipes: "),
    ],
)
def test_a_wrong_flag(world, capsys, words, said):
    for verb in ("train", "run"):
        assert refused(capsys, [*command(verb, world), *words], world).startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "trian: unknown verb; did you mean train?"),
        (["lable", "--images", "x"], "lable: unknown verb; did you mean label?"),
        (["xyzzy"], "xyzzy: unknown verb; `ray-st --help` lists them"),
        (["--out", "x"], "--out: unknown verb; `ray-st --help` lists them"),
        (["train", "recipe.yaml"], "'recipe.yaml': is not a flag; write --FIELD recipe.yaml"),
        (["train"], "data.train: is missing; pass --data.train "),
        (["run"], "data.train: is missing; pass --data.train "),
        (["label", "--teacher", "x"], "images: is missing; pass --images VALUE"),
        (["eval", "--model", "x"], "data: is missing; pass --data VALUE"),
        (["report"], "run: is missing; pass --run VALUE"),
    ],
)
def test_what_is_unknown_or_missing(world, capsys, words, said):
    assert refused(capsys, words, world).startswith(said)


def test_no_verb_at_all(world, capsys):
    assert main([]) == 2
    assert "usage: ray-st VERB" in capsys.readouterr().out


def test_missing_images_and_models(world, capsys):
    for verb, flag, said in (
        ("label", "--images", "check the path"),
        ("label", "--teacher", "teacher: nowhere holds no model.json; pass "),
        ("eval", "--model", "model: nowhere holds no model.json; pass "),
        ("eval", "--images", "; set images to their folder"),
        ("train", "--data.images", "; set data.images to their folder"),
        ("train", "--init.weights", "init.weights: nowhere holds no model.json; pass "),
        ("demo", "--init.weights", "init.weights: nowhere holds no model.json; pass "),
        (
            "train",
            "--pseudo",
            "pseudo: nowhere holds no finished labelling; pass the --out folder ",
        ),
        *(
            (
                verb,
                "--pseudo",
                "pseudo: nowhere holds no finished labelling; pass the --out folder ",
            )
            for verb in ("sweep", "policy")
        ),
        ("run", "--data.unlabeled", "check the path"),
        ("report", "--run", "run: nowhere holds no summary.json; pass "),
    ):
        words = [] if verb == "report" else command(verb, world)[1:]
        words = [*words, "--init.start", "teacher"] if flag == "--init.weights" else words
        line = refused(capsys, [verb, *words, flag, "nowhere"], world)
        assert "nowhere" in line
        assert said in line


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("classes:nowhere", "/nowhere: images are listed from "),
        ("nowhere", "labels are read from "),
        ("clases:nowhere", "a data URI starts with one of: "),
        ("coco:none.json", "/none.json: a COCO file must be "),
    ],
)
def test_joint_images_that_cannot_be_read(world, capsys, images, said):
    words = [*command("train", world), "--train.joint.images", images]
    line = refused(capsys, words, world)
    assert line.startswith("train.joint.images: ")
    assert said in line


def test_a_pool_of_no_images(world, capsys):
    Path("empty").mkdir()
    line = refused(capsys, [*command("label", world), "--images", "empty"], world)
    assert line.startswith("empty: this folder must hold images")


def test_a_run_without_a_pool(world, capsys):
    line = refused(capsys, ["run", *data_flags(world)], world)
    assert line.startswith("data.unlabeled: is missing; pass --data.unlabeled DIR")


def test_a_sweep_without_pseudo_labels_or_alphas(world, capsys):
    words = ["sweep", *data_flags(world), *model_flags()]
    assert refused(capsys, words, world).startswith("pseudo: is missing; pass --pseudo ")
    words = [*command("sweep", world), "--sweep.alphas", "[]"]
    assert refused(capsys, words, world).startswith("sweep.alphas: must name at least one alpha")


@pytest.mark.parametrize("verb", ["sweep", "run", "demo"])
def test_a_sweep_in_one_process(verb, world, capsys):
    line = refused(capsys, [*command(verb, world), "--train.num-workers", "0"], world)
    assert line == (
        "train.num_workers: must be at least 1 for a sweep, got 0; raise it, or pass "
        "--sweep.alphas=[] for no sweep"
    )


def started(folder):
    return ["--init.start", "teacher", "--init.weights", folder]


def test_a_teacher_of_other_classes(world, capsys):
    other = str(world / "other_teacher")
    for verb, words, said in (
        ("train", started(other), "init.weights: the model's classes are not those of "),
        ("sweep", started(other), "init.weights: the model's classes are not those of "),
        ("run", started(other), "init.weights: the model's classes are not those of "),
        ("eval", ["--model", other], "model: the model's classes are not those of "),
        ("train", ["--pseudo", str(world / "other_pseudo")], "was labelled with classes ['cat']"),
        ("sweep", ["--pseudo", str(world / "other_pseudo")], "was labelled with classes ['cat']"),
    ):
        line = refused(capsys, [*command(verb, world), *words], world)
        assert said in line
        assert "dog" in line
        assert "; " in line


def test_a_model_measured_on_labels_of_another_kind(world, capsys, tmp_path):
    (tmp_path / "sorted" / "cat").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "sorted" / "cat" / "1.jpg")
    line = refused(capsys, [*command("eval", world), "--data", "classes:sorted"], world)
    assert line == (
        "data: this model learns from Detections, such as coco:DIR/instances_train.json, got "
        "ClassLabel from sorted; name such a set or pass another --model"
    )


def test_a_backbone_that_cannot_be_trained_is_refused_in_a_dry_run(world, capsys):
    fixed = ["--model.backbone", "efficientformer_l1", "--model.levels", "3", "5"]
    alone = ["--train.batch-size", "1", "--model.levels", "3", "6"]  # 1 x 1 at 64 px
    for words, said in (
        (fixed, "model.backbone: must take views of "),
        (alone, "train.batch_size: "),
    ):
        line = refused(capsys, ["train", *data_flags(world), *model_flags(), *words], world)
        assert line.startswith(said)
    dry(capsys, [*command("train", world), *alone], world)  # a pseudo image stands beside it
    views = ["--train.batch-size", "1"]  # two of them
    dry(capsys, [*command("pretrain", world), *views], world)


def test_start_weights_of_another_model(world, capsys):
    words = [*command("train", world), *started(str(world / "teacher")), "--model.channels", "8"]
    assert refused(capsys, words, world) == (
        "init.weights: the model differs from the recipe's (model.channels 16, not 8); "
        "give both the same model section"
    )


@pytest.mark.parametrize("verb", ["train", "run", "sweep", "demo"])
def test_a_start_that_does_not_fit(world, capsys, tmp_path, verb):
    torch.save({"layer9.weight": torch.zeros(1)}, tmp_path / "w.pth")
    start = ["--init.start", "imagenet", "--init.weights", "w.pth"]
    line = refused(capsys, [*command(verb, world), *start], world)
    assert line.startswith("init.weights: w.pth holds no tensor of ")
    assert "1 unexpected (layer9.weight)" in line
    line = refused(capsys, [*command(verb, world), "--init.weights", "w.pth"], world)
    assert line.startswith("init.weights: must be left out with init.start random, got 'w.pth'")


def test_a_whole_recipe_that_starts_from_a_file(world, capsys, tmp_path):
    tensors = timm.create_model("test_resnet").state_dict()
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    half = [*("--init.mean", *["0.5"] * 3), *("--init.std", *["0.5"] * 3)]
    words = [*command("train", world), "--init.start", "imagenet++", "--init.weights=w.pth", *half]
    recipe = yaml.safe_load(dry(capsys, words, world))
    assert recipe["init"] == {
        "start": "imagenet++",
        "weights": "w.pth",
        "partial": False,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }


@pytest.mark.parametrize("verb", ["train", "run", "sweep", "demo"])
def test_a_dry_run_says_what_of_a_start_fits(world, capsys, verb):
    tensors = {"bn1.weight": torch.ones(5), "layer9.weight": torch.zeros(1)}
    name, weight = next(iter(timm.create_model("test_resnet").state_dict().items()))
    torch.save({name: weight, **tensors}, "w.pth")
    half = [*("--init.mean", *["0.5"] * 3), *("--init.std", *["0.5"] * 3)]
    words = [*model_flags(), "--init.start", "imagenet", "--init.weights", "w.pth", *half]
    printed = dry(capsys, [*command(verb, world), *words, "--init.partial"], world)
    said = [line for line in printed.splitlines() if line.startswith("# start")]
    assert len(said) == 1
    assert said[0].startswith("# start: imagenet from w.pth, 1 tensors; ")
    assert said[0].endswith(", 1 unexpected (layer9.weight)")
    assert "# start" not in dry(capsys, command(verb, world), world)


@pytest.mark.parametrize("verb", ["train", "run", "sweep", "demo"])
def test_a_backbone_that_is_none(world, capsys, verb):
    words = [*command(verb, world), "--model.backbone", "resnet18z"]
    line = refused(capsys, words, world)
    assert line.startswith("model.backbone: must be a timm model, got 'resnet18z'; did you mean ")


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_damaged_model(world, capsys, tmp_path, name):
    save_tiny(tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_bytes(b"{")
    line = refused(capsys, [*command("label", world), "--teacher", "damaged"], world)
    assert line.startswith(f"teacher: damaged/{name} is ")


@pytest.mark.parametrize("verb", DRY_VERBS)
def test_an_out_that_is_taken(world, capsys, verb):
    folder.claim(Path("other_run"), "task: detection\n")
    Path("other_run/summary.json").write_text("{}")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("all of it")
    Path("file").write_text("")
    for out, said in (
        ("other_run", "holds another run (its recipe.yaml differs); pass another --out"),
        ("mine", "holds other files; pass --out with the name of a new folder"),
        ("file", "is a file; pass --out with the name of a new folder"),
    ):
        line = refused(capsys, [*command(verb, world), "--out", out], world)
        assert line.startswith(f"out: {out} {said}")


def dry(capsys, words, root):
    """What a dry run prints; it leaves nothing."""
    before = files(root), files(".")
    capsys.readouterr()
    assert main([*words, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert (files(root), files(".")) == before
    assert err == ""
    assert out.splitlines()[-1].startswith("# dry run: ")
    assert out.splitlines()[-1].endswith("; nothing was started")
    return out


@pytest.mark.parametrize("verb", DRY_VERBS)
def test_a_dry_run_prints_a_recipe_that_resolves_to_itself(world, capsys, tmp_path, verb):
    printed = dry(capsys, command(verb, world), world)
    recipe = yaml.safe_load(printed)
    assert not {"out", "address", "dry_run"} & recipe.keys()
    saved = tmp_path / "saved.yaml"
    saved.write_text(printed)
    assert dry(capsys, [verb, "--config", "saved.yaml"], world) == printed


def test_a_dry_run_holds_what_was_passed(world, capsys):
    words = [*command("train", world), "--train.alpha", "2.5", "--train.lr=1e-3"]
    recipe = yaml.safe_load(dry(capsys, words, world))
    assert recipe["train"]["alpha"] == 2.5
    assert recipe["train"]["lr"] == 0.001
    assert recipe["model"] == as_dict(MODEL)
    assert recipe["data"]["train"] == f"coco:{world}/images/good.json"
    assert recipe["pseudo"] == str(world / "pseudo")
    # A recipe of the whole loop serves a verb that has fewer sections.
    recipe = yaml.safe_load(dry(capsys, [*command("label", world), "--config", "demo"], world))
    assert recipe.keys() == {
        *("images", "teacher", "classes", "class_map", "image_size_px"),
        *("label", "detect", "policy"),
    }


def test_what_looks_like_markup_is_printed_as_it_is(world, capsys, tmp_path):
    odd = tmp_path / "[bold] :100: #1"
    odd.mkdir()
    Image.new("RGB", (4, 4)).save(odd / "a.jpg")
    printed = dry(capsys, [*command("label", world), "--images", str(odd)], world)
    assert yaml.safe_load(printed)["images"] == str(odd)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_field(capsys, verb, flag):
    from importlib import import_module

    from ray_st.config import paths
    from ray_st.strict import section_of

    assert main([verb, flag]) == 0
    text = capsys.readouterr().out
    assert VERBS[verb] in " ".join(text.replace("│", " ").split())
    fields = paths(import_module(f"ray_st.verbs.{verb.replace('-', '_')}").CONFIG)
    for name in (name for name, kind in fields.items() if not section_of(kind)):
        assert f"--{name.replace('_', '-')}" in text


def test_help_lists_the_verbs(capsys):
    for word in ("--help", "-h", "help"):
        assert main([word]) == 0
        text = capsys.readouterr().out
        assert all(f"  {verb} " in text and about in text for verb, about in VERBS.items())
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ray-st ")


def test_the_command_line_alone_loads_neither_torch_nor_ray():
    code = (
        "import sys; import ray_st.cli; ray_st.cli.main(['--help']); "
        "heavy = {'torch', 'ray', 'pyarrow', 'timm', 'numpy', 'rich'} & sys.modules.keys(); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["report", "nowhere"], ["models", "--check", "x"]])
def test_a_verb_that_needs_no_cluster_does_not_load_ray(words):
    code = (
        f"import sys; import ray_st.cli; ray_st.cli.main({words}); sys.exit('ray' in sys.modules)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=here, check=False)
    assert done.returncode == 0


def test_a_mistake_ends_the_process_with_2_and_one_line():
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-m", "ray_st", "trian"]
    done = subprocess.run(words, env=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ray-st: trian: unknown verb; did you mean train?\n"


FIGURES = {"AP": 12.5, "AP50": 25.0, "AP75": None}
FINISHED = {
    "demo": {"teacher": FIGURES, "student": FIGURES},
    "run": {"teacher": FIGURES, "student": FIGURES},
    "pretrain": {"simclr": {"loss": 12.5, "accuracy": 0.5}, "unreadable": {"training_views": 2}},
    "train": {"student": FIGURES, "unreadable": {"training_views": 2}},
    "label": {
        "pseudo": {"images": 3, "boxes_per_image": 12.5, "empty_share": 0.0, "failures": 0},
    },
    "policy": {
        "pseudo": {"images": 3, "boxes_per_image": 12.5, "empty_share": 0.0, "failures": 0},
        "thresholds": {"cat": 0.5},
    },
    "export": {"exported": {"images": 12.5, "empty": 0, "named_by_id": 0, "failures": 0}},
    "export-model": {
        "file": "model.pt2",
        "file_bytes": 12_500_000,
        "checked": {
            "images": 3,
            "what": "boxes",
            "compared": 7,
            "near_ties": 0,
            "largest": {"scores": 1e-7},
        },
    },
    "eval": {"model": FIGURES},
    "sweep": {"sweep": [{"alpha": 12.5, "normalised": True, **FIGURES}]},
}


@pytest.mark.parametrize("verb", DRY_VERBS)
def test_what_is_finished_is_printed_without_a_cluster(world, capsys, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "200")
    words = [*command(verb, world), "--out", "done"]
    if verb == "demo":
        words += ["--digits.labeled-scenes", "1", "--digits.val-scenes", "1"]
        words += ["--digits.pool-scenes", "1"]
    printed = dry(capsys, words, world).splitlines(keepends=True)
    folder.claim(Path("done"), "".join(line for line in printed if not line.startswith("# ")))
    folder.write_summary(Path("done"), {"figures": ["AP", "AP50"], **FINISHED[verb]})
    # Nothing listens there: to look for a cluster would be refused.
    needs_none = verb in ("policy", "export", "export-model")
    nowhere = [] if needs_none else ["--address", "ray://127.0.0.1:1"]
    assert main([*words, *nowhere]) == 0
    printed = capsys.readouterr().out
    assert "12.5" in printed
    assert printed.splitlines()[-1] == "done/summary.json"
    Path("done/summary.json").write_text('{"verb": ')
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("ray-st: done/summary.json: must be readable JSON, ")


def test_a_report_can_be_tried_dry(world, capsys):
    before = files(world)
    assert main([*command("report", world), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert files(world) == before


def test_a_folder_without_a_summary_has_no_report(world, capsys):
    line = refused(capsys, ["report", str(world / "images")], world)
    assert line.startswith("run: ")
    assert "summary.json" in line


def test_a_report_on_a_damaged_summary(world, capsys):
    Path("run").mkdir()
    for text, said in (
        ("{", "run/summary.json: must be readable JSON, got "),
        ("[]", "run/summary.json: must be a JSON object, got []"),
        ('{"sweep": [{}]}', "run/summary.json: sweep[0].alpha: must be a number, got None"),
    ):
        Path("run/summary.json").write_text(text)
        assert refused(capsys, ["report", "run"], world).startswith(said)
        assert refused(capsys, ["report", "run", "--dry-run"], world).startswith(said)


@pytest.mark.parametrize(
    "words",
    [
        ["DIR"],
        ["--run", "DIR"],
        ["DIR", "--dry-run"],
        ["--dry-run", "DIR"],
        ["--dry-run", "true", "DIR"],
        ["--dry-run=true", "DIR"],
        ["--no-dry-run", "DIR", "--dry-run"],
        ["--dry-run", "--run=DIR"],
    ],
)
def test_the_folder_of_a_report_may_stand_anywhere(world, capsys, words):
    words = [word.replace("DIR", str(world / "pseudo")) for word in words]
    dry_run = words if "dry" in " ".join(words) else [*words, "--dry-run"]
    assert main(["report", *dry_run]) == 0
    assert f"# dry run: {world}/pseudo can be reported on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry-run", "nowhere"], "run: nowhere holds no summary.json; "),
        (["--dry-run=nowhere"], "dry_run: must be true or false, got 'nowhere'"),
        (["a", "b"], "--run: takes one value, got 2: 'a b'"),
        (["a", "--dry-run", "b"], "--run: takes one value, got 2: 'a b'"),
        (["--no-dry-run", "true", "a"], "--no-dry-run: takes no value, got 'true'"),
        (["a", "--dryrun"], "--dryrun: unknown flag; did you mean --dry-run?"),
    ],
)
def test_a_report_on_what_is_no_folder(world, capsys, words, said):
    assert refused(capsys, ["report", *words], world).startswith(said)


def test_a_demo_of_more_digits_than_there_are(world, capsys):
    words = ["demo", "--digits.labeled-digits", "100000"]
    line = refused(capsys, words, world)
    assert line.startswith("digits.labeled_digits: must be at most ")
    assert line.endswith(" of these classes, got 100000")


def test_a_demo_of_too_few_scenes_to_show_every_class(world, capsys):
    words = ["demo", "--config", "demo_classification", "--digits.val-scenes", "3"]
    line = refused(capsys, words, world)
    assert line == "digits.val_scenes: must be one a class or more, got 3"


@pytest.mark.parametrize("verb", ["run", "train", "sweep"])
def test_to_measure_on_what_was_trained_on_is_warned_of(world, capsys, tmp_path, verb):
    said = "# warning: 3 of the 3 images of data.val are in data.train too: "
    printed = dry(capsys, command(verb, world), world).splitlines()
    assert [line[: len(said)] for line in printed if "warning" in line][:1] == [said]
    (tmp_path / "val").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30)).save(tmp_path / "val" / f"{i}.jpg")
    apart = ["--data.val", write_coco(tmp_path / "val" / "val.json")]
    assert "warning" not in dry(capsys, [*command(verb, world), *apart], world)


def test_the_folder_of_a_whole_run_for_a_model(world, capsys):
    save_tiny(Path("run/teacher"))
    fields = (("label", "teacher"), ("eval", "model"), ("train", "init.weights"))
    for verb, field in fields:
        start = ["--init.start", "teacher"] if verb == "train" else []
        line = refused(capsys, [*command(verb, world), *start, f"--{field}", "run"], world)
        said = f"{field}: run holds a whole run; pass one of its models: run/teacher"
        assert line == said
    save_tiny(Path("run/student"))
    line = refused(capsys, [*command("label", world), "--teacher", "run/"], world)
    assert line.endswith("models: run/teacher or run/student")
    dry(capsys, [*command("label", world), "--teacher", "run/student"], world)
    Path("run/pseudo").mkdir()
    Path("run/pseudo/summary.json").write_text("{}")
    line = refused(capsys, [*command("train", world), "--pseudo", "run"], world)
    assert line == "pseudo: run holds no finished labelling; pass run/pseudo"
