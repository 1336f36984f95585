"""Accuracy of ResNet-20 on CIFAR-10 under what can be wrong with devices, as tables.

    python benchmarks/devices.py [--images 2000] [--trials 10] [--only adc,programming,...]

The tables of benchmarks/devices.md. Two ways to build the same network, 8-bit weights and inputs,
differential:

  sliced    mca128: 4 slices of 2-bit cells, bit-serial inputs, an 8-bit full-scale converter
  whole     7-bit cells, 8-bit DACs, an 8-bit calibrated converter behind analog subtraction

Needs XBARC_DATA (a folder with models/resnet20_cifar10.onnx and data/cifar10.npz). All of it takes
about an hour on two cores; rows appear as they are done.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from simulate import network

import xbarc
from xbarc.api import Program

SLICED = ["adc.mode=full-scale"]
WHOLE = ["array.cell_bits=7", "inputs.dac_bits=8", "adc.mode=calibrated", "adc.subtract=analog"]
DAY = 86400.0


@dataclass(frozen=True)
class Bench:
    """The network, what its converters are calibrated on, and the images that are counted."""

    model: Path
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    trials: int

    def program(self, keys: Sequence[str], target: str = "mca128") -> Program:
        """The network compiled for `target` with these keys."""
        return xbarc.compile(self.model, target, calibration=self.calibration, overrides=list(keys))

    def accuracy(self, program: Program) -> float:
        """With what the target says, in percent."""
        (scores,) = program.run(self.images).values()
        return 100 * float((scores.argmax(axis=1) == self.labels).mean())

    def spread(
        self, program: Program, noise: str, device: str | None = None, trials: int | None = None
    ) -> str:
        """In percent: mean and standard deviation over the trials and the worst; one alone."""
        count = min(self.trials, trials or self.trials)
        found = program.trials(
            self.images, self.labels, trials=count, noise=noise, device=device
        ).accuracy
        if found.std is None:
            return f"{100 * found.mean:.2f}"
        return f"{100 * found.mean:.2f} ± {100 * found.std:.2f} ({100 * found.worst:.2f})"


def adc(at: Bench) -> None:
    """Ideal devices."""
    head("ADC bits", "sliced, full-scale", "sliced, saturating", "whole, calibrated")
    for bits in range(4, 11):
        settings = [SLICED, ["adc.mode=saturate"], WHOLE]
        programs = [at.program([*keys, f"adc.bits={bits}"]) for keys in settings]
        row(bits, *(f"{at.accuracy(program):.2f}" for program in programs))


def programming(at: Bench) -> None:
    """Each cell misses its conductance by a share of it, normal."""
    whole, sliced = at.program(WHOLE), at.program(["adc.mode=lossless"])
    head("programming error, %", "whole", "whole, on/off ratio 15", "sliced, lossless converter")
    row(0, f"{at.accuracy(whole):.2f}", "", f"{at.accuracy(sliced):.2f}")
    for percent in (2, 5, 10, 20):
        noise = f"programming{{sigma={percent / 100}}}"
        texts = [(whole, noise), (whole, f"ratio,{noise}"), (sliced, noise)]
        row(percent, *(at.spread(program, text) for program, text in texts))


def read(at: Bench) -> None:
    """Each cell's conductance errs anew in each read, by a share of it; one trial."""
    whole, sliced = at.program(WHOLE), at.program(["adc.mode=lossless"])
    head("read noise, %", "whole", "sliced, lossless converter")
    for percent in (1, 2, 5, 10):
        noise = f"read{{sigma={percent / 100}}}"
        row(percent, *(at.spread(program, noise, trials=1) for program in (whole, sliced)))


def drift(at: Bench) -> None:
    """The device `pcm`, read after some time; its programming error is there as well. 5 trials."""
    program = at.program(WHOLE)
    head("time", "no compensation", "global compensation")
    times = {"1 s": 1.0, "a day": DAY, "a month": 30 * DAY, "a year": 365 * DAY}
    for name, seconds in times.items():
        texts = [f"drift{{time={seconds} compensation={how}}}" for how in ("none", "global")]
        row(name, *(at.spread(program, text, "pcm", trials=5) for text in texts))


def wire(at: Bench) -> None:
    """Resistance between neighbouring cells, of word lines and bit lines alike."""
    ohms, cells = (0.0, 0.5, 1.0, 2.0, 5.0), {"750 uS": None, "100 uS": 100.0}
    head("rows", "cell", *(f"{ohm:g} ohm" for ohm in ohms))
    for rows in (64, 128, 256):
        program = at.program([*WHOLE, f"array.rows={rows}", f"array.cols={rows}"])
        for name, largest in cells.items():
            ratio = f"ratio{{g_on={largest} g_off=1.0}}," if largest else "ratio,"
            found = []
            for ohm in ohms:
                noise = f"{ratio}wire{{row={ohm} col={ohm}}}"
                (scores,) = program.run(at.images, noise=noise).values()
                found.append(f"{100 * (scores.argmax(axis=1) == at.labels).mean():.2f}")
            row(rows, name, *found)


TABLES: dict[str, Callable[[Bench], None]] = {
    "adc": adc,
    "programming": programming,
    "read": read,
    "drift": drift,
    "wire": wire,
}


def head(*names: str) -> None:
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names), flush=True)


def row(*values: object) -> None:
    print("| " + " | ".join(map(str, values)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--only", default=",".join(TABLES), help="tables, with commas between")
    arguments = parser.parse_args()
    if "XBARC_DATA" not in os.environ:
        sys.exit("XBARC_DATA isn't set: there is no ResNet-20 to run")
    model, calibration, images = network()
    with np.load(Path(os.environ["XBARC_DATA"]) / "data" / "cifar10.npz") as file:
        labels = file["y_test"][: arguments.images].ravel()
    at = Bench(model, calibration, images[: arguments.images], labels, arguments.trials)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: at.images})
    share = 100 * (scores.argmax(axis=1) == labels).mean()
    print(
        f"{model.name}, {len(labels)} images, {at.trials} trials: mean ± standard deviation (worst)"
    )
    print(f"in float {share:.2f} %\n")
    for name in arguments.only.split(","):
        start = time.perf_counter()
        print(f"## {name}\n\n{TABLES[name].__doc__}\n")
        TABLES[name](at)
        print(f"\n{time.perf_counter() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
