"""TraNNsformer: clustered pruning (Ankit et al., ICCAD 2017, arXiv 1708.07949)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.compress.matrices import find_matrices
from xbarc.ir.analysis.cluster_layout import clustered, dense_tiles, occupied_tiles
from xbarc.report.html import Child
from xbarc.reproduce.networks import (
    Case,
    Samples,
    available,
    cifar10,
    cnn,
    digits,
    mlp,
    mnist,
    right,
    tuned,
)
from xbarc.reproduce.page import Bar, bars, matrices
from xbarc.reproduce.paper import Line, Progress, Result, percent_less, shown

TITLE = "TraNNsformer: clustered pruning for crossbars"
SOURCE = "Ankit et al., ICCAD 2017 (arXiv 1708.07949); mPE counts from the authors' result traces"
QUICK = "an MLP 64-120-120-10 and a small CNN on scikit-learn's digits: some minutes"
FULL = (
    "MLPs on MNIST and on grey CIFAR-10, a CNN on MNIST (XBARC_DATA): within an hour on two cores"
)

MNIST = (784, 1200, 1200, 10)
CIFAR10 = (1024, 1200, 1200, 1200, 10)
DIGITS = (64, 120, 120, 10)
SIDE = 4
"""Rows and columns of an mPE in the paper's counts."""

COMPARED = 1000
"""Test images that the paper's accuracies are of: the first ones."""

DENSITIES = (0.7, 0.6, 0.5, 0.4, 0.3)
ARRAY = ("array.encoding=offset", "array.cell_bits=8", "adc.mode=lossless")
"""One column a weight, as the paper counts."""

DENSE = {
    4: (58800, 90000, 900),
    64: (247, 361, 19),
    128: (70, 100, 10),
}
"""mPEs of the whole matrices of MNIST's network."""

MLPS = {"original": ("28 to 55", "49 to 67"), "pruned only": ("28 to 49", "15 to 29")}
CNNS = {"original": ("28 to 48", "3 to 39"), "pruned only": ("20 to 44", "1 to 11")}
"""Percent that area (mPEs) and energy are less than that (abstract)."""


@dataclass(frozen=True)
class Network(Case):
    """Also which share of each layer is pruned, and what the paper has of it.

    `saved`: of all of the paper's networks of the kind. `mpes` and `accuracies` by state, none
    where the network is our choice.
    """

    sparsity: float
    saved: Mapping[str, tuple[str, str]]
    mpes: Mapping[str, int]
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class Variant:
    """A trained network, how many mPEs it takes, counted in one way, and what it costs on mca64.

    `accuracy` on all test images; `compared` on those that the paper's are of.
    """

    name: str
    model: Any
    mpes: int
    accuracy: float
    compared: float
    crossbars: Mapping[str, int]
    area_mm2: float
    energy_uj: float


def reproduce(quick: bool, progress: Progress) -> Result:
    """Counts of the paper, planted clusters, then four states of each network."""
    result = Result()
    result.add("mPEs of the dense network 784-1200-1200-10", list(_dense()))
    result.add("Planted clusters: tiles of 64 x 64", list(_planted()))
    for case, samples in available(_networks(quick), result, progress):
        variants = []
        for v in _variants(case, samples, progress):
            variants.append(v)
            crossbars = ", ".join(f"{n} crossbars on {t}" for t, n in v.crossbars.items())
            progress(
                f"{case.name}, {v.name}: {shown(v.mpes, 'mPEs')}, {crossbars}, accuracy "
                f"{v.accuracy:.2%}, {shown(v.area_mm2, 'mm2')}, {shown(v.energy_uj, 'uJ')}"
            )
        title = f"{case.name}: mPEs of {SIDE} x {SIDE}, {case.sparsity:.0%} of each layer pruned"
        result.add(title, list(_mpe_lines(case, variants)))
        result.add(
            f"{case.name}: accuracy on crossbars (mca64, one column a weight)",
            list(_accuracies(case, variants)),
        )
        title = f"{case.name}: crossbars, area, energy on xbarc's targets"
        result.add(title, list(_costs(case, variants)))
        result.pictures += _pictures(case, variants)
    result.notes += [
        "Pruned only: occupied tiles of a plain grid, as the paper counts. Clustered: tiles of "
        "xbarc's cluster pass, whose windows hold what no cluster does: our model of the paper's "
        "procedure, which also prunes more than the paper did.",
        "The paper trains with dropout, momentum and a learning rate of 0.5 from scratch; here a "
        "trained network is pruned to a share of its weights along a cubic schedule (`sparsity`), "
        "which the method has as a variant.",
        "The CNN is our choice. A convolution's matrix has a row for each weight of a kernel; on "
        "crossbars a cluster holds whole input channels where it has room for one.",
        "The paper's energies have no public trace: energy and area are those of a named target.",
    ]
    return result


