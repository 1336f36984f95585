"""Time and peak memory of `xbarc compile`, the whole process, and the size of the tile IR.

    python benchmarks/compile.py

ResNet-20 needs XBARC_DATA (a folder with models/resnet20_cifar10.onnx); VGG-19, 143 M weights, is
part of the onnx package.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx.backend.test

RUNS = 5


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of one run of a command."""
    # A child of its own, because ru_maxrss of all children is the largest of them so far.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        os.write(writer, f"{seconds} {peak} {done.returncode}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        seconds, peak, code = result.read().split()
    os.waitpid(pid, 0)
    if code != "0":
        sys.exit(f"{' '.join(command)} failed with exit code {code}")
    return float(seconds), float(peak)


def main() -> None:
    light = Path(onnx.backend.test.__file__).parent / "data" / "light"
    models = [light / "light_vgg19.onnx"]
    if "XBARC_DATA" in os.environ:
        models.insert(0, Path(os.environ["XBARC_DATA"]) / "models" / "resnet20_cifar10.onnx")
    else:
        print("XBARC_DATA isn't set: no ResNet-20")
    xbarc = Path(sys.executable).parent / "xbarc"
    print(f"{'xbarc compile --target mca128':<32}{'median s':>10}{'max MB':>10}{'IR kB':>10}")
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.xbar"
            command = [str(xbarc), "compile", str(model), "--target", "mca128", "-o", str(out)]
            measure(command)
            runs = [measure(command) for _ in range(RUNS)]
            text = (out / "program.mlir").stat().st_size
        seconds = sorted(s for s, _ in runs)[RUNS // 2]
        peak = max(p for _, p in runs)
        print(f"{model.name:<32}{seconds:>10.2f}{peak:>10.0f}{text / 1000:>10.1f}")


if __name__ == "__main__":
    main()
