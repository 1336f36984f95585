"""When layers and digital operations run: what `schedule` writes.

    time [0.0, 117964.8]            one image: first start and last finish, ns
    stream [0.0, 117964.8]          the first of a stream of images; image k is k intervals later

The interval of the stream stands on the module.
"""

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, ModuleOp
from xdsl.ir import Operation
from xdsl.utils.exceptions import VerifyException

from xbarc.ir.dialect.assembly import real, reals

INTERVAL = "xbar.interval_ns"
"""The module attribute that holds the time between two images of a stream."""

TIME, STREAM = "time", "stream"


def interval_of(module: ModuleOp) -> float | None:
    """The time between two images of a stream in ns, where the module is scheduled."""
    found = module.attributes.get(INTERVAL)
    return float(found.value.data) if isinstance(found, FloatAttr) else None


def set_interval(module: ModuleOp, interval_ns: float) -> None:
    """Write the time between two images of a stream on the module."""
    module.attributes[INTERVAL] = real(interval_ns)


def clear_schedule(module: ModuleOp) -> None:
    """Remove all times: for a pass that changes what they depend on."""
    module.attributes.pop(INTERVAL, None)
    for op in module.walk():
        for name in (TIME, STREAM):
            op.properties.pop(name, None)


def span_of(op: Operation, name: str) -> tuple[float, float] | None:
    """Start and finish in ns: `name` is `time` (one image) or `stream`."""
    found = op.properties.get(name)
    if not isinstance(found, DenseArrayBase):
        return None
    start, finish = found.get_values()
    return float(start), float(finish)


def set_span(op: Operation, name: str, span: tuple[float, float]) -> None:
    """Write start and finish in ns; `name` is `time` or `stream`."""
    op.properties[name] = reals(span)


def verify_times(op: Operation) -> None:
    """Start and finish; no finish before its start, no start before zero."""
    for name in (TIME, STREAM):
        found = op.properties.get(name)
        if not isinstance(found, DenseArrayBase):
            continue
        span = found.get_values()
        if len(span) != 2 or not 0 <= span[0] <= span[1] < float("inf"):
            raise VerifyException(f"{name} is [start, finish] in ns with 0 <= start <= finish")
