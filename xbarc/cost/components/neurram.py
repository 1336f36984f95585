"""NeuRRAM's circuits by input and output bits (Wan et al., Nature 608, 2022), 130 nm.

An input's magnitude is sent bit by bit, as pulses of either sign. A neuron samples each bit and
integrates bit i 2^i times, so n bits take 2^n - 1 integrations. More than `phase_bits` bits go in
two phases, each with a conversion of its own; the second has fewer bits left to find. A conversion
removes charge step by step, a step an output bit. (How it works: Wan, and CiMLoop's model of it.)

Two of the ten measured rows give the constants, all others are predicted: `docs/validation.md`.
"""

from dataclasses import dataclass
from math import ceil

from xbarc.cost.components.base import Component, ComponentModel, Spec

FITTED = "fitted on the rows 3/1 and 10/8 (output/input bits, two phases) of Wan, Fig. 12"

INTEGRATION_NS, STEP_NS = 299.8, 295.6
"""Of one integration, and of one step of a conversion or of changing phase: the times of both rows,
which follow from 2.122 and 0.264 TOPS of 48 cores."""

SAMPLE_PJ = 1.2
"""Of a neuron, an input bit: CiMLoop's circuit model."""

INTEGRATION_PJ, STEP_PJ = 0.2014, 0.4055
"""Of a neuron: what the energy of both rows leaves for them beside samples and shift-and-add."""

PULSE_PJ = 0.944
"""Of a row and an input bit, its cells included: the mean of 0.882 and 1.006 pJ in both rows."""

WORD_LINE_PJ = (48 + 256 * (1.5 + 0.6)) * 1e-3 * 1.8**2
"""C V^2: a driver of 48 fF, 1.5 fF a gate, 0.6 fF of coupling, 1.8 V (Wan, as CiMLoop has it)."""

NEURON_UM2, CORE_UM2 = 1270.0, 1270.0 * 256 / 0.28
"""Published: 256 neurons of 1270 um2 are 28 % of a core."""

DRIVERS, CELL_F2 = 0.21, 125.74
"""Published: array drivers are 21 % of a core. Cells: CiMLoop, 12 % of a core."""


@dataclass(frozen=True)
class Conversion:
    """What a vector of `bits` magnitude bits takes in one neuron: counts."""

    bits: int
    phases: int
    integrations: int
    steps: int

    @staticmethod
    def of(bits: int, output_bits: int, phase_bits: int) -> "Conversion":
        """Of `bits` magnitude bits; up to `phase_bits` go in one phase, more in two.

        Raises `ValueError` where there is no bit.
        """
        if min(bits, output_bits, phase_bits) < 1:
            raise ValueError(f"{bits} input, {output_bits} output and {phase_bits} phase bits")
        first = bits if bits <= phase_bits else ceil(bits / 2)
        parts = [n for n in (first, bits - first) if n]
        steps = output_bits + (max(output_bits - first, 0) if len(parts) > 1 else 0)
        return Conversion(bits, len(parts), sum(2**n - 1 for n in parts), steps)

    @property
    def time_ns(self) -> float:
        """From the first sample to the last step."""
        return INTEGRATION_NS * self.integrations + STEP_NS * (self.steps + self.phases)


def conversion_of(spec: Spec) -> Conversion:
    """The conversions of a target's inputs; codes with a sign have a bit less of magnitude.

    Raises `XbarcError` for another node, or where an input takes several reads.
    """
    spec.need_node(130, "NeuRRAM")
    target = spec.target
    if target.inputs.dac_bits < target.inputs.bits:
        raise spec.fault(
            "NeuRRAM integrates all bits of an input before a conversion: inputs.dac_bits = "
            f"{target.inputs.bits}, not {target.inputs.dac_bits}"
        )
    phase_bits = target.cost["adc"].options.get("phase_bits", 3)
    if isinstance(phase_bits, bool) or not isinstance(phase_bits, int) or phase_bits < 1:
        raise spec.fault(f"options.phase_bits of cost.adc is a number of bits, not {phase_bits!r}")
    bits = max(1, target.inputs.bits - spec.signed)
    return Conversion.of(bits, target.adc.bits, phase_bits)


def adc(spec: Spec) -> Component:
    """A neuron's conversion, step by step; its time includes the integrations before it."""
    of = conversion_of(spec)
    return Component(
        400.0,
        STEP_PJ * of.steps,
        rate_gps=1 / of.time_ns,
        source=f"NeuRRAM: {of.steps} steps in {of.phases} phase{'s' * (of.phases > 1)}, "
        f"{of.integrations} integrations; {STEP_PJ} pJ and {STEP_NS} ns a step, "
        f"{INTEGRATION_NS} ns an integration: {FITTED}; CiMLoop: 400 um2",
    )


def sample_hold(spec: Spec) -> Component:
    """A neuron's samples and integrations of one input."""
    of = conversion_of(spec)
    return Component(
        700.0,
        SAMPLE_PJ * of.bits + INTEGRATION_PJ * of.integrations,
        rate_gps=1 / of.time_ns,
        source=f"NeuRRAM: {of.bits} samples of {SAMPLE_PJ} pJ (CiMLoop), {of.integrations} "
        f"integrations of {INTEGRATION_PJ} pJ, {FITTED}; CiMLoop: 350 um2 each",
    )


def dac(spec: Spec) -> Component:
    """What drives a row: a pulse a bit, the current through its cells included."""
    of = conversion_of(spec)
    rows = spec.target.array.rows
    return Component(
        DRIVERS * CORE_UM2 / rows,
        PULSE_PJ * of.bits,
        rate_gps=1 / of.time_ns,
        source=f"NeuRRAM: {of.bits} pulses of {PULSE_PJ} pJ, cells included, {FITTED}; array "
        f"drivers are 21 % of a core (Wan, Fig. 11), spread over {rows} rows (model)",
    )


def word_line(spec: Spec) -> Component:
    """A neuron's word line, which goes up and down once an input bit; its driver is in the DACs."""
    of = conversion_of(spec)
    return Component(
        0.0,
        WORD_LINE_PJ * of.bits,
        rate_gps=1 / of.time_ns,
        source=f"NeuRRAM: {of.bits} x C V^2, 48 fF + 256 x 2.1 fF at 1.8 V (Wan, as CiMLoop has "
        "it); not fitted",
    )


def crossbar(spec: Spec) -> Component:
    """The cells: their energy was measured together with the pulses that drive them."""
    of = conversion_of(spec)
    array = spec.target.array
    return Component(
        array.rows * array.cols * CELL_F2 * 0.130**2,
        0.0,
        rate_gps=1 / of.time_ns,
        source=f"CiMLoop (Wan): cells of {CELL_F2} F^2; their energy is in cost.dac, measured "
        "together",
    )


def control(spec: Spec) -> Component:
    """What else a core has: registers, control, pads."""
    spec.need_node(130, "NeuRRAM")
    return Component(
        (1 - 0.28 - DRIVERS - 0.12) * CORE_UM2,
        0.0,
        source="NeuRRAM: the 39 % of a core that are no neurons, drivers and cells (Wan, Fig. 11); "
        "its energy is with the neurons'",
    )


ADC = ComponentModel("adc", "neurram", adc, ("phase_bits",))
SAMPLE_HOLD = ComponentModel("sample_hold", "neurram", sample_hold, ())
DAC = ComponentModel("dac", "neurram", dac, ())
WORD_LINE = ComponentModel("word_line", "neurram", word_line, ())
CROSSBAR = ComponentModel("crossbar", "neurram", crossbar, ())
CONTROL = ComponentModel("control", "neurram", control, ())
