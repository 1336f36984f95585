"""Sub-images and windows: counts beside the published ones, and the speed of simulating them.

    python benchmarks/windows.py [--images 64] [--rounds 5]

Counts are the event counter's, of modules without a network around them. Speed is ResNet-20's on
the functional simulator, each mapping against im2col: simulators of one setting take turns in one
process, and a ratio is the median over the rounds. Writes benchmarks/windows.md. Without XBARC_DATA
(a folder with models/resnet20_cifar10.onnx and data/cifar10.npz) the digits network of `examples/`
is timed instead.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from simulate import network

import xbarc
from xbarc.cost.events import LayerEvents, count_events
from xbarc.hw.target import Target, load_target
from xbarc.ir import parse_module
from xbarc.ir.dialect import CrossbarAttr
from xbarc.pipeline import XbarContext, load_registry, parse_passes, run_module_passes
from xbarc.simulator.interpreter import Simulator

ROOT = Path(__file__).parents[1]

Layer = tuple[int, int, int, int, int, int]
"""A square convolution: size, kernel, channels, filters, groups, padding."""

MAPPINGS = {
    "sub-image": "sub-image",
    "sub-image, packed": "sub-image{pack=channels}",
    "sdk": "window{scheme=sdk}",
    "vw-sdk": "window{scheme=vw-sdk}",
}
SETTINGS = {
    "mca128, lossless": ("mca128", ["adc.mode=lossless"]),
    "mca128, saturating ADC": ("mca128", []),
    "mca256, lossless": ("mca256", ["adc.mode=lossless"]),
    "mca256, saturating ADC": ("mca256", []),
    "mca128, two columns a weight, saturating ADC": (
        "mca128",
        ["array.cell_bits=7", "inputs.dac_bits=8"],
    ),
}

RESNET20 = [(1, 32, 3, 16), (6, 32, 16, 16), (1, 16, 16, 32), (5, 16, 32, 32)]
RESNET20 += [(1, 8, 32, 64), (5, 8, 64, 64)]
"""How many, output size, channels, filters."""
SUB_IMAGES = {
    128: [(768, 768), (4096, 512), (2048, 192), (4096, 256), (2048, 96), (4096, 128)],
    256: [(432, 432), (2304, 272), (2048, 128), (4096, 192), (2048, 64), (4096, 96)],
}
"""Crossbars of each of these lines by the formulas: 3D, and 2D + 1D (the first layer is kept)."""

RESNET18 = [(112, 7, 3, 64), (56, 3, 64, 64), (28, 3, 128, 128), (14, 3, 256, 256)]
RESNET18 += [(7, 3, 512, 512)]
VGG13 = [(224, 3, 3, 64), (224, 3, 64, 64), (112, 3, 64, 128), (112, 3, 128, 128)]
VGG13 += [(56, 3, 128, 256), (56, 3, 256, 256), (28, 3, 256, 512), (28, 3, 512, 512)]
VGG13 += [(14, 3, 512, 512)] * 2
"""Size, kernel, channels, filters."""
SCHEMES = ("im2col", "sdk", "vw-sdk")
TOTALS = {
    ("ResNet-18", 512): (20041, 7240, 4294),
    ("ResNet-18", 256): (25560, 17133, 10287),
    ("ResNet-18", 128): (51920, 51920, 36310),
    ("VGG-13", 512): (243736, 114697, 77102),
}
"""Cycles as Rhe et al. (DATE 2022) publish them."""
PARTS = {
    "ResNet-18": ["11236/2809/1431", "5832/1458/1458", "2028/2028/676", "720/720/504"],
    "VGG-13": [
        *["49284/12321/6216", "98568/24642/24642", "24200/6050/6050", "36300/36300/12100"],
        *["8748/8748/5832", "14580/14580/10206"],
    ],
}
"""The same by layer, at 512."""


def counted(target: Target, layers: Sequence[Layer], passes: str) -> list[LayerEvents]:
    """The events of square convolutions of zeros."""
    weights, body, arguments = [], [], []
    arrays = {}
    for i, (size, kernel, channels, filters, groups, pad) in enumerate(layers):
        out = size + 2 * pad - kernel + 1
        arrays[f"c{i}"] = np.zeros((channels // groups * kernel**2, filters), np.int8)
        taken, given = f"tensor<?x{channels}x{size}x{size}xui8>", f"?x{filters}x{out}x{out}xsi32"
        rows = channels // groups * kernel**2
        weights.append(f"xbar.weights @c{i} : {rows}x{filters}xi8 groups {groups}")
        arguments.append(f"%x{i}: {taken}")
        body.append(
            f"%y{i} = xbar.conv %x{i}, @c{i} window [{kernel}, {kernel}] pads {[pad] * 4} : "
            f"{taken} -> tensor<{given}>"
        )
    lines = [*weights, f"func.func @main({', '.join(arguments)}) {{", *body, "func.return", "}"]
    module = parse_module("\n".join(["builtin.module {", *lines, "}"]))
    module.attributes["xbar.crossbar"] = CrossbarAttr.of(target.array)
    run_module_passes(parse_passes(passes, load_registry()).mapping, XbarContext(target), module)
    return count_events(module, arrays, target)


def two_columns(size: int) -> Target:
    """A cell a polarity: how Oh et al. count."""
    return load_target(f"mca{size}", ["array.cell_bits=7", "inputs.dac_bits=8"])


def one_column(size: int) -> Target:
    """One column a weight: how the window mappings count."""
    arrays = [f"array.rows={size}", f"array.cols={size}"]
    return load_target("mca128", [*arrays, "array.encoding=offset", "array.cell_bits=8"])


def sub_images(size: int) -> Iterator[str]:
    """ResNet-20's table for one crossbar size."""
    target, formulas = two_columns(size), SUB_IMAGES[size]
    cubes = [(side, 3, c, f, 1, 1) for _, side, c, f in RESNET20]
    flats = [(side, 3, c, c, c, 1) for _, side, c, _ in RESNET20[1:]]
    lines = [(side, 1, c, f, 1, 0) for _, side, c, f in RESNET20[1:]]
    in_3d = [e.crossbars for e in counted(target, cubes, "sub-image")]
    split = {}
    for pack in ("none", "channels"):
        passes = f"sub-image{{pack={pack}}}"
        parts = zip(counted(target, flats, passes), counted(target, lines, passes), strict=True)
        split[pack] = [in_3d[0], *((a.crossbars, b.crossbars) for a, b in parts)]
    total_3d, total, packed = 0, 0, 0
    for i, (times, side, channels, filters) in enumerate(RESNET20):
        halves = split["none"][i]
        both = np.sum(halves)
        total_3d += times * in_3d[i]
        total += times * both
        packed += times * np.sum(split["channels"][i])
        shown = "kept" if i == 0 else " + ".join(map(str, halves))
        yield (
            f"| {times}x {side}x{side}, {channels}->{filters} | {in_3d[i]} | {formulas[i][0]} | "
            f"{both} ({shown}) | {formulas[i][1]} |"
        )
    sums = [
        sum(times * counts[k] for (times, *_), counts in zip(RESNET20, formulas, strict=True))
        for k in (0, 1)
    ]
    saved = f"-{1 - total / total_3d:.1%}; 2D packed {packed}, -{1 - packed / total_3d:.1%}"
    yield f"| total | {total_3d} | {sums[0]} | {total} ({saved}) | {sums[1]} |"


