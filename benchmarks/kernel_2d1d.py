"""ResNet-20 on CIFAR-10 with 2D and 1D kernels in place of 3D kernels, without retraining.

    python benchmarks/kernel_2d1d.py [--images 500] [--calibration 256]

For each share of the layers replaced (the last ones), and for a budget of half the crossbars:
accuracy by the simulator on mca128 and of the same graph in float, on the first test images, and
crossbars under sub-image mapping on arrays of 128 and 256 whose weights take two columns. Writes
benchmarks/kernel_2d1d.md and docs/kernel_2d1d.svg. Needs XBARC_DATA (a folder with
models/resnet20_cifar10.onnx and data/cifar10.npz).
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from compact import data

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.graph.attachments import attach, figures_of
from xbarc.graph.run import Session
from xbarc.hw.target import load_target
from xbarc.pipeline import load_registry, parse_passes, run_graph_passes

ROOT = Path(__file__).parents[1]
TARGET = "mca128"
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
TWO_COLUMNS = ("array.cell_bits=7", "inputs.dac_bits=8")
SIZES = (128, 256)
BUDGET = 41440
"""Half of what the whole network takes at 128, mapped by sub-image, unpacked."""
OPTIONS = {
    **{f"{ratio:g}": f"ratio={ratio}" for ratio in RATIOS},
    "budget": f"crossbars={BUDGET} mapping=sub-image",
}
MAPPINGS = {
    "unpacked": "sub-image",
    "packed": "sub-image{pack=channels}",
    "fewest": "sub-image{patch=fewest pack=channels}",
}


@dataclass(frozen=True)
class Result:
    """One line of the table. `crossbars` by (size, mapping): of the layers that the paper counts.

    `share` of the layers is replaced, so many of them; `im2col` are the crossbars of the whole
    network on TARGET, as it is simulated.
    """

    case: str
    replaced: int
    share: float
    im2col: int
    crossbars: dict[tuple[int, str], int]
    simulated: float
    in_float: float


def measure(case: str, calibration: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Result:
    model = load(Path(os.environ["XBARC_DATA"]) / "models" / "resnet20_cifar10.onnx")
    attach(model, {"input": calibration})
    shortcuts = {node.name for node in model.graph if is_pointwise(node)}
    text = f"fold-batchnorm,kernel-2d1d{{{OPTIONS[case]}}}"
    target = load_target(TARGET, TWO_COLUMNS)
    run_graph_passes(parse_passes(text, load_registry()).graph, model, target)
    figures = figures_of(model)["kernel-2d1d"]
    program = xbarc.compile(model, TARGET, calibration=calibration)
    crossbars = {
        (size, name): count(model, size, mapping, calibration[:2], shortcuts)
        for size in SIZES
        for name, mapping in MAPPINGS.items()
    }
    return Result(
        case,
        len(figures["replaced"]),
        len(figures["replaced"]) / figures["of"],
        program.cost()["totals"]["crossbars"],
        crossbars,
        float(np.mean(program.run(images)["logits"].argmax(1) == labels)),
        float(np.mean(Session(model).run({"input": images})["logits"].argmax(1) == labels)),
    )


def is_pointwise(node: ir.Node) -> bool:
    """A 1x1 convolution: of the network as trained, a shortcut."""
    return node.op_type == "Conv" and list(node.inputs[1].shape[2:]) == [1, 1]


def count(model: ir.Model, size: int, mapping: str, inputs: np.ndarray, shortcuts: set[str]) -> int:
    """Crossbars of the convolutions, shortcuts not counted."""
    target = load_target(f"mca{size}", TWO_COLUMNS)
    program = xbarc.compile(model, target, passes=mapping, calibration=inputs)
    return sum(
        la["crossbars"]
        for la in program.cost()["layers"]
        if la["op"] == "Conv" and la["name"] not in shortcuts
    )


def table(results: list[Result], images: int, calibration: int) -> str:
    whole = results[0].crossbars
    keys = [(size, name) for size in SIZES for name in MAPPINGS]
    lines = [
        "# ResNet-20 on CIFAR-10 with 2D and 1D kernels, without retraining",
        "",
        "Written by `python benchmarks/kernel_2d1d.py`. `kernel-2d1d{ratio=...}` replaces the last "
        f"layers. `kernel-2d1d{{crossbars={BUDGET} mapping=sub-image}}` (`budget`) replaces layers "
        "until half the crossbars are left, first those whose replacement moves the outputs least "
        f"for each crossbar saved. The fits and the calibration use {calibration} training images. "
        f"Accuracy is measured on the first {images} test images (one is {100 / images:.2g} "
        f"points): simulated on {TARGET} (mapped by im2col, saturating converters), and for the "
        "same graph in float.",
        "",
        "Crossbars are counted with sub-image mapping and two columns a weight "
        "(`array.cell_bits=7 inputs.dac_bits=8`). As in the paper, all convolutions count, the "
        "first one too, but not shortcuts and the fully connected layer. *Unpacked* puts one "
        "channel and one filter on a crossbar, *packed* as many as fit. *Fewest* "
        "(`patch=fewest pack=channels`) also chooses the size of sub-image that takes fewest "
        "crossbars. The two layers of stride 2 keep their stride. The percentages are relative to "
        "the network as trained.",
        "",
        "| share replaced | layers | accuracy, simulated | accuracy, float | "
        + " | ".join(f"{size}, {name}" for size, name in keys)
        + f" | {TARGET}, im2col |",
        "|---|---|---:|---:|" + "---:|" * (len(keys) + 1),
    ]
    for r in results:
        shares = (f"{r.crossbars[k]} ({r.crossbars[k] / whole[k]:.0%})" for k in keys)
        lines.append(
            f"| {r.case} | {r.replaced} | {r.simulated:.1%} | {r.in_float:.1%} | "
            + " | ".join(shares)
            + f" | {r.im2col} |"
        )
    lines += ["", *claims(results)]
    return "\n".join(lines) + "\n"


def claims(results: list[Result]) -> list[str]:
    """What the paper says, beside what was found."""
    by_case = {r.case: r for r in results}
    first, half, full, budget = (by_case[case] for case in ("0", "0.5", "1", "budget"))

    def share(r: Result, size: int, name: str) -> float:
        return r.crossbars[size, name] / first.crossbars[size, name]

    return [
        "| the paper (Oh, An, Min, Micromachines 14(2):309, 2023), with retraining | here |",
        "|---|---|",
        "| 2D + 1D kernels take almost 90 % fewer crossbars at 128, 95 % at 256 | "
        f"{1 - share(full, 128, 'unpacked'):.1%} and {1 - share(full, 256, 'unpacked'):.1%} "
        f"unpacked; {1 - share(full, 128, 'fewest'):.1%} and {1 - share(full, 256, 'fewest'):.1%} "
        "if all kernels are packed into the fewest crossbars |",
        "| half the layers replaced: half the crossbars | "
        f"{share(half, 128, 'unpacked'):.0%} at 128 and {share(half, 256, 'unpacked'):.0%} at 256 "
        f"unpacked; {share(half, 128, 'fewest'):.0%} and {share(half, 256, 'fewest'):.0%} packed "
        "into the fewest crossbars |",
        "| under 2 % of the recognition rate lost | without retraining, replacing half the layers "
        f"loses {100 * (first.simulated - half.simulated):.1f} points "
        f"({100 * (first.simulated - budget.simulated):.1f} if the budget chooses them), replacing "
        f"all {100 * (first.simulated - full.simulated):.1f}: **not reached** |",
    ]


# --- The plot -----------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 250, 40, 52


def plot(results: list[Result], images: int) -> str:
    """Accuracy, and the crossbars' share of the network as trained, over the share replaced."""
    first, by_budget = results[0], [r for r in results if r.case == "budget"]
    results = [r for r in results if r.case != "budget"]

    def shares(size: int, name: str) -> list[float]:
        return [r.crossbars[size, name] / first.crossbars[size, name] for r in results]

    lines = [
        ("accuracy, simulated", "#d1495b", "", [r.simulated for r in results]),
        ("accuracy, float", "#d1495b", "5 4", [r.in_float for r in results]),
        ("crossbars, 128", "#1b6ca8", "", shares(128, "unpacked")),
        ("crossbars, 128, fewest", "#1b6ca8", "5 4", shares(128, "fewest")),
        ("crossbars, 256", "#3c8d5a", "", shares(256, "unpacked")),
        ("crossbars, 256, fewest", "#3c8d5a", "5 4", shares(256, "fewest")),
    ]

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ratio

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

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
    for r in results:
        parts.append(text(x(r.share), HEIGHT - BOTTOM + 18, f"{float(r.case):.0%}"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, HEIGHT - 12, f"layers with 2D + 1D kernels ({images} images)"))
    for row, (name, colour, dashes, values) in enumerate(lines):
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        points = " ".join(
            f"{x(r.share):.1f},{y(v):.1f}" for r, v in zip(results, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" {style}/>')
        for r, v in zip(results, values, strict=True):
            circle = f'<circle cx="{x(r.share):.1f}" cy="{y(v):.1f}" r="3.5" fill="{colour}"'
            parts.append(f"{circle}><title>{name}: {v:.1%}</title></circle>")
        left, at = WIDTH - RIGHT + 16, TOP + 10 + 20 * row
        parts.append(f'<path d="M{left} {at - 4}h26" {style}/>')
        parts.append(text(left + 34, at, name, "start"))
    for r in by_budget:
        left, at = WIDTH - RIGHT + 16, TOP + 10 + 20 * len(lines)
        for value in (r.simulated, r.crossbars[128, "unpacked"] / first.crossbars[128, "unpacked"]):
            parts.append(cross(x(r.share), y(value), f"{r.case}: {value:.1%}"))
        parts += [
            cross(left + 13, at - 4, r.case),
            text(left + 34, at, "by a budget (128, unpacked)", "start"),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def cross(x: float, y: float, title: str) -> str:
    path = f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="black" stroke-width="2">'
    return f"{path}<title>{title}</title></path>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--calibration", type=int, default=256)
    arguments = parser.parse_args()
    if "XBARC_DATA" not in os.environ:
        print("XBARC_DATA isn't set: nothing to measure")
        return
    calibration, images, labels = data(arguments.calibration, arguments.images)
    results: list[Result] = []
    for case in OPTIONS:
        results.append(measure(case, calibration, images, labels))
        last = results[-1]
        print(
            f"{case:<8}{last.replaced:>3} layers {last.simulated:>7.1%} simulated "
            f"{last.in_float:>7.1%} float {last.crossbars}",
            flush=True,
        )
    text = table(results, arguments.images, arguments.calibration)
    (ROOT / "benchmarks" / "kernel_2d1d.md").write_text(text, encoding="utf-8")
    (ROOT / "docs" / "kernel_2d1d.svg").write_text(plot(results, arguments.images), "utf-8")


if __name__ == "__main__":
    main()
