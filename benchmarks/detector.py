"""Our RetinaNet against torchvision's: the same boxes, in how much time.

At each size, batches of 8 and one thread: post-processing and loss of the same synthetic outputs,
inference end to end, a whole training step. `rival.py` says what the two share. Ours runs as it
does in labelling and training: channels last, from uint8, BatchNorms folded for inference.
torchvision's runs as its documentation shows it, from floats; a second comparison of inference
gives it channels last too.

On a CPU the rate is images a second of CPU time, which one thread makes the wall time of a core
that nobody else uses; on cuda, of wall time.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rival
import torch
from arena import BATCH, CANDIDATES, NUM_CLASSES, TASK, Arena, arena
from pairs import compare
from synthetic import realistic_outputs
from torch import Tensor, nn

from ray_st.data.batches import Batch, collate, paired
from ray_st.data.labels import Detections, Origin
from ray_st.data.rows import pack
from ray_st.models.folded import folded
from ray_st.models.retinanet import Outputs
from ray_st.tasks.anchors import pyramid_anchors, strides_of
from ray_st.tasks.coco_ap import box_ap
from ray_st.training.schedule import TrainConfig
from ray_st.training.step import TrainState, train_step
from ray_st.training.trainable import make_optimizer

MEASURE_S = 0.5  # at least so long, by repeating
TRAIN = TrainConfig(batch_size=BATCH // 2, lr=1e-4)


def steady(work: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Warm up; give a function that measures images a second."""

    def seconds(repeats: int) -> float:
        begun = now(device)
        for _ in range(repeats):
            work()
        return now(device) - begun

    first = seconds(1)
    if device.type == "cuda" or first < MEASURE_S:  # a slow one needs no second to be repeated once
        first = seconds(1)
    repeats = 1 + int(MEASURE_S / first)
    return lambda: BATCH * repeats / seconds(repeats)


def now(device: torch.device) -> float:
    """Seconds that count on this device, all work so far done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.monotonic()
    return time.process_time()


def post_processing(place: Arena, outputs: Outputs, anchors: Tensor, pairs: int) -> None:
    """From head outputs to boxes: the same boxes, and the same AP."""

    def ours() -> list[Detections]:
        return TASK.predictions(outputs, place.size_hw)

    @torch.no_grad()
    def theirs() -> list[dict[str, Tensor]]:
        return rival.post_process(place.theirs, outputs, anchors, place.size_hw)

    above = int((outputs.class_logits.sigmoid() > TASK.detect.score_floor).sum()) / BATCH
    what = f"post-processing at {place.side_px} px, {above:.0f} candidates an image"
    compare(what, steady(ours, place.device), steady(theirs, place.device), pairs)
    mine, other = ours(), plain(theirs())
    print(f"  {agreement(mine, other)}; AP {ap(place, mine):.3f} and {ap(place, other):.3f}")


def losses(place: Arena, outputs: Outputs, anchors: Tensor, pairs: int) -> None:
    """Matching, both losses, and their gradient at the head's outputs."""
    heads, targets = (outputs.class_logits, outputs.box_codes), place.targets

    def ours() -> None:
        sums = TASK.loss_sums(outputs, TASK.targets(place.labels, place.size_hw, place.device))
        torch.autograd.grad(sums.sums.sum() / (sums.counts.sum() + sums.count_offset), heads)

    def theirs() -> None:
        torch.autograd.grad(rival.loss(place.theirs, outputs, anchors, targets), heads)

    for head in heads:
        head.requires_grad_()
    what = f"loss and its gradient at {place.side_px} px"
    compare(what, steady(ours, place.device), steady(theirs, place.device), pairs)