def packed_baseline() -> str:
    """64 -> 64 on 32 x 32 at 128, the 3D kernels packed too."""
    target = two_columns(128)
    (cube,) = counted(target, [(32, 3, 64, 64, 1, 1)], "sub-image{patch=fewest pack=channels}")
    flat, line = counted(target, [(32, 3, 64, 64, 64, 1), (32, 1, 64, 64, 1, 0)], "sub-image")
    both = flat.crossbars + line.crossbars
    return (
        f"64->64 on 32x32 at 128, as many channels and filters a crossbar as fit (`patch=fewest "
        f"pack=channels`): 3D {cube.crossbars}, 2D + 1D {both}, -{1 - both / cube.crossbars:.0%}."
    )


def windows(name: str, network: Sequence[tuple[int, int, int, int]]) -> Iterator[str]:
    """Cycles of a network by layer at 512, then in all."""
    layers = [(*layer, 1, 0) for layer in network]
    for size in (512, 256, 128):
        by_scheme = [
            [e.activations for e in counted(one_column(size), layers, f"window{{scheme={scheme}}}")]
            for scheme in SCHEMES
        ]
        if size == 512:
            for i, found in enumerate(zip(*by_scheme, strict=True)):
                side, kernel, channels, filters = network[i]
                published = PARTS[name][i] if i < len(PARTS[name]) else "–"
                yield (
                    f"| {name}, {side}x{side} {kernel}x{kernel}x{channels}x{filters} | {size} | "
                    f"{'/'.join(map(str, found))} | {published} |"
                )
        known = TOTALS.get((name, size))
        yield (
            f"| **{name}** | {size} | {'/'.join(str(sum(s)) for s in by_scheme)} | "
            f"{'–' if known is None else '/'.join(map(str, known))} |"
        )


