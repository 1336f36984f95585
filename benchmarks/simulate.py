"""Images a second of the functional simulator on ResNet-20, beside this machine's sgemm rate.

    python benchmarks/simulate.py [--images 320] [--rounds 3]

mca128: 128 x 128 arrays, 4 slices of 2 bits, bit-serial inputs, 8-bit converters. Needs XBARC_DATA
(a folder with models/resnet20_cifar10.onnx and data/cifar10.npz); without it, the digits network of
`examples/` runs instead. Rounds alternate between the settings; each figure is the best of them.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

import xbarc
from xbarc.simulator.interpreter import Simulator
from xbarc.simulator.noise import engine_for

WHOLE = ["array.cell_bits=7", "inputs.dac_bits=8", "adc.mode=calibrated", "adc.subtract=analog"]
FULL_SCALE = ["adc.mode=full-scale"]

SETTINGS = {
    "saturating ADC": ("", [], ""),
    "full-scale ADC": ("", FULL_SCALE, ""),
    "offset encoding, saturating ADC": ("", ["array.encoding=offset"], ""),
    "4-bit inputs a step, full-scale ADC": ("", ["inputs.dac_bits=4", *FULL_SCALE], ""),
    "kernel-first, saturating ADC": ("kernel-first", [], ""),
    "kernel-first, full-scale ADC": ("kernel-first", FULL_SCALE, ""),
    "whole weights and inputs, calibrated ADC": ("", WHOLE, ""),
    "whole, 5 % programming error": ("", WHOLE, "programming{sigma=0.05}"),
    "whole, 2 % read noise": ("", WHOLE, "read{sigma=0.02}"),
    "whole, wires of 1 ohm": ("", WHOLE, "wire{row=1.0 col=1.0}"),
    "full-scale ADC, 5 % programming error": ("", FULL_SCALE, "programming{sigma=0.05}"),
    "full-scale ADC, both": ("", FULL_SCALE, "programming{sigma=0.05},read{sigma=0.02}"),
}
"""Passes, target keys, and what is wrong with devices."""


def network() -> tuple[Path, np.ndarray, np.ndarray]:
    """A model, calibration images and test images."""
    if "XBARC_DATA" not in os.environ:
        print("XBARC_DATA isn't set: the digits network instead of ResNet-20")
        model = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
        rng = np.random.default_rng(0)
        images = rng.random((4096, 1, 8, 8), dtype=np.float32)
        return model, images[:256], images
    root = Path(os.environ["XBARC_DATA"])
    with np.load(root / "data" / "cifar10.npz") as file:
        train, test = file["x_train"][:256], file["x_test"][:2000]
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return ((pixels / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2).copy()

    return root / "models" / "resnet20_cifar10.onnx", prepare(train), prepare(test)


def sgemm_gflops() -> float:
    """This machine's rate for 1024 x 1024 x 1024, all cores."""
    a = np.ones((1024, 1024), np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best * 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model, calibration, images = network()
    images = images[: arguments.images]
    simulators = {}
    for name, (passes, overrides, noise) in SETTINGS.items():
        program = xbarc.compile(
            model, "mca128", passes=passes, calibration=calibration, overrides=overrides
        )
        simulators[name] = Simulator(program, engine=engine_for(program, noise))
        (only,) = simulators[name].inputs
        simulators[name].run({only.name: images[:32]})  # the kernels compile
    rates = dict.fromkeys(simulators, 0.0)
    gflops = 0.0
    for _ in range(arguments.rounds):
        gflops = max(gflops, sgemm_gflops())
        for name, simulator in simulators.items():
            start = time.perf_counter()
            # Converting each sum with noise takes a while: fewer images say as much.
            some = images[: max(1, len(images) // (4 if name.endswith("both") else 1))]
            simulator.run({simulator.inputs[0].name: some})
            rates[name] = max(rates[name], len(some) / (time.perf_counter() - start))
    print(f"{model.name}, mca128, {len(images)} images; sgemm {gflops:.0f} GFLOP/s")
    print(f"{'':<40}{'images/s':>10}{'images/s per sgemm TFLOP/s':>30}")
    for name, rate in rates.items():
        print(f"{name:<40}{rate:>10.1f}{rate / gflops * 1e3:>30.0f}")


if __name__ == "__main__":
    main()
