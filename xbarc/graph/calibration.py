"""Calibration data that travel with a graph, for passes that fit weights to activations."""

from collections.abc import Mapping
from typing import cast

import onnx_ir as ir

from xbarc.data import Array, Feeds
from xbarc.errors import XbarcError

KEY = "xbarc.calibration"


def attach(model: ir.Model, feeds: Feeds) -> None:
    """Let passes find `feeds` (input name -> array, axis 0 counts samples); never saved."""
    model.meta[KEY] = dict(feeds)


def feeds_of(model: ir.Model) -> dict[str, Array]:
    """What `attach` left. Raises `XbarcError` where nothing was attached."""
    feeds = model.meta.get(KEY)
    if feeds is None:
        raise XbarcError("this pass fits weights to activations: give --calibration")
    return dict(cast(Mapping[str, Array], feeds))
