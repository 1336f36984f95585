"""Convolutions patch by patch: the same results as a plain convolution, whatever the mapping."""

import numpy as np
from convolutions import Conv, mapped, simulated
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import direct_convolution, make_target, patch_convolution

from xbarc.ir.dialect import GatherOp, MvmOp, ScatterOp
from xbarc.simulator.exact.segments import Segment
from xbarc.support.errors import XbarcError


@st.composite
def convolutions(draw, most_axes=3):
    """A convolution with everything that one can have, small."""
    rank = draw(st.integers(1, most_axes))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * rank))
    strides = draw(st.tuples(*[st.integers(1, 3)] * rank))
    dilations = draw(st.tuples(*[st.integers(1, 2)] * rank))
    pads = draw(st.tuples(*[st.integers(0, 2)] * (2 * rank)))
    most = {1: 12, 2: 7, 3: 4}[rank]
    size = draw(st.tuples(*[st.integers(1, most)] * rank))
    groups = draw(st.integers(1, 3))
    channels, filters = (groups * draw(st.integers(1, 3)) for _ in range(2))
    fill = draw(st.sampled_from([0, 3]))
    conv = Conv(size, kernel, channels, filters, groups, strides, pads, dilations, fill)
    assume(min(conv.output()) > 0)
    return conv


MAPPINGS = (
    "window{scheme=im2col}",
    "window{scheme=sdk}",
    "window{scheme=vw-sdk}",
    "sub-image",
    "sub-image{pack=channels}",
    "sub-image{patch=fewest}",
    "sub-image{patch=fewest pack=channels}",
    "sub-image{patch=2}",
    "sub-image{patch=3 pack=channels}",
)


def data(conv, seed, signed):
    """Weights and codes of two images, the extremes among them."""
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, conv.matrix).astype(np.int8)
    low, high = (-127, 128) if signed else (0, 256)
    x = rng.integers(low, high, (2, conv.channels, *conv.size))
    return q, x.astype(np.int8 if signed else np.uint8)


def mapped_or_refused(target, conv, passes, x):
    """The mapped layer; a layer that doesn't fit in the size asked for is another example."""
    try:
        module = mapped(target, [conv], passes, codes=f"{'s' if x.dtype.kind == 'i' else 'u'}i8")
    except XbarcError as error:
        module = None
        refused = str(error)
    if module is None:
        assert "what fits: " in refused
    assume(module is not None)
    return module


def array(rows, weights, encoding, cell_bits):
    """An array of so many rows and weights a row."""
    slices = -(-(7 if encoding == "differential" else 8) // cell_bits)
    columns = weights * slices * (2 if encoding == "differential" else 1)
    return {"rows": rows, "cols": columns, "encoding": encoding, "cell_bits": cell_bits}


@settings(max_examples=120, deadline=None)
@given(
    conv=convolutions(),
    passes=st.sampled_from(MAPPINGS),
    rows=st.integers(8, 60),
    weights=st.integers(2, 24),
    encoding=st.sampled_from(["differential", "offset"]),
    signed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_an_ideal_device_convolves(conv, passes, rows, weights, encoding, signed, seed):
    target = make_target(array=array(rows, weights, encoding, 2), adc={"mode": "lossless"})
    q, x = data(conv, seed, signed)
    module = mapped_or_refused(target, conv, passes, x)
    assert np.array_equal(simulated(module, target, q, x), direct_convolution(x, q, conv))


@settings(max_examples=120, deadline=None)
@given(
    conv=convolutions(most_axes=2),
    passes=st.sampled_from(MAPPINGS),
    rows=st.integers(8, 60),
    weights=st.integers(2, 24),
    encoding=st.sampled_from(["differential", "offset"]),
    cell_bits=st.sampled_from([1, 2, 8]),
    adc=st.sampled_from(
        [
            {"mode": "saturate", "bits": 4},
            {"mode": "saturate", "bits": 6, "subtract": "analog"},
            {"mode": "full-scale", "bits": 5},
            {"mode": "full-scale", "bits": 6, "subtract": "analog"},
        ]
    ),
    signed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_converters_see_the_whole_physical_column(
    conv, passes, rows, weights, encoding, cell_bits, adc, signed, seed
):
    assume(encoding == "differential" or adc.get("subtract") != "analog")
    target = make_target(array=array(rows, weights, encoding, cell_bits), adc=adc)
    q, x = data(conv, seed, signed)
    module = mapped_or_refused(target, conv, passes, x)
    result = simulated(module, target, q, x)
    # Seen block by block, each patch is simulated with the window that it has on crossbars.
    assert np.array_equal(
        result, simulated(module, target, q, x, observe=lambda op, block, first: None)
    )
    gather, mvm, scatter = (
        next(op for op in module.walk() if isinstance(op, kind))
        for kind in (GatherOp, MvmOp, ScatterOp)
    )
    window, _, _, apart = gather.window.lists()
    patch = [1] * len(window) if scatter.window is None else scatter.window.lists()[0]
    shape = conv.output()
    if gather.flat is not None:
        # A 1x1 convolution over the pixels in a row.
        conv = Conv((int(np.prod(shape)),), (1,), conv.channels, conv.filters)
        x = x.reshape(2, conv.channels, -1)
    segments = [Segment(*tile) for tile in mvm.tiles().tolist()]
    expected = patch_convolution(x, q, conv, window, apart, patch, segments, target)
    assert np.array_equal(result, expected.reshape(result.shape))
