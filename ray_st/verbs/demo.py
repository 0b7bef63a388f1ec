"""`ray-st demo`: the whole loop in the demo world, in minutes, with nothing to download.

In: a seed. Out: what `run` leaves, and the scenes as an ordinary COCO data set. Next: `report.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ray_st.data.sources import DataConfig
from ray_st.data.sources.digits import DigitsConfig, split_digits, write_digits
from ray_st.recipe import dump
from ray_st.selftraining import folder
from ray_st.selftraining.stages import Learning, read_init
from ray_st.verbs.run import LoopVerb, run_loop
from ray_st.verbs.verb import recipe_of


@dataclass(frozen=True, kw_only=True)
class DemoVerb(LoopVerb):
    """Run the whole loop on scenes of handwritten digits."""

    out: str = "runs/demo"
    """Folder of the results; running the same again goes on with it."""
    digits: DigitsConfig = field(default_factory=DigitsConfig)


CONFIG = DemoVerb
DEFAULT_RECIPE = "demo"


def run(config: DemoVerb, console: Console) -> None:
    """Write the scenes, then run the loop on them."""
    # What they refuse is refused here, before scenes are written.
    classes = tuple(str(digit) for digit in config.digits.classes)
    read_init(config.init, Learning.of(config), classes, "the scenes")
    split_digits(config.digits)
    out, recipe = Path(config.out), dump(recipe_of(config))
    folder.check(out, recipe)
    if config.dry_run:
        console.out(recipe, highlight=False, end="")
        console.out("# dry run: scenes would be written; nothing was started", highlight=False)
        return
    folder.claim(out, recipe)
    world = out / folder.SCENES
    if folder.finished(out) is None or not world.is_dir():
        write_digits(world, config.digits)
    data = DataConfig(
        train=f"coco:{world}/instances_train.json",
        val=f"coco:{world}/instances_val.json",
        unlabeled=f"coco:{world}/instances_pool.json",
    )
    run_loop(config, data, console)
