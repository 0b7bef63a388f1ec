"""`ray-st submit`: what is refused before anything is sent, and jobs on a real head."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from head import Head, free_ports, ray_head
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

from ray_st.cli import main
from ray_st.cluster.submission import DEFAULT_ADDRESS, address_of, outcome
from ray_st.config import UserError
from ray_st.flags import parted
from ray_st.verbs.submit import SubmitVerb


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, which is the current one."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {steps: 7}\n")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a mistake gives. Nothing listens at the address: nothing can be sent."""
    assert main(["submit", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ray-st: ")
    assert err.count("\n") == 1
    return err.removeprefix("ray-st: ").rstrip("\n")


@pytest.mark.pure
@pytest.mark.parametrize(
    ("own", "rest"),
    [
        ([], []),
        (["--no-wait"], ["label", "--images", "x"]),
        (["--wait"], ["true"]),
        (["--address", "http://h:1", "--install"], ["run", "--no-wait"]),
        (["--address=http://h:1"], ["run"]),
        (["--gpus", "1"], ["doctor"]),
        (["--address", "run"], []),
        (["--no-wait", "--help"], []),
        (["-h"], []),
        ([], ["label", "--help"]),
    ],
)
def test_a_verb_stands_behind_submits_own_flags(own: list[str], rest: list[str]) -> None:
    assert parted(SubmitVerb, [*own, *rest]) == (own, rest)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "submit: needs a verb; write ray-st submit VERB "),
        (["labl"], "labl: unknown verb; did you mean label?"),
        (["submit", "label"], "submit: must be followed by another verb, got 'submit'"),
        (["--adress", "x", "label"], "--adress: unknown flag; did you mean --address?"),
        (["label", "--images", "/x", "--teacher", "/t"], "out: must be an absolute path or a URI"),
        (
            ["label", "--images", "/x", "--teacher", "/t", "--out=~/o"],
            "out: must be written out, for ~ is another folder on the cluster, got '~/o'",
        ),
        (["label", "--out", "/o"], "images: is missing; pass --images VALUE"),
        (["train", "--out", "/o", "--train.steps", "0"], "train.steps: must be at least 1, got 0"),
        (
            ["train", "--address", "auto", "--out", "/o"],
            "address: belongs to submit, which stands before train; a job joins its own cluster",
        ),
        (["--address", "auto", "models"], "address: must be http://HOST:PORT of the head's"),
        (["--address", "ray://h:1", "models"], "address: must be http://HOST:PORT of the head's"),
        (["--working-dir", "none", "models"], "working_dir: must be a folder, got 'none'; "),
        (["--gpus", "-1", "models"], "gpus: must be 0 or more, got -1.0"),
        (["--install", "models"], "install: must be false where --working-dir holds no pyproject"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_sent(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    if words[:1] == ["train"] and "--data.train" not in words:
        words = [*words, "--data.train", "coco:/t.json", "--data.val", "coco:/v.json"]
    assert refused(capsys, *words).startswith(said)


@pytest.mark.pure
def test_help_is_of_what_it_stands_behind(capsys: pytest.CaptureFixture[str]) -> None:
    for words, of in ((["--help"], "submit"), (["--no-wait", "-h"], "submit")):
        assert main(["submit", *words]) == 0
        assert f"usage: ray-st {of} " in capsys.readouterr().out
    assert main(["submit", "verify", "--help"]) == 0
    assert "usage: ray-st verify " in capsys.readouterr().out


@pytest.mark.pure
def test_a_recipe_of_submits_own_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "--config", "mine.yaml", "train")
    assert line == "config: belongs to the verb; put --config behind train"


@pytest.mark.pure
def test_a_recipe_travels_or_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data.train", "coco:/t.json", "--data.val", "coco:/v.json", "--out", "/runs/a b"]

    def sent(*recipe: str, submit: tuple[str, ...] = ()) -> str:
        assert main(["submit", *submit, "--dry-run", "train", *recipe, *data]) == 0
        return capsys.readouterr().out.splitlines()[0]

    rest = "--data.train coco:/t.json --data.val coco:/v.json --out '/runs/a b'"
    assert sent("--config", "mine.yaml") == f"python -m ray_st train --config mine.yaml {rest}"
    # Named as the job will find it, wherever it is submitted from.
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.yaml").write_text("train: {steps: 7}\n")
    deep = sent(f"--config={folder}/sub/deep.yaml", submit=("--working-dir", "sub"))
    assert deep == f"python -m ray_st train --config=deep.yaml {rest}"
    assert f"--config detection {rest}" in sent("--config", "detection")  # the package's own
    line = refused(capsys, "--working-dir", "sub", "train", "--config", "mine.yaml", *data)
    assert line.startswith("config: must lie in --working-dir sub, not ignored there, to travel ")
    (folder / ".rayignore").write_text("*.yaml\n")
    line = refused(capsys, "train", "--config", "mine.yaml", *data)
    assert line.startswith("config: must lie in --working-dir ., not ignored there, to travel ")


@pytest.mark.pure
def test_whose_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert address_of(None) == DEFAULT_ADDRESS
    own = ray.util.get_node_ip_address()
    for here in ("auto", "local", "127.0.0.1:6379", "ray://localhost:10001", f"{own}:6379"):
        monkeypatch.setenv("RAY_ADDRESS", here)
        assert address_of(None) == DEFAULT_ADDRESS
    for there in ("10.0.0.1:6379", "ray://head:10001"):  # of a cluster, not of its dashboard
        monkeypatch.setenv("RAY_ADDRESS", there)
        with pytest.raises(UserError, match=f"^address: must be http.* got 'RAY_ADDRESS={there}'"):
            address_of(None)
        assert address_of("http://c:1") == "http://c:1"
    monkeypatch.setenv("RAY_ADDRESS", "http://admin:hunter2@a:8265")
    with pytest.raises(
        UserError, match=r"^address: must hold no credentials, got 'http://\*\*\*@a"
    ):
        address_of(None)
    monkeypatch.setenv("RAY_ADDRESS", "http://a:8265")
    assert address_of(None) == "http://a:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://b")
    assert address_of(None) == "https://b"
    assert address_of("http://c:1/") == "http://c:1"
    with pytest.raises(UserError):
        address_of("c:1")


def ended(status: JobStatus, code: int | None) -> JobDetails:
    kinds = {"type": JobType.SUBMISSION, "submission_id": "a", "entrypoint": "b"}
    return JobDetails(status=status, driver_exit_code=code, message="no\n node", **kinds)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (ended(JobStatus.SUCCEEDED, 0), (0, "succeeded")),
        (ended(JobStatus.FAILED, 2), (2, "failed with status 2")),
        (ended(JobStatus.FAILED, -9), (137, "failed with status 137")),
        (ended(JobStatus.FAILED, None), (1, "failed with status 1: no node")),
        (
            ended(JobStatus.STOPPED, None),
            (1, "was stopped; the same command goes on from here"),
        ),
    ],
)
def test_how_a_job_ended(job: JobDetails, expected: tuple[int, str]) -> None:
    assert outcome(job) == expected


