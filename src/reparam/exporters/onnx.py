"""A model as ONNX files, each compared with PyTorch before it counts as written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ReparamError, UsageError
from ..files.writing import replacing, write_json
from ..pretrained.image_model import ImageModel
from .programs import Program, description, programs

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
MOST_APART = 1e-3
"""Beyond which a file is taken to be another function."""


@dataclass(frozen=True)
class Written:
    """A file, and how far it is from PyTorch."""

    path: Path
    bytes: int
    apart: float
    """The greatest absolute difference of outputs, of random inputs."""


def export_onnx(model: ImageModel, folder: str | Path) -> list[Written]:
    """Writes each program of the model, such as encoder.onnx, decoder.onnx and prior.onnx, and model.json.

    Raises:
        UsageError: packages are missing, or a part of the model cannot be exported.
        ReparamError: a file does not compute what PyTorch does, or the disk is full.
    """
    check_packages()
    to, written = Path(folder), []
    to.mkdir(parents=True, exist_ok=True)
    for name, program in programs(model).items():
        data, apart = compared(name, program)
        with replacing(to / f"{name}.onnx") as file:
            file.write_bytes(data)
        written.append(Written(to / f"{name}.onnx", len(data), apart))
    write_json(to / "model.json", description(model))
    return written


def check_packages() -> None:
    """
    Raises:
        UsageError: packages are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX files need the packages {' '.join(missing)}: pip install 'reparam[export]', or "
                         f"pip install {' '.join(missing)}")


def compared(name: str, program: Program) -> tuple[bytes, float]:
    """A program as an ONNX file, and how far it is from PyTorch.

    Raises:
        UsageError: it computes what ONNX has no words for.
        ReparamError: the file does not compute what PyTorch does.
    """
    data = onnx_bytes(name, program)
    apart = difference(data, program)
    if not apart < MOST_APART:
        raise ReparamError(f"{name}.onnx differs from PyTorch by {apart:.2g}, more than rounding explains; it was not "
                           "written")
    return data, apart


def onnx_bytes(name: str, program: Program) -> bytes:
    """A program as an ONNX file, in float32.

    Raises:
        UsageError: it computes what ONNX has no words for.
    """
    try:
        with _quiet(), torch.no_grad():
            made = torch.onnx.export(program.exported(), dynamo=True, opset_version=OPSET, verbose=False,
                                     input_names=list(program.inputs), output_names=[program.output])
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError) as e:
        first = next(iter(str(e).strip().splitlines()), type(e).__name__)
        raise UsageError(f"the {name} of this model cannot be exported to ONNX: {first[:200]}") from e
    if made is None:
        raise UsageError(f"the {name} of this model cannot be exported to ONNX")
    return _bare(made.model_proto)


def _bare(proto: Any) -> bytes:
    """A program without the exporter's notes, which name the files of this machine that each operator came from."""
    graphs = [*graphs_of(proto.graph)]
    values = (v for g in graphs for v in (g, *g.node, *g.value_info, *g.input, *g.output, *g.initializer))
    for told in (proto, *values, *proto.functions):
        told.ClearField("metadata_props")
        told.ClearField("doc_string")
    return proto.SerializeToString()


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph of an ONNX file, and those inside it, which are the bodies of its loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)


def difference(data: bytes, program: Program) -> float:
    """The greatest absolute difference between a file's outputs and PyTorch's, of the program's rows."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {name: x.numpy() for name, x in program.inputs.items()})
    return float(np.abs(np.asarray(got, np.float64) - program.outputs().double().numpy()).max())


@contextlib.contextmanager
def _quiet() -> Generator[Any]:
    """The exporter tells its progress and its doubts to the screen; what comes of it is checked instead."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
