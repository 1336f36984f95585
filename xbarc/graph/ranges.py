"""Ranges of activations that a model carries: those that it was trained with.

`xbarc tune` trains a network for certain scales of its layers' inputs. It leaves them in the model
file, so that compiling it uses the same ones. Values that the model says nothing of are calibrated.
"""

import json
import math
from collections.abc import Mapping

import onnx_ir as ir

from xbarc.support.errors import XbarcError

KEY = "xbarc.ranges"
"""In the model's metadata: a JSON object, value name -> [least, greatest]."""

Ranges = Mapping[str, tuple[float, float]]


def carry_ranges(model: ir.Model, ranges: Ranges) -> None:
    """Leave ranges in the model's metadata."""
    model.metadata_props[KEY] = json.dumps({name: list(r) for name, r in ranges.items()})


def forget_ranges(model: ir.Model) -> None:
    """Leave no ranges in the model's metadata: its weights have changed since they were found."""
    model.metadata_props.pop(KEY, None)


def carried_ranges(model: ir.Model) -> dict[str, tuple[float, float]]:
    """The ranges that a model carries; none where it was never trained for crossbars.

    Raises `XbarcError` where the metadata can't be read.
    """
    text = model.metadata_props.get(KEY)
    if text is None:
        return {}
    try:
        found = {str(n): (float(low), float(high)) for n, (low, high) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise XbarcError(
            f"the model's metadata {KEY!r} isn't value name -> [least, most]"
        ) from None
    for name, (low, high) in found.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise XbarcError(f"the model's metadata {KEY!r}: {name!r} reaches from {low} to {high}")
    return found
