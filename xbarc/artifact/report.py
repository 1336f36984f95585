"""The schema of `report.json`: every key with its type, unit and meaning.

A program's report is held to it when the program is loaded. `docs/report_json.md` is made from it:

    python -m xbarc.artifact.report > docs/report_json.md
"""

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidationInfo
from pydantic.fields import FieldInfo

from xbarc.ir.analysis.zero_point import InputCodes

SCHEMA = 3
"""Changes when a key changes its meaning or goes; keys may be added without a change."""

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
RangesTaken = Literal["min-max", "least-squares", "further-sample"]


def _with_total(parts: dict[str, float]) -> dict[str, float]:
    if "total" not in parts:
        raise ValueError("it has no 'total'")
    return parts


Parts = Annotated[dict[str, Amount], AfterValidator(_with_total)]
"""Amounts by component, and their sum under `total`."""


def _key(meaning: str, **more: Any) -> Any:
    """A key that is always there."""
    return Field(description=meaning, **more)


def _maybe(meaning: str) -> Any:
    """A key that is there only where its meaning says so."""
    return Field(default=None, description=meaning)


class Table(BaseModel, strict=True, defer_build=True):
    """Checked only where a program is loaded: compiling one doesn't build the checks."""


class Counts(Table):
    """What is counted in each layer, and added up in the totals; `docs/cost.md` has the formulas.

    Where layers have copies, `crossbars`, `memristors` and `write_pulses` count all of them.
    """

    weights: Count = _key("weights, zeros included; of a block-diagonal matrix those in its blocks")
    nonzero_weights: Count = _key("weights that aren't zero")
    tiles: Count = _key("blocks that the matrix is cut into to stand on crossbars, of one copy")
    crossbars: Count = _key("whole crossbars that are occupied")
    memristors: Count = _key("cells that are programmed, of all slices and both polarities")
    vectors: Count = _key("input vectors")
    activations: Count = _key("tiles that a vector meets, added up over the vectors")
    cycles: Count = _key("activations in sequence, where all tiles and copies work in parallel")
    macs: Count = _key("products of the layer's own weights that are done")
    adc_conversions: Count = _key("conversions of column sums")
    row_pulses: Count = _key("rows that are driven, in all input slices")
    crossbar_reads: Count = _key("reads of a whole crossbar")
    cell_reads: Count = _key("cells that are read: on driven rows and converted columns")
    cell_level_reads: Count = _key("the same cells, each times the level that it is programmed to")
    shift_adds: Count = _key("values shifted and added: conversions, and sums of row blocks merged")
    input_bits: Count = _key("bits that go from input registers to rows")
    output_values: Count = _key("values accumulated in output registers")
    results: Count = _key("finished values")
    buffer_read_bits: Count = _key("bits read from the buffer")
    buffer_write_bits: Count = _key("bits written to the buffer")
    bus_bits: Count = _key("bits between the buffer and the cores")
    mesh_bits: Count = _key("bits that leave the layer, once to each layer that reads them")
    mesh_bit_hops: Amount = _key("the same bits, each times the routers that it passes")
    off_chip_bits: Count = _key("bits that go to another chip")
    partial_sum_bits: Count = _key("bits of partial sums between nodes of a layer")
    io_bits: Count = _key("bits of the program's inputs and results")
    spill_bits: Count = _key("bits that buffers can't hold, written out and read back")
    offset_adds: Count = _key("inputs added up and taken out of results, for offset encoding")
    write_pulses: Count = _key("pulses that program the cells once, `device.write_pulses` each")
    digital: dict[str, Count] = _key(
        "operations of the digital units by class: activation, pooling, elementwise, products, "
        "other"
    )
    utilization: Share = _key("programmed cells among the cells of the occupied crossbars")


