"""TraNNsformer: clustered pruning (Ankit et al., ICCAD 2017, arXiv 1708.07949)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.compress.matrices import find_matrices
from xbarc.ir.analysis.cluster_layout import clustered, dense_tiles, occupied_tiles
from xbarc.report.charts import Segment, bar
from xbarc.report.html import Markup, tag
from xbarc.report.matrix import matrix_pictures, svg
from xbarc.reproduce.networks import (
    Samples,
    accuracy,
    digits,
    mnist,
    random_network,
    tuned,
)
from xbarc.reproduce.paper import Line, Progress, Result, percent_less
from xbarc.support.errors import XbarcError

TITLE = "TraNNsformer: clustered pruning for crossbars"
SOURCE = "Ankit et al., ICCAD 2017 (arXiv 1708.07949); mPE counts from the authors' result traces"
QUICK = "an MLP 64-120-120-10 on scikit-learn's digits: some minutes"
FULL = "the MLP 784-1200-1200-10 on MNIST (XBARC_DATA): within an hour on two cores"

MNIST = (784, 1200, 1200, 10)
DIGITS = (64, 120, 120, 10)
SIDE = 4
"""Rows and columns of an mPE in the paper's counts."""

DENSITIES = (0.7, 0.6, 0.5, 0.4, 0.3)
ARRAY = ("array.encoding=offset", "array.cell_bits=8", "adc.mode=lossless")
"""One column a weight, as the paper counts."""

PUBLISHED = {
    "original": 149700,
    "pruned only": 129993,
    "TraNNsformer": 66840,
}
"""mPEs of MNIST's network."""

ACCURACY = {"pruned only": 98.2, "TraNNsformer": 98.3}
"""On the first 1000 test images, in percent."""

DENSE = {
    4: (58800, 90000, 900),
    64: (247, 361, 19),
    128: (70, 100, 10),
}


@dataclass(frozen=True)
class Task:
    """A network's sizes, its data, and how long it is trained, on how many threads."""

    sizes: tuple[int, ...]
    samples: Samples
    epochs: int
    batch: int
    threads: int | None


@dataclass(frozen=True)
class Variant:
    """A trained network, and how many mPEs it takes, counted in one way."""

    name: str
    model: Any
    mpes: int
    accuracy: float
    crossbars: Mapping[str, int]
    area_mm2: float
    energy_uj: float


def reproduce(quick: bool, progress: Progress) -> Result:
    """Counts of the paper, planted clusters, then four states of one network."""
    result = Result()
    result.add("mPEs of the dense network 784-1200-1200-10", list(_dense()))
    result.add("Planted clusters: tiles of 64 x 64", list(_planted()))
    task = _task(quick)
    variants = _variants(task, progress)
    sizes = "-".join(map(str, task.sizes))
    result.add(f"mPEs of {SIDE} x {SIDE}, {sizes}", _mpe_lines(variants, quick))
    published = {} if quick else ACCURACY
    result.add(
        "Accuracy on crossbars (mca64, one column a weight)",
        [Line(v.name, 100 * v.accuracy, published.get(v.name), "model", "%") for v in variants],
    )
    result.add("Crossbars, area, energy on xbarc's targets", list(_costs(variants)))
    result.pictures += [_bars(variants), *_matrices(variants[-1])]
    result.notes += [
        "Pruned only: occupied tiles of a plain grid, as the paper counts. Clustered: tiles of "
        "xbarc's cluster pass, whose windows hold what no cluster does: our model of the paper's "
        "procedure, which also prunes more than the paper did (90 %).",
        "The paper trains with dropout, momentum and a learning rate of 0.5 from scratch; here a "
        "trained network is pruned to a share of its weights along a cubic schedule (`sparsity`), "
        "which the method has as a variant.",
        "Its energies have no public trace: energy and area are those of a named target.",
    ]
    return result


def _mpe_lines(variants: Sequence[Variant], quick: bool) -> list[Line]:
    """Each variant's mPEs, and how many fewer the last one takes."""
    paper = {} if quick else PUBLISHED
    mpes = {v.name: v.mpes for v in variants}
    lines = [
        Line(n, count, paper.get(n), "reproduction" if n in paper and n == "original" else "model")
        for n, count in mpes.items()
    ]
    ours = mpes["TraNNsformer"]
    for before, published in (("original", -55.35), ("pruned only", -48.58)):
        figure = percent_less(ours, mpes[before])
        about = f"TraNNsformer against {before}"
        lines.append(Line(about, figure, None if quick else published, "model", "%"))
    return lines


def _dense() -> Any:
    for side, published in DENSE.items():
        for (rows, columns), figure in zip(_shapes(MNIST), published, strict=True):
            ours = dense_tiles((rows, columns), (side, side))
            yield Line(f"{rows} x {columns} at {side}", ours, figure, "reproduction")


def _shapes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(sizes))


