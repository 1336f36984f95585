"""`xbar.quantize`: real activations to integer codes."""

from xbarc.hw.quantization import InputScale, quantize
from xbarc.ir.dialect import QuantizeOp, element_of
from xbarc.simulator.step import Preparation, Step, StepKind


def prepare(op: QuantizeOp, at: Preparation) -> Step:
    """Scale and round to the codes of the result."""
    element = element_of(op.result)
    signed = element.signedness.data.name == "SIGNED"
    scale = InputScale(op.scale.value.data, element.width.data, signed)
    return lambda batch, x: [quantize(x, scale)]


STEP = StepKind(QuantizeOp.name, prepare)