@pytest.mark.pure
def test_nothing_listens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    line = refused(capsys, "--address", f"http://127.0.0.1:{port}", "models")
    assert line.startswith(f"address: nothing answers at 'http://127.0.0.1:{port}' (")


# On a real head.


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Ray's sockets stand in its folder, and their paths may have 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as place,
        ray_head(Path(place), num_cpus=8) as head,
    ):
        yield head


def words_of(head: Head, *words: str) -> list[str]:
    return [sys.executable, "-m", "ray_st", "submit", f"--address={head.dashboard_url}", *words]


def submitted(head: Head, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**head.environment, "PYTHONPATH": os.environ["PYTHONPATH"], **environment}
    return subprocess.run(
        words_of(head, *words), env=env, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.mark.cluster
def test_a_wrong_token_is_one_line(head: Head, folder: Path) -> None:
    for wrong in (
        {"RAY_AUTH_TOKEN": "another"},
        {"RAY_AUTH_MODE": "disabled"},
    ):
        done = submitted(head, "models", **wrong)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith(
            f"ray-st: address: the Ray cluster at {head.dashboard_url!r} wants its token, "
        )
        assert "Traceback" not in done.stderr


@pytest.mark.cluster
def test_a_token_in_the_home_folder_is_enough(
    head: Head, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(head.environment)
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text(environment.pop("RAY_AUTH_TOKEN"))
    del environment["RAY_AUTH_MODE"]
    environment |= {"HOME": str(folder), "PYTHONPATH": os.environ["PYTHONPATH"]}
    (folder / "work").mkdir()
    words = words_of(head, "--working-dir=work", "--no-wait", "models")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.cluster
def test_the_log_and_the_exit_status_are_the_jobs(head: Head, folder: Path) -> None:
    done = submitted(head, "models")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SpineNet-190" in done.stdout or "spinenet190" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" succeeded")
    # What is wrong on the cluster only: the job says so, and its status is ours.
    done = submitted(head, "report", "/nowhere", RAY_ST_LOG="json")
    assert done.returncode == 2, done.stdout + done.stderr
    (mistake,) = (line for line in done.stdout.splitlines() if '"event": "error"' in line)
    said = json.loads(mistake)
    assert "run: /nowhere holds no summary.json; " in said["message"]
    last = done.stdout.splitlines()[-1]
    assert last == f"job        {said['job']} failed with status 2"  # both name it as Ray does


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_submitting_twice(head: Head, folder: Path) -> None:
    demo = ["demo", "--out", str(folder / "demo")]
    begun = submitted(head, "--no-wait", *demo)
    assert begun.returncode == 0, begun.stderr
    job_id = begun.stdout.split()[1].rstrip(",")
    assert job_id.startswith("ray-st-demo-")
    # Other words in the same folder: nothing is sent.
    slash = submitted(head, *demo[:-1], f"{folder}/./demo/")
    assert slash.returncode == 2
    assert f"out: job {job_id} works in {folder}/demo with other words" in slash.stderr
    other = submitted(head, *demo, "--train.steps", "9")
    assert other.returncode == 2
    assert other.stderr.splitlines()[-1].startswith(
        f"ray-st: out: job {job_id} works in {folder}/demo with other words; wait until it ends"
    )
    # The same words: the job that is there is followed, to its end.
    env = {**head.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}
    follower = subprocess.Popen(
        words_of(head, *demo), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        assert f"{job_id} does this already; nothing was sent" in follower.stdout.readline()
    finally:
        follower.kill()
        follower.communicate(timeout=30)
    # A follower that dies takes nothing with it.
    # Ray has read this process's own settings already: the token goes in by hand.
    bearer = {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    client = JobSubmissionClient(head.dashboard_url, headers=bearer)
    assert [job.submission_id for job in client.list_jobs() if "demo" in job.entrypoint] == [job_id]
    time.sleep(2)
    assert not client.get_job_status(job_id).is_terminal()
    client.stop_job(job_id)
    deadline = time.monotonic() + 60
    while not client.get_job_status(job_id).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)
    # It has ended: the same words make a job of their own, in the same folder.
    again = submitted(head, "--no-wait", *demo)
    assert again.returncode == 0, again.stderr
    second = again.stdout.split()[1].rstrip(",")
    assert second != job_id
    client.stop_job(second)
