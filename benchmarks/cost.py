"""Time and peak memory of `xbarc cost` on compiled ResNet-50 and VGG-19, for every target.

    python benchmarks/cost.py [TARGET ...]

Both networks come with the onnx package. The least of three runs: of the clock, and of the time
that the processor worked, which other programs on the machine change less.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx.backend.test

from xbarc.hw.target import target_names

RUNS = 3


def run(command: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak megabytes, of one run of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed with exit code {os.waitstatus_to_exitcode(status)}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(targets: list[str]) -> None:
    light = Path(onnx.backend.test.__file__).parent / "data" / "light"
    xbarc = str(Path(sys.executable).parent / "xbarc")
    print(f"{'xbarc cost':<12}{'target':<12}{'s':>8}{'CPU s':>8}{'max MB':>10}")
    for name in ("resnet50", "vgg19"):
        for target in targets:
            with tempfile.TemporaryDirectory() as folder:
                out = str(Path(folder) / "out.xbar")
                model = str(light / f"light_{name}.onnx")
                subprocess.run(
                    [xbarc, "compile", model, "--target", target, "-o", out],
                    check=True,
                    capture_output=True,
                )
                runs = [run([xbarc, "cost", out]) for _ in range(RUNS)]
            seconds, worked, peak = (min(values) for values in zip(*runs, strict=True))
            print(
                f"{name:<12}{target:<12}{seconds:>8.2f}{worked:>8.2f}{peak:>10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or target_names())
