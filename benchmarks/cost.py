"""Time and peak memory of `xbarc cost` on compiled ResNet-50 and VGG-19, for every target.

    python benchmarks/cost.py

Both networks come with the onnx package.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx.backend.test
from compile import measure

from xbarc.hw.target import target_names


def main() -> None:
    light = Path(onnx.backend.test.__file__).parent / "data" / "light"
    xbarc = str(Path(sys.executable).parent / "xbarc")
    print(f"{'xbarc cost':<12}{'target':<12}{'s':>8}{'max MB':>10}")
    for name in ("resnet50", "vgg19"):
        for target in target_names():
            with tempfile.TemporaryDirectory() as folder:
                out = str(Path(folder) / "out.xbar")
                model = str(light / f"light_{name}.onnx")
                subprocess.run(
                    [xbarc, "compile", model, "--target", target, "-o", out],
                    check=True,
                    capture_output=True,
                )
                seconds, peak = measure([xbarc, "cost", out])
            print(f"{name:<12}{target:<12}{seconds:>8.2f}{peak:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
