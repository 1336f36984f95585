"""The float network that a program computes: what runs and traces are compared with.

It is the model after its graph passes, whole and in float, so it also shows what is the hardware's
doing and what the passes'. On disk it is plain ONNX, which Netron and onnxruntime open:

    float.onnx   the graph; its metadata names what each layer reads and computes
    float.data   the weights
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xbarc.support.errors import XbarcError

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH, DATA = "float.onnx", "float.data"

LAYERS = "xbarc.layers"
"""In the model's metadata: JSON, a layer's name -> names of what it reads and computes."""

SMALL_BYTES = 1024
"""Tensors up to this size stand in the graph's file."""


@dataclass(frozen=True)
class FloatNetwork:
    """`model`, and by layer on crossbars the names of the values that it reads and computes."""

    model: "ir.Model"
    layers: Mapping[str, tuple[str, str]]


def save(network: FloatNetwork, folder: Path) -> None:
    """Write both files. Raises `OSError` where the disk refuses."""
    import onnx_ir as ir

    from xbarc.graph.serialize import without_notes

    model = without_notes(network.model)
    model.metadata_props[LAYERS] = json.dumps(dict(network.layers), ensure_ascii=False)
    # Where no tensor is large, onnx_ir writes no second file.
    (folder / DATA).touch()
    ir.save(model, folder / GRAPH, external_data=DATA, size_threshold_bytes=SMALL_BYTES)


def load(folder: Path) -> FloatNetwork:
    """What `save` wrote; the weights stay on disk until they are needed.

    Raises `XbarcError` where the file is damaged, or names another file's data.
    """
    import onnx
    import onnx_ir as ir

    from xbarc.graph.serialize import named_files

    try:
        others = {*named_files(onnx.load(folder / GRAPH, load_external_data=False))} - {DATA}
        model = ir.load(folder / GRAPH)
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype == ir.DataType.UNDEFINED:
                raise ValueError(f"weights {value.name!r} have no element type")
        listed = json.loads(model.metadata_props[LAYERS])
        layers = {str(name): (str(a), str(b)) for name, (a, b) in listed.items()}
    except Exception as error:  # protobuf and onnx_ir have classes of their own for damage
        reason = " ".join(str(error).split())
        raise XbarcError(
            f"{folder / GRAPH} is damaged: {reason}: compile the model again"
        ) from None
    if others:
        raise XbarcError(
            f"{folder / GRAPH}: its weights lie in {min(others)!r}, not in {DATA}: compile the "
            "model again"
        )
    return FloatNetwork(model, layers)