def inference(place: Arena, pairs: int) -> None:
    """From pixels to boxes."""
    views, images = place.views, place.images
    channels_last = copy.deepcopy(place.theirs).to(memory_format=torch.channels_last)
    our_model = folded(place.model, views)

    @torch.inference_mode()
    def ours() -> list[Detections]:
        return TASK.predictions(our_model(views), place.size_hw)

    def of(model: Any) -> Callable[[], list[dict[str, Tensor]]]:
        return torch.inference_mode()(lambda: model(images))

    what = f"inference at {place.side_px} px, {CANDIDATES} candidates an image"
    for how, model in (("", place.theirs), (", theirs channels last too", channels_last)):
        compare(what + how, steady(ours, place.device), steady(of(model), place.device), pairs)
        print(f"  {agreement(ours(), plain(of(model)()))}")


def training(place: Arena, pairs: int) -> None:
    """From pixels to moved weights; ours with the normalised loss of two origins."""
    model, theirs = copy.deepcopy(place.model).train(), copy.deepcopy(place.theirs).train()
    state = TrainState.fresh(model, TRAIN, place.device)
    batch, images, targets = batch_of(place), place.images, place.targets
    optimizer = make_optimizer(theirs, TRAIN)

    def step() -> None:
        loss = sum(theirs(images, targets).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), TRAIN.clip_norm)
        optimizer.step()

    def ours() -> None:
        train_step(state, batch, TASK, TRAIN)

    what = f"training step at {place.side_px} px"
    compare(what, steady(ours, place.device), steady(step, place.device), pairs)


def batch_of(place: Arena) -> Batch:
    """Half human, half pseudo."""
    half, origins = BATCH // 2, (Origin.HUMAN, Origin.PSEUDO)
    parts = [
        collate(
            place.pixels[chosen],
            place.labels[chosen],
            origin=origin,
            is_valid=np.ones(half, bool),
            image_ids=np.arange(half),
        )
        for origin, chosen in zip(origins, (slice(half), slice(half, None)), strict=True)
    ]
    return paired(*parts)


def plain(found: list[dict[str, Tensor]]) -> list[Detections]:
    """Give torchvision's boxes our form."""
    columns = [[one[key].cpu().numpy() for key in ("boxes", "labels", "scores")] for one in found]
    return [Detections.of(b, k, scores=s) for b, k, s in columns]


def agreement(ours: Sequence[Detections], theirs: Sequence[Detections]) -> str:
    """How many boxes have a twin: same class, to 0.1 px and 0.001 of score."""
    twins = 0
    for one, other in zip(ours, theirs, strict=True):
        same = one.class_ids[:, None] == other.class_ids
        same &= abs(one.scores[:, None] - other.scores) < 1e-3
        same &= (abs(one.boxes_xyxy[:, None] - other.boxes_xyxy) < 0.1).all(-1)
        twins += int(same.any(1).sum())
    counts = [sum(map(len, found)) for found in (ours, theirs)]
    return f"{twins} of {counts[0]} boxes of ours and {counts[1]} of theirs are the same"


def ap(place: Arena, found: Sequence[Detections]) -> float:
    """COCO AP against the boxes that the outputs were made from."""
    tables = [
        pack(
            image_ids=range(BATCH),
            uris=[""] * BATCH,
            sizes_hw=[place.size_hw] * BATCH,
            labels=labels,
            origin=Origin.HUMAN,
        )
        for labels in (place.labels, found)
    ]
    return box_ap(*tables, [f"class {k}" for k in range(NUM_CLASSES)])["AP"]


def main() -> None:
    """Print all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs to run (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 640], help="sides in pixels")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for side_px in args.sizes:
        place = arena(side_px, torch.device(args.device))
        outputs = realistic_outputs(place.labels, side_px, TASK, seed=0, device=place.device)
        anchors = pyramid_anchors(
            outputs.feature_sizes, strides_of(TASK.levels), TASK.anchor_scale, place.device
        )
        post_processing(place, outputs, anchors, args.pairs)
        losses(place, outputs, anchors, args.pairs)
        inference(place, args.pairs)
        training(place, args.pairs)


if __name__ == "__main__":
    main()
