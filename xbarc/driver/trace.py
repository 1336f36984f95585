"""Where accuracy goes, layer by layer: a program beside its float network.

A layer is looked at twice: in the network, where it inherits the errors of all before it, and alone
on the float network's activations, which shows its own. The layer to blame is the one that stands
worst alone.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xbarc.artifact import CompiledProgram
from xbarc.artifact.float_network import FloatNetwork
from xbarc.driver.evaluate import Samples
from xbarc.driver.metrics import decibels
from xbarc.graph.inputs import batch_size
from xbarc.graph.run import Session
from xbarc.hw.target import Target
from xbarc.ir.interface import COUPLED, main_function
from xbarc.simulator.code_use import CodeCounter, CodeUse
from xbarc.simulator.interpreter import AdcStatistics, Simulator, input_specs
from xbarc.simulator.noise import engine_for
from xbarc.support.data import Array, Feeds, batches, sample_count
from xbarc.support.document import finite
from xbarc.support.errors import UsageError, XbarcError, nearest

CLIPPED = 1e-3
"""A larger share of clipped codes or conversions is worth mending."""

USED = 0.25
"""Codes of which less is used waste two bits."""

GOOD = 40.0
"""dB: a layer that stands better alone needs no help."""


@dataclass
class Error:
    """What an output misses the wanted one by, added up."""

    power: float = 0.0
    error: float = 0.0
    largest: float = 0.0

    @classmethod
    def of(cls, wanted: Array, got: Array) -> "Error":
        """Of one pair of arrays of the same shape."""
        wide = wanted.astype(np.float64)
        miss = np.abs(wide - got)
        return cls(float((wide**2).sum()), float((miss**2).sum()), float(miss.max(initial=0.0)))

    @classmethod
    def sum(cls, parts: Sequence["Error"]) -> "Error":
        """Of several, in this order."""
        return cls(
            math.fsum(p.power for p in parts),
            math.fsum(p.error for p in parts),
            max((p.largest for p in parts), default=0.0),
        )

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio; infinite without an error."""
        return decibels(self.power, self.error)


@dataclass(frozen=True)
class LayerTrace:
    """A layer: its output in the network, and alone on the float network's activations.

    `snr_db`, `own_snr_db`: signal-to-noise ratios against float; `own_snr_db` is None where the
    layer can't be run alone. `max_error`: the largest of the output in the network.
    `clipped_inputs`, `used_inputs`: shares of its activations beyond the codes, and of the codes'
    range that they reach; None where it reads codes that the model made. `clipped_conversions`:
    share of its conversions; `lossless`: no converter can lose anything. `advice`: what would help.
    """

    name: str
    snr_db: float
    own_snr_db: float | None
    max_error: float
    clipped_inputs: float | None
    used_inputs: float | None
    clipped_conversions: float
    lossless: bool
    advice: str


@dataclass(frozen=True)
class Trace:
    """What a trace found over `samples`, simulated in `seconds`; layers as the network has them."""

    samples: int
    seconds: float
    seed: int
    effects: tuple[str, ...]
    layers: tuple[LayerTrace, ...]

    @property
    def worst(self) -> LayerTrace:
        """The layer to blame: worst alone, or in the network where none can be run alone."""
        alone = [layer for layer in self.layers if layer.own_snr_db is not None]
        if alone:
            return min(alone, key=lambda layer: layer.own_snr_db or 0.0)
        return min(self.layers, key=lambda layer: layer.snr_db)

    def document(self) -> dict[str, Any]:
        """What `xbarc trace --json` prints."""
        told: dict[str, Any] = finite(
            {
                "samples": self.samples,
                "seed": self.seed,
                "effects": list(self.effects),
                "worst": self.worst.name,
                "layers": [asdict(layer) for layer in self.layers],
            }
        )
        return told

    def record(self) -> dict[str, Any]:
        """What is kept with the program: a run whose layers are traced."""
        document = self.document()
        adc = {
            layer.name: {"saturated": layer.clipped_conversions, "lossless": layer.lossless}
            for layer in self.layers
        }
        told = {key: document[key] for key in ("samples", "seed", "effects")}
        return {
            **told,
            "images_per_second": self.samples / self.seconds,
            "adc": adc,
            "trace": document["layers"],
        }


