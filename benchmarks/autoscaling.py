"""A labelling on a cluster that grows with it, second by second: the scene of a test, unhurried.

    python benchmarks/autoscaling.py [--images N] [--figure FILE]

Ray's own autoscaler starts and ends nodes, which are processes of this machine; a teacher takes
half a second for every image and no core, so two nodes label twice as many. A node is taken away
while both label, and the autoscaler replaces it. Nothing may be lost: the store is verified.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pairs import machine

from ray_st.labeling.store import Store
from ray_st.labeling.verify import findings
from ray_st.report.canvas import STYLE
from ray_st.report.palette import LIGHT

_TESTS = Path(__file__).parents[1] / "tests"
sys.path.append(str(_TESTS))
from growth import TEACHERS, Growth, Moment, grown  # noqa: E402 - it lies beside the test

IMAGE_S = 0.5
_WINDOW_S = 10.0  # files of four images stand at once: a rate over less would only jump


def rates(moments: Sequence[Moment]) -> list[float]:
    """Images a second, at each moment, of the window that ends there."""
    found = []
    for now in moments:
        first = next(each for each in moments if each.at_s >= now.at_s - _WINDOW_S)
        seconds = max(now.at_s - first.at_s, _WINDOW_S)
        found.append((now.images - first.images) / seconds)
    return found


def draw(growth: Growth, file: Path) -> None:
    """Nodes and teachers above, images a second below, over the seconds of the command."""
    moments = growth.moments
    at_s = [each.at_s for each in moments]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        nodes, teachers = ([getattr(each, name) for each in moments] for name in
                           ("nodes", "teachers"))  # fmt: skip
        above.fill_between(
            at_s, nodes, step="post", color=LIGHT["line"], lw=0, label="teacher nodes"
        )
        above.step(
            at_s, teachers, where="post", lw=1.8, color=LIGHT["teacher"], label="teachers on them"
        )
        above.set_ylim(0, TEACHERS + 0.2)
        above.set_yticks(range(TEACHERS + 1))
        above.legend(loc="upper left", frameon=False)
        below.plot(at_s, rates(moments), lw=1.8, color=LIGHT["pseudo"])
        below.set_ylim(bottom=0)
        below.set_ylabel("images/s")
        below.set_xlabel("seconds since the command was given")
        for axes in (above, below):
            axes.tick_params(length=0)
            axes.set_xlim(0, 1.02 * at_s[-1])
            _mark(axes, growth, has_words=axes is below)
        figure.savefig(file, dpi=110)


def _mark(axes: Axes, growth: Growth, *, has_words: bool) -> None:
    marks = ((growth.taken_s, "a node is taken away", "left"), (growth.done_s, "done", "right"))
    for at_s, words, side in marks:
        axes.axvline(at_s, color=LIGHT["muted"], lw=0.9, ls=":")
        if has_words:
            place = (4 if side == "left" else -4, 4)
            axes.annotate(words, (at_s, 0), place, textcoords="offset points", ha=side, fontsize=9)


def tell(growth: Growth) -> None:
    """Print each change, and what it came to."""
    last = None
    print("second  nodes  teachers  images")
    for each in growth.moments:
        if (each.nodes, each.teachers) != last:
            last = (each.nodes, each.teachers)
            print(f"{each.at_s:6.0f} {each.nodes:6} {each.teachers:9} {each.images:7}")
    print(f"node taken away at {growth.taken_s:.0f} s, done at {growth.done_s:.0f} s")
    with_all = [rate for each, rate in zip(growth.moments, rates(growth.moments), strict=True)
                if each.teachers == TEACHERS]  # fmt: skip
    print(f"images a second with {TEACHERS} teachers: {max(with_all):.1f} at most")


def main() -> None:
    """Play it, verify what stands, tell, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    given = parser.parse_args()
    paths = [str(_TESTS), str(_TESTS.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        growth = grown(Path(folder), images=given.images, image_s=IMAGE_S, hurries=False)
        assert growth.status == 0, growth.said
        assert findings(Store(f"{growth.out}/raw")) == []
        assert growth.moments[-1].images == given.images
    tell(growth)
    if given.figure is not None:
        draw(growth, given.figure)


if __name__ == "__main__":
    main()
