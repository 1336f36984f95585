"""The bit lines of all segments that are left to convert, as tables for the kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarc.hw import converters
from xbarc.hw.converters import Converter, FastCurve
from xbarc.simulator.exact.layout import Block
from xbarc.simulator.exact.segments import Segment

if TYPE_CHECKING:
    from xbarc.simulator.exact import kernels

Integers = npt.NDArray[Any]

FLOAT32_INTEGERS = 1 << 24
"""Below this float32 holds every integer."""


@dataclass(frozen=True)
class Converted:
    """A segment of which something is left over, its converter and its layout."""

    segment: Segment
    adc: Converter
    block: Block


def tables(
    parts: Sequence[Converted], span: int, *, integer: bool, with_cells: bool
) -> "kernels.Lines":
    """The kernels' tables of `parts`.

    `span`: what codes are multiplied by before they are added up in float32, slices or reads;
    `integer`: shift-and-add works in integers; `with_cells`: the kernels make the sums.
    """
    from xbarc.simulator.exact import kernels

    blocks = [part.block for part in parts]
    curves = _fast_curves(parts, span)
    segments = kernels.Segments(
        row_begin=np.array([part.segment.row_begin for part in parts]),
        row_end=np.array([part.segment.row_end for part in parts]),
        col_begin=np.array([part.segment.col_begin for part in parts]),
        col_end=np.array([part.segment.col_end for part in parts]),
        first_site=_starts([part.segment.cols for part in parts])[:-1],
        first_cell=_starts([block.levels.size for block in blocks])[:-1],
    )
    curve_tables = kernels.Curves(
        lo=np.array([part.adc.lo for part in parts]),
        step=np.array([part.adc.step for part in parts]),
        fast=np.array([curve is not None for curve in curves]),
        clips=np.array([bool(p.adc.clipped(np.array(p.block.sums)).any()) for p in parts]),
        scale=np.array([curve.scale if curve else 0 for curve in curves], np.float32),
        shift=np.array([curve.shift if curve else 0 for curve in curves], np.float32),
    )
    sites = kernels.Sites(
        first_line=_starts(np.concatenate([block.lines_of_column for block in blocks])),
        weight_sum=np.concatenate([block.weight_sum for block in blocks]),
        correction=np.concatenate([block.correction for block in blocks]),
    )
    cells = [block.levels.T.ravel() for block in blocks] if with_cells else []
    column = [np.repeat(np.arange(part.segment.cols), part.block.lines_of_column) for part in parts]
    weight = np.concatenate([block.weight for block in blocks]).astype(np.float32)
    top = parts[0].adc.top
    return kernels.Lines(
        segments,
        curve_tables,
        sites,
        np.concatenate([np.zeros(0, np.int16), *cells]),
        weight,
        np.concatenate(column),
        top,
        integer,
    )


def largest_result(
    parts: Sequence[Converted],
    columns: int,
    input_bits: int,
    input_weights: Integers,
    selected: Integers | None,
) -> int:
    """The largest magnitude that the lines of `parts` can add to a result of `columns`."""
    largest = np.zeros(columns)
    reach = np.abs(input_weights).sum()
    for part in parts:
        segment, adc, block = part.segment, part.adc, part.block
        column_of_line = np.repeat(np.arange(segment.cols), block.lines_of_column)
        weights = np.bincount(column_of_line, np.abs(block.weight), segment.cols)
        furthest = max(abs(adc.lo), abs(adc.lo + adc.top * adc.step))
        reached = np.arange(segment.col_begin, segment.col_end)
        if selected is not None:
            reached = selected[reached]
        reachable = weights * reach * furthest + block.idle * reach * abs(adc.lo)
        reachable += block.correction * float(segment.rows << input_bits)
        np.add.at(largest, reached, reachable)
    return int(np.ceil(largest.max(initial=0)))


def _fast_curves(parts: Sequence[Converted], span: int) -> list[FastCurve | None]:
    """A float32 curve for each part, where one gives the converter's codes for all its sums."""
    known: dict[tuple[Converter, tuple[int, int]], FastCurve | None] = {}
    found: list[FastCurve | None] = []
    for part in parts:
        key = (part.adc, part.block.sums)
        if key not in known:
            known[key] = converters.fast_curve(part.adc, *part.block.sums)
        # The codes that are added up in float32 must stay exact as well.
        adds_up = part.adc.top * span < FLOAT32_INTEGERS
        found.append(known[key] if adds_up else None)
    return found


def _starts(counts: Sequence[int] | Integers) -> Integers:
    """Where each of consecutive runs of `counts` begins, and where the last one ends: [n + 1]."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts
