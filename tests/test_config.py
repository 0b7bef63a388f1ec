"""Recipes and flags: what is accepted, and the exact line for what is not."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_st.config import UserError, as_dict, from_dict, nearest, require
from ray_st.flags import print_help, resolve, with_flag
from ray_st.recipe import dump, find_recipe, load

pytestmark = pytest.mark.pure


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the student learns."""

    alpha: float = 1.0
    """Weight of the pseudo-label loss, from 0."""
    steps: int = 100
    """Optimizer steps."""
    size_hw: tuple[int, int] = (512, 640)
    """Height and width, px."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    use_amp: bool = False
    init: str | None = None
    clip: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "train.alpha", "at least 0", self.alpha, "0 turns it off")
        if self.steps == 13:
            raise ZeroDivisionError("thirteen")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    alphas: tuple[float, ...] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    boxes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class OuterConfig:
    weights: str
    inner: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What this verb does."""

    images: str
    """URI of a folder of images."""
    dry_run: bool = False
    limit: int | None = None
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    threshold: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    label: LabelConfig = field(default_factory=LabelConfig)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    SHORTHAND: ClassVar[str] = "policy"
    policy: Literal["S1", "S4"] = "S1"
    layers: int = 2


@dataclass(frozen=True, kw_only=True)
class WithPolicy:
    augment: PolicyConfig = field(default_factory=PolicyConfig)


@dataclass(frozen=True, kw_only=True)
class Nested:
    outer: OuterConfig


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    label: LabelConfig = field(default_factory=lambda: LabelConfig(threshold=0.9))
    train: TrainConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Many:
    labels: tuple[LabelConfig, ...] = ()


def flags(*argv: str) -> Verb:
    return resolve(Verb, ["--images", "x", *argv])


