"""`xbar.quantize`: real activations to integer codes."""

from xbarc.hw.quantization import InputScale, quantize
from xbarc.ir.dialect import QuantizeOp, element_of
from xbarc.simulator.step import Batch, Preparation, Step, StepKind
from xbarc.support.data import Array


def prepare(op: QuantizeOp, at: Preparation) -> Step:
    """Scale and round to the codes of the result."""
    element = element_of(op.result)
    signed = element.signedness.data.name == "SIGNED"
    zero_point = op.zero_point.value.data
    scale = InputScale(op.scale.value.data, element.width.data, signed, zero_point)
    count = None if at.codes is None else at.codes.watch(op)

    def step(batch: Batch, x: Array) -> list[Array]:
        if count is not None:
            count(x)
        return [quantize(x, scale)]

    return step


STEP = StepKind(QuantizeOp.name, prepare)
