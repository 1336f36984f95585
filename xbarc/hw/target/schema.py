"""The schema of a target file: which tables and keys there are, their ranges and defaults.

Keys carry their units. A value out of range is an error that names the key's whole path.
"""

import math
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from xbarc.hw.encoding import SignedInputs, slice_count


def _plausible(value: float) -> float:
    """Refuse what no chip has: products of such values overflow, and divisions by them."""
    if value and not 1e-30 <= abs(value) <= 1e30:
        raise ValueError(f"{value} is no quantity of a chip: 1e-30 to 1e30 is")
    return value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_plausible)]


NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_plausible)]


Count = Annotated[int, Field(ge=1, le=1 << 20)]


CountOrZero = Annotated[int, Field(ge=0, le=1 << 20)]


class Section(BaseModel):
    """A table of the target file: immutable, no key beyond the declared ones."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class CrossbarArray(Section):
    """One crossbar, and how a weight stands on it.

    `energy` says what a read takes: the share of the array's figure that the cells read are
    (`cells`), the whole figure (`arrays`), or V^2 G t of these cells as they are programmed.
    """

    rows: Annotated[int, Field(ge=1, le=65536)]
    """Word lines of a crossbar."""
    cols: Annotated[int, Field(ge=1, le=65536)]
    """Bit lines of a crossbar."""
    cell_bits: Annotated[int, Field(ge=1, le=8)]
    """Bits that one cell holds."""
    encoding: Literal["differential", "offset"] = "differential"
    """Signed weights as G+ - G-, or shifted by half their range."""
    slices_in: Literal["columns", "arrays"] = "columns"
    """The slices of a weight in columns side by side, or in a crossbar each."""
    polarity_in: Literal["columns", "arrays", "rows"] = "columns"
    """G+ and G- in columns side by side, in a crossbar each, or in rows one below the other."""
    columns_per_adc: Count = 128
    """Columns that share an ADC, where `core.adcs` doesn't say how many there are."""
    energy: Literal["cells", "arrays", "programmed"] = "cells"
    """What a read takes: see above."""
    source: str = ""

    @model_validator(mode="after")
    def _pairs_stand_in_rows(self) -> "CrossbarArray":
        if self.paired_rows and self.encoding != "differential":
            raise ValueError('array.polarity_in = "rows" needs array.encoding = "differential"')
        if self.weights_per_column < 1:
            raise ValueError('array.polarity_in = "rows" needs array.rows of 2 or more')
        return self

    @property
    def polarities(self) -> int:
        """2 for differential weights (G+ and G-), 1 for offset."""
        return 2 if self.encoding == "differential" else 1

    def slices(self, weight_bits: int) -> int:
        """Cells (of one polarity) that a weight of `weight_bits` takes (numerics, Encoding)."""
        magnitude = weight_bits - 1 if self.encoding == "differential" else weight_bits
        return slice_count(magnitude, self.cell_bits)

    def columns_per_weight(self, weight_bits: int) -> int:
        """Columns that one weight takes in one crossbar."""
        slices = self.slices(weight_bits) if self.slices_in == "columns" else 1
        return slices * (self.polarities if self.polarity_in == "columns" else 1)

    def crossbars_per_tile(self, weight_bits: int) -> int:
        """Crossbars that one tile (a block of the weight matrix) stands on."""
        slices = self.slices(weight_bits) if self.slices_in == "arrays" else 1
        return slices * (self.polarities if self.polarity_in == "arrays" else 1)

    def weights_per_row(self, weight_bits: int) -> int:
        """Weights side by side in one crossbar: `floor(cols / columns_per_weight)`."""
        return self.cols // self.columns_per_weight(weight_bits)

    @property
    def paired_rows(self) -> bool:
        """Whether G+ and G- stand in two rows of one column, driven with opposite signs."""
        return self.polarity_in == "rows"

    @property
    def rows_per_weight(self) -> int:
        """Rows that one weight, and so one input, takes in a crossbar."""
        return 2 if self.paired_rows else 1

    @property
    def weights_per_column(self) -> int:
        """Weights below each other in one crossbar: `floor(rows / rows_per_weight)`."""
        return self.rows // self.rows_per_weight