def _mpe_lines(case: Network, variants: Sequence[Variant]) -> Iterator[Line]:
    """Each variant's mPEs, and how many fewer the last one takes."""
    paper, ours = case.mpes, {v.name: v.mpes for v in variants}
    for name, count in ours.items():
        counted = name == "original" and name in paper
        yield Line(name, count, paper.get(name), "reproduction" if counted else "model")
    last = variants[-1].name
    for before, (area, _) in case.saved.items():
        published = percent_less(paper[last], paper[before]) if paper else None
        less = percent_less(ours[last], ours[before])
        note = f"the abstract: {area} % less"
        yield Line(f"{last} against {before}", less, published, "model", "%", note)


def _accuracies(case: Network, variants: Sequence[Variant]) -> Iterator[Line]:
    for v in variants:
        published = case.accuracies.get(v.name)
        first = shown(100 * v.compared, "%")
        note = f"on the first {COMPARED}, as the paper's: {first}" if published else ""
        yield Line(v.name, 100 * v.accuracy, published, "model", "%", note)


def _dense() -> Iterator[Line]:
    for side, published in DENSE.items():
        for (rows, columns), figure in zip(pairwise(MNIST), published, strict=True):
            ours = dense_tiles((rows, columns), (side, side))
            yield Line(f"{rows} x {columns} at {side}", ours, figure, "reproduction")


def _planted() -> Iterator[Line]:
    for size, share, noise, wanted in ((512, 0.9, 0.002, 8), (1024, 0.8, 0.01, 16)):
        rng = np.random.default_rng(0)
        w = np.where(rng.random((size, size)) < noise, 0.05, 0.0)
        for begin in range(0, size, 64):
            at = slice(begin, begin + 64)
            w[at, at] = np.where(rng.random((64, 64)) < share, 1.0, w[at, at])
        nonzero = w[rng.permutation(size)][:, rng.permutation(size)] >= 0.1
        found = clustered(nonzero, (64, 64), DENSITIES)
        about = f"{size} x {size}, {size // 64} blocks, {share:.0%} full"
        note = f"planted {wanted}; a plain grid has {occupied_tiles(nonzero, (64, 64))}"
        yield Line(about, len(found.layout.tiles), None, "model", note=note)


def _networks(quick: bool) -> list[Network]:
    """MLPs as the paper has them, and a CNN; small ones for `quick`."""
    training = {"target": "mca64", "plain": True}
    if quick:
        # Small products are slower on several threads.
        few = {**training, "batch": 32, "threads": 1, "epochs": 40}
        flat, pictures = partial(digits, DIGITS[:1]), partial(digits, (1, 8, 8))
        small = partial(cnn, (1, 8, 8), 3, (8, 16), (64,), pad=1)
        return [
            Network("MLP on digits", partial(mlp, DIGITS), flat, few, 0.9, MLPS, {}, {}),
            Network("CNN on digits", small, pictures, few, 0.6, CNNS, {}, {}),
        ]
    many = {**training, "batch": 200, "epochs": 8}
    return [
        Network(
            f"MLP {'-'.join(map(str, MNIST))} on MNIST",
            partial(mlp, MNIST),
            partial(mnist, MNIST[:1]),
            many,
            0.9,
            MLPS,
            {"original": 149700, "pruned only": 129993, "TraNNsformer": 66840},
            {"pruned only": 98.2, "TraNNsformer": 98.3},
        ),
        Network(
            "CNN 20-50-500-10 on MNIST",
            partial(cnn, (1, 28, 28), 5, (20, 50), (500,)),
            partial(mnist, (1, 28, 28)),
            {**many, "batch": 100, "epochs": 6},
            0.8,
            CNNS,
            {},
            {},
        ),
        Network(
            f"MLP {'-'.join(map(str, CIFAR10))} on grey CIFAR-10",
            partial(mlp, CIFAR10),
            partial(cifar10, grey=True),
            many,
            0.9,
            MLPS,
            {"original": 257700, "pruned only": 257619, "TraNNsformer": 186730},
            {"pruned only": 48.0, "TraNNsformer": 46.9},
        ),
    ]


