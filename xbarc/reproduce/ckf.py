"""CKF: convolution-kernel first (IEEE TNNLS 33(4), 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.compress.matrices import find_matrices
from xbarc.pipeline import load_registry, parse_passes, run_graph_passes
from xbarc.reproduce.networks import (
    DIFFERENTIAL,
    LOSSLESS,
    Samples,
    membranes,
    random_network,
    strokes,
    tuned,
)
from xbarc.reproduce.page import Bar, bars
from xbarc.reproduce.paper import Line, Progress, Result, percent_less

TITLE = "CKF: pruned weights that cost no operation"
SOURCE = "IEEE TNNLS 33(4), 2022 (abstract); the mechanism is a model"
QUICK = "a small U-Net trained on scikit-learn's digits under noise, pruned on its circuit: minutes"
FULL = (
    "a U-Net trained on cell membranes (ISBI 2012, XBARC_DATA), pruned on its circuit: within an "
    "hour on two cores"
)

PRUNED = 0.562
"""Computations saved, at most (abstract)."""

MAPPINGS = {"kernel-first": "kernel-first", "im2col": "deconv{scheme=zero-insert},im2col"}
"""im2col as it is commonly used: it slides over an input with zeros between for ConvTranspose."""

CALIBRATION = 128
"""Training pictures that ranges are found on."""


@dataclass(frozen=True)
class Task:
    """What a U-Net is trained on, its channels by level, epochs before and after pruning, how it is
    trained, and what its masks call 0.
    """

    samples: Samples
    widths: tuple[int, ...]
    epochs: tuple[int, int]
    options: Mapping[str, Any]
    thin: str


def reproduce(quick: bool, progress: Progress) -> Result:
    """A transposed convolution's counts, then a trained U-Net before and after it is pruned."""
    result = Result()
    progress("counting a transposed convolution")
    result.add("64 to 32 channels, k = 2, stride 2, 16 x 16 to 32 x 32", list(_transposed()))
    task = _task(quick)
    dense, pruned = _trained(task, progress)
    lines, macs = _on_circuit(dense, pruned, task, progress)
    side = task.samples.test[0].shape[-1]
    title = f"U-Net of {side} x {side} pixels, {PRUNED:.1%} of each layer's weights pruned"
    result.add(f"{title} and retrained, on a standing circuit", lines)
    rows = [Bar(name, count, f"{count:,}") for name, count in macs.items()]
    result.pictures.append(bars("Multiplications an image", rows))
    result.notes += [
        "33.62 W less power can't be derived from what is public: what is reported is how much "
        "power changes on a named target.",
        "The abstract names neither network nor data: accuracies are of our own choice of both. "
        "Training never sees the pictures that they are measured on.",
        "The pruned network runs on the circuit that was compiled from the dense one: its tiles, "
        "its inputs' ranges and its converters stay. Only cells and biases are written anew.",
    ]
    return result


def _task(quick: bool) -> Task:
    if quick:  # small products are slower on several threads
        return Task(strokes(), (8, 16), (3, 2), {"threads": 1}, "ink")
    options = {"precision": "bfloat16"}
    return Task(membranes(128, 4000), (16, 32, 64), (12, 6), options, "membranes")


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


def _unet(side: int, widths: Sequence[int]) -> Any:
    """A U-Net with random weights: two 3 x 3 convolutions a level, `widths` channels in each."""
    weights: list[str] = []
    body: list[str] = []
    kept: list[str] = []

    def layer(call: str, x: str, shape: Sequence[int], filters: int) -> str:
        n = len(weights)
        weights.append(f"float[{','.join(map(str, shape))}] w{n}, float[{filters}] b{n}")
        body.append(f"v{n} = {call}({x}, w{n}, b{n})")
        return f"v{n}"

    def block(x: str, channels: int, filters: int) -> str:
        for inputs in (channels, filters):
            y = layer("Conv<pads=[1,1,1,1]>", x, (filters, inputs, 3, 3), filters)
            x = f"r{y}"
            body.append(f"{x} = Relu({y})")
        return x

    x, channels = "x", 1
    for filters in widths:
        if kept:
            body.append(f"p{x} = MaxPool<kernel_shape=[2,2], strides=[2,2]>({x})")
            x = f"p{x}"
        x, channels = block(x, channels, filters), filters
        kept.append(x)
    for filters, beside in zip(widths[-2::-1], kept[-2::-1], strict=True):
        up = layer("ConvTranspose<strides=[2,2]>", x, (channels, filters, 2, 2), filters)
        body.append(f"s{up} = Concat<axis=1>({up}, {beside})")
        x, channels = block(f"s{up}", 2 * filters, filters), filters
    y = layer("Conv", x, (1, channels, 1, 1), 1)
    shape = f"float[N,1,{side},{side}]"
    return random_network(
        f"unet ({shape} x) => ({shape} {y}) <{', '.join(weights)}> {{ {' '.join(body)} }}"
    )


