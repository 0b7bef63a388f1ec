"""`hf:FOLDER_OR_ID`: an object detector of Hugging Face's transformers, local or from its hub.

In: what `from_pretrained` takes. Out: a `TeacherSource`; model and processor are read once, where
the command runs, and travel to the actors. Next: `onnx_graph.py`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_st.config import UserError
from ray_st.data.labels import Detections, Labels
from ray_st.labeling.looks import Looks
from ray_st.labeling.teacher import Learned
from ray_st.labeling.teachers.class_map import NO_CLASS
from ray_st.labeling.teachers.origin import (
    Foreign,
    LooksOnce,
    Wishes,
    digest_of,
    named_outputs,
    optional,
)
from ray_st.labeling.teachers.pixels import BySize, detections
from ray_st.models.weight_files import reason_of, require_finite
from ray_st.tasks.detection import DetectConfig

_SIDE_PX = 640
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?$")


@dataclass(frozen=True, kw_only=True, eq=False)
class HuggingFaceTeacher(LooksOnce):
    """The `TeacherSource` of an object detector of transformers."""

    model: Any  # on the CPU, in evaluation mode
    processor: Any
    task: Learned
    classes: tuple[str, ...]
    ids: np.ndarray  # class id of each output; -1 for none
    image_size_px: int
    digest: str
    detect: DetectConfig

    def load(self, device: torch.device | str, looks: Looks | None = None) -> BySize:
        """Copy the model to a device."""
        del looks
        model = copy.deepcopy(self.model).to(device)
        return BySize(Detections, partial(self._label, model, torch.device(device)))

    @torch.inference_mode()
    def _label(self, model: Any, device: torch.device, images: np.ndarray) -> list[Labels]:
        # Named, for it cannot be seen of an image 3 pixels high.
        inputs = self.processor(
            images=[*images], return_tensors="pt", input_data_format="channels_last"
        )
        outputs = model(**inputs.to(device))
        found = self.processor.post_process_object_detection(
            outputs,
            threshold=self.detect.score_floor,
            target_sizes=[images.shape[1:3]] * len(images),
        )
        return [
            detections(one["boxes"], one["scores"], one["labels"], self.ids, self.detect)
            for one in found
        ]


def open_hugging_face(name: str, wishes: Wishes) -> HuggingFaceTeacher:
    """Read model and processor; raises `UserError` in one line."""
    transformers = optional("transformers", "hf")
    wishes.require_own_nms()
    model, processor = _read(transformers, name)
    outputs = _outputs(model.config.id2label)
    classes, ids = named_outputs(outputs)
    side, state = wishes.side(_SIDE_PX), model.state_dict()
    require_finite(state, name, "teacher")
    # A folder's own path is no part of what the model is.
    config = {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}
    facts = json.loads(
        json.dumps(
            {"kind": "hf", "model": config, "pixels": processor.to_dict(), "size": side},
            default=str,
        )
    )
    return HuggingFaceTeacher(
        model=model.eval().requires_grad_(requires_grad=False),
        processor=processor,
        task=Foreign.of("detection"),
        classes=classes,
        ids=ids,
        image_size_px=side,
        digest=digest_of(facts, state),
        detect=wishes.detect,
    )


def _read(transformers: Any, name: str) -> tuple[Any, Any]:
    path = Path(name).expanduser()
    if not path.is_dir() and not _HUB_ID.match(name):
        raise UserError(f"teacher: hf:{name} is no folder; check the path")
    where = str(path) if path.is_dir() else name
    transformers.utils.logging.disable_progress_bar()
    try:
        model, account = transformers.AutoModelForObjectDetection.from_pretrained(
            where, output_loading_info=True, trust_remote_code=False
        )
        # Said each time: transformers takes no word on it for leave to ask, and then runs it.
        processor = transformers.AutoImageProcessor.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # of the hub's client, of JSON, of safetensors, of the model
        raise UserError(
            f"teacher: hf:{name} cannot be read as an object detector ({reason_of(error)}); pass a "
            "folder that save_pretrained left, with its image processor, or an id of the hub"
        ) from error
    lacking = sorted(map(str, [*account["missing_keys"], *account["mismatched_keys"]]))
    if lacking:
        raise UserError(
            f"teacher: hf:{name} lacks {len(lacking)} tensors of its model ({lacking[0]}); "
            "it is no trained detector, or was not saved whole"
        )
    if not hasattr(processor, "post_process_object_detection"):
        raise UserError(
            f"teacher: hf:{name} has a {type(processor).__name__}, which makes no boxes of its "
            "outputs; pass a detector whose image processor does"
        )
    return model, processor


def _outputs(names: Mapping[int, str]) -> list[str]:
    """Name of each output, in order; those without one stand for nothing."""
    return [str(names.get(k, NO_CLASS[1])) for k in range(max(names, default=-1) + 1)]
