"""A teacher that takes its time for every image, as a large model would, and no core."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

PACE = "PACED_TEACHER_FILE"  # names the file that holds the seconds an image


class Paced:
    """Sees one thing in every image."""

    classes = ("thing",)

    def predict(self, images: list[Any]) -> list[dict[str, Any]]:
        time.sleep(len(images) * float(Path(os.environ[PACE]).read_text()))
        return [{"boxes_xyxy": [[0, 0, 8, 8]], "scores": [0.9], "class_ids": [0]} for _ in images]


class Deadly(Paced):
    """One whose process dies on a white image."""

    def predict(self, images: list[Any]) -> list[dict[str, Any]]:
        if any(image.min() > 250 for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(images)
