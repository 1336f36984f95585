"""The onnx package's own operator tests, of every operator that stands on crossbars.

A test's weights are among its inputs: here all inputs but one become initialisers.
"""

import warnings

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
import pytest
from models import reference

import xbarc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some of onnx's tests divide by zero on purpose
    from onnx.backend.test.case.node import collect_testcases

    NODE_TESTS = [c for c in collect_testcases(None) if c.model is not None and c.data_sets]

MAPPED = {
    "Conv": 2,
    "Gemm": 2,
    "MatMul": 2,
    "ConvInteger": 2,
    "MatMulInteger": 2,
    "QLinearConv": 1,
    "QLinearMatMul": 1,
}
LOSSLESS = ("adc.mode=lossless", "weights.bits=16", "inputs.bits=16")


def _cases():
    """(test, the input that moves): the first, and the other factor of a product."""
    for case in NODE_TESTS:
        operators = {node.op_type for node in case.model.graph.node}
        if not operators & MAPPED.keys():
            continue
        names = [value.name for value in case.model.graph.input]
        yield case, names[0]
        if len(case.model.graph.node) == 1:
            if operators & {"MatMul", "MatMulInteger"}:
                yield case, names[1]
            if operators & {"QLinearMatMul"}:
                yield case, names[3]


CASES = list(_cases())
