"""ONNX files with weights in half precision, which compute in float32 as before.

A weight is rounded once, by at most one part in 2,048, and a Cast in the graph, which a runtime carries out when it
loads the file, makes float32 of it.
"""

from __future__ import annotations

import numpy as np

from .onnx import graphs_of

FEWEST = 512
"""Numbers below which a tensor keeps its precision: tables, such as frequencies, matter more than their size."""
COMPARING = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
"""Operators in which a rounded number may change the answer altogether."""


def with_half_weights(data: bytes) -> bytes:
    """The same program with its weights stored in float16, but for what is small, is compared with, or does not fit."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    exact = {name for each in graphs_of(graph) for node in each.node if node.op_type in COMPARING for name in node.input}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in exact:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.size < FEWEST or not (np.abs(values) <= np.finfo(np.float16).max).all():
            continue
        stored = f"{name}/half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString()
