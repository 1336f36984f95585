"""Models from ONNX text, and what onnxruntime makes of them."""

import math

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator


def text_model(text, *, opset=18, seed=0, **values):
    """A model from ONNX text; a value that is declared and never computed is a weight.

    `g (float[N,3] x) => (float[N,2] y) <float[3,2] w> { y = MatMul(x, w) }`: floats are normal,
    divided by sqrt(K) of their K rows, integers anything; `values` gives arrays by name.
    """
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>{text}')
    rng = np.random.default_rng(seed)
    computed = {name for node in model.graph.node for name in node.output}
    for info in list(model.graph.value_info):
        if info.name in computed:
            continue
        model.graph.value_info.remove(info)
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = tuple(d.dim_value for d in kind.shape.dim)
        if info.name in values:
            array = np.asarray(values[info.name], dtype).reshape(shape)
        else:
            array = random_array(rng, shape, dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    return model


def random_array(rng, shape, dtype):
    """Weights or inputs of any type."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        fan = math.prod(shape[1:]) if len(shape) > 2 else shape[0] if shape else 1
        return (rng.standard_normal(shape) / math.sqrt(fan)).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -128), min(limits.max, 255) + 1, shape).astype(dtype)


INTEGER = {"MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"}
"""Operators that onnxruntime computes by u8 x s8: right on some processors alone."""


def reference(model, feeds):
    """What onnxruntime computes, or onnx itself of integers: the outputs by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Processors without VNNI add products of u8 x s8 in 16 bits, which saturate.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not isinstance(model, str) and INTEGER & {node.op_type for node in model.graph.node}:
        evaluator = ReferenceEvaluator(model)
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    content = model if isinstance(model, str) else model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def snr_db(expected, actual):
    """Signal-to-noise ratio of one output."""
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    noise = float(np.sum((expected - actual) ** 2))
    return math.inf if noise == 0 else 10 * math.log10(float(np.sum(expected**2)) / noise)
