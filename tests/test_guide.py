"""The guide, executed: every command and every file that its pages show, in the order of the pages.

The words run as they stand, but for what is declared here: a bucket of a real S3 server in place of
`s3://bucket`, a folder in place of `/shared`, a tiny model and few steps (`SMALLER`), and for what
needs a cloud its own parser (`RULES`). A command that no rule covers fails.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray
import yaml
from bucket import Endpoint, credentials, s3_server
from ray.dashboard.modules.job.cli import job_cli_group
from ray.scripts.scripts import cli as ray_cli
from test_doctor import KINDS, SMALL, WORLD

from ray_st.cli import main
from ray_st.data.sources.digits import write_world
from ray_st.ray_compat import use_token
from ray_st.verbs import VERBS

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide"
NAMES = {"3": "car", "8": "truck"}  # what the guide's reader has photographed
PAGES = [
    Path(page).stem
    for part in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    for each in part.get("Guide", ())
    for page in each.values()
]

# Flags put behind the guide's own, of which the last counts. In one process: quick, and few cores.
_MODEL = SMALL[: SMALL.index("--train.steps")]
_TRAIN = [
    *("--train.steps", "4", "--train.warmup-steps", "2", "--train.checkpoint-every", "4"),
    *("--train.num-workers", "0", "--train.min-workers", "null", "--train.no-use-gpu"),
    *("--train.batch-size", "4", "--train.loaders", "0", "--train.lr-drops", "[]"),
    *("--train.cpus-per-worker", "1", "--train.nodes", "[]"),
]
_LABEL = [
    *("--label.actors", "0", "0", "--label.gpus-per-actor", "0", "--label.nodes", "[]"),
    # All that a model says which has learned for four steps.
    *("--detect.score-floor", "0", "--policy.score-threshold", "0"),
]
_LOOP = [*_MODEL, *_TRAIN, *_LABEL, "--sweep.alphas", "[]"]
_DIGITS = [
    *("--digits.labeled-scenes", "16", "--digits.val-scenes", "8", "--digits.pool-scenes", "8"),
    *("--loop.teacher-steps", "4"),
]
FEWER = {"23657": "5"}  # images
SMALLER: dict[str, list[str]] = {
    "demo": [*_LOOP, *_DIGITS],
    "run": _LOOP,
    "train": [*_MODEL, *_TRAIN],
    "label": _LABEL,
    "plan": [*_MODEL, *_TRAIN[2:], "--stage-s", "0.3", "--train.steps", "90000"],
    "doctor": [*_LOOP, "--train.steps", "20", "--train.num-workers", "1"],
}


def words_of(page: str) -> str:
    return (GUIDE / f"{page}.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    """A block of bash as commands of words: lines joined, comments gone."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@dataclass
