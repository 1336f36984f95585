"""Accuracy at eight bits: xbarc beside onnxruntime's static quantiser, and each step alone.

    python benchmarks/quantise.py [NAME...] [--images N]

Signal-to-noise ratio of each output against the float network, on images that neither quantiser
saw. Both have the same calibration data, 8-bit activations and 8-bit weights with a scale for each
output channel. onnxruntime: `quantize_static`, QDQ, u8 activations, s8 weights, behind its own
preprocessing; its model runs in float between Q and DQ, since some processors saturate otherwise.
xbarc: mca128 with lossless converters. Networks: four small ones (`tests/small_networks.py`), and
the models of XBARC_DATA where that is set. Without names it writes benchmarks/quantise.md.
`--images`: calibration images of the small networks.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import xbarc
from xbarc.graph.run import session_options
from xbarc.support.data import Array

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from small_networks import NETWORKS, images  # noqa: E402  they stand with the tests

OFF: dict[str, Any] = {"rounding": "nearest", "bias_correction": False, "equalize": False}
STEPS: dict[str, dict[str, Any]] = {
    "nothing": OFF,
    "ranges": {**OFF, "ranges": "least-squares"},
    "biases": {**OFF, "bias_correction": True},
    "rounding": {**OFF, "rounding": "output"},
    "equalize": {**OFF, "equalize": True},
    "all": {},
    "all, ranges": {"ranges": "least-squares"},
    "all, further": {"ranges": "further-sample"},
}
SHORT = ("nothing", "all", "all, further")
"""What is measured of the shared models."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)


@dataclass(frozen=True)
class Case:
    """A network: its file, calibration and test data, and shapes that must be fixed."""

    name: str
    path: Path
    calibration: Array
    test: Array
    shapes: Mapping[str, list[int]]


# --- Networks and data ----------------------------------------------------------------------------


def small_cases(names: list[str], count: int, folder: Path) -> Iterator[Case]:
    """The small networks, or those of them that are named."""
    for name, build in NETWORKS.items():
        if not names or name in names:
            path = folder / f"{name}.onnx"
            onnx.save(build(), path)
            yield Case(name, path, images(count, seed=100), images(32, seed=101), {})


def shared_cases(names: list[str]) -> Iterator[Case]:
    """The models of XBARC_DATA, or those of them that are named; none where it isn't set."""
    root = os.environ.get("XBARC_DATA")
    for name, make in SHARED.items() if root else ():
        if not names or name in names:
            shapes = {"x": [1, 3, 48, 192]} if name == "ppocr_cls_se" else {}
            path = Path(str(root)) / "models" / f"{name}.onnx"
            yield Case(name, path, make(False), make(True), shapes)


def stored(file: str, key: str) -> Array:
    return np.load(Path(os.environ["XBARC_DATA"]) / file)[key]


def photos(count: int, channels: int, height: int, width: int, *, test: bool) -> Array:
    """CIFAR-10 images, four side by side, enlarged: edges of all sizes, 0 to 255."""
    small = stored("data/cifar10.npz", "x_test" if test else "x_train")
    rng = np.random.default_rng(int(test))
    made = np.empty((count, channels, height, width), np.float32)
    for image in made:
        a, b, c, d = small[rng.integers(len(small), size=4)].astype(np.float64)
        joined = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)
        image[:] = enlarged(joined, height, width).transpose(2, 0, 1)[:channels]
    return made


def enlarged(image: Array, height: int, width: int) -> Array:
    """Bilinear interpolation of [rows, columns, channels]."""
    for axis, size in enumerate((height, width)):
        old = image.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.minimum(at.astype(int), old - 2)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        image = image.take(low, axis) * (1 - share) + image.take(low + 1, axis) * share
    return image


def part(test: bool) -> str:
    return "x_test" if test else "x_train"


SHARED: dict[str, Callable[[bool], Array]] = {
    "micro_kws_fp32": lambda test: (
        26 * images(32, 49, 1, seed=10 + test)[:, 0, :, :40].reshape(32, 1960)
    ),
    "mnist-8": lambda test: (
        stored("data/mnist.npz", part(test))[:32].reshape(32, 1, 28, 28).astype(np.float32)
    ),
    "mnist_mlp_256x4": lambda test: (
        stored("data/mnist.npz", part(test))[:32].reshape(32, 784, 1).astype(np.float32) / 255
    ),
    "mobilenetv1_025_vww96": lambda test: photos(32, 3, 96, 96, test=test) / 255,
    "ppocr_cls_se": lambda test: photos(32, 3, 48, 192, test=test) / 127.5 - 1,
    "resnet20_cifar10": lambda test: (
        (stored("data/cifar10.npz", part(test))[:32].transpose(0, 3, 1, 2) / 255 - MEAN) / STD
    ).astype(np.float32),
    "super_resolution": lambda test: photos(3 if test else 8, 1, 224, 224, test=test) / 255,
    "ultraface_slim_320": lambda test: (
        (photos(4 if test else 16, 3, 240, 320, test=test) - 127) / 128
    ),
    "unet_sed": lambda test: stored("models/unet_sed_data/pairs.npz", "x")[int(test) :: 2][:4],
}


# --- The two quantisers ---------------------------------------------------------------------------


