"""Ranges that a tuned model carries in its metadata: read as they were written, or refused."""

import json

import onnx_ir as ir
import pytest
from models import text_model

from xbarc.graph.ranges import KEY, carried_ranges, carry_ranges, forget_ranges
from xbarc.support.errors import XbarcError

MODEL = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


@pytest.fixture
def model():
    return ir.from_proto(text_model(MODEL))


def test_what_is_carried_is_read_again(model):
    ranges = {"x": (-1.5, 2.0), "y": (0.0, 0.0)}
    assert carried_ranges(model) == {}
    carry_ranges(model, ranges)
    assert carried_ranges(model) == ranges
    forget_ranges(model)
    assert carried_ranges(model) == {}


@pytest.mark.parametrize("bounds", [(2, 1), ("nan", 1), (0, "nan"), ("-inf", 1), (0, "inf")])
def test_a_range_is_finite_and_begins_before_it_ends(model, bounds):
    model.metadata_props[KEY] = json.dumps({"x": bounds})
    with pytest.raises(XbarcError, match="'x' reaches from"):
        carried_ranges(model)


@pytest.mark.parametrize("text", ["", "[", "3", "[1, 2]", '{"x": 1}', '{"x": [1]}', '{"x": null}'])
def test_damaged_metadata(model, text):
    model.metadata_props[KEY] = text
    with pytest.raises(XbarcError, match="isn't value name"):
        carried_ranges(model)