class Layer(Counts):
    """A layer on crossbars, in program order, and all of [Counts](#counts) for it.

    `latency_ns` is the sum of `crossbar_ns`, `transfer_ns` and `digital_ns`.
    """

    name: str = _key("name of the ONNX node")
    op: str = _key("ONNX operator")
    mapping: str = _key("mapping pass that cut it into tiles")
    matrix: Annotated[list[Count], Field(min_length=2, max_length=2)] = _key(
        "rows and columns of the weight matrix, K and N"
    )
    input_codes: InputCodes = _maybe(
        "kind of its input codes (`docs/numerics.md`); programs of older versions don't say"
    )
    zero_point: int = _maybe("the code that means 0; programs of older versions don't say")
    copies: Annotated[int, Field(ge=1)] = _key("copies that share the vectors")
    adc_bits: Count = _key("bits that its conversions are priced at")
    driven_rows: Share = _maybe(
        "share of the rows that are driven, by the calibration inputs; where the target skips zeros"
    )
    energy_pj: dict[str, Amount] = _key(
        "energy by component for an input of a stream, and its share of the leakage"
    )
    latency_ns: Amount = _key("time that it takes, with its transfers and digital operations")
    crossbar_ns: Amount = _key("time of its crossbars")
    transfer_ns: Amount = _key("time of what comes to it over the mesh")
    digital_ns: Amount = _key("time of the digital operations on its results")
    start_ns: Amount = _maybe("when its crossbars start; only in a scheduled program")
    finish_ns: Amount = _maybe("when its crossbars finish; only in a scheduled program")


class Bottleneck(Table):
    """What one input occupies longest."""

    layer: str | None = _key("layer that asks most of it; null where no layer is near")
    resource: str = _key("`crossbar`, `mesh`, or a digital unit by its name")


class Mode(Table):
    """What one input costs in an operating mode; `power_w` x its time is `energy_uj.total`."""

    energy_uj: Parts = _key(
        "dynamic energy by component, `leakage` (with clock power), and their sum under `total`"
    )
    power_w: Amount = _key("power; 0 where nothing takes time")
    rate_ips: Amount = _key("inputs in a second; 0 where nothing takes time")


class Single(Mode):
    """One input alone: everything in use is powered until it is done."""

    latency_us: Amount = _key("time of the input")


class Stream(Mode):
    """One input of a stream: layers work on several inputs at a time, side by side."""

    interval_us: Amount = _key("least time between two inputs")


class Modes(Table):
    """The two operating modes."""

    single: Single = _key("one input alone")
    stream: Stream = _key("one input of a stream")


class Operations(Table):
    """What hardware computes; a multiply-accumulate is two operations (`docs/cost.md`)."""

    tops: Amount = _key("operations in a second")
    tops_per_w: Amount = _key("the same for a watt; 0 where nothing draws power")
    tops_per_mm2: Amount = _key("the same for a mm² of area")
    energy_per_mac_pj: Amount = _key("energy of a multiply-accumulate; 0 where there is none")


def _as_in_totals(modes: Modes, found: ValidationInfo) -> Modes:
    if modes.stream.energy_uj != found.data.get("energy_uj"):
        raise ValueError("stream.energy_uj isn't that of the totals")
    return modes