def outputs(path: Path, x: Array) -> dict[str, Array]:
    """What onnxruntime gives, one static batch after the other."""
    options, providers = session_options(1), ["CPUExecutionProvider"]
    session = ort.InferenceSession(str(path), options, providers=providers)
    given = session.get_inputs()[0]
    step = given.shape[0] if isinstance(given.shape[0], int) else len(x)
    parts = [session.run(None, {given.name: x[i : i + step]}) for i in range(0, len(x), step)]
    names = [o.name for o in session.get_outputs()]
    return {n: np.concatenate([p[i] for p in parts]) for i, n in enumerate(names)}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples one by one."""

    def __init__(self, name: str, x: Array) -> None:
        self.left = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self) -> dict[str, Array] | None:
        """The next sample."""
        return next(self.left, None)


def onnxruntime_quantised(case: Case, folder: Path) -> dict[str, Array]:
    """The outputs of onnxruntime's quantised model."""
    model = onnx.load(case.path)
    if model.opset_import[0].version < 13:  # scales for each channel need it
        model = onnx.version_converter.convert_version(model, 13)
    stored_names = {tensor.name for tensor in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in stored_names]:
        model.graph.input.remove(value)
    raw, ready, made = (folder / name for name in ("raw.onnx", "ready.onnx", "quantised.onnx"))
    onnx.save(model, raw)
    quant_pre_process(str(raw), str(ready), skip_symbolic_shape=True)
    for source in (ready, raw):
        try:
            quantize_static(
                str(source),
                str(made),
                Reader(model.graph.input[0].name, case.calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            break
        except ValueError:  # its bias code stumbles over mnist-8's fused Add: then without fusing
            continue
    return outputs(made, case.test)


def xbarc_quantised(case: Case, **options: Any) -> dict[str, Array]:
    """The outputs of the program."""
    program = xbarc.compile(
        case.path,
        "mca128",
        overrides=["adc.mode=lossless"],
        calibration=case.calibration,
        input_shapes=case.shapes,
        **options,
    )
    return program.run(case.test)


def snr_db(want: Array, found: Array) -> float:
    """Signal-to-noise ratio."""
    wide = want.astype(np.float64)
    return float(10 * np.log10(np.square(wide).sum() / np.square(wide - found).sum()))


# --- The page -------------------------------------------------------------------------------------

HEAD = """# Accuracy at eight bits

Written by `python benchmarks/quantise.py`. Signal-to-noise ratio in dB of each output
against the float network, on images outside the calibration data; 8-bit inputs and weights on both
sides. `ort`: onnxruntime's `quantize_static` (QDQ, u8/s8, per channel). `all` is what
`xbarc compile --calibration` does; the columns before it do one thing alone (docs/numerics.md,
Fitting codes to calibration data), `nothing` none. `all, ranges`: all, and least-squares ranges;
`all, further`: all, and `--ranges further-sample`.
"""
TABLES = {
    "Four small networks": (
        "Made by `tests/small_networks.py`, 32 calibration images. In hard-swish blocks these\n"
        "don't show what others need: with codes of 12 bits `logits` is at 13.1 dB still. With\n"
        "128 (`python benchmarks/quantise.py 'hard-swish blocks' --images 128`) it is 8.0 dB by\n"
        "ort and 17.4 by all, `map` 7.2 and 14.6."
    ),
    "The shared models": (
        "Those of `XBARC_DATA`, 32 calibration samples; ultraface 16, super_resolution 8, unet_sed "
        "4. Below\n8 samples nothing is fitted by default: there `--ranges further-sample` helps."
    ),
}


def measured(case: Case, steps: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, list[float]]]:
    """For each output its name, and its ratio by onnxruntime and by each of `steps`."""
    want = outputs(case.path, case.test)
    with tempfile.TemporaryDirectory() as folder:
        found = [onnxruntime_quantised(case, Path(folder))]
    found += [xbarc_quantised(case, **options) for options in steps.values()]
    for name, wanted in want.items():
        yield name, [snr_db(wanted, one[name]) for one in found]


def table(steps: Mapping[str, dict[str, Any]], found: Iterator[Case]) -> list[str]:
    """A row an output, printed as it is measured; nothing where there is no case."""
    columns = ["network", "output", "ort", *steps]
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for case in found:
        if len(lines) == 2:
            print("\n".join(lines))
        for output, ratios in measured(case, steps):
            figures = " | ".join(f"{ratio:.1f}" for ratio in ratios)
            lines.append(f"| {case.name} | {output} | {figures} |")
            print(lines[-1], flush=True)
    return lines if len(lines) > 2 else []


def main() -> None:
    """Measure, print as it goes, and write the page where all was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--images", type=int, default=32)
    asked = parser.parse_args()
    names = asked.names
    logging.disable(logging.WARNING)
    short = {name: STEPS[name] for name in SHORT}
    with tempfile.TemporaryDirectory() as folder:
        tables = [
            table(STEPS, small_cases(names, asked.images, Path(folder))),
            table(short, shared_cases(names)),
        ]
    if not names and asked.images == 32:
        texts = [
            f"## {title}\n\n{about}\n\n" + "\n".join(lines)
            for (title, about), lines in zip(TABLES.items(), tables, strict=True)
            if lines
        ]
        (ROOT / "benchmarks" / "quantise.md").write_text("\n\n".join([HEAD.strip(), *texts]) + "\n")


if __name__ == "__main__":
    main()
