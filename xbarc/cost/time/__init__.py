"""Time: of a layer, of one image through all of them, of a stream of images; and of programming.

    cycle      = crossbar read + the conversions of the columns that share an ADC
    layer      = ceil(vectors / copies) x input slices x cycle
    digital    = operations / (rate of a node's units x nodes of the layer), of the slowest unit
    transfer   = bits on the busiest wire that a tensor takes / bandwidth of a wire
    one image  = layer after layer; scheduled: each row as soon as its inputs are there
    stream     = one image every interval; the busiest resource sets the interval

`xbarc.ir.analysis.stages` says which rows flow between stages, `xbarc.hw.mesh` which wires they
take. The model is ours; `docs/time.md` says what it leaves out.
"""

from xbarc.cost.time.pipeline import Span, in_turn, row_pipeline, serve
from xbarc.cost.time.program import StageTime, Times, program_times, times
from xbarc.cost.time.programming import (
    Writing,
    programming_time_ms,
    programming_totals,
    verify_energy_uj,
)
from xbarc.cost.time.rates import Rates, cycle_counts, cycle_ns, cycles, rates_of
from xbarc.cost.time.traffic import Transfer, hosts, placed, placed_hops, transfers
from xbarc.cost.time.work import Bottleneck, Demand, Work, demand, digital_work

__all__ = [
    "Bottleneck",
    "Demand",
    "Rates",
    "Span",
    "StageTime",
    "Times",
    "Transfer",
    "Work",
    "Writing",
    "cycle_counts",
    "cycle_ns",
    "cycles",
    "demand",
    "digital_work",
    "hosts",
    "in_turn",
    "placed",
    "placed_hops",
    "program_times",
    "programming_time_ms",
    "programming_totals",
    "rates_of",
    "row_pipeline",
    "serve",
    "times",
    "transfers",
    "verify_energy_uj",
]
