"""A model's initialisers: each decoded once, and refused where it lies about itself."""

import math
import os
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from xbarc.frontends.onnx.limits import MAX_ELEMENTS
from xbarc.graph.query import is_op, is_static
from xbarc.support.errors import XbarcError

CHECKED_ELEMENTS = 1 << 20
"""Weights are checked for NaN in blocks of this many elements."""

UNREADABLE = (ValueError, AssertionError, TypeError, OSError)
"""What reading a tensor's data ends in where they aren't as long as its shape says."""

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "DequantizeLinear")


def read_weights(model: ir.Model) -> None:
    """Every initialiser as an array: decoded once, or mapped from its file."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None:
            continue
        name = str(value.name)
        check_tensor(f"initialiser {name!r}", tensor)
        try:
            array = tensor.numpy()
        except UNREADABLE as error:
            raise XbarcError(f"initialiser {name!r} can't be read: {line(error)}") from error
        if not isinstance(tensor, ir.ExternalTensor | ir.StringTensor):
            value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=name)
        value.shape, value.dtype = ir.Shape(array.shape), tensor.dtype


def check_tensor(what: str, tensor: ir.TensorProtocol) -> None:
    """Refuse a shape that nobody means, data of no type or of another length.

    And files of no known folder, and pipes. `what` is the tensor in error lines.
    """
    if tensor.dtype == ir.DataType.UNDEFINED:
        raise XbarcError(f"{what} has no element type: the model must declare it")
    shape = tensor.shape.numpy()
    if any(dim < 0 for dim in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise XbarcError(f"{what} has the absurd shape {list(shape)}")
    if isinstance(tensor, ir.ExternalTensor):
        if not tensor.base_dir:
            raise XbarcError(f"{what} is stored in another file: load the model from its path")
        if not tensor.location:
            raise XbarcError(f"{what} is stored in another file, and doesn't say in which")
        if os.path.exists(tensor.path) and not os.path.isfile(tensor.path):
            # Opening a pipe waits for somebody to write to it.
            raise XbarcError(f"{what} lies in {tensor.location!r}, which is no ordinary file")
        return
    if not isinstance(tensor, ir.serde.TensorProtoTensor):
        return
    proto = tensor.raw
    if math.prod(shape) and not _has_data(proto):
        raise XbarcError(f"{what} of shape {list(shape)} has no data")
    if proto.HasField("raw_data") and len(proto.raw_data) != tensor.nbytes:
        raise XbarcError(
            f"{what} of shape {list(shape)} needs {tensor.nbytes} bytes "
            f"and has {len(proto.raw_data)}"
        )


def line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _has_data(proto: onnx.TensorProto) -> bool:
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    return proto.HasField("raw_data") or any(len(getattr(proto, field)) for field in fields)


def check_weights(model: ir.Model) -> None:
    """Refuse NaN and infinity in what a linear operator multiplies by or adds.

    Elsewhere they may be meant: the bounds of a Clip, the mask of an attention.
    """
    checked: set[ir.Value] = set()
    for node in model.graph:
        if not is_op(node, *WEIGHTED):
            continue
        for value in node.inputs:
            if value is None or value in checked or not is_static(value):
                continue
            checked.add(value)
            if value.dtype == ir.DataType.STRING:
                raise XbarcError(
                    f"initialiser {value.name!r} is text, and {node.op_type} {node.name!r} "
                    "multiplies by it: the file is damaged"
                )
            if value.const_value is not None and not _is_finite(value.const_value.numpy()):
                raise XbarcError(
                    f"initialiser {value.name!r} has NaN or infinite values: "
                    "the training diverged or the file is damaged"
                )


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return True
    if not any(array.strides):
        return bool(np.isfinite(array[(0,) * array.ndim]))
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
    return all(
        np.isfinite(flat[start : start + CHECKED_ELEMENTS]).all()
        for start in range(0, flat.size, CHECKED_ELEMENTS)
    )
