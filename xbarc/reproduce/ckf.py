"""CKF: convolution-kernel first (IEEE TNNLS 33(4), 2022)."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.pipeline import load_registry, parse_passes, run_graph_passes
from xbarc.report.charts import Segment, bar
from xbarc.report.html import Markup, tag
from xbarc.reproduce.networks import DIFFERENTIAL, random_network
from xbarc.reproduce.paper import Line, Progress, Result, percent_less

TITLE = "CKF: pruned weights that cost no operation"
SOURCE = "IEEE TNNLS 33(4), 2022 (abstract); the mechanism is a model"
QUICK = "a small U-Net with random weights, pruned on a standing circuit: a minute"
FULL = "a U-Net of 128 x 128 pixels with random weights, pruned on a standing circuit: minutes"

PRUNED = 0.562
"""Computations saved, at most (abstract)."""


def reproduce(quick: bool, progress: Progress) -> Result:
    """A transposed convolution's counts, then a U-Net before and after its weights are pruned."""
    result = Result()
    progress("counting a transposed convolution")
    result.add("64 to 32 channels, k = 2, stride 2, 16 x 16 to 32 x 32", list(_transposed()))
    side = 32 if quick else 128
    progress(f"a U-Net of {side} x {side} pixels")
    lines, macs = _pruned(side)
    result.add(f"U-Net of {side} x {side} pixels, {PRUNED:.1%} of the weights pruned", lines)
    result.pictures.append(_bars(macs))
    result.notes += [
        "33.62 W less power can't be derived from what is public: what is reported is how much "
        "power changes on a named target.",
        "Accuracy isn't part of this: examples/segmentation trains a U-Net, prunes it by half and "
        "runs it on crossbars.",
    ]
    return result


def _transposed() -> Iterator[Line]:
    text = """g (float[N,64,16,16] x) => (float[N,32,32,32] y) <float[64,32,2,2] w>
    { y = ConvTranspose<strides=[2,2]>(x, w) }"""
    model = random_network(text)
    for name, passes, macs, tiles, cycles in (
        ("kernel first", "deconv{scheme=scatter}", 2097152, 4, 256),
        ("zeros inserted", "deconv{scheme=zero-insert}", 8388608, 2, 1024),
    ):
        program = xbarc.compile(model, "mca128", overrides=DIFFERENTIAL, passes=passes)
        (row,) = program.cost()["layers"]
        vectors = row["vectors"]
        yield Line(f"multiplications, {name}", row["macs"], macs, "model")
        yield Line(f"tiles, {name}", row["tiles"], tiles, "model")
        yield Line(f"vectors, {name}", vectors, cycles, "model")


def _unet(side: int) -> Any:
    return random_network(
        f"""unet (float[N,1,{side},{side}] x) => (float[N,1,{side},{side}] y)
    <float[8,1,3,3] w1, float[16,8,3,3] w2, float[32,16,3,3] w3, float[32,16,2,2] u1,
     float[16,32,3,3] w4, float[16,8,2,2] u2, float[8,16,3,3] w5, float[1,8,1,1] w6>
    {{ a1 = Conv<pads=[1,1,1,1]>(x, w1) e1 = Relu(a1)
       p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(e1)
       a2 = Conv<pads=[1,1,1,1]>(p1, w2) e2 = Relu(a2)
       p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(e2)
       a3 = Conv<pads=[1,1,1,1]>(p2, w3) e3 = Relu(a3)
       d1 = ConvTranspose<strides=[2,2]>(e3, u1) s1 = Concat<axis=1>(d1, e2)
       a4 = Conv<pads=[1,1,1,1]>(s1, w4) e4 = Relu(a4)
       d2 = ConvTranspose<strides=[2,2]>(e4, u2) s2 = Concat<axis=1>(d2, e1)
       a5 = Conv<pads=[1,1,1,1]>(s2, w5) e5 = Relu(a5) y = Conv(e5, w6) }}"""
    )


def _pruned(side: int) -> tuple[list[Line], dict[str, int]]:
    """The lines, and multiplications by mapping, dense and pruned."""
    network = _unet(side)
    sparse = _sparse(network)
    images = np.random.default_rng(0).random((8, 1, side, side)).astype(np.float32)
    lines: list[Line] = []
    macs: dict[str, int] = {}
    for mapping in ("kernel-first", "im2col"):
        # The circuit stands: only what its cells hold changes.
        standing = xbarc.compile(
            network, "mca128", overrides=DIFFERENTIAL, passes=mapping, calibration=images
        )
        found = {"dense": standing.cost()["totals"]}
        found["pruned"] = standing.update_weights(sparse).cost()["totals"]
        for name, totals in found.items():
            macs[f"{mapping}, {name}"] = totals["macs"]
        before, after = found["dense"], found["pruned"]
        published = -100 * PRUNED if mapping == "kernel-first" else 0.0
        saved = percent_less(after["macs"], before["macs"])
        lines += [
            Line(f"multiplications, {mapping}", saved, published, "model", "%"),
            Line(
                f"crossbars more, {mapping}", after["crossbars"] - before["crossbars"], 0, "model"
            ),
            Line(f"power, {mapping}, dense", before["power_w"], None, "model", "W"),
            Line(f"power, {mapping}, pruned", after["power_w"], None, "model", "W"),
        ]
    return lines, macs


def _sparse(network: Any) -> Any:
    """The network with its smallest weights at zero, the same share in all layers together."""
    model = load(network)
    text = f"prune{{granularity=weight sparsity={PRUNED} refit=false}}"
    run_graph_passes(parse_passes(text, load_registry()).graph, model, None)
    return model


def _bars(macs: dict[str, int]) -> Markup:
    most = max(macs.values())
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", bar([Segment(count, "s0", name)], most, name)),
            tag("td", f"{count:,}"),
        )
        for name, count in macs.items()
    ]
    caption = tag("figcaption", tag("b", "Multiplications an image"))
    return tag("figure", caption, tag("table", rows, class_="grid"))
