"""The onnx package's own operator tests, of every operator that stands on crossbars.

A test's weights are among its inputs: here all inputs but one become initialisers.
"""

import re
import warnings

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from models import reference

import xbarc
from xbarc.graph.run import ORT_FAILURES
from xbarc.support.errors import XbarcError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some of onnx's tests divide by zero on purpose
    from onnx.backend.test.case.node import collect_testcases

    NODE_TESTS = [c for c in collect_testcases(None) if c.model is not None and c.data_sets]

MAPPED = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
}
LOSSLESS = ("adc.mode=lossless", "weights.bits=16", "inputs.bits=16")

OTHER_FACTOR = {"MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
"""Where the second factor of a product stands among a test's inputs."""

DIGITAL = {
    # a test and its moving input -> why its operator stays digital: asserted, word by word
    r"attention_.*(with_past|past_and_present).*": "MatMul: its weights change at run time",
    r"qlinearmatmul_.*_float16-.": "QLinearMatMul: its weights, scales or zero points change at run"
    " time, or its scales aren't float32",
}
"""The past's keys are outputs as well, so not folded; scales of half precision."""

REFUSED = r"affine_grid_.*|attention_.*_bf16.*"
"""What no onnxruntime can run yet: a Range of no scalars, bfloat16."""

NEW = r"causal_conv_with_state_.*"
"""Operators that onnxruntime runs or refuses, by its version: what it refuses, xbarc does too."""

COARSE = r"attention_4d_softcap_neginf_mask_poison.*"
"""Weights of 1000, which a mask takes out later, share columns with those of 1: 16 bits are few."""


def _cases():
    for case in NODE_TESTS:
        operators = {node.op_type for node in case.model.graph.node}
        if not operators & MAPPED:
            continue
        names = [value.name for value in case.model.graph.input]
        moving = {names[0]}
        if len(case.model.graph.node) == 1:
            moving |= {names[i] for op, i in OTHER_FACTOR.items() if op in operators}
        for name in sorted(moving):
            label = case.name.removeprefix("test_").replace("_expanded", "")
            yield pytest.param(case, name, id=f"{label}-{name}")


CASES = list(_cases())
RUN = [c for c in CASES if not re.fullmatch(f"({REFUSED}|{COARSE})", c.id)]


def _baked(case, moving):
    """The model with all inputs but `moving` as initialisers; that input; the expected outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in case.model.graph.input]
    inputs, outputs = case.data_sets[0]
    arrays = dict(zip(names, map(np.asarray, inputs), strict=True))
    for value in list(model.graph.input):
        if value.name != moving:
            model.graph.input.remove(value)
            array = onnx.numpy_helper.from_array(arrays[value.name], value.name)
            model.graph.initializer.append(array)
    return model, {moving: arrays[moving]}, [np.asarray(array) for array in outputs]


def _runs(model, feeds):
    try:
        reference(model, feeds)
    except ORT_FAILURES:
        return False
    return True


@pytest.mark.parametrize(("case", "moving"), RUN)
def test_operator(case, moving, request):
    model, feeds, expected = _baked(case, moving)
    if re.fullmatch(NEW, request.node.callspec.id) and not _runs(model, feeds):
        with pytest.raises(XbarcError):
            xbarc.compile(model, "mca128", calibration=feeds, overrides=LOSSLESS).run(feeds)
        return
    program = xbarc.compile(model, "mca128", calibration=feeds, overrides=LOSSLESS)
    for want, have in zip(expected, program.run(feeds).values(), strict=True):
        assert have.shape == want.shape and have.dtype == want.dtype
        have, want = have.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(want)
        np.testing.assert_array_equal(have[~finite], want[~finite])
        error = np.abs(have[finite] - want[finite])
        assert np.max(error / np.maximum(1, np.abs(want[finite])), initial=0) <= 1e-3
    covered = program.report["coverage"]
    reasons = [why for test, why in DIGITAL.items() if re.fullmatch(test, request.node.callspec.id)]
    if reasons:
        assert reasons[0] in covered["digital_reasons"].values()
    else:
        assert covered["crossbar_operators"] >= 1


@pytest.mark.parametrize(("case", "moving"), [c for c in CASES if re.fullmatch(REFUSED, c.id)])
def test_what_onnxruntime_refuses_is_refused_in_words(case, moving):
    model, feeds, _ = _baked(case, moving)
    with pytest.raises(ORT_FAILURES):
        reference(model, feeds)
    with pytest.raises(XbarcError) as error:
        xbarc.compile(model, "mca128", calibration=feeds, overrides=LOSSLESS).run(feeds)
    assert "\n" not in str(error.value)


def test_each_operator_has_tests():
    operators = {node.op_type for c in RUN for node in c.values[0].model.graph.node}
    assert operators >= MAPPED
