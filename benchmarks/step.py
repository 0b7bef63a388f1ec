"""What a train step pays for the balance of its losses, for its guard, and for averaged weights.

Two detectors, one thread: the demo's tiny one at 64 px, and ResNet-18 at 256 px. Of each piece, the
seconds it takes in a step beside those of the whole step, in turns; the time is CPU time, which one
thread makes the wall time of a core that nobody else uses. Last, a step in parts beside one that is
not cut.

- balance: from loss sums to one scalar and its gradient, the averages moved on (one worker)
- guard: the statistics kept, loss and gradient norm looked at
- average: the averaged weights moved on; only where `train.ema_decay` is set
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from pairs import compare, machine, parse_pairs

from ray_st.data.batches import Batch, collate, paired
from ray_st.data.labels import Detections, Origin
from ray_st.models import ModelConfig, build
from ray_st.tasks import make_task
from ray_st.tasks.task import LossSums
from ray_st.training.averaging import Average
from ray_st.training.loss_balance import balanced_loss
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step

NUM_CLASSES = 5
REPEATS = 200  # of a piece, for one measurement
TINY = ModelConfig(
    backbone="test_resnet",
    image_size_px=64,
    levels=(3, 4),
    channels=64,
    head_convs=2,
    anchor_scale=1.5,
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A detector and a batch for it."""

    name: str
    model: ModelConfig
    half: int  # images of either origin in a step
    steps: int  # for one measurement

    def batch(self) -> Batch:
        """Noise, with three boxes an image."""
        rng, side = np.random.default_rng(0), self.model.image_size_px
        halves = []
        for origin in (Origin.HUMAN, Origin.PSEUDO):
            boxes = rng.integers(0, side // 2, (self.half, 3, 2))
            halves.append(
                collate(
                    rng.integers(0, 256, (self.half, side, side, 3), np.uint8),
                    [Detections.of(np.hstack([b, b + side // 4]), [0, 1, 2]) for b in boxes],
                    origin=origin,
                    is_valid=np.ones(self.half, bool),
                    image_ids=np.arange(self.half),
                )
            )
        return paired(*halves)

    def state(self, config: TrainConfig) -> TrainState:
        """A model at random weights, ready to train."""
        torch.manual_seed(0)
        model = build(self.model, "detection", NUM_CLASSES)
        model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        return TrainState.fresh(model, config, "cpu")


BENCHES = (
    Bench(name="the demo's detector, 64 px, 16 + 16 images", model=TINY, half=16, steps=4),
    Bench(name="ResNet-18, 256 px, 4 + 4 images", model=ModelConfig(), half=4, steps=1),
)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - begun) / repeats


def pieces(bench: Bench, state: TrainState) -> dict[str, Callable[[], object]]:
    """What is looked at, each as it stands in a step."""
    origins = torch.arange(2).repeat_interleave(bench.half)
    is_valid = torch.ones(2 * bench.half).bool()
    values = torch.rand(2 * bench.half, requires_grad=True)
    sums = LossSums(sums=values, counts=torch.ones(len(values)), parts={}, count_offset=1.0)
    balance = state.balance.updated(torch.ones(2), torch.ones(2).bool())
    norm, average = torch.tensor(1.0), Average(state.model, 0.9998)

    def weigh() -> None:
        balanced_loss(sums, origins, is_valid, balance).to_differentiate.backward()

    def guard() -> None:
        state.statistics.keep()
        float(norm), float(norm)

    return {"balance": weigh, "guard": guard, "average": lambda: average.update(1)}


def shares(bench: Bench, pairs: int) -> None:
    """Print each piece's share of a step: its seconds over the step's, pair by pair."""
    config = TrainConfig(batch_size=bench.half, lr=1e-4)
    state, batch = bench.state(config), bench.batch()
    task = make_task("detection", bench.model, NUM_CLASSES)
    work = pieces(bench, state)

    def step() -> None:
        train_step(state, batch, task, config)

    step()
    print(f"\n{bench.name}\n{machine()}")
    found: dict[str, list[float]] = {name: [] for name in work}
    for i in range(pairs):
        before = seconds(step, bench.steps) if i % 2 else None
        costs = {name: seconds(piece, REPEATS) for name, piece in work.items()}
        whole = before or seconds(step, bench.steps)
        for name, cost in costs.items():
            found[name].append(cost / whole)
        said = "  ".join(f"{name} {1e6 * cost:5.0f} us" for name, cost in costs.items())
        print(f"  pair {i + 1}: step {1e3 * whole:7.1f} ms  {said}")
    for name, each in found.items():
        median = f"{statistics.median(each):.3%}"
        print(f"  {name:<8} {median} of a step, spread {min(each):.3%} to {max(each):.3%}")


def parts(bench: Bench, pairs: int) -> None:
    """Compare a step in two parts with one that is not cut, images a CPU second."""
    task, batch = make_task("detection", bench.model, NUM_CLASSES), bench.batch()

    def rate(count: int) -> Callable[[], float]:
        config = replace(TrainConfig(batch_size=bench.half, lr=1e-4), accumulate=count)
        state = bench.state(config)

        def step() -> None:
            train_step(state, batch, task, config)

        step()  # the first of a run in parts looks twice
        return lambda: len(batch) / seconds(step, bench.steps)

    compare(f"{bench.name}: two parts against one", rate(2), rate(1), pairs)


def main() -> None:
    """Print shares and ratios."""
    pairs = parse_pairs(__doc__ or "")
    torch.set_num_threads(1)
    for bench in BENCHES:
        shares(bench, pairs)
    for bench in BENCHES:
        parts(bench, pairs)


if __name__ == "__main__":
    main()