def refused(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        flags(*argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def recipe(folder: Path, text: str) -> str:
    path = folder / "x.yaml"
    path.write_text(text)
    return str(path)


def refused_recipe(folder: Path, text: str, *argv: str) -> str:
    """Return the line without the folder's name."""
    path = recipe(folder, text)
    with pytest.raises(UserError) as caught:
        resolve(Verb, ["--images", "x", "--config", path, *argv], recipe_schema=Recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_importing_config_is_cheap() -> None:
    code = (
        "import sys, ray_st.config, ray_st.flags;"
        "print({'cattrs', 'tyro', 'yaml', 'ray', 'torch'} & {*sys.modules})"
    )
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == "set()\n"


# ---- flags


@pytest.mark.parametrize(
    ("argv", "section", "name", "value"),
    [
        (["--train.alpha", "2"], "train", "alpha", 2.0),
        (["--train.alpha=2.5"], "train", "alpha", 2.5),
        (["--train.alpha", "1e-4"], "train", "alpha", 0.0001),
        (["--train.alpha", "1", "--train.alpha", "3"], "train", "alpha", 3.0),  # last wins
        (["--train.size-hw", "8", "9"], "train", "size_hw", (8, 9)),
        (["--train.size_hw", "[8, 9]"], "train", "size_hw", (8, 9)),
        (["--train.size_hw=8", "9"], "train", "size_hw", (8, 9)),
        (["--train.optimizer", "adamw"], "train", "optimizer", "adamw"),
        (["--train.use-amp"], "train", "use_amp", True),
        (["--train.use_amp", "--train.no-use-amp"], "train", "use_amp", False),
        (["--no-train.use-amp"], "train", "use_amp", False),
        (["--train.use-amp", "false"], "train", "use_amp", False),
        (["--train.init", "123"], "train", "init", "123"),  # a path may look like a number
        (["--train.init", "1e3"], "train", "init", "1e3"),
        (["--train.init", "true"], "train", "init", "true"),
        (["--train.init=--odd"], "train", "init", "--odd"),
        (["--train.init=a=b"], "train", "init", "a=b"),
        (["--train.init="], "train", "init", ""),
        (["--train.init", "x", "--train.init", "none"], "train", "init", None),
        (["--train.clip", "auto"], "train", "clip", "auto"),
        (["--train.clip", "3"], "train", "clip", 3.0),
        (["--sweep.alphas", "0.5", "1", "2"], "sweep", "alphas", (0.5, 1.0, 2.0)),
        (["--sweep.alphas", "[0.5, 1e-3]"], "sweep", "alphas", (0.5, 0.001)),
        (["--sweep.alphas", "-1", "-2e0"], "sweep", "alphas", (-1.0, -2.0)),
        (["--sweep.alphas", "[]"], "sweep", "alphas", ()),
        (["--sweep.alphas=[]"], "sweep", "alphas", ()),
        (["--sweep.alphas"], "sweep", "alphas", ()),
        (["--sweep.seeds"], "sweep", "seeds", ()),
        (["--sweep.names", "a", "1", "none"], "sweep", "names", ("a", "1", "none")),
        (["--sweep.names", "[1e3, no]"], "sweep", "names", ("1e3", "no")),
        (["--sweep.seeds", "4"], "sweep", "seeds", (4,)),
        (["--sweep.seeds", "4", "--sweep.seeds", "null"], "sweep", "seeds", None),
        (["--sweep.boxes", "[[1, 2], [3, 4]]"], "sweep", "boxes", ((1, 2), (3, 4))),
    ],
)
def test_flag_sets_one_field(argv: list[str], section: str, name: str, value: object) -> None:
    got = flags(*argv)
    assert getattr(getattr(got, section), name) == value
    assert type(getattr(getattr(got, section), name)) is type(value)
    rest = replace(got, **{section: replace(getattr(got, section), **{name: value})})
    assert rest == got
    plain = Verb(images="x")
    assert got == replace(plain, **{section: replace(getattr(plain, section), **{name: value})})


def test_plain_fields_are_flags_too() -> None:
    assert flags("--dry-run", "--limit", "3") == Verb(images="x", dry_run=True, limit=3)
    assert flags("--dry_run", "--no-dry-run", "--limit=none") == Verb(images="x")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--train.alpha", "-1"],
            "train.alpha: must be at least 0, got -1.0; 0 turns it off",
        ),
        (["--train.steps", "abc"], "train.steps: must be an integer, got 'abc'"),
        (["--train.steps", "3.5"], "train.steps: must be an integer, got 3.5"),
        (["--train.steps", "true"], "train.steps: must be an integer, got True"),
        (["--train.steps", "010"], "train.steps: must be an integer, got '010'"),
        (["--train.steps="], "train.steps: must be an integer, got ''"),
        (["--train.steps", "none"], "train.steps: must be an integer, got 'none'"),
        (["--train.alpha", "nan"], "train.alpha: must be a finite number, got 'nan'"),
        (["--train.alpha", ".inf"], "train.alpha: must be a finite number, got inf"),
        (["--train.alpha", "1e999"], "train.alpha: must be a finite number, got inf"),
        (["--train.use-amp", "yes"], "train.use_amp: must be true or false, got 'yes'"),
        (
            ["--train.optimizer", "lion"],
            "train.optimizer: must be one of 'sgd', 'adamw', got 'lion'",
        ),
        (["--train.clip", "x"], "train.clip: must be a finite number or one of 'auto', got 'x'"),
        (["--train.size-hw", "8"], "train.size_hw: must be a list of 2, got ['8']"),
        (["--sweep.alphas", "1", "x"], "sweep.alphas[1]: must be a finite number, got 'x'"),
        (
            ["--sweep.boxes", "[[1, 2], [3, x]]"],
            "sweep.boxes[1][1]: must be an integer, got 'x'",
        ),
        (["--sweep.alphas", "[1"], "--sweep.alphas: must be a list such as [0.5, 1], got '[1'"),
        (["--train.steps"], "--train.steps: needs a value; write --train.steps VALUE"),
        (["--train.size-hw"], "--train.size-hw: needs a value; write --train.size-hw VALUE"),
        (
            ["--train.steps", "--dry-run"],
            "--train.steps: needs a value; write --train.steps VALUE",
        ),
        (
            ["--sweep.alphas", "[&a [*a]]"],
            "--sweep.alphas: must be a list such as [0.5, 1], got '[&a [*a]]'",
        ),
        (["--train.steps", "1", "2"], "--train.steps: takes one value, got 2: '1 2'"),
        (["--no-dry-run", "true"], "--no-dry-run: takes no value, got 'true'"),
        (["--train.alhpa", "2"], "--train.alhpa: unknown flag; did you mean --train.alpha?"),
        (["--size-hw", "2"], "--size-hw: unknown flag; did you mean --train.size-hw?"),
        (["--no-limit"], "--no-limit: unknown flag; did you mean --limit?"),
        (["--zzz"], "--zzz: unknown flag; --help lists all flags"),
        (["--train", "2"], "--train: is a section; set its fields, such as --train.alpha"),
    ],
)
def test_refused_flag(argv: list[str], line: str) -> None:
    assert refused(*argv) == line


