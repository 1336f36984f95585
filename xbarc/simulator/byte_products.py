"""Products of bytes by onnxruntime's MatMulInteger: exact, and faster than BLAS.

Where the processor has no instruction for u8 x s8 (VNNI, AMX), onnxruntime adds pairs of such
products in 16 bits, which saturate; u8 x u8 is exact there, only slower. So a self-test with the
largest sums decides, once a process, which types to ask for. Codes and weights become these types
by adding 128, which onnxruntime takes out again as a zero point.
"""

import functools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime as ort

from xbarc.graph.run import session_options

Integers = npt.NDArray[Any]
Kind = Literal["int8", "uint8"]

HALF = 128

MOST_ROWS = (1 << 31) // (255 * 255)
"""No sum of more products of bytes is sure to fit 32 bits."""


def byte_product(weights: npt.NDArray[np.int8], codes: Integers) -> npt.NDArray[np.int32]:
    """weights [N, K] times codes [K, v], uint8 or int8, both contiguous: exact.

    Raises `ValueError` where `available` is False.
    """
    kind = _kind()
    if kind is None:
        raise ValueError("this processor has no exact products of bytes")
    return _product(kind, weights, codes)


def available(rows: int) -> bool:
    """Whether there are exact products of matrices of so many rows."""
    return rows <= MOST_ROWS and _kind() is not None


@functools.cache
def _kind() -> Kind | None:
    """The type of codes whose products are exact here, the faster first."""
    rows = 64
    weights = np.full((16, rows), -128, np.int8)
    weights[::2] = 127
    codes = np.full((rows, 16), 255, np.uint8)
    codes[:, ::2] = 0
    expected = weights.astype(np.int64) @ codes.astype(np.int64)
    kinds: tuple[Kind, ...] = ("int8", "uint8")
    return next((k for k in kinds if np.array_equal(_product(k, weights, codes), expected)), None)


def _product(kind: Kind, weights: npt.NDArray[np.int8], codes: Integers) -> npt.NDArray[np.int32]:
    moved = _flipped(weights).view(np.uint8)
    zero = 0
    if codes.dtype != kind:
        zero = -HALF if kind == "int8" else HALF
        codes = _flipped(codes).view(kind)
    feeds = {"w": moved, "x": codes, "z": np.array(zero, kind)}
    (found,) = _session(kind).run(None, feeds)
    result: npt.NDArray[np.int32] = found
    return result


def _flipped(values: Integers) -> npt.NDArray[np.uint8]:
    """The same bytes with the highest bit the other way: 128 more, or less."""
    return values.view(np.uint8) ^ np.uint8(HALF)


@functools.cache
def _session(kind: Kind) -> ort.InferenceSession:
    text = f"""<ir_version: 8, opset_import: ["": 13]>
    product (uint8[n,k] w, {kind}[k,v] x, {kind} z) => (int32[n,v] y)
    <uint8 half = {{{HALF}}}> {{ y = MatMulInteger(w, x, half, z) }}"""
    model = onnx.parser.parse_model(text).SerializeToString()
    options = session_options(threads=1)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
