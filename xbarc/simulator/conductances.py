"""What cells were meant to conduct and what they do, level by level, in some of the arrays.

Wires aren't in it: a cell conducts the same whatever its lines are like.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarc.artifact import CompiledProgram
from xbarc.ir.dialect import MvmOp, copies_of, weights_of
from xbarc.simulator.analog.programmed import cell_of, conductances, with_reference
from xbarc.simulator.arrays import Cell, PhysicalArray, tiles_of
from xbarc.simulator.effect import Effect, Floats, in_order

ARRAYS = 64
"""Arrays that are looked at, at most."""

CELLS = 1 << 22
"""Cells that are looked at, at most: of large arrays there are fewer."""

GROUPS = 16
"""Levels that are told apart; of more, neighbours go together."""

BINS = 60
"""Bins of a histogram."""

REACH = 2.0
"""Bins end here, in conductances of the highest level; what lies beyond is in the last one."""


def programmed_levels(
    program: CompiledProgram, effects: Sequence[Effect], seed: int
) -> dict[str, Any] | None:
    """`conductances` of `xbarc run --json`: of each level, what its cells conduct.

    Of all cells of some arrays, spread evenly over those of the program, as they were written and
    have aged. `counts` are those between `edges_us`. The same call gives the same figures. None
    where no effect acts on cells when they are written or after, or no cell is there.
    """
    acting = in_order(effect for effect in effects if effect.writes or effect.ages)
    if not acting:
        return None
    cell = cell_of(in_order(effects), program.target)
    places = list(_places(program))
    array = program.target.array
    most = min(ARRAYS, max(1, CELLS // (array.rows * array.cols)), len(places))
    chosen = [places[(2 * i + 1) * len(places) // (2 * most)] for i in range(most)]
    levels, found, seen = [], [], 0
    for physical in _arrays(program, chosen, cell):
        if physical.levels.size:
            levels.append(physical.levels.ravel())
            found.append(conductances(physical, acting, seed).ravel())
            seen += 1
    if not seen:
        return None
    figures = _figures(np.concatenate(levels), np.concatenate(found), cell)
    return {"arrays": seen, "arrays_in_all": len(places), **figures}


Place = tuple[int, int, int, int]
"""Of an array: which mvm of the program, replica, tile, crossbar of the tile."""


def _mvms(program: CompiledProgram) -> list[MvmOp]:
    return [op for op in program.module.walk() if isinstance(op, MvmOp)]


def _places(program: CompiledProgram) -> Iterator[Place]:
    for i, op in enumerate(_mvms(program)):
        each = program.target.array.crossbars_per_tile(weights_of(op).weight_bits)
        yield from itertools.product([i], range(copies_of(op)), range(len(op.tiles())), range(each))


def _arrays(
    program: CompiledProgram, chosen: Sequence[Place], cell: Cell
) -> Iterator[PhysicalArray]:
    """The arrays at these places, with their reference lines; those that are gated aren't there."""
    mvms = _mvms(program)
    wanted: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for i, replica, tile, crossbar in chosen:
        wanted.setdefault((i, replica), set()).add((tile, crossbar))
    for (i, replica), places in wanted.items():
        only = {tile for tile, _ in places}
        for found in tiles_of(mvms[i], program.weights, program.target, replica, cell, only):
            for array in found.arrays:
                if (array.tile, array.crossbar) in places:
                    yield with_reference(array)


def _figures(levels: npt.NDArray[Any], g: Floats, cell: Cell) -> dict[str, Any]:
    """The figures of cells at these levels, that conduct `g` uS: [n] each, n above 0."""
    together = -(-(cell.top + 1) // GROUPS)
    group = levels.astype(np.int64) // together
    size = cell.top // together + 1
    cells = np.bincount(group, minlength=size)
    there = np.maximum(cells, 1)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(group, values, minlength=size) / there)

    wanted = cell.conductance(levels)
    missed = g - wanted
    mean_missed = mean(missed)
    spread = np.sqrt(mean((missed - mean_missed[group]) ** 2))
    mean_wanted, mean_found = mean(wanted), mean(g)
    edges = _edges(g, cell)
    place = np.searchsorted(edges, g, side="right") - 1
    counts = np.bincount(group * BINS + np.clip(place, 0, BINS - 1), minlength=size * BINS).reshape(
        size, BINS
    )
    return {
        "cells": len(g),
        "levels": [
            {
                "level": i * together,
                "to_level": min((i + 1) * together - 1, cell.top),
                "cells": int(cells[i]),
                "wanted_us": float(mean_wanted[i]),
                "mean_us": float(mean_found[i]),
                "std_us": float(spread[i]),
                "counts": counts[i].tolist(),
            }
            for i in np.flatnonzero(cells).tolist()
        ],
        "edges_us": edges.tolist(),
    }


def _edges(g: Floats, cell: Cell) -> Floats:
    """Where bins begin and end, from the least to the largest of `g`."""
    low = float(g.min())
    high = min(float(g.max()), REACH * cell.high_us)
    if high <= low:
        high = low + cell.step_us / 2
    return np.linspace(low, high, BINS + 1)