def _trained(task: Task, progress: Progress) -> tuple[Any, Any]:
    """The U-Net, and the same with its smallest weights at zero and the others trained on."""
    options: dict[str, Any] = {
        "target": "mca128",
        "batch": 16,
        "plain": True,
        "batch_norm": True,
        # Squares overlap, so none of them tells how good an epoch is on images never seen.
        "validation_share": 0.0,
        "keep": "last",
        **task.options,
    }
    first, more = task.epochs
    progress("training a U-Net")
    side = task.samples.train[0].shape[-1]
    dense = tuned(_unet(side, task.widths), task.samples, epochs=first, rate=4e-3, **options)
    progress(f"{PRUNED:.1%} of its weights pruned, retrained")
    return dense, tuned(_sparse(dense), task.samples, epochs=more, rate=2e-3, **options)


def _on_circuit(
    dense: Any, pruned: Any, task: Task, progress: Progress
) -> tuple[list[Line], dict[str, int]]:
    """The lines, and multiplications by mapping, dense and pruned."""
    lines: list[Line] = []
    macs: dict[str, int] = {}
    for mapping, passes in MAPPINGS.items():
        progress(f"running both on crossbars, {mapping}")
        # The circuit stands: only what its cells hold changes.
        standing = xbarc.compile(
            dense,
            "mca128",
            overrides=LOSSLESS,
            passes=passes,
            calibration=task.samples.train[0][:CALIBRATION],
        )
        found = {"dense": standing, "pruned": standing.update_weights(pruned)}
        before, after = (program.cost()["totals"] for program in found.values())
        published = -100 * PRUNED if mapping == "kernel-first" else 0.0
        saved = percent_less(after["macs"], before["macs"])
        more = after["crossbars"] - before["crossbars"]
        rounded = "weights that round to 0 cost nothing before pruning either" if saved else ""
        lines += [
            Line(f"multiplications, {mapping}", saved, published, "model", "%", rounded),
            Line(f"crossbars, {mapping}", before["crossbars"], None, "model"),
            Line(f"crossbars more, {mapping}", more, 0, "model"),
        ]
        for name, program in found.items():
            totals = program.cost()["totals"]
            macs[f"{mapping}, {name}"] = totals["macs"]
            right, overlap = _scores(program, task.samples)
            about = f"{mapping}, {name}"
            lines += [
                Line(f"power, {about}", totals["power_w"], None, "model", "W"),
                Line(f"power of cells, {about}", totals["crossbar_power_w"], None, "model", "W"),
                Line(f"pixels right, {about}", 100 * right, None, "model", "%"),
                Line(f"IoU of {task.thin}, {about}", 100 * overlap, None, "model", "%"),
            ]
    return lines, macs


def _scores(program: xbarc.Program, samples: Samples) -> tuple[float, float]:
    """Share of right pixels, and intersection over union of those that are 0 in the mask."""
    x, mask = samples.test
    (logits,) = program.run(x).values()
    thin, true = logits <= 0, mask == 0
    return float((thin == true).mean()), float((thin & true).sum() / max(1, (thin | true).sum()))


def _sparse(network: Any) -> Any:
    """The network with its smallest weights at zero, the same share in each layer."""
    model = load(network)
    text = ",".join(
        f"prune{{granularity=weight sparsity={PRUNED} refit=false layers={name}}}"
        for name in find_matrices(model.graph)[0]
    )
    run_graph_passes(parse_passes(text, load_registry()).graph, model, None)
    return model
