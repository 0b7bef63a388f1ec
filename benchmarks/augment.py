"""Training views against torchvision's: JPEG bytes or pixels, with boxes, to a square view.

S1 is compared with torchvision's flip, ScaleJitter, RandomCrop and SanitizeBoundingBoxes; S2 to S4
with the same behind its RandAugment (two operations an image; ours draws S2's and S3's lines, whose
operations fire at times). It moves pixels only, for it takes no boxes; ours moves boxes too. It is
given what it is quickest on: Pillow images for RandAugment, which its functions hand to Pillow, and
uint8 tensors otherwise, decoded by `decode_jpeg`. Ours decodes by Pillow, at a fraction of the size
where the view needs no more.

The rate is images a second of CPU time, on one thread.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairs import compare
from PIL import Image
from synthetic import random_labels
from torchvision import tv_tensors
from torchvision.io import decode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from ray_st.data.augment import AugmentConfig, view
from ray_st.data.images import PAD_RGB, Source
from ray_st.data.labels import Detections

HEIGHT, WIDTH = 480, 640  # as most of COCO
NUM_IMAGES = 100
MEASURE_S = 1.0  # at least so long, by repeating
POLICIES = ("S1", "S2", "S3", "S4")


def photos(folder: Path | None) -> list[bytes]:
    """JPEGs of a folder, or blotches of a photo's file size, 640 x 480."""
    if folder is not None:
        files = sorted(folder.glob("*.jpg"))[:NUM_IMAGES]
        return [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=80)
        encoded.append(buffer.getvalue())
    return encoded


def ours(
    sources: Sequence[Callable[[], Source]], labels: Sequence[Detections], size_px: int, policy: Any
) -> Callable[[], object]:
    """Views of all images, each time others."""
    config, epochs = AugmentConfig(policy=policy), iter(range(10**9))

    def work() -> None:
        epoch = next(epochs)
        for i, (source, known) in enumerate(zip(sources, labels, strict=True)):
            view(source(), known, size_px, np.random.default_rng([0, i, epoch]), config)

    return work


def theirs(
    images: Sequence[Callable[[], Any]],
    labels: Sequence[Detections],
    size_px: int,
    policy: str,
) -> Callable[[], object]:
    """The same by torchvision's transforms, as its documentation chains them."""
    jitter = AugmentConfig(policy=policy).jitter  # type: ignore[arg-type]
    strong = v2.RandAugment(num_ops=2, magnitude=10) if policy != "S1" else None
    place = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ScaleJitter((size_px, size_px), jitter),
            v2.RandomCrop((size_px, size_px), pad_if_needed=True, fill=list(PAD_RGB)),
            v2.SanitizeBoundingBoxes(),
        ]
    )
    known = [(torch.from_numpy(one.boxes_xyxy), torch.from_numpy(one.class_ids)) for one in labels]

    def work() -> None:
        for image, (boxes, class_ids) in zip(images, known, strict=True):
            pixels = image() if strong is None else pil_to_tensor(strong(image()))
            place(
                {
                    "image": tv_tensors.Image(pixels),
                    "boxes": tv_tensors.BoundingBoxes(
                        boxes, format="XYXY", canvas_size=pixels.shape[-2:]
                    ),
                    "labels": class_ids,
                }
            )

    return work


def rate(work: Callable[[], object]) -> Callable[[], float]:
    """Warm up; give a function that measures images a second of CPU time."""
    work()

    def measure() -> float:
        begun, rounds = time.process_time(), 0
        while time.process_time() - begun < MEASURE_S:
            work()
            rounds += 1
        return NUM_IMAGES * rounds / (time.process_time() - begun)

    return measure


def main() -> None:
    """Compare every policy at every size, from bytes and from pixels."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="pairs to run (default 5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 640], help="views, px")
    parser.add_argument("--images", type=Path, help="folder of 100 or more JPEGs in place of ours")
    given = parser.parse_args()
    torch.set_num_threads(1)
    files = photos(given.images)
    assert len(files) == NUM_IMAGES, f"{given.images} has fewer than {NUM_IMAGES} JPEGs"
    print(f"{NUM_IMAGES} JPEGs of {np.mean([len(file) for file in files]) / 1000:.1f} kB")
    buffers = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    tensors = [decode_jpeg(buffer) for buffer in buffers]
    arrays = [np.ascontiguousarray(tensor.permute(1, 2, 0).numpy()) for tensor in tensors]
    labels = random_labels(NUM_IMAGES, min(arrays[0].shape[:2]), 80, seed=0)
    pictures = [Image.fromarray(array) for array in arrays]
    # What is read: ours, torchvision's for S1, torchvision's for RandAugment.
    kinds: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
        "JPEG bytes": (
            [lambda file=file: Source(file) for file in files],
            [lambda buffer=buffer: decode_jpeg(buffer) for buffer in buffers],
            [lambda file=file: Image.open(io.BytesIO(file)).convert("RGB") for file in files],
        ),
        "pixels": (
            [lambda source=source: source for source in map(Source.of_pixels, arrays)],
            [lambda tensor=tensor: tensor for tensor in tensors],
            [lambda picture=picture: picture for picture in pictures],
        ),
    }
    for size_px in given.sizes:
        for policy in POLICIES:
            for kind, (own, plain, strong) in kinds.items():
                other = plain if policy == "S1" else strong
                compare(
                    f"{policy} from {kind} to {size_px} px, images a CPU second",
                    rate(ours(own, labels, size_px, policy)),
                    rate(theirs(other, labels, size_px, policy)),
                    given.pairs,
                )


if __name__ == "__main__":
    main()