class Weights(Section):
    """Integer weights: `bits` with sign."""

    bits: Annotated[int, Field(ge=2, le=16)] = 8
    """Bits of a weight with its sign; a model's own integers keep theirs."""
    source: str = ""


class Inputs(Section):
    """Integer activations: `bits`, of which a DAC drives `dac_bits` at once.

    `signed`: the codes of a layer whose inputs have negative values (numerics, Quantisation).
    `coding`: a slice of value x is a voltage of x / (2^dac_bits - 1) of the read voltage, or x
    pulses of the whole of it, or a pulse for each bit that is set in it.
    """

    bits: Annotated[int, Field(ge=2, le=16)] = 8
    """Bits of an activation's code."""
    dac_bits: Annotated[int, Field(ge=1, le=16)] = 1
    """Bits of it that a DAC drives in one read."""
    signed: Literal["auto", "asymmetric", "two-pass", "twos-complement", "native"] = "auto"
    """What the codes of negative activations are, and how they are driven."""
    skip_zeros: bool = False
    """Rows whose input slice is 0 aren't driven."""
    coding: Literal["amplitude", "pulses", "bit-pulses"] = "amplitude"
    """How a slice is driven: see above."""
    source: str = ""

    @property
    def signed_reads(self) -> SignedInputs:
        """How codes that do have a sign are read."""
        if self.signed == "auto" or self.signed == "asymmetric":
            return "two-pass"
        return self.signed

    @model_validator(mode="after")
    def _twos_complement_is_bit_serial(self) -> "Inputs":
        if self.signed == "twos-complement" and self.dac_bits != 1:
            raise ValueError('inputs.signed = "twos-complement" needs inputs.dac_bits = 1')
        return self


class Adc(Section):
    """What turns a column's current into a number (numerics: `docs/numerics.md`).

    A lossless converter is priced at the bits that a full column needs (`Target.converter_bits`),
    one fewer where columns are stored `flipped`; with `price = "as-configured"` at `bits`.
    """

    bits: Annotated[int, Field(ge=1, le=24)] = 8
    """Bits of a conversion."""
    mode: Literal["lossless", "saturate", "full-scale", "calibrated"] = "saturate"
    """What becomes of sums that the converter can't tell apart (`docs/numerics.md`)."""
    subtract: Literal["digital", "analog"] = "digital"
    """G+ - G- in front of the converter, or behind it."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Calibrated converters: share of the sums within their range, in percent."""
    ranges: Literal["percentile", "least-squares"] = "percentile"
    """Calibrated converters: a range that holds this share, or that misses the sums least."""
    rate_gsps: Positive = 1.2
    """Conversions a second of one ADC, in 1e9; the model's own rate where that is less."""
    price: Literal["as-needed", "as-configured"] = "as-needed"
    """Bits that a lossless converter is priced at: see above."""
    flipped: bool = False
    """Columns of large weights are stored flipped, which saves a bit (ISAAC)."""
    source: str = ""


class Device(Section):
    """One memristor: its conductances, the pulses that read and write it, and its effects.

    `cell` names the file of `targets/cells/` that values come from which the target doesn't give.
    A write pulse takes `write_energy_pj`, V^2 G t without it. A cell can be written `endurance`
    times; the weights are written anew `programmings_per_day` times. `max_cell_bits`: it can't hold
    more.

    Each further table is a device effect by name with its options (`docs/devices.md`). Which
    effects and options there are is checked where they are made (`xbarc.simulator.noise`).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any]]

    cell: str = ""
    """A file of `targets/cells/`."""
    g_on_us: Positive
    """Largest conductance."""
    g_off_us: Positive
    """Least conductance."""
    read_voltage_v: Positive
    """Voltage of a row in a read."""
    read_pulse_ns: Positive
    """Length of a read pulse."""
    write_voltage_v: Positive
    """Voltage of a write pulse."""
    write_pulse_ns: Positive
    """Length of a write pulse."""
    write_pulses: Count = 1
    """Pulses that write a cell, without write-and-verify."""
    write_energy_pj: NonNegative | None = None
    """Energy of a write pulse."""
    endurance: Positive | None = None
    """Times that a cell can be written."""
    programmings_per_day: Positive = 1.0
    """How often the weights are written anew."""
    max_cell_bits: Count | None = None
    """Bits that a cell holds at most."""
    source: str = ""

    @property
    def pulse_energy_pj(self) -> float:
        """Energy of a write pulse: as given, else V^2 G t at the mean conductance (model)."""
        if self.write_energy_pj is not None:
            return self.write_energy_pj
        mean_us = (self.g_on_us + self.g_off_us) / 2
        # V^2 uS ns = 1e-15 J = 1e-3 pJ.
        return self.write_voltage_v**2 * mean_us * self.write_pulse_ns * 1e-3

    @property
    def effects(self) -> dict[str, dict[str, Any]]:
        """The tables of effects, by name."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _on_conducts_more(self) -> "Device":
        if self.g_on_us <= self.g_off_us:
            raise ValueError("device.g_on_us must be above device.g_off_us")
        return self


