"""How real numbers become codes: the options of `xbarc compile`, and their defaults."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from xbarc.graph.further import FurtherSample
from xbarc.graph.histograms import RangeRule, holding, least_squares
from xbarc.hw.target import Target
from xbarc.lowering.fit.layers import Fitting, Rounding
from xbarc.support.errors import UsageError, nearest

Ranges = Literal["min-max", "least-squares", "further-sample"]

EQUALIZE = "equalize"
"""The graph pass that runs last where `equalize` is set."""


WEAK_DB = 15.0
"""A layer whose output stands below this is worth a warning."""

SHOWN = 5
"""Layers that a warning names, the worst first."""

HELP = {
    "inputs": """is its rounded inputs: --set 'layers."{name}".inputs.bits={bits}' would help""",
    "weights": """is its rounded weights: --set 'layers."{name}".weights.bits={bits}' would help""",
    "clipped": (
        "is its clipped inputs, beyond the range of its codes: {wider}, or calibration on data "
        "like these, would help"
    ),
    "inherited": "comes from the layers before it",
}
"""What makes most of the noise of a layer -> what to say of that part, and what would help."""


FEW = 8
"""Samples below which nothing is fitted by itself: a mean error of so few isn't that of others."""


@dataclass(frozen=True)
class Quantization:
    """What is done so that codes miss real numbers less; as it stands here, nothing.

    `ranges`: the range of a layer's inputs. `rounding`: weights to the nearest code, or to those
    that keep the layer's outputs. `bias_correction`: biases take the outputs' mean error.
    `equalize`: the pass of that name runs.
    """

    ranges: Ranges = "min-max"
    rounding: Rounding = "nearest"
    bias_correction: bool = False
    equalize: bool = False
    asked: tuple[str, ...] = ()
    """The options that somebody gave; others are done where calibration data are enough (`FEW`)."""

    @classmethod
    def of(
        cls,
        ranges: str | None,
        rounding: str | None,
        bias_correction: bool | None,
        equalize: bool | None,
        *,
        calibrated: bool,
    ) -> "Quantization":
        """The options; None is the default, which measures best where data are `calibrated` on.

        Generated inputs say nothing of real ones, so nothing is fitted to them. Raises `UsageError`
        where an option isn't one of its names.
        """
        given = {
            **{"ranges": ranges, "rounding": rounding},
            **{"bias_correction": bias_correction, "equalize": equalize},
        }
        for name, value, known in (
            ("ranges", ranges, get_args(Ranges)),
            ("rounding", rounding, get_args(Rounding)),
        ):
            if value is not None and value not in known:
                raise UsageError(f"{name} = {value!r}: {nearest(value, known)}")
        best = cls(rounding="output", bias_correction=True, equalize=True) if calibrated else cls()
        return cls(
            best.ranges if ranges is None else ranges,  # type: ignore[arg-type]
            best.rounding if rounding is None else rounding,  # type: ignore[arg-type]
            best.bias_correction if bias_correction is None else bias_correction,
            best.equalize if equalize is None else equalize,
            tuple(name for name, value in given.items() if value is not None),
        )

    def as_asked(self) -> "Quantization":
        """Only what was asked for, nothing by default."""
        kept = {name: getattr(self, name) for name in self.asked}
        return Quantization(**kept, asked=self.asked)

    @property
    def fits(self) -> bool:
        """Whether anything is fitted to calibration data."""
        return self.rounding != "nearest" or self.bias_correction or self.equalize

    @property
    def fitting(self) -> Fitting:
        """What lowering does."""
        return Fitting(self.rounding, self.bias_correction)

    def range_rule(self, percentile: float, target: Target) -> RangeRule | FurtherSample | None:
        """How ranges follow from what calibration shows; None: they are the extremes.

        Raises `UsageError` where a percentile is given beside another rule.
        """
        if percentile < 100:
            if self.ranges != "min-max":
                raise UsageError(f"--percentile and --ranges {self.ranges}: give one of them")
            return holding(percentile)
        if self.ranges == "min-max":
            return None
        if self.ranges == "further-sample":
            return FurtherSample()
        symmetric = target.inputs.signed in ("two-pass", "twos-complement", "native")
        return least_squares(target.inputs.bits, symmetric=symmetric)

    def document(self) -> dict[str, Any]:
        """As report.json has it."""
        return {
            "ranges": self.ranges,
            "rounding": self.rounding,
            "bias_correction": self.bias_correction,
        }


def _wider(report: Mapping[str, Any]) -> str:
    """What makes ranges wider than those that a program was compiled with."""
    kept = report.get("calibration", {}).get("percentile", 100)
    if kept < 100:
        return f"a --percentile above {kept:g}"
    cut = report["quantization"].get("ranges") == "least-squares"
    return "--ranges min-max" if cut else "--ranges further-sample"


def weak_layers(report: Mapping[str, Any], target: Target) -> Iterator[str]:
    """A line for each of the worst layers whose output stands below `WEAK_DB`, one for the rest."""
    layers = report.get("quantization", {}).get("layers", {})
    snr = {name: row["snr_db"] for name, row in layers.items() if row["snr_db"] is not None}
    weak = sorted((name for name in snr if snr[name] < WEAK_DB), key=lambda name: snr[name])
    for name in weak[:SHOWN]:
        row = layers[name]
        clipped = row.get("clipped", 0.0)  # programs compiled before it was told have none
        parts = {**row, "clipped": clipped, "inputs": row["inputs"] - clipped}
        cause = max(HELP, key=lambda key: parts[key])
        own = target.for_layer(name)
        bits = own.weights.bits + 1 if cause == "weights" else own.inputs.bits + 2
        helped = HELP[cause].format(name=name, bits=bits, wider=_wider(report))
        yield (
            f"layer {name!r} stands at {snr[name]:.1f} dB beside float: "
            f"{parts[cause]:.0%} of the noise {helped}"
        )
    if len(weak) > SHOWN:
        yield f"{len(weak) - SHOWN} more layers stand below {WEAK_DB:g} dB: see `xbarc trace`"