def speeds(images: int, rounds: int) -> tuple[str, list[str]]:
    """What was timed, and a line a setting: images/s of im2col, the others against it."""
    model, calibration, pictures = network()
    pictures = pictures[:images]
    lines = []
    for name, (target, overrides) in SETTINGS.items():
        simulators: dict[str, Simulator] = {}
        conversions: dict[str, int] = {}
        for mapping, passes in {"im2col": "", **MAPPINGS}.items():
            program = xbarc.compile(
                model, target, passes=passes, calibration=calibration, overrides=overrides
            )
            simulators[mapping] = Simulator(program)
            conversions[mapping] = program.report["totals"]["adc_conversions"]
        times = timed(simulators, pictures, rounds)
        cells = [
            f"{median(a / b for a, b in zip(times['im2col'], times[mapping], strict=True)):.2f} "
            f"({conversions[mapping] / conversions['im2col']:.1f})"
            for mapping in MAPPINGS
        ]
        rate = len(pictures) / min(times["im2col"])
        lines.append(f"| {name} | {rate:.0f} | {' | '.join(cells)} |")
    return f"{model.name}, {len(pictures)} images", lines


def timed(
    simulators: Mapping[str, Simulator], pictures: Any, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each simulator in each round."""
    times: dict[str, list[float]] = {name: [] for name in simulators}
    for simulator in simulators.values():
        simulator.run({simulator.inputs[0].name: pictures[:16]})  # the kernels compile
    for _ in range(rounds):
        for name, simulator in simulators.items():
            start = time.perf_counter()
            simulator.run({simulator.inputs[0].name: pictures})
            times[name].append(time.perf_counter() - start)
    return times


def document(images: int, rounds: int) -> Iterator[str]:
    """The lines of benchmarks/windows.md."""
    yield "# Sub-images and windows: counts and simulation speed"
    yield ""
    yield (
        "Written by `python benchmarks/windows.py`. The counts come from the event counter "
        "(`xbarc cost`). Published figures stand beside them."
    )
    yield "\n## Sub-images: crossbars of ResNet-20's layers, each taken at stride 1\n"
    yield (
        "Two columns a weight (`array.cell_bits=7`, `inputs.dac_bits=8`). The formulas are our "
        "model of Oh, An, Min (Micromachines 2023). The paper says: almost 90 % less at 128, 95 % "
        "at 256."
    )
    for size in SUB_IMAGES:
        yield f"\n| {size} x {size} | 3D | formula | 2D + 1D | formula |"
        yield "|---|---:|---:|---:|---:|"
        yield from sub_images(size)
    yield ""
    yield packed_baseline()
    for size, (count, rows) in {128: (16, 1156), 256: (9, 1024)}.items():
        (mnist,) = counted(two_columns(size), [(28, 3, 1, 1, 1, 0)], "sub-image")
        yield (
            f"\nMNIST, 28x28, 3x3 valid, one filter, {size}: {mnist.crossbars} crossbars "
            f"({count}), {mnist.row_pulses} rows in all ({rows})."
        )
    yield "\n## Windows: computing cycles\n"
    yield (
        "One column a weight (`array.encoding=offset`, `array.cell_bits=8`), no padding. Each "
        "entry is im2col/SDK/VW-SDK. Published: Rhe et al., DATE 2022."
    )
    yield "\n| | crossbar | ours | published |"
    yield "|---|---:|---:|---:|"
    yield from windows("ResNet-18", RESNET18)
    yield from windows("VGG-13", VGG13)
    what, lines = speeds(images, rounds)
    yield "\n## Simulation speed\n"
    yield (
        f"{what}. The first column is im2col's images/s in its best round. The others are each "
        f"mapping's speed relative to im2col: the median of {rounds} paired rounds. All mappings "
        "do the same products, so this is also the relative speed of an operation. In brackets: "
        "ADC conversions relative to im2col's. The simulator runs lossy conversions one by one. A "
        "sub-image with one channel a crossbar converts a partial sum for each channel."
    )
    yield f"\n| | im2col, images/s | {' | '.join(MAPPINGS)} |"
    yield f"|---|---:|{'---:|' * len(MAPPINGS)}"
    yield from lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    text = "\n".join(document(arguments.images, arguments.rounds)) + "\n"
    (ROOT / "benchmarks" / "windows.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