def test_word_without_a_flag() -> None:
    with pytest.raises(UserError, match=r"^'x': is not a flag; write --FIELD x$"):
        resolve(Verb, ["x"])


@pytest.mark.parametrize(
    ("words", "loose"),
    [
        ("x", "x"),
        ("--dry-run x --limit 3 y", "x y"),
        ("--limit 3 x", "x"),
        ("--limit=3 x --dry-run", "x"),
        ("--dry-run false x", "x"),
        ("--sweep.alphas 1 2 x", ""),
        ("--sweep.alphas=[1,2] x", "x"),
        ("--limit -1", ""),
        ("", ""),
    ],
)
def test_words_that_no_flag_takes(words: str, loose: str) -> None:
    argv, found = words.split(), loose.split()
    rest = [word for word in argv if word not in found]
    assert with_flag(Verb, argv, "images") == [*rest, *(["--images", *found] if found else [])]


def test_missing_value_says_how_to_give_it() -> None:
    line = r"^images: is missing; pass --images VALUE or set it in the recipe$"
    with pytest.raises(UserError, match=line):
        resolve(Verb, [])
    line = r"^outer.weights: is missing; pass --outer.weights VALUE or set it in the recipe$"
    with pytest.raises(UserError, match=line):
        resolve(Nested, ["--outer.inner.steps", "3"])
    with pytest.raises(UserError, match=line):
        resolve(Nested, [])


def test_nested_sections() -> None:
    got = resolve(Nested, ["--outer.inner.steps", "3", "--outer.weights", "w"])
    assert got == Nested(outer=OuterConfig(weights="w", inner=TrainConfig(steps=3)))


# ---- recipes


def test_flags_override_the_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, "images: a\ntrain: {alpha: 1e-4, steps: 7}\nsweep:\n")
    got = resolve(Verb, ["--train.steps", "8", "--config", path])
    assert got == Verb(images="a", train=TrainConfig(alpha=0.0001, steps=8))


def test_the_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe(tmp_path, "train: {init: ~/model}\nsweep: {names: [~/b, c~/d, s3://~/e]}")
    got = flags("--config=~/x.yaml", "--images=coco:~/a.json")
    assert got.images == f"coco:{tmp_path}/a.json"
    assert got.train.init == f"{tmp_path}/model"
    assert got.sweep.names == (f"{tmp_path}/b", "c~/d", "s3://~/e")
    assert flags("--images", "~").images == str(tmp_path)
    assert flags("--images", "~nobody/x").images == "~nobody/x"
    assert flags("--images", "x ~/y").images == "x ~/y"