class Totals(Counts):
    """The whole program, and all of [Counts](#counts) added up over the layers.

    Energy and power are those of a stream of inputs, at the rate `throughput_ips`; `modes` has
    those of one input alone as well. `read_power_w` is `crossbar_power_w` plus
    `peripheral_power_w`; the figures `..._before_w` are those of `read_power_baseline`.
    """

    cores: Count = _key("cores that the crossbars stand in")
    nodes: Count = _key("nodes that the cores stand in")
    chips: Count = _key("whole chips that are needed")
    area_mm2: Parts = _key("area in use by component, and its sum under `total`")
    chip_area_mm2: Amount = _key("area of the whole chips")
    energy_uj: Parts = _key(
        "energy of one input of a stream (`modes.stream.energy_uj`): dynamic by component, "
        "`leakage`, and their sum under `total`"
    )
    modes: Annotated[Modes, AfterValidator(_as_in_totals)] = _key(
        "energy, power and rate in a stream, and of one input alone"
    )
    array_energy_uj: dict[str, Amount] = _key(
        "what the arrays take by each way to count it (`array.energy`; `docs/cost.md`)"
    )
    leakage_mw: Amount = _key("leakage and clock power of all that is in use, nothing gated")
    leakage_not_modelled: list[str] = _key("components whose source has no leakage")
    latency_us: Amount = _key("time of one input alone")
    stream_latency_us: Amount = _key("time of one input in a stream")
    interval_us: Amount = _key("least time between two inputs of a stream")
    throughput_ips: Amount = _key("inputs of a stream in a second; 0 where nothing takes time")
    tops: Amount = _key("operations of the crossbar layers in a second, in a stream")
    tops_per_w: Amount = _key("the same for a watt of `power_w`")
    tops_per_mm2: Amount = _key("the same for a mm² of the area in use")
    energy_per_mac_pj: Amount = _key("energy of a stream's input over its multiply-accumulates")
    peak: Operations = _key("one chip of the target with every cell in use, at its full load")
    schedule: Literal["rows", "layers"] = _key("whether a layer waits for rows or for whole layers")
    bottleneck: Bottleneck | None = _key("what bounds the interval; null where nothing takes time")
    power_w: Amount = _key("power in a stream (`modes.stream.power_w`)")
    crossbar_power_w: Amount = _key("power of the cells as they are programmed")
    peripheral_power_w: Amount = _key("power of all else")
    read_power_w: Amount = _key("power of both")
    crossbar_power_before_w: Amount = _key("power of the cells before")
    peripheral_power_before_w: Amount = _key("power of all else before")
    read_power_before_w: Amount = _key("power of both before")
    read_power_ratio: Amount = _key("`read_power_w` / `read_power_before_w`; 1 where that is 0")
    read_power_baseline: str = _key("what `before` means: `nothing gated` or `the weights before`")
    programming_energy_uj: Amount = _key(
        "energy of `write_pulses`; a run's own: `xbarc run --json`"
    )
    lifetime_years: Amount | None = _key(
        "until cells wear out, at `device.programmings_per_day`; null where the target has no "
        "`device.endurance`"
    )
    programming_time_ms: Amount = _key("time to program all crossbars, row by row, as power allows")
    programming_power_w: Amount = _key("power while programming; its limit: `docs/time.md`")
    programming_verify_time_ms: Amount = _key("the part of it that a verify loop reads")
    programming_verify_energy_uj: Amount = _key("energy of these reads")


class Stage(Table):
    """A layer on crossbars or a digital part, in program order: when it works.

    `stream_...` are the times of the first input of a stream.
    """

    name: str = _key("layer, or file of the digital part")
    kind: Literal["crossbar", "digital"] = _key("what does it")
    layer: str | None = _key("layer on whose nodes it is done; null where no layer is near")
    copies: Annotated[int, Field(ge=1)] = _key("copies that share the work")
    busy_ns: Amount = _key("time of its crossbars or digital units")
    transfer_ns: Amount = _key("time of what comes to it over the mesh")
    start_ns: Amount = _key("when it starts")
    finish_ns: Amount = _key("when it finishes")
    stream_start_ns: Amount = _key("when it starts, in a stream")
    stream_finish_ns: Amount = _key("when it finishes, in a stream")


class ComponentFigures(Table):
    """One unit of a component. `docs/cost.md` says what an action of each is."""

    model: str = _key("component model, `constant` where the target has the figures")
    area_um2: Amount = _key("area")
    energy_pj: Amount = _key("energy of one action")
    leakage_mw: Amount = _maybe("power while it does nothing; only where its source has it")
    clock_mw: Amount = _maybe("power of its clock")
    rate_gps: Amount = _key("most actions in a second; 0 where there is no limit that matters")
    power_mw: Amount = _maybe("published power at full load, where there is one")
    source: str = _key("where the figures come from")


class Caveat(Table):
    """What a reader must know before believing figures."""

    of: list[str] = _key("keys of the totals that it stands beside, or tables of them")
    text: str = _key("what it is")


class Candidate(Table):
    """A scheme that a layer could be mapped by: its figures for the layer alone, or `refused`."""

    scheme: str = _key("mapping scheme")
    crossbars: Count = _maybe("crossbars that are occupied")
    cycles: Count = _maybe("activations in sequence")
    energy_pj: Amount = _maybe("energy of all components, leakage included")
    mode: Literal["stream", "single"] = _maybe("operating mode of energy and area x delay")
    leakage_pj: Amount = _maybe("leakage of what the layer occupies for the time of the mode")
    latency_ns: Amount = _maybe("time of the crossbars, and of scale and bias of the results")
    interval_ns: Amount = _maybe("the longer of both")
    area_mm2: Amount = _maybe("the crossbars' share of their cores")
    area_delay_mm2_ns: Amount = _maybe("area x the time of the mode")
    program: Amount = _maybe(
        "the figure chosen by, of all layers together with this scheme here; only where they fit "
        "the target's chips"
    )
    refused: str = _maybe("why the scheme can't take the layer; then there are no figures")