def _variants(case: Network, samples: Samples, progress: Progress) -> Iterator[Variant]:
    """The network trained, pruned, clustered offline, and clustered while it is trained."""
    progress(f"{case.name}: training the original")
    original = tuned(case.network(), samples, **case.training)
    yield _variant("original", original, "dense", samples)
    how = f"tile={SIDE} count={SIDE} sparsity={case.sparsity}"
    progress(f"{case.name}: pruning alone")
    # No cluster is denser than 1: the same schedule without clustering.
    alone = f"trannsformer{{{how} density=1 floor=1}}"
    pruned = tuned(original, samples, method=alone, **case.training)
    yield _variant("pruned only", pruned, "occupied", samples)
    yield _variant("pruned, clustered offline", pruned, "clustered", samples)
    progress(f"{case.name}: pruning and clustering")
    both = f"trannsformer{{{how} begin=0.7}}"
    trained = tuned(original, samples, method=both, **case.training)
    yield _variant("TraNNsformer", trained, "clustered", samples)


def _variant(name: str, model: Any, counted: str, samples: Samples) -> Variant:
    passes = {"dense": "", "occupied": "drop-zeros", "clustered": "cluster"}[counted]
    feeds = {"x": samples.train[0][:256]}
    programs = {
        target: xbarc.compile(
            model, target=target, overrides=ARRAY, passes=passes, calibration=feeds
        )
        for target in ("mca64", "mca128")
    }
    totals = programs["mca64"].cost()["totals"]
    found = right(programs["mca64"], samples)
    return Variant(
        name,
        model,
        _mpes(model, counted),
        float(found.mean()),
        float(found[:COMPARED].mean()),
        {t: p.cost()["totals"]["crossbars"] for t, p in programs.items()},
        totals["area_mm2"]["total"],
        totals["energy_uj"]["total"],
    )


def _mpes(model: Any, counted: str) -> int:
    tile, total = (SIDE, SIDE), 0
    for layer in find_matrices(load(model).graph)[0].values():
        nonzero = layer.matrix != 0
        if counted == "dense":
            total += dense_tiles(nonzero.shape, tile)
        elif counted == "occupied":
            total += occupied_tiles(nonzero, tile)
        else:
            found = clustered(nonzero, tile, DENSITIES, block=prod(layer.kernel))
            total += len(found.layout.tiles)
    return total


def _costs(case: Network, variants: Sequence[Variant]) -> Iterator[Line]:
    for v in variants:
        for target, crossbars in v.crossbars.items():
            yield Line(f"crossbars on {target}, {v.name}", crossbars, None, "model")
        yield Line(f"area on mca64, {v.name}", v.area_mm2, None, "model", unit="mm2")
        yield Line(f"energy an image on mca64, {v.name}", v.energy_uj, None, "model", unit="uJ")
    last, by_name = variants[-1], {v.name: v for v in variants}
    for before, (_, energy) in case.saved.items():
        less = percent_less(last.energy_uj, by_name[before].energy_uj)
        about = f"energy, {last.name} against {before}"
        yield Line(about, less, None, "model", "%", f"the abstract: {energy} % less")


def _pictures(case: Network, variants: Sequence[Variant]) -> Iterator[Child]:
    """mPEs, ours and the paper's where it has them; the last variant's matrices on mca64."""
    rows = []
    for v in variants:
        rows.append(Bar(f"{v.name}, ours", v.mpes, f"{v.mpes:,}"))
        if published := case.mpes.get(v.name):
            rows.append(Bar(f"{v.name}, paper", published, f"{published:,}", "s1"))
    yield bars(f"{case.name}: mPEs", rows)
    model = variants[-1].model
    yield from matrices(
        case.name, xbarc.compile(model, target="mca64", overrides=ARRAY, passes="cluster")
    )
