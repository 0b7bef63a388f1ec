"""JSON lines for whoever collects logs, and none of it where nobody asked."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from ray_st import logs
from ray_st.cli import main
from ray_st.progress import shown

ROOT = Path(__file__).parents[1]


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.pure
def test_a_verb_in_json_and_in_text(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    words = [sys.executable, "-m", "ray_st", "index", f"--images={tmp_path}/images"]
    words.append(f"--out={tmp_path}/index")

    def said(kind: str) -> list[str]:
        # As Ray gives it to the process of a submitted job: tests/test_submit.py has a real one.
        config = '{"runtime_env": {}, "metadata": {"job_submission_id": "nightly"}}'
        environment = {"RAY_JOB_CONFIG_JSON_ENV_VAR": config, "RAY_ST_LOG": kind}
        done = subprocess.run(
            [*words, f"--threads={1 if kind == 'json' else 2}"],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    found = events("\n".join(said("json")))
    for each in found:
        about = {name: each[name] for name in ("job", "verb", "run", "event", "level")}
        assert about == {
            "job": "nightly", "verb": "index", "run": f"{tmp_path}/index", "event": "said",
            "level": "info",
        }  # fmt: skip
        assert str(each["time"]).endswith("+00:00")
    assert f"found      1 images in {tmp_path}/images" in [each["message"] for each in found]
    assert f"found      1 images in {tmp_path}/images" in said("text")


@pytest.mark.pure
def test_a_mistake_is_an_event_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    assert main(["labl"]) == 2
    (found,) = events(capsys.readouterr().err)
    assert (found["level"], found["event"]) == ("error", "error")
    assert found["message"] == "ray-st: labl: unknown verb; did you mean label?"
    monkeypatch.setenv(logs.VARIABLE, "xml")
    assert main(["index", "--images=x", "--out=y"]) == 2
    line = "ray-st: RAY_ST_LOG: must be text or json, got 'xml'; unset it for text\n"
    assert capsys.readouterr().err == line


@pytest.mark.pure
def test_whole_lines_become_events_and_warnings_are_graver() -> None:
    under = io.StringIO()
    console = Console(file=logs.stream(under), width=200)
    assert not console.is_terminal
    console.print("half of", end="")
    assert under.getvalue() == ""
    console.print(" a line [dim]with style[/dim]")
    console.out("warning    label: few labels", highlight=False)
    table = Table("model", "AP")
    table.add_row("student", "56.0")
    console.print(table)
    found = events(under.getvalue())
    assert found[0]["message"] == "half of a line with style"
    assert [each["level"] for each in found[:3]] == ["info", "warning", "info"]
    assert any("student" in str(each["message"]) for each in found[2:])


@pytest.mark.pure
def test_events_and_pythons_own_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.event("shard", "shard-00003 is whole", shard="shard-00003", images=7)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(logs.VARIABLE, "json")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up("label", "runs/x")
        logs.event("shard", "shard-00003 is whole", shard="shard-00003", images=7)
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("ray_st.data").warning("%d images", 3, exc_info=True)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logs._about.clear()
    said = capsys.readouterr()
    (event,) = events(said.out)
    assert event["event"] == "shard"
    assert (event["shard"], event["images"], event["run"]) == ("shard-00003", 7, "runs/x")
    (log,) = events(said.err)
    assert (log["level"], log["message"], log["logger"]) == ("warning", "3 images", "ray_st.data")
    assert str(log["traceback"]).endswith("ValueError: no")


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_progress_has_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    console = Console(file=logs.stream(io.StringIO()), width=200)
    told: list[int] = []
    with shown(
        {"label": 500}, console, every_s=0.01, tell=lambda rows: told.append(len(rows))
    ) as counters:
        counters["label"].add(42, failed=3)
        counters["label"].warn({"few": "few labels"})
        until, text = time.monotonic() + 60, ""
        while '"done": 42' not in text or "few labels" not in text:
            assert time.monotonic() < until
            text += capsys.readouterr().out
            time.sleep(0.02)
    found = events(text)
    progress = [each for each in found if each["event"] == "progress" and each["done"] == 42]
    assert progress[0]["stage"] == "label"
    assert (progress[0]["total"], progress[0]["failed"]) == (500, 3)
    (warning,) = [each for each in found if each["event"] == "warning"]
    assert (warning["stage"], warning["kind"]) == ("label", "few")
    assert (warning["level"], warning["message"]) == ("warning", "few labels")
    assert told
