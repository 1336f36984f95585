"""Which of its mappings each layer takes, so that all layers together cost least."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

from xbarc.cost.components import Parts
from xbarc.cost.layer import FIGURES, LayerCost, Operation, together
from xbarc.cost.rollup import has_room
from xbarc.hw.target import Target

ROUNDING = 1e-9
"""Figures that differ by less, relatively, are equal."""

PRODUCTS = ("energy", "area-delay")
"""Figures that aren't sums over the layers: a layer's crossbars leak while other layers work."""

SWEEPS = 16
"""How often the layers are gone through, at most, for a better choice."""


@dataclass(frozen=True)
class Candidate:
    """A scheme on a layer: its cost, or why it can't take the layer.

    `program`: the figure that it was chosen by, of all layers together with this scheme here; no
    number where they don't fit the target's chips.
    """

    scheme: str
    cost: LayerCost | None = None
    refused: str = ""
    program: float = inf

    def document(self) -> dict[str, Any]:
        """As `report.json` has it."""
        if self.cost is None:
            return {"scheme": self.scheme, "refused": self.refused}
        whole = {"program": self.program} if isfinite(self.program) else {}
        return {"scheme": self.scheme, **self.cost.document(), **whole}


@dataclass(frozen=True)
class Choice:
    """What a layer is mapped by, and all that it was chosen from."""

    by: str
    chosen: str | None
    candidates: tuple[Candidate, ...]

    @property
    def cost(self) -> LayerCost | None:
        """What the chosen one costs."""
        return next((c.cost for c in self.candidates if c.scheme == self.chosen), None)

    def document(self) -> dict[str, Any]:
        """As `report.json` has it."""
        return {
            "by": self.by,
            "chosen": self.chosen,
            "candidates": [candidate.document() for candidate in self.candidates],
        }


@dataclass(frozen=True)
class Search:
    """The least of all layers together by `by`, a figure of `xbarc.cost.layer.FIGURES`.

    `candidates` are each layer's, by its name, in the operating mode `mode`; `parts` the target's
    components.
    """

    by: str
    candidates: Mapping[str, tuple[Candidate, ...]]
    target: Target
    parts: Parts
    mode: Operation = "stream"

    def ends(self) -> list[dict[str, Choice]]:
        """What the search ends with: each distinct result, by layer.

        Start from each layer's own least. Then change one layer at a time to whatever makes the
        whole least, of equals the first, until nothing changes. Crossbars and cycles are sums: one
        start is enough. Of energy and area x delay, which are products, the least of every figure
        is a start. In a stream the slowest layer sets the time, so no layer is worth changing
        alone; there the best two intervals that all layers can keep are starts as well.
        """
        ends: list[dict[str, Choice]] = []
        starts = [self._start(f) for f in (FIGURES if self.by in PRODUCTS else (self.by,))]
        if self.by in PRODUCTS and self.mode == "stream":
            starts += self._in_step()
        for start in starts:
            taken = self._descended(start)
            found = {name: self._counted(name, taken) for name in self.candidates}
            end = {
                n: Choice(self.by, _scheme(some, taken.get(n)), some) for n, some in found.items()
            }
            if end not in ends:
                ends.append(end)
        return ends

    def _start(self, figure: str) -> dict[str, LayerCost]:
        """Each layer's own least by a figure; no layer that no scheme takes."""
        costs = {n: [c.cost for c in some if c.cost] for n, some in self.candidates.items()}
        return {n: min(some, key=lambda c: c.figure(figure)) for n, some in costs.items() if some}

    def _in_step(self) -> list[dict[str, LayerCost]]:
        """The best two of: in an interval, each layer's least energy or area that keeps to it."""
        costs = {n: [c.cost for c in some if c.cost] for n, some in self.candidates.items()}
        costs = {n: some for n, some in costs.items() if some}
        found: list[dict[str, LayerCost]] = []
        for interval in sorted({c.interval_ns for some in costs.values() for c in some}):
            quick = {
                n: [c for c in some if c.interval_ns <= interval * (1 + ROUNDING)]
                for n, some in costs.items()
            }
            if all(quick.values()):
                found.append({n: min(some, key=self._least_in_step) for n, some in quick.items()})
        return sorted(found, key=lambda taken: self._whole(taken.values()))[:2]

    def _least_in_step(self, cost: LayerCost) -> float:
        return cost.energy_pj if self.by == "energy" else cost.area_mm2

    def _descended(self, taken: dict[str, LayerCost]) -> dict[str, LayerCost]:
        for _ in range(SWEEPS):
            before = dict(taken)
            for name in taken:
                taken[name] = _least(self._counted(name, taken))
            if taken == before:
                break
        return taken

    def _counted(self, name: str, taken: Mapping[str, LayerCost]) -> tuple[Candidate, ...]:
        """The candidates of a layer, each with what the whole costs by it; others as `taken`."""
        others = [cost for n, cost in taken.items() if n != name]
        rest = together(others, self.target, self.parts, self.mode)
        return tuple(
            c if c.cost is None else replace(c, program=self._whole([rest, c.cost]))
            for c in self.candidates[name]
        )

    def _whole(self, taken: Iterable[LayerCost]) -> float:
        cost = together([*taken], self.target, self.parts, self.mode)
        return cost.figure(self.by) if has_room(cost.crossbars, self.target) else inf


def _least(candidates: tuple[Candidate, ...]) -> LayerCost:
    """The cost of the first candidate of the least program."""
    least = min(c.program for c in candidates)
    # Products of the same factors in another order differ in their last bits.
    return next(c.cost for c in candidates if c.cost and c.program <= least * (1 + ROUNDING))


def _scheme(candidates: tuple[Candidate, ...], cost: LayerCost | None) -> str | None:
    return next((c.scheme for c in candidates if c.cost is not None and c.cost == cost), None)