class Choice(Table):
    """What a layer is mapped by, and what it was chosen from."""

    by: str = _key("figure chosen by: `crossbars`, `cycles`, `energy` or `area-delay`")
    chosen: str | None = _key("scheme; null where none takes the layer")
    candidates: list[Candidate] = _key("all schemes")


class Clusters(Table):
    """How `cluster` cut a layer into tiles."""

    tiles: Count = _key("tiles")
    tiles_dense: Count = _key("tiles of the whole matrix")
    tiles_occupied: Count = _key("tiles of a plain grid that hold a nonzero weight")
    tiles_unclustered: Count = _key("tiles that `drop-zeros` makes, without clustering")
    clusters: Count = _key("tiles of more than the lowest density (`floor`)")
    density: Share = _key("nonzero weights over the weights that all tiles have room for")
    nonzero_weights: Count = _key("weights that aren't zero")
    clustered_weights: Count = _key("of these, those in clusters")
    pieces: Count = _maybe("runs in which inputs come from the layer before; 1: no shuffling")
    pieces_unfolded: Count = _maybe("the same before rows and columns were ordered")


class CalibrationData(Table):
    """The data that activation ranges come from."""

    source: str = _key("name of the file, `arrays`, or `generated` where none were given")
    samples: Count = _key("samples in them")
    percentile: Annotated[float, Field(ge=50, le=100)] = _key("percent of the values in a range")


class LayerAccuracy(Table):
    """A layer's output on ideal devices and lossless converters, beside float.

    `inherited`, `inputs` and `weights` are shares of what makes the noise.
    """

    snr_db: float | None = _key("signal-to-noise ratio; null where there is no noise or no signal")
    inherited: Share = _key("from the layers before it")
    inputs: Share = _key("from the codes of its inputs")
    weights: Share = _key("from rounding its weights")
    clipped: Share = _maybe(
        "part of `inputs`: from values beyond the codes; older programs lack it"
    )


class Quantization(Table):
    """How real numbers became codes. `passes` says whether `equalize` ran."""

    ranges: RangesTaken = _key(
        "how ranges of activations were taken, within the percentile of `calibration`"
    )
    rounding: Literal["nearest", "output"] = _key("to what weights were rounded")
    bias_correction: bool = _key("whether biases took the mean error of outputs")
    samples: Count = _maybe("calibration samples that layers were fitted on; where any were")
    rounded: list[str] = _maybe("layers whose weights were rounded to their outputs; likewise")
    layers: dict[str, LayerAccuracy] = _maybe("how each layer stands on these samples; likewise")


class CrossbarCoverage(Table):
    """What landed on crossbars."""

    crossbar_operators: Count = _key("operators on crossbars")
    digital_operators: Count = _key("operators on digital units")
    mac_share: Share | None = _key(
        "crossbars' share of the multiply-accumulates; null where the digital side multiplies in "
        "ways that can't be counted (bodies of If and Loop, LSTM, Einsum)"
    )
    digital_reasons: dict[str, str] = _key("why operators with weights are digital, by node name")
    uncounted: list[str] = _maybe(
        "types of the operators whose multiply-accumulates can't be counted; where there are any"
    )


class RandomWeights(Table):
    """Weights that the model lacked and that were made up: costs mean something, results don't."""

    seed: int | None = _key("the seed")
    names: list[str] = _key("their names")


class Report(Table):
    """The document of `xbarc cost --json`, and how the compilation went.

    Figures are for one input (a batch of one), and each has its unit in its key. Mapping and tile
    passes may leave further keys (`XbarContext.figures`): each is theirs to describe.
    """

    model: str = _key("name of the model's file or graph")
    weights: str = _maybe("name of the model that the weights are of, after `update-weights`")
    target: str = _key("name of the target")
    passes: list[str] = _key("passes that ran, with their options, in order")
    version: Annotated[int, Field(ge=1, le=SCHEMA)] = Field(
        default=1, alias="schema", description="version of this schema"
    )
    layers: list[Layer] = _key("the layers on crossbars")
    totals: Totals = _key("the whole program")
    caveats: list[Caveat] = _key("what to know before believing the totals, or comparing them")
    pipeline: list[Stage] = _key("when each layer and each digital part works")
    components: dict[str, ComponentFigures] = _key("one unit of each of the target's components")
    deviation: dict[str, Amount | None] = _key(
        "how far each lossy pass moved the model's outputs, relative to them; null where that is "
        "beyond any number (a NaN, another shape)"
    )
    pass_figures: dict[str, dict[str, Any]] = _key(
        "what graph passes counted, by pass; `xbarc passes NAME` says what"
    )
    mapping_choices: dict[str, Choice] = _maybe("how `map` chose, by layer; where that pass ran")
    clusters: dict[str, Clusters] = _maybe("clusters, by layer; where `cluster` ran")
    calibration: CalibrationData = _key("the data that activation ranges come from")
    quantization: Quantization = _maybe("how real numbers became codes; older versions didn't say")
    coverage: CrossbarCoverage = _key("what landed on crossbars")
    weight_files: dict[str, str] = _maybe(
        "names of the files that weights of a TVM program came from, by option"
    )
    random_weights: RandomWeights = _maybe("weights that were made up; where any were")


