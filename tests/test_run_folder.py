"""A run's folder: one run each."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest

from ray_st.config import UserError
from ray_st.selftraining.folder import (
    check,
    claim,
    finished,
    reopen,
    write_summary,
)
from ray_st.selftraining.lease import held
from ray_st.selftraining.record import RECIPE, SUMMARY

pytestmark = pytest.mark.pure


def refused(out, recipe="a: 1\n"):
    before = files(out.parent)
    for function in (check, claim):
        with pytest.raises(UserError) as caught:
            function(out, recipe)
    assert files(out.parent) == before
    line = str(caught.value)
    assert line.startswith(f"out: {out}")
    assert "pass" in line
    assert "\n" not in line
    return line


def files(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["new", "deep/er/new", ".", "with space #1"])
def test_a_new_and_an_empty_folder_can_be_claimed(tmp_path, name):
    out = tmp_path / name
    before = files(tmp_path)
    check(out, "a: 1\n")
    assert files(tmp_path) == before
    claim(out, "a: 1\n")
    assert [path.name for path in out.iterdir()] == [RECIPE]
    assert (out / RECIPE).read_text() == "a: 1\n"


def test_the_same_run_again_goes_on(tmp_path):
    claim(tmp_path / "out", "a: 1\n")
    (tmp_path / "out" / "work").mkdir()
    write_summary(tmp_path / "out", {"verb": "train"})
    before = files(tmp_path)
    claim(tmp_path / "out", "a: 1\n")
    assert files(tmp_path) == before


def test_another_run(tmp_path):
    claim(tmp_path / "out", "a: 1\n")
    (tmp_path / "out" / "metrics.jsonl").write_text("")
    assert "holds another run" in refused(tmp_path / "out", "a: 2\n")


def test_a_run_that_left_nothing_but_its_recipe_makes_room(tmp_path):
    # As one that the cluster had no room for: its flags must be open to change.
    claim(tmp_path / "out", "a: 1\n")
    claim(tmp_path / "out", "a: 2\n")
    assert (tmp_path / "out" / RECIPE).read_text() == "a: 2\n"


def test_other_files(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert "holds other files" in refused(tmp_path / "out")


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file" in refused(tmp_path / "out")


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    for function in (check, claim):
        with pytest.raises(UserError, match=rf"^out: {tmp_path}/file is a file; pass --out"):
            function(tmp_path / "file" / "deep" / "out", "a: 1\n")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path):
    name = "n" * 300  # longer than a file system takes
    with pytest.raises(UserError, match=r"^out: .* cannot be written \(.*\); pass --out") as caught:
        claim(tmp_path / "out" / name, "a: 1\n")
    assert "\n" not in str(caught.value)


def test_a_recipe_that_was_half_written_makes_room(tmp_path):
    (tmp_path / f"{RECIPE}.part").write_text("a")
    claim(tmp_path, "a: 1\n")
    assert [path.name for path in tmp_path.iterdir()] == [RECIPE]


def test_a_summary_says_that_the_run_ended(tmp_path):
    assert finished(tmp_path) is None
    write_summary(tmp_path, {"AP": 31.5, "AP_large": math.nan, "classes": ("ä",)})
    assert finished(tmp_path) == {"AP": 31.5, "AP_large": None, "classes": ["ä"]}
    assert json.loads((tmp_path / SUMMARY).read_text())["AP_large"] is None
    assert finished(tmp_path / "none") is None


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_summary(tmp_path, text):
    (tmp_path / SUMMARY).write_bytes(text)
    with pytest.raises(UserError) as caught:
        finished(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/{SUMMARY}: must be ")
    assert line.endswith("; remove it and run its verb again")
    assert "\n" not in line


def test_a_summary_that_cannot_be_read_is_not_to_be_removed(tmp_path):
    (tmp_path / SUMMARY).symlink_to("/proc/self/mem")  # nothing is at its beginning
    with pytest.raises(UserError, match=r"cannot be read \(.*\); check your access to it$"):
        finished(tmp_path)


def test_a_summary_can_be_taken_back(tmp_path):
    write_summary(tmp_path, {"verb": "label"})
    reopen(tmp_path)
    assert finished(tmp_path) is None
    reopen(tmp_path)  # nothing to take


HOLDER = """
import sys, time
from ray_st.selftraining.lease import held, holder
from ray_st.selftraining.record import PROGRESS, RECIPE, SUMMARY, Record
from ray_st.standing import Row
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_dead_one_lets_go(tmp_path):
    claim(tmp_path, "a: 1\n")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match=r"^out: another ray-st works in ") as caught,
        held(str(tmp_path)),
    ):
        pass
    assert "wait until it ends" in str(caught.value)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with held(str(tmp_path)):
        pass
    check(tmp_path, "a: 2\n")  # a lock alone is nothing to protect
