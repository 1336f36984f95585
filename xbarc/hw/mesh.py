"""The mesh of nodes: where each stands, how far apart they are, what runs over its wires.

Nodes are numbered along a path through the mesh, so that consecutive nodes are neighbours and a
layer is a range of crossbars. The path goes through bands of `band` rows; in a band it goes column
by column, down and up in turn, and the next band is gone through the other way. Bands of one row
are the plain snake. Chips stand side by side in a near-square, numbered along a snake too, and
their meshes meet at the edges: one step between two chips is one hop, over a link between chips.
This arrangement, and dimension-ordered routing (first along the row, then along the column), are
our model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xbarc.hw.target import Target
from xbarc.support.errors import XbarcError

Range = tuple[int, int, int, int]
"""`node, core, crossbar, count`: consecutive crossbars from that one on."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """`chips` chips of `nodes` nodes of `cores` cores of `crossbars` crossbars.

    A chip's mesh is `width` nodes wide, the last row may be part full; `band` is the height of the
    bands that the numbering goes through.
    """

    chips: int
    nodes: int
    cores: int
    crossbars: int
    width: int
    band: int = 1

    @property
    def node_crossbars(self) -> int:
        """Crossbars of one node."""
        return self.cores * self.crossbars

    @property
    def total_nodes(self) -> int:
        """Nodes of all chips."""
        return self.chips * self.nodes

    @property
    def capacity(self) -> int:
        """Crossbars of all chips."""
        return self.total_nodes * self.node_crossbars

    @property
    def height(self) -> int:
        """Rows of nodes of one chip."""
        return math.ceil(self.nodes / self.width)

    @property
    def chips_wide(self) -> int:
        """Chips side by side."""
        return math.isqrt(self.chips - 1) + 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the joined meshes of all chips."""
        chips_high = math.ceil(self.chips / self.chips_wide)
        return chips_high * self.height, self.chips_wide * self.width

    @cached_property
    def positions(self) -> Ints:
        """Row and column in the joined mesh of each node, [nodes, 2], by number."""
        chip = path(self.nodes, self.width, self.band)
        chips = path(self.chips, self.chips_wide, 1) * [self.height, self.width]
        return (chips[:, None] + chip).reshape(-1, 2).astype(np.int64)

    def first(self, crossbar: int) -> tuple[int, int, int]:
        """Node, core and place in the core of the crossbar with this number."""
        node, rest = divmod(crossbar, self.node_crossbars)
        return node, *divmod(rest, self.crossbars)

    def number(self, node: int, core: int, crossbar: int) -> int:
        """The number of a crossbar, counted along the path: the inverse of `first`."""
        return (node * self.cores + core) * self.crossbars + crossbar

    def load(self, ranges: Sequence[Range]) -> tuple[Ints, Ints]:
        """The nodes that ranges of crossbars touch, in order, and the crossbars on each."""
        nodes, counts = [], []
        for node, core, crossbar, count in ranges:
            begin = self.number(node, core, crossbar)
            edges = np.arange(node, (begin + count - 1) // self.node_crossbars + 2)
            cut = np.clip(edges * self.node_crossbars, begin, begin + count)
            nodes.append(edges[:-1])
            counts.append(np.diff(cut))
        touched, inverse = np.unique(np.concatenate(nodes), return_inverse=True)
        total = np.bincount(inverse, np.concatenate(counts)).astype(np.int64)
        return touched.astype(np.int64), total

    def spread(self, ranges: Sequence[Range]) -> "Spread":
        """How ranges of crossbars spread over the joined mesh."""
        nodes, counts = self.load(ranges)
        return Spread(self.positions[nodes], counts / counts.sum(), self.shape)


@dataclass(frozen=True)
class Spread:
    """A share (they sum to 1) at each of some places [n, 2] of a mesh of `shape`."""

    places: Ints
    shares: Floats
    shape: tuple[int, int]

    @cached_property
    def by_row(self) -> Floats:
        """The share of each row."""
        return np.bincount(self.places[:, 0], self.shares, self.shape[0]).astype(np.float64)

    @cached_property
    def by_column(self) -> Floats:
        """The share of each column."""
        return np.bincount(self.places[:, 1], self.shares, self.shape[1]).astype(np.float64)

    def grid(self) -> Floats:
        """The share of each place of the mesh."""
        full = np.zeros(self.shape)
        np.add.at(full, tuple(self.places.T), self.shares)
        return full


def path(nodes: int, width: int, band: int) -> Ints:
    """Row and column of each of `nodes` nodes, [nodes, 2], along the path through bands."""
    rows = math.ceil(nodes / width)
    places: list[tuple[int, int]] = []
    for index, top in enumerate(range(0, rows, band)):
        down = range(top, min(top + band, rows))
        columns = range(width) if index % 2 == 0 else range(width - 1, -1, -1)
        for step, column in enumerate(columns):
            places += [(r, column) for r in (down if step % 2 == 0 else reversed(down))]
    full = np.array(places, dtype=np.int64)
    return full[full[:, 0] * width + full[:, 1] < nodes]


def mean_hops(source: Spread, to: Spread) -> float:
    """Hops of a value on its way, on average: sources and destinations drawn by their shares."""
    # The mean of |a - b| of two independent numbers, by their cumulated shares F and G:
    # the sum of F (1 - G) + G (1 - F) over the gaps between neighbours.
    total = 0.0
    for f, g in ((source.by_row, to.by_row), (source.by_column, to.by_column)):
        f, g = f.cumsum()[:-1], g.cumsum()[:-1]
        total += float((f * (1 - g) + g * (1 - f)).sum())
    return total


@dataclass(frozen=True)
class WireLoads:
    """Shares of a flow on each wire of a mesh of R x C places.

    `right`, `left`: [R, C - 1]; `down`, `up`: [R - 1, C].
    """

    right: Floats
    left: Floats
    down: Floats
    up: Floats

    @staticmethod
    def none(shape: tuple[int, int]) -> "WireLoads":
        """Wires without load."""
        rows, columns = shape
        across, along = (rows, max(columns - 1, 0)), (max(rows - 1, 0), columns)
        return WireLoads(np.zeros(across), np.zeros(across), np.zeros(along), np.zeros(along))

    def plus(self, other: "WireLoads", factor: float) -> "WireLoads":
        """These loads and `factor` times others."""
        return WireLoads(
            self.right + factor * other.right,
            self.left + factor * other.left,
            self.down + factor * other.down,
            self.up + factor * other.up,
        )

    def slowness(self, mesh: Mesh, wire_ns: float, link_ns: float) -> "WireLoads":
        """Time on each wire for a load of 1: `wire_ns` within a chip, `link_ns` between chips."""
        rows, columns = mesh.shape
        across = np.where(np.arange(1, columns) % mesh.width, wire_ns, link_ns)
        along = np.where(np.arange(1, rows) % mesh.height, wire_ns, link_ns)[:, None]
        return WireLoads(
            self.right * across, self.left * across, self.down * along, self.up * along
        )

    def flat(self) -> Floats:
        """All wires in one row."""
        return np.concatenate([w.ravel() for w in (self.right, self.left, self.down, self.up)])


def wire_loads(source: Spread, to: Spread) -> WireLoads:
    """What a flow of 1 puts on each wire, routed along the row first, then along the column.

    Each source sends to each destination by its share.
    """
    start, end = source.grid().cumsum(axis=1)[:, :-1], to.by_column.cumsum()[:-1]
    left_of = source.by_row[:, None] - start
    top, bottom = source.by_row.cumsum()[:-1, None], to.grid().cumsum(axis=0)[:-1]
    return WireLoads(
        right=start * (1 - end),
        left=left_of * end,
        down=top * (to.by_column - bottom),
        up=(1 - top) * bottom,
    )


def mesh_for(target: Target, crossbars: int) -> Mesh:
    """The mesh of as many of the target's chips as `crossbars` need, and of no fewer than it has.

    Where it has fewer, `check_room` says so.
    """
    chips = max(math.ceil(crossbars / target.crossbars_per_chip), target.chip.chips or 1)
    width = min(target.mesh()[1], target.chip.nodes)
    return Mesh(chips, target.chip.nodes, target.node.cores, target.core.crossbars, width)


def check_room(target: Target, crossbars: int) -> None:
    """Raise `XbarcError` where the target's chips have fewer crossbars; it says how many."""
    chips = target.chip.chips
    needed = math.ceil(crossbars / target.crossbars_per_chip)
    if chips is not None and needed > chips:
        has = chips * target.crossbars_per_chip
        raise XbarcError(
            f"{crossbars} crossbars are needed, {chips} chip{'s' * (chips > 1)} of {target.name} "
            f"hold{'s' * (chips == 1)} {has}: {crossbars - has} are missing; "
            f"{needed} chips would do"
        )