def test_a_range_error_names_the_file_unless_a_flag_set_the_value(tmp_path: Path) -> None:
    line = "train.alpha: must be at least 0, got -1.0; 0 turns it off"
    assert refused_recipe(tmp_path, "train: {alpha: -1}", "--train.steps", "3") == f"x.yaml: {line}"
    assert refused_recipe(tmp_path, "train: {alpha: 1}", "--train.alpha", "-1") == line
    assert refused_recipe(tmp_path, "train: {alpha: -2}", "--train.alpha", "-1") == line
    assert refused("--train.alpha", "-1") == line


def test_sections_of_other_verbs_are_checked_and_dropped(tmp_path: Path) -> None:
    path = recipe(tmp_path, "images: a\nlabel: {threshold: 0.7}\n")
    assert resolve(Verb, ["--config", path], recipe_schema=Recipe) == Verb(images="a")
    line = "x.yaml: label.threshold: must be a finite number, got 'high'"
    assert refused_recipe(tmp_path, "label: {threshold: high}") == line
    line = "x.yaml: label.treshold: unknown key; did you mean label.threshold?"
    assert refused_recipe(tmp_path, "label: {treshold: 1}") == line
    with pytest.raises(UserError, match="label: unknown key; remove it"):
        resolve(Verb, ["--config", path])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train: {alhpa: 2}", "x.yaml: train.alhpa: unknown key; did you mean train.alpha?"),
        (
            "train: {alhpa: 2, steps: x}",
            "x.yaml: train.alhpa: unknown key; did you mean train.alpha?",
        ),
        ("train: {alphas: [2]}", "x.yaml: train.alphas: unknown key; did you mean sweep.alphas?"),
        ("trian: {alpha: 2}", "x.yaml: trian: unknown key; did you mean train?"),
        ("alpha: 2", "x.yaml: alpha: unknown key; did you mean train.alpha?"),
        ("train.alpha: 2", "x.yaml: train.alpha: unknown key; did you mean train.alpha?"),
        ("7: 2", "x.yaml: 7: unknown key; remove it"),
        ("train: {steps: abc}", "x.yaml: train.steps: must be an integer, got 'abc'"),
        ("train: {steps: true}", "x.yaml: train.steps: must be an integer, got True"),
        ("train: {steps: null}", "x.yaml: train.steps: must be an integer, got None"),
        ("train: {steps: 1.0}", "x.yaml: train.steps: must be an integer, got 1.0"),
        ("train: {alpha: .nan}", "x.yaml: train.alpha: must be a finite number, got nan"),
        ("train: {alpha: true}", "x.yaml: train.alpha: must be a finite number, got True"),
        ("train: {use_amp: yes}", "x.yaml: train.use_amp: must be true or false, got 'yes'"),
        ("train: {init: 123}", "x.yaml: train.init: must be text in quotes, got 123"),
        ("train: 3", "x.yaml: train: must be a section of fields, got 3"),
        ("sweep: {alphas: 3}", "x.yaml: sweep.alphas: must be a list, got 3"),
        ("sweep: {names: abc}", "x.yaml: sweep.names: must be a list, got 'abc'"),
        ("sweep: {alphas: [1, x]}", "x.yaml: sweep.alphas[1]: must be a finite number, got 'x'"),
        ("train: {alpha: -1}", "x.yaml: train.alpha: must be at least 0, got -1.0; 0 turns it off"),
        ("train: {steps: 13}", "x.yaml: train: thirteen"),
        ("", "x.yaml: is empty; a recipe is a mapping of sections, such as `train:`"),
        ("# only this\n", "x.yaml: is empty; a recipe is a mapping of sections, such as `train:`"),
        ("- 1", "x.yaml: must be a mapping of sections, got [1]"),
        (
            "a: 1\nb: [",
            "x.yaml:2: is not valid YAML: expected the node content, but found '<stream end>'",
        ),
        *(
            (text, "x.yaml: is nested too deeply, or refers to itself; write the values out")
            for text in ("train: &a {b: *a}", "&a {a: *a}", "- &a [*a]", "a: " + "[" * 2000)
        ),
        ("a: 1\n---\nb: 1", "x.yaml:2: is not valid YAML: but found another document"),
        ("train:\n  alpha: 1\n  alpha: 2", "x.yaml:3: alpha: is set twice; keep one"),
        (
            "a: !!python/name:os.system",
            "x.yaml:1: is not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'",
        ),
    ],
)
def test_refused_recipe(tmp_path: Path, text: str, line: str) -> None:
    assert refused_recipe(tmp_path, text) == line