def trace(
    program: CompiledProgram,
    samples: Samples,
    *,
    layer: str | None = None,
    ideal: bool = False,
    noise: str = "",
    device: str | Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run `samples` and compare each layer (or only `layer`) with the float network.

    `ideal`, `noise`, `device` and `seed` as `xbarc run` takes them. Raises `XbarcError` where the
    program has no float network, no layers or no such layer, `UsageError` where options don't go
    together.
    """
    if ideal and (noise or device is not None):
        raise UsageError("--ideal has ideal devices: leave --noise and --device out")
    network = float_network_of(program)
    if not network.layers:
        raise XbarcError("the program has no layer on crossbars: there is nothing to trace")
    names = _asked(network, layer)
    engine = None if ideal else engine_for(program, noise, device)
    codes = CodeCounter(first=False)
    simulator = Simulator(program, ideal=ideal, codes=codes, engine=engine, seed=seed)
    total = 2 * samples.simulated
    done = 0

    def watch(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    start = time.perf_counter()
    errors = _in_the_network(simulator, network, names, samples.feeds, threads, watch)
    seconds = time.perf_counter() - start
    uses, statistics = codes.uses(), simulator.statistics()
    own = _alone(program, simulator, network, names, samples.feeds, watch)
    effects = tuple(str(effect) for effect in engine.effects) if engine else ()
    return Trace(
        samples.count,
        seconds,
        seed,
        effects,
        tuple(
            _layer(
                name,
                errors[name],
                own.get(name),
                uses.get(name),
                statistics[name],
                program,
                err=bool(effects),
            )
            for name in names
        ),
    )


def float_network_of(program: CompiledProgram) -> FloatNetwork:
    """The float network. Raises `XbarcError` of a program that was saved without one."""
    if program.network is None:
        raise XbarcError("the program has no float network to compare with: compile it again")
    return program.network()


def _asked(network: FloatNetwork, layer: str | None) -> list[str]:
    if layer is None:
        return list(network.layers)
    if layer not in network.layers:
        raise XbarcError(f"the program has no layer {layer!r}: {nearest(layer, network.layers)}")
    return [layer]


def _in_the_network(
    simulator: Simulator,
    network: FloatNetwork,
    names: Sequence[str],
    feeds: Feeds,
    threads: int | None,
    watch: Callable[[int], None],
) -> dict[str, Error]:
    """The whole program on crossbars, each layer's output beside the float network's."""
    wanted = {name: network.layers[name][1] for name in names}
    session = Session(network.model, list(dict.fromkeys(wanted.values())), threads=1)
    found: dict[str, list[tuple[int, Error]]] = defaultdict(list)
    lock = threading.Lock()

    def compare(first: int, inputs: Feeds, shown: Mapping[str, Array]) -> None:
        values = session.run(inputs)
        errors = {n: Error.of(values[v], shown[n]) for n, v in wanted.items() if n in shown}
        with lock:
            for name, error in errors.items():
                found[name].append((first, error))

    simulator.run(feeds, threads=threads, progress=watch, layers=compare)
    # Batches end in any order; their sums are the same each time.
    return {
        n: Error.sum([e for _, e in sorted(parts, key=lambda p: p[0])])
        for n, parts in found.items()
    }


def _alone(
    program: CompiledProgram,
    simulator: Simulator,
    network: FloatNetwork,
    names: Sequence[str],
    feeds: Feeds,
    watch: Callable[[int], None],
) -> dict[str, Error]:
    """Each layer that can be, alone on the float network's activations."""
    alone = {name: run for name in names if (run := simulator.alone(name)) is not None}
    if not alone:
        return {}
    ends = {name: network.layers[name] for name in alone}
    session = Session(network.model, list(dict.fromkeys(v for pair in ends.values() for v in pair)))
    found: dict[str, list[Error]] = defaultdict(list)
    specs = input_specs(program)
    whole = COUPLED in main_function(program.module).attributes
    size = sample_count(specs, feeds) if whole else batch_size(specs, feeds)
    for part in batches(specs, feeds, size):
        values = session.run(part)
        for name, (source, result) in ends.items():
            found[name].append(Error.of(values[result], alone[name](values[source])))
        watch(sample_count(specs, part))
    return {name: Error.sum(parts) for name, parts in found.items()}


def _layer(
    name: str,
    error: Error,
    own: Error | None,
    use: CodeUse | None,
    adc: AdcStatistics,
    program: CompiledProgram,
    *,
    err: bool,
) -> LayerTrace:
    traced = LayerTrace(
        name,
        error.snr_db,
        None if own is None else own.snr_db,
        error.largest,
        None if use is None else use.clipped,
        None if use is None else use.used,
        adc.saturated,
        adc.lossless,
        "",
    )
    return LayerTrace(**{**asdict(traced), "advice": advice(traced, program.target, err=err)})


def advice(layer: LayerTrace, target: Target, *, err: bool) -> str:
    """What would help the layer; nothing where it stands well, or only inherits errors.

    Where devices `err` nothing says whether they, codes or converters are to blame.
    """
    own = layer.snr_db if layer.own_snr_db is None else layer.own_snr_db
    if own >= GOOD:
        return ""
    if err:
        return "devices err: --ideal shows what codes and converters alone make of it"
    own_target, key = target.for_layer(layer.name), f'layers."{layer.name}"'
    rule = "" if own_target.adc == target.adc else f"{key}."
    wider = f"{rule}adc.bits above {own_target.adc.bits}"
    if layer.clipped_inputs is not None and layer.clipped_inputs > CLIPPED:
        return (
            "its inputs are clipped: calibrate on data like these, keep a higher percentile, or "
            "--ranges further-sample"
        )
    if layer.clipped_conversions > CLIPPED:
        return (
            f"its conversions are clipped: {wider}, or fewer rows "
            f"(array.rows={target.array.rows // 2})"
        )
    if layer.used_inputs is not None and layer.used_inputs < USED:
        return "its inputs use few codes: a lower --percentile, or calibrate on data like these"
    if not layer.lossless:
        mode = "" if target.adc.mode == "calibrated" else ", or adc.mode=calibrated"
        if target.adc.ranges != "least-squares":
            mode += " with adc.ranges=least-squares" if mode else ", or adc.ranges=least-squares"
        return f"its converters round: {wider}{mode}"
    return (
        f"more bits: {key}.weights.bits={own_target.weights.bits + 1} or "
        f"{key}.inputs.bits={own_target.inputs.bits + 1}"
    )
