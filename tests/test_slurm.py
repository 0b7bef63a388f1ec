"""`clusters/slurm.sh`, run by bash as Slurm would: `srun` and `scontrol` are small scripts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.pure, pytest.mark.timeout(120)]

SCRIPT = Path(__file__).parents[1] / "clusters" / "slurm.sh"
BASH = shutil.which("bash") or "/bin/bash"
NODES, CPUS, GPUS = 2, 32, 4

# Runs on one node what is behind Ray's launcher: with it, Ray would be started and stopped.
RUNS = """
printf '%s\\n' "${RAY_ADDRESS-unset}" "$@" > srun.words
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
# Works until Slurm was asked to queue the job again, and a little longer. As Slurm does it, a job
# that is taken back is ended, and one that is not ends its work.
WORKS = """
touch srun.works
for _ in {1..600}; do  # half a minute at most: nobody else would end it
    if [ -e requeue.words ]; then break; fi
    sleep 0.05
done
sleep 0.3
exit "$ENDS_WITH"
"""
SCONTROL = """
case "$1" in
    show) [ "$2 $3" = "hostnames a[1-2]" ] && printf 'a1\\na2\\n' ;;
    requeue) echo "$@" > requeue.new; mv requeue.new requeue.words; exit "$REQUEUE_STATUS" ;;
esac
"""
PYTHON = f"""
if [ "$1" = -m ]; then printf '%s\\n' "${{RAY_ADDRESS-unset}}" "$@" > python.words; fi
exec {sys.executable} "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder that a job is sent from, with the commands that its nodes have."""

    folder: Path

    def has(self, name: str, body: str) -> None:
        file = self.folder / ".venv" / "bin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!{BASH}\n{body}")
        file.chmod(0o755)

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "a[1-2]",
            "SLURM_NNODES": str(NODES),
            "SLURM_CPUS_PER_TASK": str(CPUS),
            "SLURM_GPUS_ON_NODE": str(GPUS),
            **more,
        }
        return subprocess.Popen(
            [BASH, str(SCRIPT), *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **more: str) -> tuple[int, str]:
        job = self.start(*words, **more)
        out, err = job.communicate(timeout=100)
        return job.returncode, out + err

    def words(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(folder=tmp_path)
    found.has("activate", 'PATH="$PWD/.venv/bin:$PATH"\n')
    found.has("python", PYTHON)
    found.has("srun", RUNS)
    found.has("scontrol", SCONTROL)
    return found


def test_every_node_gets_its_cores_and_the_verb_its_cluster(site: Site) -> None:
    status, said = site.run("--version")
    assert status == 0, said
    address, *words = site.words("srun.words")
    srun, ray = words[: words.index("ray")], words[words.index("ray") : words.index("--")]
    assert srun == [f"--nodes={NODES}", f"--ntasks={NODES}", f"--cpus-per-task={CPUS}"]
    assert ray == [
        *("ray", "symmetric-run", "--address", "a1:6379", "--min-nodes", f"{NODES}"),
        *("--num-cpus", f"{CPUS}", "--num-gpus", f"{GPUS}", "--disable-usage-stats"),
    ]
    # The verb alone is told to join what stands: what starts Ray has nothing to join.
    assert address == "unset"
    assert site.words("python.words") == ["auto", "-m", "ray_st", "--version"]


def test_a_verb_that_knows_no_address_runs(site: Site) -> None:
    images = site.folder / "images"
    images.mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(images / "a.png")
    out = site.folder / "index"
    status, said = site.run("index", "--images", str(images), "--out", str(out))
    assert status == 0, said
    assert (out / "manifest.json").exists()


def test_what_is_wrong_with_the_words_ends_the_job_and_is_not_tried_again(site: Site) -> None:
    status, said = site.run("index", "--imagse", "x")
    assert status == 2
    assert "--imagse" in said
    assert not (site.folder / "requeue.words").exists()


def warned(site: Site, **more: str) -> tuple[int, str]:
    """A job that Slurm warns, as `--signal=B:USR1@120` has it: the script, and no process else."""
    site.has("srun", WORKS)
    job = site.start("label", **more)
    try:
        until = time.monotonic() + 60
        while not (site.folder / "srun.works").exists():
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(job.pid, signal.SIGUSR1)
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert site.words("requeue.words") == ["requeue 77"]
    return job.returncode, err


def test_a_job_that_runs_out_of_time_is_queued_again(site: Site) -> None:
    status, said = warned(site, REQUEUE_STATUS="0", ENDS_WITH="143")
    assert (status, said) == (143, "slurm.sh: out of time; queued again\n")


def test_a_job_that_may_not_be_queued_again_works_on(site: Site) -> None:
    status, said = warned(site, REQUEUE_STATUS="1", ENDS_WITH="0")
    assert status == 0
    assert said == "slurm.sh: out of time, and not queued again; send the same words once more\n"


def test_slurm_warns_the_script_and_may_queue_it_again() -> None:
    asked = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:USR1@120"} <= {*asked}
