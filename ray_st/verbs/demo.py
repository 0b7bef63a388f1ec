"""`ray-st demo`: the whole loop in the demo world, in minutes, with nothing to download.

In: a seed and a task. Out: what `run` leaves, and the scenes as an ordinary data set of that task.
Next: `report.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ray_st.data.sources.digits import (
    DigitsConfig,
    check_world,
    classes_of,
    world_data,
    write_world,
)
from ray_st.recipe import dump
from ray_st.selftraining import folder
from ray_st.selftraining.learning import Learning, read_init
from ray_st.verbs.run import LoopVerb, check_stages, run_loop
from ray_st.verbs.verb import recipe_of, say_plan


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
    learning = Learning.of(config)
    check_world(config.digits, learning.kind)
    classes = classes_of(config.digits, learning.kind)
    check_stages(config, learning, classes)
    init = read_init(config.init, learning, classes, "the scenes")
    out, recipe = Path(config.out), dump(recipe_of(config))
    folder.check(out, recipe)
    if config.dry_run:
        say_plan(recipe, console, "scenes would be written", start=init)
        return
    folder.claim(out, recipe)
    world = out / folder.SCENES
    if folder.finished(out) is None or not world.is_dir():
        write_world(world, config.digits, learning.kind)
    run_loop(config, world_data(world, learning.kind), console)
