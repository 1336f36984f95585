"""MSCCNN: compact networks for crossbars (Wen et al., IEEE TNSE 7(3), 2020)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import xbarc
from xbarc.reproduce.networks import (
    DIFFERENTIAL,
    LOSSLESS,
    Case,
    Samples,
    accuracy,
    available,
    cifar10,
    cnn,
    digits,
    mnist,
    tuned,
)
from xbarc.reproduce.page import Bar, bars
from xbarc.reproduce.paper import Line, Progress, Result, shown

TITLE = "MSCCNN: pooling, depthwise kernels, pruning"
SOURCE = "Wen et al., IEEE TNSE 7(3), 2020; what isn't published there is a model"
QUICK = "LeNet-5's counts, and a small one on scikit-learn's digits: some minutes"
FULL = "LeNet-5 on MNIST and a small CNN on CIFAR-10 (XBARC_DATA): about half an hour on two cores"

POOLED = "fc-to-1x1{mode=compact}"
SEPARATED = f"{POOLED},depthwise"
PRUNED = "prune{granularity=depthwise-kernel sparsity=0.25}"
LENET_COUNTS = (
    ("as it is", "", (61470, 122940, 14)),
    ("average pooling + 1x1", POOLED, (2710, 5420, None)),
    ("and depthwise", f"{SEPARATED},depthwise-mapping{{layout=separate}}", (556, 1112, 9)),
    ("and packed", f"{SEPARATED},depthwise-mapping", (556, 1112, 5)),
)
"""Weights, memristors and crossbars of 128 x 128 by our reading of the paper."""

LESS = ("crossbars", "area", "power")
"""What should get less with each step."""

LAYOUTS = (
    (
        ", a channel a crossbar",
        "depthwise-mapping{layout=separate}",
        "each depthwise channel has a mostly empty crossbar of its own, with converters",
    ),
    (
        "",
        "depthwise-mapping",
        "two layers stand where one was, each with crossbars and conversions of its own",
    ),
)
"""How depthwise kernels stand on crossbars: name, pass, why that may take more than before."""


@dataclass(frozen=True)
class Network(Case):
    """Epochs: of the network itself, of the pooled and of the pruned one, of the depthwise one."""

    epochs: tuple[int, int, int]


@dataclass(frozen=True)
class State:
    """A network after a step, in one layout: what it was made from, and its figures with units."""

    name: str
    before: str
    why: str
    figures: Mapping[str, tuple[float, str]]


def reproduce(quick: bool, progress: Progress) -> Result:
    """LeNet-5's counts, then each step retrained: weights, crossbars, area, power, accuracy."""
    result = Result()
    progress("counting LeNet-5")
    result.add("LeNet-5 on crossbars of 128 x 128, biases not counted", list(_counts()))
    for case, samples in available(_networks(quick), result, progress):
        states = []
        for state in _states(case, samples, progress):
            states.append(state)
            figures = (f"{key} {shown(*figure)}" for key, figure in state.figures.items())
            progress(f"{case.name}, {state.name}: {', '.join(figures)}")
        title = f"{case.name}, retrained, on mca128 with two columns a weight"
        result.add(title, list(_lines(states)))
        result.pictures.append(_bars(case, states))
    result.notes += [
        "The paper says that accuracy is unchanged and area and power are smaller, and gives no "
        "figures that could be checked here.",
        "Area is that of whole cores: it jumps where one more begins. Power is that of a stream.",
        "Networks learn with batch normalisation, which is folded into weights and biases.",
    ]
    if not quick:
        result.notes.append(
            "The network on CIFAR-10 is our choice: three convolutions of 3 x 3 with 16, 32 and 64 "
            "maps, each with pooling, then 1024-128-10. It learns on pictures that are mirrored at "
            "random."
        )
    return result


def _counts() -> Iterator[Line]:
    for name, passes, published in LENET_COUNTS:
        program = xbarc.compile(_lenet(32, 5), "mca128", overrides=DIFFERENTIAL, passes=passes)
        totals = program.cost()["totals"]
        for key, figure in zip(("weights", "memristors", "crossbars"), published, strict=True):
            yield Line(f"{key}, {name}", totals[key], figure, "model")


def _lenet(side: int, kernel: int) -> Any:
    """LeNet-5; with small pictures and kernels a small one."""
    return cnn((1, side, side), kernel, (6, 16), (120, 84), pad=0 if side == 32 else kernel // 2)


def _networks(quick: bool) -> list[Network]:
    """What each step is tried on."""
    training = {"target": "mca128", "plain": True, "rate": 1e-2, "batch_norm": True}
    if quick:
        one = {**training, "batch": 32, "threads": 1}  # small products are slower on several
        small = partial(_lenet, 8, 3)
        return [Network("Digits", small, partial(digits, (1, 8, 8)), one, (20, 40, 60))]
    larger = partial(cnn, (3, 32, 32), 3, (16, 32, 64), (128,), pad=1)
    moved = {**training, "batch": 100, "flip": True}
    return [
        Network("MNIST", partial(_lenet, 32, 5), _padded, {**training, "batch": 64}, (4, 6, 8)),
        Network("CIFAR-10", larger, cifar10, moved, (12, 10, 15)),
    ]


def _padded() -> Samples:
    """MNIST, 28 x 28 to 32 x 32."""
    samples, edge = mnist((1, 28, 28)), ((0, 0), (0, 0), (2, 2), (2, 2))
    (x, y), (xt, yt) = samples.train, samples.test
    return Samples((np.pad(x, edge), y), (np.pad(xt, edge), yt))


def _states(case: Network, samples: Samples, progress: Progress) -> Iterator[State]:
    """The network as it is, and after each step retrained."""
    first, again, longest = case.epochs
    progress(f"{case.name}: training the network")
    # Whole networks learn at a third of the rate that suits those of few weights.
    options = {**case.training, "epochs": first, "rate": case.training["rate"] * 0.3}
    model = tuned(case.network(), samples, **options)
    name = "as it is"
    yield State(name, name, "", _figures(model, samples, ""))
    # Few weights learn slowly.
    for after, passes, epochs in (
        ("pooled", POOLED, again),
        ("pooled, depthwise", "depthwise", longest),
        ("pooled, depthwise, pruned", PRUNED, again),
    ):
        progress(f"{case.name}: {after}, retrained")
        model = tuned(model, samples, **{**case.training, "passes": passes, "epochs": epochs})
        for layout, mapping, why in LAYOUTS if "depthwise" in after else (("", "", ""),):
            yield State(after + layout, name, why, _figures(model, samples, mapping))
        name = after


def _lines(states: Sequence[State]) -> Iterator[Line]:
    """Each figure; what got more than at the start, or than a step ago, says so, and why."""
    by_name = {state.name: state for state in states}
    for state in states:
        for key, (value, unit) in state.figures.items():
            note = ""
            for other in (states[0].name, state.before):
                if key in LESS and not note and value > by_name[other].figures[key][0]:
                    note = f"more than {other}: {state.why}"
            yield Line(f"{key}, {state.name}", value, None, "model", unit, note)


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


def _bars(case: Network, states: Sequence[State]) -> Any:
    rows = []
    for state in states:
        weights, share = state.figures["weights"][0], state.figures["accuracy"][0]
        rows.append(Bar(state.name, weights, f"{weights:,} weights, {share:.1f} %"))
    return bars(f"{case.name}: weights and accuracy", rows)
