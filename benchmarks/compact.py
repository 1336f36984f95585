"""ResNet-20 on CIFAR-10 made smaller without retraining: accuracy and crossbars of each way.

    python benchmarks/compact.py [--images 300] [--calibration 256]

Accuracy by the simulator on mca128 and, beside it, of the same graph in float, both on the first
test images. Writes benchmarks/compact.md and docs/compact.svg. Needs XBARC_DATA (a folder with
models/resnet20_cifar10.onnx and data/cifar10.npz).
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.attachments import attach
from xbarc.graph.run import Session
from xbarc.hw.target import load_target
from xbarc.pipeline import load_registry, parse_passes, run_graph_passes
from xbarc.support.errors import XbarcError

ROOT = Path(__file__).parents[1]
TARGET = "mca128"
RANKS = (1, 2, 3, 4)
SPARSITIES = (0.3, 0.5, 0.7)
GRANULARITIES = ("weight", "kernel", "row", "column", "crossbar", "channel")
AFTER_DEPTHWISE = ("depthwise-kernel",)
"""Granularities that only a network of depthwise layers has."""


@dataclass(frozen=True)
class Case:
    """One line of the table: `series` is a line of the plot, `setting` what varies along it."""

    series: str
    setting: str
    passes: str


@dataclass(frozen=True)
class Result:
    case: Case
    weights: int
    nonzero: int
    crossbars: int
    simulated: float
    in_float: float


def cases() -> Iterator[Case]:
    yield Case("as trained", "", "")
    for rank in RANKS:
        yield Case("depthwise", f"rank {rank}", f"depthwise{{rank={rank}}}")
    if "prune" not in load_registry().names:
        print("no pass `prune`: depthwise only", file=sys.stderr)
        return
    for granularity in GRANULARITIES + AFTER_DEPTHWISE:
        first = "depthwise{rank=4}," if granularity in AFTER_DEPTHWISE else ""
        for sparsity in SPARSITIES:
            text = f"{first}prune{{granularity={granularity} sparsity={sparsity}}}"
            yield Case(f"prune {granularity}", f"{sparsity:.0%}", text)


def data(calibration: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibration images, test images and their classes."""
    with np.load(Path(os.environ["XBARC_DATA"]) / "data" / "cifar10.npz") as file:
        train, test = file["x_train"][:calibration], file["x_test"][:images]
        labels = file["y_test"][:images]
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return ((pixels / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2).copy()

    return prepare(train), prepare(test), labels


def measure(case: Case, calibration: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Result:
    model = load(Path(os.environ["XBARC_DATA"]) / "models" / "resnet20_cifar10.onnx")
    attach(model, {"input": calibration})
    pipeline = parse_passes(f"fold-batchnorm,{case.passes}".rstrip(","), load_registry())
    run_graph_passes(pipeline.graph, model, load_target(TARGET, ()))
    # What a pass leaves for the mapping to do comes after the default mapping, as in a compilation.
    after = dict.fromkeys(p.follow_up for p in pipeline.graph if p.follow_up)
    mapping = ",".join([*(str(p) for p in pipeline.mapping), "im2col", *after])
    program = xbarc.compile(model, TARGET, calibration=calibration, passes=mapping)
    totals = program.cost()["totals"]
    return Result(
        case,
        totals["weights"],
        totals["nonzero_weights"],
        totals["crossbars"],
        float(np.mean(program.run(images)["logits"].argmax(1) == labels)),
        float(np.mean(Session(model).run({"input": images})["logits"].argmax(1) == labels)),
    )


def table(results: list[Result], images: int, calibration: int) -> str:
    lines = [
        "# ResNet-20 on CIFAR-10, made smaller without retraining",
        "",
        f"Written by `python benchmarks/compact.py`: {TARGET}, the first {images} test images; "
        f"{calibration} training images for calibration and fits. One image is "
        f"{100 / images:.2g} points of accuracy. `prune depthwise-kernel` starts from rank 4.",
        "",
        "| | | weights | nonzero | crossbars | accuracy, simulated | accuracy, float |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.case.series} | {r.case.setting} | {r.weights} | {r.nonzero} | {r.crossbars} "
        f"| {r.simulated:.1%} | {r.in_float:.1%} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


# --- The plot -----------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 200, 40, 52
COLOURS = ("#1b6ca8", "#d1495b", "#3c8d5a", "#c77d0a", "#6b4fa0", "#00798c", "#8a5a44", "#555555")


def plot(results: list[Result], images: int) -> str:
    """Accuracy over crossbars as SVG: one line a series, the network as trained as a cross."""
    whole = results[0]
    most = max(r.crossbars for r in results) * 1.05
    series: dict[str, list[Result]] = {}
    for r in results[1:]:
        series.setdefault(r.case.series, []).append(r)

    def x(crossbars: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * crossbars / most

    def y(accuracy: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * accuracy

    def text(px: float, py: float, words: Any, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" {extra}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "ResNet-20, CIFAR-10, no retraining", "start", 'font-size="15"'),
    ]
    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
        parts += [f'{line} stroke="#dddddd"/>', text(LEFT - 8, at + 4, f"{tenth * 10} %", "end")]
    step = max(10, round(most / 6, -1))
    for count in np.arange(0, most, step):
        parts.append(text(x(count), HEIGHT - BOTTOM + 18, int(count)))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, HEIGHT - 12, f"crossbars of {TARGET}"))
    side = f'transform="rotate(-90 16 {HEIGHT / 2})"'
    parts.append(text(16, HEIGHT / 2, f"simulated accuracy, {images} images", extra=side))
    key = TOP + 10.0
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        places = " ".join(f"{x(r.crossbars):.1f},{y(r.simulated):.1f}" for r in points)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" opacity="0.5"/>')
        for r in points:
            circle = f'<circle cx="{x(r.crossbars):.1f}" cy="{y(r.simulated):.1f}" r="4"'
            parts.append(
                f'{circle} fill="{colour}"><title>{name} {r.case.setting}</title></circle>'
            )
        parts.append(f'<circle cx="{WIDTH - RIGHT + 18}" cy="{key - 4}" r="4" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 28, key, name, "start"))
        key += 20
    px, py = x(whole.crossbars), y(whole.simulated)
    cross = f"M{px - 5:.1f} {py - 5:.1f}l10 10m0 -10l-10 10"
    parts.append(f'<path d="{cross}" stroke="black" stroke-width="2"/>')
    at = WIDTH - RIGHT + 13
    parts.append(f'<path d="M{at} {key - 9}l10 10m0 -10l-10 10" stroke="black" stroke-width="2"/>')
    parts.append(text(WIDTH - RIGHT + 28, key, whole.case.series, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def write(results: list[Result], images: int, calibration: int) -> None:
    text = table(results, images, calibration)
    (ROOT / "benchmarks" / "compact.md").write_text(text, encoding="utf-8")
    (ROOT / "docs" / "compact.svg").write_text(plot(results, images), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--calibration", type=int, default=256)
    arguments = parser.parse_args()
    if "XBARC_DATA" not in os.environ:
        print("XBARC_DATA isn't set: nothing to measure")
        return
    calibration, images, labels = data(arguments.calibration, arguments.images)
    results = []
    for case in cases():
        try:
            result = measure(case, calibration, images, labels)
        except XbarcError as error:
            print(f"{case.series} {case.setting}: {error}", file=sys.stderr)
            continue
        results.append(result)
        write(results, arguments.images, arguments.calibration)
        print(
            f"{case.series:<24}{case.setting:<8}{result.crossbars:>5} crossbars "
            f"{result.simulated:>7.1%} simulated {result.in_float:>7.1%} float",
            flush=True,
        )


if __name__ == "__main__":
    main()
