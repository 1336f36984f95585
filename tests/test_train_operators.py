"""The table of torch operators, held to onnx's own examples of each operator."""

import functools
import importlib
import pkgutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx.numpy_helper
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.case import node

from xbarc.support.errors import XbarcError
from xbarc.train.graph import QUANTISED, Graph
from xbarc.train.operators import OPERATORS

TYPES = {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"}

REFUSED = {
    # What a function refuses: each such example ends in one line that names the node.
    "AveragePool": ("dilations",),
    "BatchNormalization": ("training_mode",),
    "Dropout": ("_mask", "random_old"),
    "MaxPool": ("argmax", "uint8"),
    "ReduceMax": ("empty_set",),
    "ReduceMin": ("empty_set",),
    "Resize": ("antialias", "crop_and_resize", "not_larger", "not_smaller"),
}
OTHERWISE = {
    # onnxruntime gives what the table does, and not what these examples say.
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
    "test_l2normalization_axis_0",  # 0 / 0
    # Drawn: a network is retrained as it is used.
    "test_training_dropout",
    "test_training_dropout_default",
}


@functools.cache
def modules():
    """onnx's modules of examples by the operator that they are about."""
    names = [m.name for m in pkgutil.iter_modules(node.__path__)]
    return {name.replace("_", ""): name for name in names}


def examples(operator):
    """The examples of one such node, of types that numpy and torch share."""
    name = modules().get("rangeop" if operator == "Range" else operator.lower())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{node.__name__}.{name}")
    for case in node._NodeTestCases:
        if [n.op_type for n in case.model.graph.node] == [operator]:
            inputs, outputs = (list(map(as_array, part)) for part in case.data_sets[0])
            if all(
                isinstance(a, np.ndarray | np.generic) and a.dtype.name in TYPES
                for a in inputs + outputs
            ):
                yield case.name, case.model, inputs, outputs


def as_array(value):
    given = isinstance(value, onnx.TensorProto)
    return onnx.numpy_helper.to_array(value) if given else value


def outputs_of(model, inputs):
    names = [value.name for value in model.graph.input]
    feeds = {n: torch.from_numpy(np.array(a)) for n, a in zip(names, inputs, strict=True)}
    found = Graph(ir.from_proto(model))(feeds)
    return [found[value.name].numpy() for value in model.graph.output]


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_examples_of_onnx(operator):
    cases = list(examples(operator))
    assert cases
    for name, model, inputs, outputs in cases:
        if any(part in name for part in REFUSED.get(operator, ())):
            with pytest.raises(XbarcError, match=f"^{operator} "):
                outputs_of(model, inputs)
        elif name not in OTHERWISE:
            for found, wanted in zip(outputs_of(model, inputs), outputs, strict=True):
                assert found.shape == wanted.shape, name
                near = 1e-2 if np.float16 in (wanted.dtype, inputs[0].dtype) else 1e-4
                np.testing.assert_allclose(
                    found.astype(np.float64),
                    wanted.astype(np.float64),
                    rtol=near,
                    atol=near,
                    err_msg=name,
                )


def test_what_is_not_covered_stands_in_one_list():
    """docs/retraining.md lists every operator of ONNX that the table doesn't have."""
    schemas = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated}
    text = (Path(__file__).parents[1] / "docs/retraining.md").read_text()
    listed = text.split("<!-- not covered -->")[1].split("<!-- end -->")[0]
    assert set(listed.replace("`", "").replace(",", " ").split()) == schemas - set(OPERATORS)
    assert set(OPERATORS) <= schemas
    assert not set(QUANTISED) & set(OPERATORS)


def test_a_strided_depthwise_convolution_stays_in_float_where_others_are_narrow():
    conv = OPERATORS["Conv"]
    x, w = torch.randn(2, 4, 9, 9), torch.randn(4, 1, 3, 3)
    exact = conv(x, w, group=4, strides=[2, 2])
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x, w, group=4, strides=[2, 2])
        narrow = conv(x, w, group=4)
        again = conv(x.bfloat16(), w, torch.ones(4), group=4, strides=[2, 2], pads=[1, 1, 0, 0])
    assert torch.equal(found, exact)
    assert narrow.dtype == torch.bfloat16
    assert again.dtype == torch.float32
    assert conv(x.double(), w.double(), group=4, strides=[2, 2]).dtype == torch.float64