def fault(document: Any, table: type[Table] | None = None) -> str | None:
    """The first thing wrong with a report, in one line with its key; None where nothing is.

    `table`: another schema that the document is held to.
    """
    if not isinstance(document, dict):
        return "it is no table of keys"
    try:
        (table or Report).model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"{key} is missing"
        said = first["msg"][:1].lower() + first["msg"][1:]
        return f"{key} = {first['input']!r:.60}: {said}"
    return None


# --- docs/report_json.md --------------------------------------------------------------------------

UNITS = {
    "pj": "pJ",
    "uj": "µJ",
    "ns": "ns",
    "us": "µs",
    "ms": "ms",
    "w": "W",
    "mw": "mW",
    "mm2": "mm²",
    "um2": "µm²",
    "tops": "TOPS",
    "tops_per_w": "TOPS/W",
    "tops_per_mm2": "TOPS/mm²",
    "ips": "inputs/s",
    "years": "years",
    "gps": "10⁹/s",
    "db": "dB",
    "bits": "bits",
}
"""The last words of a key -> its unit."""

INTRODUCTION = """\
# report.json

Made from `xbarc/artifact/report.py` by `make schema`: change it there. A program whose report isn't
as this page says is refused when it is loaded. A later xbarc may add keys; `schema` changes when a
key changes its meaning or goes. A key that is optional is left out, never null.
"""


def markdown() -> str:
    """`docs/report_json.md`: a table of keys for each table of the report."""
    found: dict[type[BaseModel], None] = dict.fromkeys([Report, *_tables(Report)])
    return "\n".join([INTRODUCTION, *(line for table in found for line in _section(table))])


def _tables(table: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The tables within a table, each after the one that it stands in."""
    if table is not Counts and issubclass(table, Counts):
        yield Counts
    for field in _own(table).values():
        for inner in _models(field.annotation):
            yield inner
            yield from _tables(inner)


def _own(table: type[BaseModel]) -> dict[str, FieldInfo]:
    """A table's keys, those of `Counts` only in itself."""
    shared = Counts.model_fields if table is not Counts and issubclass(table, Counts) else {}
    return {name: field for name, field in table.model_fields.items() if name not in shared}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _section(table: type[BaseModel]) -> Iterator[str]:
    yield f"## {table.__name__}\n\n{inspect.getdoc(table)}\n"
    yield "| key | type | unit | meaning |"
    yield "|---|---|---|---|"
    hints = typing.get_type_hints(table, include_extras=True)
    for name, field in _own(table).items():
        key, hint = field.alias or name, hints[name]
        kind = _type(hint) + ("" if field.is_required() else ", optional")
        yield f"| `{key}` | {kind} | {_unit(key, hint)} | {field.description} |"
    yield ""


def _unit(key: str, hint: Any) -> str:
    if Share in (hint, *typing.get_args(hint)):
        return "0 to 1"
    if key in UNITS:
        return UNITS[key]
    words: list[str] = []
    for word in reversed(key.split("_")[1:]):
        if word not in UNITS:
            break
        words.insert(0, UNITS[word])
    return " ".join(words)


def _type(annotation: Any) -> str:
    """A type as a reader of JSON calls it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"table: {_type(inner[1])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_type, inner))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {int: "integer", float: "number", str: "text", type(None): "null"}
    return names.get(annotation, "any")


if __name__ == "__main__":
    print(markdown(), end="")
