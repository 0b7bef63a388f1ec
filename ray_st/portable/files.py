"""A program written as a file, and a file run as any other program would run it.

In: a `Program`. Out: `model.onnx` or `model.pt2`; of such a file, a function of pixels. Next:
`pictures.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from ray_st.config import UserError
from ray_st.models.saved import SavedModel
from ray_st.models.weight_files import reason_of
from ray_st.portable.heads import Head, Program

Format = Literal["onnx", "torch"]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""uint8 (n, 3, side, side) -> arrays by name."""
FILES: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
INPUT = "pixels"
_NEEDED: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch": (),
}
_MOST_BYTES = 2**31 - 2**24  # of one ONNX file: protobuf's limit, and room for the graph


def require_format(name: Format, saved: SavedModel) -> None:
    """Refuse a format that this installation or this model cannot have."""
    for package in _NEEDED[name]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"format: {name} needs the package {package} ({error}); run "
                f"`pip install {' '.join(_NEEDED[name])}`, or pass --format torch"
            ) from error
    size_bytes = len(saved.weights)
    if name == "onnx" and size_bytes > _MOST_BYTES:
        raise UserError(
            f"format: one file of onnx holds 2 GiB, this model has {size_bytes / 2**30:.1f}; "
            "pass --format torch"
        )


def write(name: Format, model: nn.Module, head: Head, side_px: int, path: Path) -> None:
    """Record the program for any number of views, and write it to a path of the right suffix."""
    pixels = torch.zeros(2, 3, side_px, side_px, dtype=torch.uint8)
    try:
        with torch.no_grad():
            program = torch.export.export(
                Program(model, head).eval(), (pixels,), dynamic_shapes=({0: Dim("n")},)
            )
        _forget_sources(program)
        if name == "torch":
            torch.export.save(program, path)
        else:
            _write_onnx(program, [*head.meanings], path)
    except Exception as error:  # of tracing, which has dozens
        raise UserError(
            f"format: this model cannot be written as {name} for any number of images "
            f"({reason_of(error):.300}); try the other format, or another model.backbone"
        ) from error


def _forget_sources(program: ExportedProgram) -> None:
    """Drop what names files of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def _write_onnx(program: ExportedProgram, names: list[str], path: Path) -> None:
    from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass

    made = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=names,
        dynamic_shapes=({0: "n"},),
        dynamo=True,
        verbose=False,
    )
    assert made is not None, "without a path the program is returned"
    ClearMetadataAndDocStringPass()(made.model)
    made.save(path, external_data=False)


def opened(name: Format, path: Path) -> Run:
    """Make a file ready to run, on this machine's processor."""
    return _opened_onnx(path) if name == "onnx" else _opened_torch(path)


def _opened_onnx(path: Path) -> Run:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {INPUT: pixels}), strict=True))

    return run


def _opened_torch(path: Path) -> Run:
    program = torch.export.load(path).module()

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        named = program(torch.from_numpy(pixels))
        return {name: value.numpy() for name, value in named.items()}

    return run
