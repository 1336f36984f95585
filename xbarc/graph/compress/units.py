"""What of a weight matrix is set to zero together, and which of it matters least."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarc.graph.analysis.dependencies import Mask
from xbarc.graph.compress.matrices import LayerMatrix
from xbarc.graph.query import is_op
from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError

Unit = Literal["weight", "kernel", "row", "column", "crossbar"]


@dataclass(frozen=True)
class Amount:
    """How much goes: what is smaller than `threshold`, or without it the share `sparsity`."""

    sparsity: float
    threshold: float | None = None

    def __str__(self) -> str:
        if self.threshold is None:
            return f"sparsity={self.sparsity:g}"
        return f"threshold={self.threshold:g}"


@dataclass(frozen=True)
class Units:
    """The units of a layer: the mean size of each, and to which each weight belongs."""

    means: Array
    owner: npt.NDArray[np.int64]  # [K, N]

    def expand(self, units: Mask) -> Mask:
        """The weights of these units, [K, N]."""
        return np.asarray(units.ravel()[self.owner], dtype=bool)


def unfit(layer: LayerMatrix, unit: Unit) -> str:
    """Why a layer has no units of this kind; empty where it has."""
    if unit == "kernel" and int(np.prod(layer.kernel, dtype=np.int64)) <= 1:
        return "kernel: it has no window of more than one weight"
    if unit in ("row", "column", "crossbar") and layer.groups > 1:
        return (
            f"{unit}: its matrix is block-diagonal, of {layer.groups} groups: "
            "prune channels or kernels of it"
        )
    if unit == "crossbar" and is_op(layer.node, "ConvTranspose"):
        return "crossbar: its matrix stands in a sub-array a kernel position: prune rows of it"
    return ""


def units_of(
    layer: LayerMatrix, unit: Unit, size: Array, crossbar: tuple[int, int] | None
) -> Units:
    """The units of a layer whose weights have `size` [K, N].

    `crossbar`: how many rows of how many weights one holds. Raises `UsageError` where that isn't
    known and units are crossbars.
    """
    k, n = size.shape
    if unit == "weight":
        return Units(size.ravel(), np.arange(k * n).reshape(k, n))
    if unit == "row":
        return Units(size.mean(1), np.repeat(np.arange(k)[:, None], n, 1))
    if unit == "column":
        return Units(size.mean(0), np.repeat(np.arange(n)[None], k, 0))
    if unit == "kernel":
        window = int(np.prod(layer.kernel, dtype=np.int64))
        means = size.reshape(k // window, window, n).mean(1)
        return Units(means.ravel(), np.arange(k)[:, None] // window * n + np.arange(n))
    if crossbar is None:
        raise UsageError("granularity=crossbar asks for the hardware: give --target")
    return _crossbars(size, *crossbar)


def _crossbars(size: Array, rows: int, width: int) -> Units:
    """Each block of columns, its rows sorted by size and cut as they fill crossbars.

    The rows that matter most stand together, in full crossbars, and those that matter least in the
    last ones: so what goes is whole crossbars, and what is left is gathered by its rows.
    """
    k, n = size.shape
    owner = np.zeros((k, n), np.int64)
    means: list[float] = []
    for start in range(0, n, max(width, 1)):
        block = size[:, start : start + width].mean(1)
        order = np.argsort(-block, kind="stable")
        for first in range(0, k, rows):
            some = order[first : first + rows]
            owner[some, start : start + width] = len(means)
            means.append(float(block[some].mean()))
    return Units(np.array(means), owner)


def smallest(sizes: Mapping[str, Array], amount: Amount, unit: Unit) -> dict[str, Mask]:
    """Which units of each layer go, by the layers' names; each layer keeps its largest.

    By a share, units of all layers are ranked together, each by its size over its layer's mean.

    Raises:
        XbarcError: a layer would be left with nothing.
    """
    if amount.threshold is not None:
        gone = {name: size < amount.threshold for name, size in sizes.items()}
        for name, some in gone.items():
            if some.all():
                raise XbarcError(
                    f"{amount} would leave layer {name!r} with nothing: "
                    "lower it, or name other layers"
                )
        return gone
    count = sum(size.size for size in sizes.values())
    wanted = round(amount.sparsity * count)
    if wanted > count - len(sizes):
        name = min((size.size, name) for name, size in sizes.items())[1]
        raise XbarcError(
            f"{amount} would leave a layer such as {name!r} with nothing: at most "
            f"{count - len(sizes)} of the {count} {unit}s can go"
        )
    relative = [size / (size.mean() or 1) for size in sizes.values()]
    for size in relative:
        size.flat[size.argmax()] = np.inf
    order = np.argsort(np.concatenate([size.ravel() for size in relative]), kind="stable")
    flags = np.zeros(count, bool)
    flags[order[:wanted]] = True
    parts = np.split(flags, np.cumsum([size.size for size in relative])[:-1])
    return {n: p.reshape(size.shape) for (n, size), p in zip(sizes.items(), parts, strict=True)}