def test_flag_into_what_is_no_section(tmp_path: Path) -> None:
    line = "x.yaml: train: must be a section of fields, got 3"
    assert refused_recipe(tmp_path, "train: 3", "--train.alpha", "2") == line


def test_yaml_11_surprises_are_gone(tmp_path: Path) -> None:
    text = "images: no\ntrain: {alpha: 1e-4, init: 2026-08-01}\nsweep: {names: [on, 1:30, 010]}"
    got = load(Verb, recipe(tmp_path, text))
    assert got.images == "no"
    assert (got.train.alpha, got.train.init) == (0.0001, "2026-08-01")
    assert got.sweep.names == ("on", "1:30", "010")


def test_recipe_by_path_and_by_name(tmp_path: Path) -> None:
    path = recipe(tmp_path, "images: a")
    assert find_recipe(path) == Path(path)
    for file in (Path(__file__).parents[1] / "jobs" / "recipes").glob("*.yaml"):
        assert find_recipe(file.stem).name == find_recipe(file.name).name == file.name


def test_missing_recipe_lists_the_nearest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_st.recipe.FOLDERS", (tmp_path, tmp_path / "none"))
    for name in ("demo", "coco_tiny", "voc"):
        (tmp_path / f"{name}.yaml").write_text("images: a")
    assert find_recipe("demo") == find_recipe("demo.yaml") == tmp_path / "demo.yaml"
    line = "--config: no file or recipe 'coco_tin'; known recipes: coco_tiny, voc, demo"
    assert refused("--config", "coco_tin") == line


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.yaml: cannot be read: No such file or directory$"):
        load(Verb, tmp_path / "gone.yaml")


# ---- round trips

