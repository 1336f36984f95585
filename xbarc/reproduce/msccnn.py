"""MSCCNN: compact networks for crossbars (Wen et al., IEEE TNSE 7(3), 2020)."""

from collections.abc import Iterator, Sequence
from typing import Any

import xbarc
from xbarc.report.charts import Segment, bar
from xbarc.report.html import Markup, tag
from xbarc.reproduce.networks import (
    DIFFERENTIAL,
    LOSSLESS,
    Samples,
    accuracy,
    digits,
    mnist,
    random_network,
    tuned,
)
from xbarc.reproduce.paper import Line, Progress, Result

TITLE = "MSCCNN: pooling, depthwise kernels, pruning"
SOURCE = "Wen et al., IEEE TNSE 7(3), 2020; what isn't published there is a model"
QUICK = "LeNet-5's counts, and a small one on scikit-learn's digits: some minutes"
FULL = "LeNet-5 on MNIST (XBARC_DATA): about an hour on two cores"

POOLED = "fc-to-1x1{mode=compact}"
SEPARATED = f"{POOLED},depthwise"
LENET_COUNTS = (
    ("as it is", "", (61470, 122940, 14)),
    ("average pooling + 1x1", POOLED, (2710, 5420, None)),
    ("and depthwise", f"{SEPARATED},depthwise-mapping{{layout=separate}}", (556, 1112, 9)),
    ("and packed", f"{SEPARATED},depthwise-mapping", (556, 1112, 5)),
)
"""Weights, memristors and crossbars of 128 x 128 by our reading of the paper."""


def reproduce(quick: bool, progress: Progress) -> Result:
    """LeNet-5's counts, then each step retrained: weights, crossbars, area, power, accuracy."""
    result = Result()
    progress("counting LeNet-5")
    result.add("LeNet-5 on crossbars of 128 x 128, biases not counted", list(_counts()))
    samples = digits((1, 8, 8)) if quick else _padded(mnist((1, 28, 28)))
    states = list(_states(samples, quick, progress))
    lines, before = [], states[0][1]
    for name, figures in states:
        for key, (value, unit) in figures.items():
            worse = key in ("area", "power", "crossbars") and value > before[key][0]
            note = "more than the network before: see the notes" if worse else ""
            lines.append(Line(f"{key}, {name}", value, None, "model", unit, note))
    result.add("Retrained, on mca128 with two columns a weight", lines)
    result.pictures.append(_bars(states))
    result.notes += [
        "The paper says that accuracy is unchanged and area and power are smaller, and gives no "
        "figures that could be checked here.",
        "Where crossbars, area or power grow: each depthwise channel on a crossbar of its own "
        "(layout=separate) leaves most of it empty, and every crossbar brings its converters. "
        "Packed channels share one.",
    ]
    return result


def _counts() -> Iterator[Line]:
    for name, passes, published in LENET_COUNTS:
        program = xbarc.compile(_lenet(32, 5), "mca128", overrides=DIFFERENTIAL, passes=passes)
        totals = program.cost()["totals"]
        for key, figure in zip(("weights", "memristors", "crossbars"), published, strict=True):
            yield Line(f"{key}, {name}", totals[key], figure, "model")


def _lenet(side: int, kernel: int) -> Any:
    """LeNet-5; with small pictures and kernels a small one."""
    p = 0 if side == 32 else kernel // 2
    pads = f"<pads=[{p},{p},{p},{p}]>"
    half = (side - kernel + 1 + 2 * p) // 2
    last = (half - kernel + 1 + 2 * p) // 2
    return random_network(f"""lenet (float[N,1,{side},{side}] x) => (float[N,10] y)
    <float[6,1,{kernel},{kernel}] w1, float[6] b1, float[16,6,{kernel},{kernel}] w2, float[16] b2,
     float[{16 * last * last},120] w3, float[120] b3, float[120,84] w4, float[84] b4,
     float[84,10] w5, float[10] b5>
    {{ c1 = Conv{pads}(x, w1, b1) r1 = Relu(c1)
       p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
       c2 = Conv{pads}(p1, w2, b2) r2 = Relu(c2)
       p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
       f = Flatten(p2) g1 = Gemm(f, w3, b3) r3 = Relu(g1) g2 = Gemm(r3, w4, b4) r4 = Relu(g2)
       y = Gemm(r4, w5, b5) }}""")


def _padded(samples: Samples) -> Samples:
    """28 x 28 to 32 x 32."""
    import numpy as np

    edge = ((0, 0), (0, 0), (2, 2), (2, 2))
    (x, y), (xt, yt) = samples.train, samples.test
    return Samples((np.pad(x, edge), y), (np.pad(xt, edge), yt))


def _states(samples: Samples, quick: bool, progress: Progress) -> Iterator[tuple[str, Any]]:
    options: dict[str, Any] = {
        "target": "mca128",
        "batch": 32 if quick else 64,
        "rate": 1e-2,
        "plain": True,
        "threads": 1 if quick else None,  # small products are slower on several
    }
    # Few weights learn slowly.
    epochs = (20, 40, 60) if quick else (4, 6, 8)
    network = _lenet(samples.train[0].shape[-1], 3 if quick else 5)
    progress("training the network")
    model = tuned(network, samples, **{**options, "epochs": epochs[0], "rate": 3e-3})
    yield "as it is", _figures(model, samples, "")
    pruned = "prune{granularity=depthwise-kernel sparsity=0.25}"
    for name, passes, count in (
        ("pooled", POOLED, epochs[1]),
        ("pooled, depthwise", "depthwise", epochs[2]),
        ("pooled, depthwise, pruned", pruned, epochs[1]),
    ):
        progress(f"{name}, retrained")
        model = tuned(model, samples, passes=passes, epochs=count, **options)
        separate = "depthwise-mapping{layout=separate}" if "depthwise" in name else ""
        if separate:
            yield f"{name}, a channel a crossbar", _figures(model, samples, separate)
        yield name, _figures(model, samples, "depthwise-mapping" if separate else "")


def _figures(model: Any, samples: Samples, passes: str) -> dict[str, tuple[float, str]]:
    program = xbarc.compile(
        model,
        "mca128",
        overrides=LOSSLESS,
        passes=passes,
        calibration=samples.train[0][:128],
    )
    totals = program.cost()["totals"]
    return {
        "weights": (totals["weights"], ""),
        "crossbars": (totals["crossbars"], ""),
        "area": (totals["area_mm2"]["total"], "mm2"),
        "power": (totals["power_w"], "W"),
        "accuracy": (100 * accuracy(program, samples), "%"),
    }


def _bars(states: Sequence[tuple[str, Any]]) -> Markup:
    most = max(figures["weights"][0] for _, figures in states)
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", bar([Segment(f["weights"][0], "s0", name)], most, name)),
            tag("td", f"{f['weights'][0]:,} weights, {f['accuracy'][0]:.1f} %"),
        )
        for name, f in states
    ]
    caption = tag("figcaption", tag("b", "Weights and accuracy"))
    return tag("figure", caption, tag("table", rows, class_="grid"))
