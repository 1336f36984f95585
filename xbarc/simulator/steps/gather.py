"""`xbar.gather`: a tensor of codes to a stream of input vectors."""

from collections.abc import Callable

from xbarc.ir.dialect import GatherOp
from xbarc.simulator.step import Preparation, Step, StepKind
from xbarc.simulator.streams import Stream, along_axis, over_windows, spread
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


def prepare(op: GatherOp, at: Preparation) -> Step:
    """A vector a window position, or the vectors along an axis."""
    gathered = stream_of(op)
    return lambda batch, x: [gathered(x)]


def stream_of(op: GatherOp) -> Callable[[Array], Stream]:
    """From a tensor to its vectors."""
    if op.axis is not None:
        axis = op.axis.value.data
        return lambda x: along_axis(x, axis)
    window = op.window
    assert window is not None
    if window.rank > 3:
        raise XbarcError(f"a window over {window.rank} axes: the simulator knows up to 3")
    fill, apart, flat = op.fill.value.data, op.spreads(), op.flat is not None

    def gathered(x: Array) -> Stream:
        seen = spread(x.reshape(*x.shape[:2], -1) if flat else x, apart)
        return over_windows(seen, window, fill)

    return gathered


STEP = StepKind(GatherOp.name, prepare)