class Technology(Section):
    """The process: its node, the clock of the digital parts, and what idle parts draw.

    `gating`: with `none` all that is in use draws leakage and clock power all the time; with
    `clock` a part without work draws no clock power, with `power` no leakage either.
    `leakage` and `leakage_share` are for components whose source has no leakage: "puma" gives each
    the share of its power at full load that it has in PUMA's simulator, `leakage_share` is an
    assumption, one share for all that are left. Without either, their leakage isn't modelled.
    `scaling`: how figures of another node than theirs are had; "none" refuses them.
    """

    node_nm: Positive = 32.0
    """Process node."""
    scaling: Literal["none", "stillmaker-baas"] = "none"
    """Figures of another node: refused, or scaled by published factors."""
    clock_ghz: Positive = 1.2
    """Clock of the digital parts."""
    gating: Literal["none", "clock", "power"] = "none"
    """What idle parts draw: see above."""
    leakage: Literal["published", "puma"] = "published"
    """Leakage where a source has none: not modelled, or by the shares of PUMA's simulator."""
    leakage_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Leakage where a source has none, as a share of the power at full load (an assumption)."""
    source: str = ""


class Core(Section):
    """Crossbars that share ADCs, input registers and shift-and-add (ISAAC's IMA).

    Counts are for one core. Without `adcs`, `array.columns_per_adc` gives their number. With
    `adcs`, that key is ignored: the columns that share an ADC follow from `adcs`. Without `dacs`
    each row of each crossbar has a DAC; with fewer, arrays of a core share those of their rows.
    Without `sample_holds` each column has one. 0 of either: their figures stand elsewhere. `cycle`:
    a read and its conversions one after the other, or pipelined, where sample-and-holds keep a read
    for the converters while the next one goes on.
    """

    crossbars: Count = 8
    """Crossbars of a core."""
    cycle: Literal["sequential", "pipelined"] = "sequential"
    """Read and conversions in turn, or overlapped."""
    adcs: Count | None = None
    """ADCs of a core."""
    dacs: CountOrZero | None = None
    """DACs of a core."""
    sample_holds: CountOrZero | None = None
    """Sample-and-holds of a core."""
    shift_adds: Count = 4
    """Shift-and-add units."""
    input_registers: CountOrZero = 1
    """Input registers."""
    input_register_bytes: Count = 2048
    """Size of an input register."""
    output_registers: CountOrZero = 1
    """Output registers."""
    output_register_bytes: Count = 256
    """Size of an output register."""
    buffers: CountOrZero = 0
    """Buffers of the core itself."""
    buffer_kb: Positive = 64.0
    """Size of one."""
    vector_units: CountOrZero = 0
    """Vector units."""
    controls: CountOrZero = 0
    """Control units."""
    source: str = ""


class Node(Section):
    """Cores with a buffer and a router (ISAAC's tile).

    Counts are of one node; `routers = 0.25` is one router for four nodes. `multipliers` are in use
    only where a program has digital products.
    """

    cores: Count = 12
    """Cores of a node."""
    buffers: CountOrZero = 0
    """Buffers of a node."""
    buffer_kb: Positive = 64.0
    """Size of one."""
    buses: CountOrZero = 0
    """Buses of a node."""
    bus_bits: Count = 384
    """Width of a bus."""
    routers: NonNegative = 0.0
    """Routers a node."""
    registers: CountOrZero = 0
    """Output registers of the node."""
    register_bytes: Count = 3072
    """Size of one."""
    shift_adds: CountOrZero = 0
    """Shift-and-add units of the node."""
    activations: CountOrZero = 0
    """Activation units."""
    poolings: CountOrZero = 0
    """Pooling units."""
    multipliers: CountOrZero = 0
    """Multiply-add units, for digital products."""
    vector_units: CountOrZero = 0
    """Vector units."""
    source: str = ""


class Chip(Section):
    """A mesh of nodes, with links to other chips.

    Without `mesh` (rows, columns) it is as square as the number of nodes allows. Without `chips` a
    program takes as many as it needs; with it, no more. `memories`: one off the chip. Programming
    draws no more than `programming_power_w` a chip; without it, no more than what is in use draws
    at full load.
    """

    nodes: Count = 168
    """Nodes of a chip."""
    mesh: tuple[Count, Count] | None = None
    """Rows and columns of the mesh."""
    buffers: CountOrZero = 0
    """Buffers of the chip."""
    buffer_kb: Positive = 4096.0
    """Size of one."""
    links: CountOrZero = 0
    """Links to other chips."""
    memories: Annotated[int, Field(ge=0, le=1)] = 0
    """A memory off the chip, for inputs, results and what buffers can't hold."""
    chips: Count | None = None
    """Chips at most."""
    programming_power_w: Positive | None = None
    """Most power of a chip while it is programmed."""
    source: str = ""

    @field_validator("mesh", mode="before")
    @classmethod
    def _mesh_is_a_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _mesh_holds_the_nodes(self) -> "Chip":
        if self.mesh is not None and self.mesh[0] * self.mesh[1] < self.nodes:
            raise ValueError(
                f"chip.mesh = {list(self.mesh)} has no place for chip.nodes = {self.nodes}"
            )
        return self


CONSTANTS = (
    "area_um2",
    "energy_pj",
    "leakage_mw",
    "clock_mw",
    "rate_gps",
    "power_mw",
    "source",
)
"""What a component table with `model = "constant"` says by itself."""


class ComponentTable(Section):
    """Where one component's figures come from: a `model` by name, or constants.

    Constants are for one unit: area, energy of one action, leakage, power of its clock, the most
    actions a second (in 1e9), which times follow from, and the published power at full load where
    energy x rate isn't it. Without `leakage_mw` its leakage isn't modelled; 0 says that it has
    none. `options` go to the model.
    """

    model: str = "constant"
    """The model that gives the figures."""
    area_um2: NonNegative | None = None
    """Area of one unit."""
    energy_pj: NonNegative | None = None
    """Energy of one action."""
    leakage_mw: NonNegative | None = None
    """Leakage of one unit."""
    clock_mw: NonNegative | None = None
    """Power of its clock."""
    rate_gps: NonNegative | None = None
    """Actions a second at most, in 1e9."""
    power_mw: NonNegative | None = None
    """Published power at full load."""
    source: str | None = None
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Options of the model."""

    @model_validator(mode="after")
    def _constants_or_a_model(self) -> "ComponentTable":
        given = [name for name in CONSTANTS if getattr(self, name) is not None]
        if self.model == "constant":
            missing = [n for n in ("area_um2", "energy_pj", "source") if n not in given]
            if missing:
                raise ValueError(f'model = "constant" needs {", ".join(missing)}')
        elif given:
            raise ValueError(
                f'{", ".join(given)} can\'t stand beside model = "{self.model}", which gives them: '
                "remove one or the other"
            )
        return self


class LayerAdc(Section):
    """What converters do in some layers: stop after `bits`, of those that they have."""

    bits: Annotated[int, Field(ge=1, le=24)]
    """Bits of a conversion there."""


class LayerWeights(Section):
    """Weights of some layers; a model's own integers keep their width."""

    bits: Annotated[int, Field(ge=2, le=16)]
    """Bits of a weight with its sign."""


class LayerInputs(Section):
    """Activations that drive some layers; a model's own codes keep their width."""

    bits: Annotated[int, Field(ge=2, le=16)]
    """Bits of an activation's code."""


class LayerKeys(Section):
    """What is otherwise in some layers: `layers."conv*".weights.bits = 4`.

    A table goes by the name of a layer, or by a pattern of names; of several that say the same key
    the last one holds.
    """

    weights: LayerWeights | None = None
    """Widths of the weights there."""
    inputs: LayerInputs | None = None
    """Widths of the activations there."""
    adc: LayerAdc | None = None
    """What converters do there."""


class Target(Section):
    """A whole target: what a TOML file in `targets/` says."""

    name: Annotated[str, Field(min_length=1)]
    """What reports call the target."""
    description: str = ""
    """One line about it."""
    array: CrossbarArray
    weights: Weights = Weights()
    inputs: Inputs = Inputs()
    adc: Adc = Adc()
    device: Device
    core: Core = Core()
    node: Node = Node()
    chip: Chip = Chip()
    technology: Technology = Technology()
    cost: dict[str, ComponentTable]
    """The components' tables; what each is for, and which there are: `docs/cost.md`."""
    layers: dict[str, LayerKeys] = Field(default_factory=dict)
    """By the name of a layer, or a pattern of names (`conv*`); of several the last one holds."""

    @model_validator(mode="after")
    def _one_weight_fits(self) -> "Target":
        columns = self.array.columns_per_weight(self.weights.bits)
        if columns > self.array.cols:
            raise ValueError(
                f"array.cols = {self.array.cols} can't hold a weight, which takes {columns} columns"
            )
        most = self.device.max_cell_bits
        if most is not None and self.array.cell_bits > most:
            raise ValueError(
                f"array.cell_bits = {self.array.cell_bits}: the cell {self.device.cell!r} holds "
                f"{most} bit{'s' * (most > 1)} (device.max_cell_bits)"
            )
        if self.adc.subtract == "analog" and self.array.encoding != "differential":
            raise ValueError('adc.subtract = "analog" needs array.encoding = "differential"')
        if self.adc.subtract != "analog":
            # Currents of both signs meet in a column: only a signed converter reads them.
            if self.array.paired_rows:
                raise ValueError('array.polarity_in = "rows" needs adc.subtract = "analog"')
            if self.inputs.signed == "native":
                raise ValueError('inputs.signed = "native" needs adc.subtract = "analog"')
        return self

    @model_validator(mode="after")
    def _one_read_is_driven_and_held(self) -> "Target":
        """A read drives all rows of an array at once; pipelined, it is held while the next goes on.

        Arrays of a core may share DACs and sample-and-holds, rows and columns of one array can't.
        """
        core, array = self.core, self.array
        if core.dacs and core.dacs < array.rows:
            raise ValueError(
                f"core.dacs = {core.dacs} can't drive the {array.rows} rows of an array in one "
                "read: give array.rows or more"
            )
        held = math.ceil(array.cols / 2) if self._converts_pairs else array.cols
        if core.cycle == "pipelined" and core.sample_holds and core.sample_holds < held:
            raise ValueError(
                f"core.sample_holds = {core.sample_holds} can't hold the {held} values of an "
                f'array\'s read, as core.cycle = "pipelined" needs: give {held} or more'
            )
        return self

    @model_validator(mode="after")
    def _layers_have_converters(self) -> "Target":
        for name, keys in self.layers.items():
            if keys.adc is None:
                continue
            where = f'layers."{name}".adc.bits = {keys.adc.bits}'
            if self.adc.mode == "lossless":
                raise ValueError(f'{where} has no effect: adc.mode = "lossless" rules')
            if keys.adc.bits > self.adc.bits:
                raise ValueError(f"{where}: the converters have adc.bits = {self.adc.bits}")
        return self

    def for_layer(self, name: str) -> "Target":
        """The target as a layer sees it, with the keys of `layers` that its name matches."""
        found: dict[str, Section] = {}
        for pattern, keys in self.layers.items():
            # A layer may itself be called `conv[1]`.
            if name == pattern or fnmatchcase(name, pattern):
                found.update((part, own) for part, own in keys if own is not None)
        own = {part: getattr(self, part).model_copy(update=dict(k)) for part, k in found.items()}
        own = {part: section for part, section in own.items() if section != getattr(self, part)}
        return self.model_copy(update=own) if own else self

    @property
    def crossbars_per_chip(self) -> int:
        """Crossbars of one chip."""
        return self.core.crossbars * self.node.cores * self.chip.nodes

    def mesh(self) -> tuple[int, int]:
        """Rows and columns of the mesh of nodes: `chip.mesh`, else the squarest that holds them."""
        if self.chip.mesh is not None:
            return self.chip.mesh
        rows = math.isqrt(self.chip.nodes)
        exact = next(r for r in range(rows, 0, -1) if self.chip.nodes % r == 0)
        # 168 nodes are 12 x 14; a prime number of them is no single row, but a square with gaps.
        rows = exact if 2 * exact > rows else rows
        return rows, math.ceil(self.chip.nodes / rows)

    def slices(self, weight_bits: int | None = None) -> int:
        """`array.slices`, for `weights.bits` where no width is given."""
        return self.array.slices(self.weights.bits if weight_bits is None else weight_bits)

    @property
    def polarities(self) -> int:
        """`array.polarities`."""
        return self.array.polarities

    def converter_bits(self) -> int:
        """Bits that the converters are priced at.

        Those of a lossless one tell every sum of a full column apart: ceil(log2(F + 1)) with F =
        rows x (2^dac_bits - 1) x (2^cell_bits - 1), or 2 F + 1 sums under analog subtraction. A
        column of large weights can be stored flipped, which halves the largest sum (ISAAC).
        """
        adc = self.adc
        if adc.mode != "lossless" or adc.price == "as-configured":
            return adc.bits
        full = self.array.weights_per_column * ((1 << self.inputs.dac_bits) - 1)
        full *= (1 << self.array.cell_bits) - 1
        bits = (2 * full if adc.subtract == "analog" else full).bit_length()
        return bits - 1 if adc.flipped else bits

    def adcs_per_core(self) -> int:
        """ADCs of one core."""
        per_crossbar = math.ceil(self.array.cols / self.array.columns_per_adc)
        return self.core.adcs or self.core.crossbars * per_crossbar

    def columns_per_adc(self) -> int:
        """Columns that one ADC converts, one after the other, in one read."""
        if self.core.adcs is None:
            return min(self.array.columns_per_adc, self.array.cols)
        return math.ceil(self.core.crossbars * self.array.cols / self.core.adcs)

    def conversions_per_adc(self) -> int:
        """Conversions that one ADC makes in one read: of two columns one where they are a pair."""
        columns = self.columns_per_adc()
        return math.ceil(columns / 2) if self._converts_pairs else columns

    @property
    def _converts_pairs(self) -> bool:
        """Whether a conversion is of two columns, G+ and G-."""
        return self.adc.subtract == "analog" and not self.array.paired_rows

    def read_ns(self) -> float:
        """The time for which a row is driven fully in one read: a pulse, or the most pulses."""
        bits = self.inputs.dac_bits
        pulses = {"amplitude": 1, "pulses": (1 << bits) - 1, "bit-pulses": bits}
        return pulses[self.inputs.coding] * self.device.read_pulse_ns

    def cycle_ns(self, adc_gsps: float = math.inf) -> float:
        """The time of one read: the read pulse, then the conversions that share an ADC.

        Pipelined (`core.cycle`) the longer of both. `adc_gsps` is the rate of the ADC's model; it
        counts if it is below `adc.rate_gsps`.
        """
        read = self.read_ns()
        conversions = self.conversions_per_adc() / min(self.adc.rate_gsps, adc_gsps)
        return max(read, conversions) if self.core.cycle == "pipelined" else read + conversions

    def input_slices(self, bits: int, signed: bool) -> int:
        """Reads that a vector of `bits`-bit codes takes (numerics, Inputs in time)."""
        passes = 2 if signed and self.inputs.signed_reads == "two-pass" else 1
        return passes * slice_count(bits, self.inputs.dac_bits)
