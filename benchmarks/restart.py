"""What a restart costs: a training whose worker is killed once, against one that is left alone.

    python benchmarks/restart.py [--workers 2] [--pairs N]

The same training twice, to the same images in the same steps. In one of them the first worker ends
itself by SIGKILL right after step 50, ten steps behind its last checkpoint, and Ray Train starts
the gang again. Seconds lost are the difference of the two wall times; those of the steps that were
for nothing, at the steady pace, are told apart from the rest. Beside them stands what the run says
of itself, `restart_s` of its summary.json: from the checkpoint that was gone on from to the first
step behind it, the same steps included.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pairs import in_turn, machine, middle, pairs_parser
from world import TRAIN, joint_job, scenes

from ray_st.cluster.session import connected
from ray_st.data.sources import LabeledSet
from ray_st.selftraining.stages import train_stage
from ray_st.training.restarts import Journal

STRIKE_STEP = 50
COURSE = replace(TRAIN, steps=80, checkpoint_every=40)


@dataclass(frozen=True)
class Fault:
    """What the first worker is handed: the end of it, once; its pid stays in a file."""

    victim: Path

    def put(self, step: int, _note: str = "") -> None:
        """Strike at the one step, unless it has struck before."""
        if step == STRIKE_STEP and not self.victim.exists():
            self.victim.write_text(f"{os.getpid()}")
            os.kill(os.getpid(), signal.SIGKILL)

    def warn(self, lines: Mapping[str, str]) -> None:
        """Nothing else is its business."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a training went."""

    wall_s: float
    step_s: float  # of a steady one
    order: str  # which images its steps have learned from
    restart_s: float  # as it says itself
    from_step: int  # of the checkpoint that its last start went on from


def course(labeled: LabeledSet, num_workers: int, *, disturbed: bool) -> Course:
    """Train once."""
    with tempfile.TemporaryDirectory() as folder:
        victim, out = Path(folder, "victim"), Path(folder, "out")
        job = joint_job(labeled, labeled.rows, replace(COURSE, num_workers=num_workers))
        begun = time.monotonic()
        summary = train_stage(job, out, Fault(victim) if disturbed else None)  # type: ignore[arg-type]
        wall_s = time.monotonic() - begun
        assert victim.exists() == disturbed
        assert summary["starts"] == 1 + disturbed
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        pace = statistics.median(row["images_per_s"] for row in rows[2:])
        return Course(
            wall_s=wall_s,
            step_s=job.images_a_step / pace,
            order=rows[-1]["order"],
            restart_s=summary["restart_s"],
            from_step=Journal.opened(str(out)).starts[-1].step,
        )


def main() -> None:
    """Print each pair, and the medians."""
    parser = pairs_parser(__doc__ or "")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    given = parser.parse_args()
    print(f"restart, {given.workers} worker(s), killed at step {STRIKE_STEP} of {COURSE.steps}")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        labeled = scenes(Path(folder), 128)
        course(labeled, given.workers, disturbed=False)  # the first one warms the files
        lost, told, starting = [], [], []
        for hit, whole in in_turn(
            lambda: course(labeled, given.workers, disturbed=True),
            lambda: course(labeled, given.workers, disturbed=False),
            given.pairs,
        ):
            assert hit.order == whole.order, "a restart changes no image of any step"
            vain_s = (STRIKE_STEP - hit.from_step) * whole.step_s
            lost.append(hit.wall_s - whole.wall_s)
            told.append(hit.restart_s)
            starting.append(lost[-1] - vain_s)
            print(
                f"  pair {len(lost)}: disturbed {hit.wall_s:.1f} s, left alone "
                f"{whole.wall_s:.1f} s: {lost[-1]:.1f} s lost, of which {vain_s:.1f} s were steps "
                f"for nothing;  restart_s {told[-1]:.1f}",
                flush=True,
            )
    print(f"  seconds lost: median {middle(lost, 1)}")
    print(f"  without the steps for nothing: median {middle(starting, 1)}")
    print(f"  restart_s of summary.json: median {middle(told, 1)}")


if __name__ == "__main__":
    main()
