"""ResNet-20 over 3 to 9 converter bits in three modes, 500 images of CIFAR-10: docs/sweep.svg.

    XBARC_DATA=FOLDER python benchmarks/sweep.py

One `xbarc sweep`, which is printed, and the seconds that it takes.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
OPTIONS = (
    *("--target", "mca128", "--calibration", "calibration.npz"),
    *("--input", "test.npz", "--labels", "y"),
    *("--vary", "adc.bits=3:9", "--vary", "adc.mode=saturate,full-scale,calibrated"),
    *("-o", "sweep"),
)


def main() -> None:
    """Write the data as the network was trained on them, sweep, and keep the plot."""
    data = Path(os.environ["XBARC_DATA"])
    stored = np.load(data / "data" / "cifar10.npz")

    def images(part: str, count: int) -> np.ndarray:
        pixels = stored[part][:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return (pixels - MEAN) / STD

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "calibration.npz"), input=images("x_train", 256))
        np.savez(Path(folder, "test.npz"), input=images("x_test", 500), y=stored["y_test"][:500])
        words = ["sweep", str(data / "models" / "resnet20_cifar10.onnx"), *OPTIONS]
        print("xbarc", shlex.join(words), flush=True)
        began = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "xbarc", *words], check=True, cwd=folder)
        print(f"{time.perf_counter() - began:.0f} s")
        shutil.copy(Path(folder, "sweep", "accuracy-adc.bits.svg"), ROOT / "docs" / "sweep.svg")


if __name__ == "__main__":
    main()