def _planted() -> Any:
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


def _task(quick: bool) -> Task:
    if quick:
        return Task(DIGITS, digits(DIGITS[:1]), 40, 32, 1)
    return Task(MNIST, mnist(MNIST[:1]), 8, 200, None)


def _mlp(sizes: Sequence[int]) -> onnx.ModelProto:
    """A ReLU network without biases, with random weights."""
    shapes = _shapes(sizes)
    weights = ", ".join(f"float[{k},{n}] w{i}" for i, (k, n) in enumerate(shapes, start=1))
    body, value = [], "x"
    for i in range(1, len(shapes)):
        body.append(f"m{i} = MatMul({value}, w{i}) r{i} = Relu(m{i})")
        value = f"r{i}"
    body.append(f"y = MatMul({value}, w{len(shapes)})")
    ends = f"(float[N,{sizes[0]}] x) => (float[N,{sizes[-1]}] y)"
    return random_network(f"mlp {ends} <{weights}> {{ {' '.join(body)} }}")


def _variants(task: Task, progress: Progress) -> list[Variant]:
    """The network trained, pruned, clustered offline, and clustered while it is trained."""
    options: dict[str, Any] = {
        "target": "mca64",
        "epochs": task.epochs,
        "batch": task.batch,
        "plain": True,
        "threads": task.threads,
    }
    progress("training the original")
    original = tuned(_mlp(task.sizes), task.samples, **options)
    progress("pruning alone")
    # No cluster is denser than 1: the same schedule without clustering.
    alone = f"trannsformer{{tile={SIDE} count={SIDE} sparsity=0.9 density=1 floor=1}}"
    pruned = tuned(original, task.samples, method=alone, **options)
    progress("pruning and clustering")
    both = f"trannsformer{{tile={SIDE} count={SIDE} sparsity=0.9 begin=0.7}}"
    trained = tuned(original, task.samples, method=both, **options)
    made = (
        ("original", original, "dense"),
        ("pruned only", pruned, "occupied"),
        ("pruned, clustered offline", pruned, "clustered"),
        ("TraNNsformer", trained, "clustered"),
    )
    variants = []
    for name, model, counted in made:
        progress(f"counting: {name}")
        variants.append(_variant(name, model, counted, task))
    return variants


def _variant(name: str, model: Any, counted: str, task: Task) -> Variant:
    passes = {"dense": "", "occupied": "drop-zeros", "clustered": "cluster"}[counted]
    feeds = {"x": task.samples.train[0][:256]}
    programs = {
        target: xbarc.compile(
            model, target=target, overrides=ARRAY, passes=passes, calibration=feeds
        )
        for target in ("mca64", "mca128")
    }
    totals = programs["mca64"].cost()["totals"]
    crossbars = {t: p.cost()["totals"]["crossbars"] for t, p in programs.items()}
    return Variant(
        name,
        model,
        _mpes(model, counted),
        accuracy(programs["mca64"], task.samples),
        crossbars,
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
            total += len(clustered(nonzero, tile, DENSITIES).layout.tiles)
    return total


def _costs(variants: Sequence[Variant]) -> Any:
    for v in variants:
        for target, crossbars in v.crossbars.items():
            yield Line(f"crossbars on {target}, {v.name}", crossbars, None, "model")
        yield Line(f"area on mca64, {v.name}", v.area_mm2, None, "model", unit="mm2")
        yield Line(f"energy an image on mca64, {v.name}", v.energy_uj, None, "model", unit="uJ")


def _bars(variants: Sequence[Variant]) -> Markup:
    """mPEs as bars: ours, and the paper's where it has them."""
    most = max(*(v.mpes for v in variants), *PUBLISHED.values())
    whole = most if variants[0].mpes == PUBLISHED["original"] else max(v.mpes for v in variants)
    rows = []
    for v in variants:
        pairs = [("ours", v.mpes, "s0")]
        if whole == most and v.name in PUBLISHED:
            pairs.append(("paper", PUBLISHED[v.name], "s1"))
        for who, count, color in pairs:
            label = f"{v.name}, {who}: {count} mPEs"
            rows.append(
                tag(
                    "tr",
                    tag("th", f"{v.name}, {who}", scope="row"),
                    tag("td", bar([Segment(count, color, label)], whole, label)),
                    tag("td", f"{count:,}"),
                )
            )
    return tag("figure", tag("figcaption", tag("b", "mPEs")), tag("table", rows, class_="grid"))


def _matrices(variant: Variant) -> list[Markup]:
    """The matrices before and after, for tiles of 64 x 64."""
    program = xbarc.compile(variant.model, target="mca64", overrides=ARRAY, passes="cluster")
    try:
        found = matrix_pictures(program, None, 96)
    except XbarcError:
        return []
    return [
        tag("figure", tag("figcaption", tag("b", p.name), tag("span", p.caption)), svg(p))
        for p in found
    ]