words = st.text() | st.sampled_from(
    ["", "1e3", "no", "null", "~", "010", "1:30", "- a", "#", "a: b"]
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
trains = st.builds(
    TrainConfig,
    alpha=numbers.map(abs),
    steps=st.integers().filter(lambda steps: steps != 13),
    size_hw=st.tuples(st.integers(), st.integers()),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    use_amp=st.booleans(),
    init=st.none() | words,
    clip=numbers | st.just("auto"),
)
sweeps = st.builds(
    SweepConfig,
    alphas=st.lists(numbers).map(tuple),
    names=st.lists(words).map(tuple),
    seeds=st.none() | st.lists(st.integers()).map(tuple),
    boxes=st.lists(st.tuples(st.integers(), st.integers())).map(tuple),
)
verbs = st.builds(
    Verb, images=words, dry_run=st.booleans(), limit=st.none(), train=trains, sweep=sweeps
)


@settings(max_examples=100, deadline=None)
@given(config=verbs)
def test_dump_loads_back_equal(config: Verb, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(Verb, path) == config
    assert from_dict(Verb, as_dict(config)) == config


def test_dump_reads_well() -> None:
    config = Verb(images="s3://b", sweep=SweepConfig(alphas=(0.5, 1.0), names=("a",)))
    assert dump(config) == (
        "images: s3://b\ndry_run: false\nlimit: null\n"
        "train:\n  alpha: 1.0\n  steps: 100\n  size_hw: [512, 640]\n  optimizer: sgd\n"
        "  use_amp: false\n  init: null\n  clip: auto\n"
        "sweep:\n  alphas: [0.5, 1.0]\n  names: [a]\n  seeds: null\n  boxes: []\n"
    )


# ---- the rest


def test_require_writes_one_line() -> None:
    require(True, "a", "b", 1)
    with pytest.raises(UserError, match=r"^a.b: must be above 0, got -1$"):
        require(False, "a.b", "above 0", -1)
    with pytest.raises(ValueError, match=r"^a: must be x, got 'y'; do z$"):
        require(False, "a", "x", "y", "do z")


def test_from_dict_names_where() -> None:
    assert from_dict(LabelConfig, {"threshold": 1}) == LabelConfig(threshold=1.0)
    assert math.isclose(from_dict(LabelConfig, {}).threshold, 0.5)
    with pytest.raises(
        UserError, match=r"^model.json: threshold: must be a finite number, got '1'$"
    ):
        from_dict(LabelConfig, {"threshold": "1"}, "model.json")
    with pytest.raises(UserError, match=r"^m: must be a section of fields, got \[\]$"):
        from_dict(LabelConfig, [], "m")  # type: ignore[arg-type]


def test_missing_without_a_command_line() -> None:
    with pytest.raises(UserError, match=r"^model.json: outer.weights: is missing; add it$"):
        from_dict(Nested, {}, "model.json")


def test_a_section_keeps_its_defaults_on_its_own_fields() -> None:
    with pytest.raises(AssertionError, match=r"^Elsewhere.label: a section's defaults"):
        from_dict(Elsewhere, {})


def test_mapping_of_measured_values() -> None:
    card = Card(recipe={"a": [1, None, {"b": "x"}]}, metrics={"ap": 3.0})
    assert from_dict(Card, as_dict(card)) == card
    with pytest.raises(UserError, match=r"^m: metrics\[ap\]: must be a finite number, got 'x'$"):
        from_dict(Card, {"metrics": {"ap": "x"}}, "m")


def test_list_of_sections() -> None:
    assert from_dict(Many, {"labels": [{}, {"threshold": 1}]}).labels[1].threshold == 1.0
    with pytest.raises(
        UserError, match=r"^labels\[1\].threshold: must be a finite number, got 'x'$"
    ):
        from_dict(Many, {"labels": [{}, {"threshold": "x"}]})


def test_nearest() -> None:
    assert nearest("train.tau", ["train.lr", "pseudo.tau"]) == "pseudo.tau"
    assert nearest("train.alhpa", ["train.alpha", "train.steps"]) == "train.alpha"
    assert nearest("zzz", ["train.alpha"]) is None


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(Verb, "train", "Train a student.")
    out = capsys.readouterr().out
    for text in ("ray-st train", "Train a student.", "--config", "--images", "--dry-run"):
        assert text in out
    assert "the empty list --FIELD=[] or --FIELD alone" in " ".join(out.split())
    for text in ("--train.alpha", "Weight of the pseudo-label loss", "1.0", "--sweep.alphas"):
        assert text in out
    assert "required" in out


def test_one_word_stands_for_a_section(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("augment: S4\n")
    assert load(WithPolicy, path).augment == PolicyConfig(policy="S4")
    assert resolve(WithPolicy, ["--augment", "S4"]).augment == PolicyConfig(policy="S4")
    both = resolve(WithPolicy, ["--config", str(path), "--augment.layers", "3"])
    assert both.augment == PolicyConfig(policy="S4", layers=3)
    again = resolve(WithPolicy, ["--config", str(path), "--augment", "S1"])
    assert again.augment == PolicyConfig()
    path.write_text(dump(both))
    assert load(WithPolicy, path) == both
    assert path.read_text() == "augment:\n  policy: S4\n  layers: 3\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("augment: S5", "augment.policy: must be one of 'S1', 'S4', got 'S5'"),
        ("augment: 4", "augment: must be a section of fields, got 4"),
    ],
)
def test_a_wrong_word_for_a_section(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    for read in (
        lambda: load(WithPolicy, path),
        lambda: resolve(WithPolicy, ["--config", str(path)]),
    ):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == f"{path}: {line}"
