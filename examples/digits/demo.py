"""Compile the digits network for mca128, run the held-out digits, and compare with float.

`make demo` runs this. Files go to `build/digits/` of the working directory.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import data
import numpy as np
import onnxruntime as ort

MODEL = Path(os.path.relpath(Path(__file__).parent / "digits.onnx"))
BUILD = Path("build/digits")
CALIBRATION_IMAGES = 256


def xbarc(*arguments: str | Path) -> str:
    """Run an `xbarc` command as a user would type it; what it prints on stdout.

    Its progress and errors are seen as they come; an error ends the demo with its exit code.
    """
    command = [str(a) for a in arguments]
    print("$ xbarc", *command, flush=True)
    program = Path(sys.executable).parent / "xbarc"
    width = max(shutil.get_terminal_size((0, 0)).columns, 110)  # of a table, which goes to a pipe
    done = subprocess.run(
        [program, *command],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(width)},
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    """The main job on real data."""
    train_x, test_x, _, test_y = data.load()
    BUILD.mkdir(parents=True, exist_ok=True)
    calibration, images = BUILD / "calibration.npz", BUILD / "held_out.npz"
    program = BUILD / "digits.xbar"
    np.savez(calibration, image=train_x[:CALIBRATION_IMAGES])
    np.savez(images, image=test_x, y=test_y)

    print(
        xbarc("compile", MODEL, "--target", "mca128", "--calibration", calibration, "-o", program),
        end="",
    )
    told = json.loads(xbarc("run", program, "--input", images, "--labels", "y", "--json"))
    logits = ort.InferenceSession(MODEL).run(["logits"], {"image": test_x})[0]
    print(f"\naccuracy on {told['samples']} held-out handwritten digits")
    print(f"  float, onnxruntime   {np.mean(logits.argmax(1) == test_y):8.2%}")
    print(f"  crossbars, mca128    {told['accuracy']:8.2%}\n")
    print(xbarc("cost", program), end="")
    print(f"\nthe compiled program is {program}/ : look at program.mlir and report.json in it,")
    print(f"or ask for more: xbarc report {program} -o build/digits/report.html")


if __name__ == "__main__":
    main()