class Reader:
    """Somebody who follows the guide: a current folder, a bucket, and what was done so far."""

    here: Path
    endpoint: Endpoint
    done: list[str] = field(default_factory=list)

    def follow(self, page: str) -> None:
        """Do what a page says, and all pages before it, each once."""
        for each in PAGES[: PAGES.index(page) + 1]:
            if each in self.done:
                continue
            self.done.append(each)
            for language, block in blocks(words_of(each)):
                HANDLERS[language](self, block)

    def substituted(self, word: str) -> str:
        """The two places that this machine lacks, and a fifth of the images that it has."""
        word = FEWER.get(word, word)
        word = re.sub(r"s3://(bucket\S*)", lambda found: self.endpoint.uri(found[1]), word)
        return re.sub(r"^(\w+:)?/shared\b", rf"\1{self.here}/shared", word)

    def bash(self, block: str) -> None:
        for words in commands(block):
            known = [head for head in RULES if words[: len(head.split())] == head.split()]
            assert known, f"no rule covers {shlex.join(words)}"
            head = max(known, key=len)
            RULES[head](self, [self.substituted(word) for word in words[len(head.split()) :]])

    def file(self, block: str) -> None:
        """Write a block under the name that its first line gives."""
        name = re.match(r"# ([\w.]+)", block)
        assert name, block
        (self.here / name[1]).write_text(block, encoding="utf-8")

    def ray_st(self, words: Sequence[str]) -> None:
        verb, *flags = words
        if verb == "submit":
            self.submit(flags)
            return
        assert main([verb, *flags, *SMALLER.get(verb, ())]) == 0, words
        assert not ray.is_initialized()

    def submit(self, words: Sequence[str]) -> None:
        """Check all that is checked before anything is sent; then do here what the job would do."""
        sent = self.printed(lambda: main(["submit", *({"--dry-run"} - {*words}), *words]))
        python, m, package, *job = shlex.split(sent.splitlines()[0])
        assert (python, m, package) == ("python", "-m", "ray_st")
        self.ray_st(job)

    def printed(self, work: Callable[[], int]) -> str:
        from contextlib import redirect_stdout
        from io import StringIO

        with redirect_stdout(StringIO()) as printed:
            assert work() == 0
        return printed.getvalue()

    def job_submit(self, words: Sequence[str]) -> None:
        """Ray's own client would send it; the file is run as the job would run it."""
        parsed(job_cli_group.commands["submit"], words)
        python, path, *flags = words[words.index("--") + 1 :]
        assert python == "python"
        verb = Path(path).stem.replace("_", "-")
        argv, sys.argv = sys.argv, [path, *flags, *SMALLER.get(verb, ())]
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(path, run_name="__main__")
        finally:
            sys.argv = argv
        assert ended.value.code == 0

    def make(self, words: Sequence[str]) -> None:
        """The demo's line of the Makefile; installing is what has happened before any test."""
        (target,) = words
        recipe = re.search(rf"^{target}:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert recipe
        command = recipe[1].replace("$(BIN)/", "").replace("$(OUT)", "runs/demo")
        head, *line = shlex.split(command)
        assert head == "ray-st"
        self.ray_st(line)

    def source(self, words: Sequence[str]) -> None:
        assert words == [".venv/bin/activate"]
        assert "VENV := .venv\n" in (ROOT / "Makefile").read_text()

    def export(self, words: Sequence[str]) -> None:
        """Of the token alone, which no Ray of this process may ask for."""
        assert words == ["RAY_AUTH_MODE=token"]

    def kubectl(self, words: Sequence[str]) -> None:
        """The file's own words, as far as a dry run goes: its nodes are not here."""
        assert words[0] == "-f"
        job = yaml.safe_load((self.here / words[1]).read_text())
        assert job["kind"] == "RayJob"
        entrypoint = [self.substituted(word) for word in shlex.split(job["spec"]["entrypoint"])]
        assert entrypoint[:3] == ["python", "-m", "ray_st"]
        other = ["--out", f"{self.here}/shared/runs/of_the_cloud"]  # runs/mine stands here by now
        assert main([*entrypoint[3:], *other, "--dry-run"]) == 0

    def sbatch(self, words: Sequence[str]) -> None:
        script = next(i for i, word in enumerate(words) if not word.startswith("--"))
        assert words[:script] == ["--nodes=4", "--gpus-per-node=4"]
        text = (self.here / words[script]).read_text()
        assert 'env RAY_ADDRESS=auto python -m ray_st "$@"' in text
        self.ray_st([*words[script + 1 :]])


def parsed(command: object, words: Sequence[str]) -> None:
    """What Ray's own command line makes of the words, without doing it."""
    context = command.make_context("ray", [*words])  # type: ignore[attr-defined]
    for value in context.params.values():
        if isinstance(value, str) and value.startswith("clusters/"):
            assert yaml.safe_load(Path(value).read_text())["cluster_name"] == "ray-st"


def only_parsed(group: object, name: str) -> Callable[[Reader, Sequence[str]], None]:
    return lambda _, words: parsed(group.commands[name], words)  # type: ignore[attr-defined]


RULES: dict[str, Callable[[Reader, Sequence[str]], None]] = {
    "make": Reader.make,
    "source": Reader.source,
    "export": Reader.export,
    "ray-st": Reader.ray_st,
    "ray job submit": Reader.job_submit,
    "ray job list": only_parsed(job_cli_group, "list"),
    # Heads, clouds: started for real by test_submit.py and test_two_nodes.py, or not at all.
    **{
        f"ray {name}": only_parsed(ray_cli, name)
        for name in ("start", "stop", "up", "down", "dashboard", "get-auth-token")
    },
    "kubectl create": Reader.kubectl,
    "sbatch": Reader.sbatch,
}
HANDLERS: dict[str, Callable[[Reader, str], None]] = {
    "bash": Reader.bash,
    "python": Reader.file,
    "yaml": Reader.file,
}


# One Ray for the whole guide, which the verbs join as in a job: to start one each would take longer
# than all the rest. It ends with its standard input.
_RAY = """
import sys, ray
found = ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
print(found.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    command = [sys.executable, "-c", _RAY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"[\d.]+:\d+", address)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", address)
            patch.setenv("RAY_AUTH_MODE", "")  # so that it is put back
            patch.delenv("RAY_AUTH_MODE")
            use_token()  # of ~/.ray, as that Ray does
            yield
        process.stdin.close()


@pytest.fixture(scope="module")
def reader(one_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    here = tmp_path_factory.mktemp("reader")
    for kind, name in (
        ("detection", "data"),
        ("segmentation", "maps"),
        ("classification", "kinds"),
    ):
        write_world(here / name, WORLD, KINDS[kind])
    (here / "COCO" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        file = here / "data" / f"instances_{split}.json"
        known = json.loads(file.read_text())
        for category in known["categories"]:
            category["name"] = NAMES[category["name"]]
        file.write_text(json.dumps(known))
        for image in known["images"]:  # laid out as COCO is
            image["file_name"] = Path(image["file_name"]).name
        coco = here / "COCO" / "annotations" / f"instances_{split}2017.json"
        coco.write_text(json.dumps(known))
        shutil.copytree(here / "data" / "images" / split, here / "COCO" / f"{split}2017")
        shutil.copytree(here / "data", here / "shared" / "data", dirs_exist_ok=True)
        shutil.copy(file, here / "shared" / "data" / f"{split}.json")
    shutil.copytree(here / "data" / "images" / "pool", here / "shared" / "data" / "pool")
    shutil.copytree(here / "kinds" / "train", here / "IMAGENET" / "train")
    for name in ("jobs", "clusters"):
        (here / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(here)
    try:
        with s3_server(tmp_path_factory.mktemp("s3")) as endpoint, credentials():
            endpoint.filesystem().create_dir("bucket")
            endpoint.upload(here / "data" / "images" / "pool", "bucket/photos")
            yield Reader(here=here, endpoint=endpoint)
    finally:
        os.chdir(before)
        sys.modules.pop("bright", None)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(reader: Reader, page: str) -> None:
    reader.follow(page)
    named = re.findall(r"`(runs/[^`\s]+)`", words_of(page))
    assert [path for path in named if not Path(path).exists()] == []


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", words_of(page), flags=re.DOTALL | re.MULTILINE)


def test_every_page_is_in_the_menu_and_short() -> None:
    assert {*PAGES} == {path.stem for path in GUIDE.glob("*.md")}
    for page in PAGES:
        assert len(prose(page).split()) <= (650 if page == "faq" else 300), page


def test_no_command_hides_where_nothing_executes_it() -> None:
    for page in PAGES:
        found = blocks(words_of(page))
        assert {language for language, _ in found} <= {*HANDLERS}
        assert words_of(page).count("```") == 2 * len(found)
        assert re.findall(r"^ {4}\S.*", prose(page), re.MULTILINE) == []
        assert {*re.findall(r"`ray-st ([a-z-]+)", prose(page))} <= {*VERBS}
