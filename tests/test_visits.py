"""Rows driven, columns converted and cells read of patches, counted one patch after the other."""

import numpy as np
import pytest
from convolutions import Conv, counted, mapped, same
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import make_target, toeplitz
from xdsl.dialects.builtin import UnitAttr

from xbarc.cost.events import count_events
from xbarc.hw.encoding import weight_levels
from xbarc.hw.target import load_target
from xbarc.ir.dialect import MvmOp
from xbarc.support.errors import XbarcError


@st.composite
def cut_convolutions(draw):
    """A convolution over one or two axes, and the patch that its output is cut in."""
    rank = draw(st.integers(1, 2))

    def sizes(least, most):
        return draw(st.tuples(*[st.integers(least, most)] * rank))

    groups = draw(st.integers(1, 2))
    conv = Conv(
        sizes(1, 9),
        sizes(1, 3),
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        groups,
        sizes(1, 3),
        (*sizes(0, 2), *sizes(0, 2)),
        sizes(1, 2),
    )
    assume(min(conv.output()) > 0)
    patch = np.minimum(sizes(1, 4), conv.output())
    assume(patch.prod() > 1)
    return conv, tuple(patch.tolist())


def of_each_patch(conv, patch, op, q, target):
    """What an input slice of one image does: `(rows, conversions, cells, their levels)`.

    A patch drives the rows, and reads the columns, of its outputs that are on the map. Where the
    mvm is gated, rows of a tile without a weight stay as they are, and bit lines whose cells are
    all at level 0 too.
    """
    strides, _, dilations = (np.array(v) for v in conv.geometry())
    places = [
        (strides * p + dilations * i, p, i)
        for p in np.ndindex(*patch)
        for i in np.ndindex(*conv.kernel)
    ]
    apart = np.maximum(np.gcd.reduce([u for u, _, _ in places]), 1)
    window = np.max([u for u, _, _ in places], axis=0) // apart + 1
    array, analog = target.array, target.adc.subtract == "analog"
    weights = toeplitz(q, conv, window, apart, patch)
    levels = weight_levels(weights, 8, array.cell_bits, array.encoding)  # [S, P, K, N]
    levels = levels.reshape(array.slices(8), array.polarities, *weights.shape)
    found = np.zeros(4, np.int64)
    for position in np.ndindex(*(-(-np.array(conv.output()) // patch))):
        needed, inside = np.zeros(window, bool), np.zeros(patch, bool)
        for u, p, _ in places:
            if np.all(np.multiply(position, patch) + p < conv.output()):
                needed[tuple(u // apart)] = inside[p] = True
        rows = np.tile(needed.ravel(), conv.channels)
        columns = np.tile(inside.ravel(), conv.filters)
        for r0, r1, c0, c1 in op.tiles().tolist():
            driven, here = rows[r0:r1], levels[:, :, r0:r1, c0:c1]
            lines = np.broadcast_to(columns[c0:c1], (*here.shape[:2], c1 - c0))  # [S, P, N]
            if op.gated is not None:
                held = weights[r0:r1, c0:c1] != 0
                driven = driven & held.any(1)
                on = (here[:, :, held.any(1)] > 0).any(2)
                if analog:  # both lines of a pair
                    on = on | on.any(1, keepdims=True)
                lines = lines & on & held.any(0)
            converted = lines[:, :1] if analog else lines
            cells = driven[:, None] & lines[:, :, None]
            read = np.where(cells, here, 0).sum(dtype=np.int64)
            found += driven.sum(), converted.sum(), cells.sum(), read
    return found.tolist()


@settings(max_examples=60, deadline=None)
@given(
    cut_convolutions(),
    st.sampled_from(["none", "channels"]),
    st.booleans(),
    st.sampled_from(["differential", "offset"]),
    st.sampled_from(["analog", "digital"]),
    st.integers(0, 1000),
)
def test_a_patch_over_the_edge_uses_what_is_on_the_map(cut, pack, gated, encoding, subtract, seed):
    conv, patch = cut
    if encoding == "offset":
        subtract = "digital"
    target = make_target(
        array={"rows": 48, "cols": 256, "encoding": encoding, "cell_bits": 3},
        adc={"subtract": subtract},
        inputs={"dac_bits": 8},
    )
    sizes = ",".join(map(str, patch))
    try:
        module = mapped(target, [conv], f"sub-image{{patch={sizes} pack={pack}}}")
    except XbarcError:
        assume(False)  # no crossbar holds the patch
    (op,) = (o for o in module.walk() if isinstance(o, MvmOp))
    op.gated = UnitAttr() if gated else None
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, conv.matrix).astype(np.int8)
    q[rng.random(q.shape) < rng.choice([0.0, 0.6, 0.9])] = 0
    (layer,) = count_events(module, {"c0": q}, target)
    rows, conversions, cells, levels = of_each_patch(conv, patch, op, q, target)
    assert layer.row_pulses == rows
    assert layer.adc_conversions == conversions
    assert layer.cell_reads == cells
    assert layer.cell_level_reads == levels


@pytest.mark.parametrize(("size", "cells"), [(8, 12800), (9, 2 * (6400 + 2 * 30 * 8 + 9))])
def test_cells_of_nine_by_nine_outputs_in_patches_of_eight(size, cells):
    """10 x 10 rows and 64 columns in the inside; 3 x 10 and 8 at an edge; 9 and 1 at the corner."""
    target = load_target("mca128", ["array.cell_bits=7", "inputs.dac_bits=8"])
    (layer,) = counted(target, [same(size, 3, 1, 1)], "sub-image{patch=8,8}")
    assert layer.cell_reads == cells
