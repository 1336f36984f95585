"""Run the U-Net on crossbars before and after pruning, and compare with float and with the truth.

    XBARC_DATA=... python examples/segmentation/evaluate.py

After `train.py` and `prune.py`. Tables go to stdout, `prediction.png` and the compiled programs to
`build/segmentation/`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import data
import numpy as np
import onnxruntime as ort
import picture
from numpy.typing import NDArray
from score import best_v_rand, membrane_iou, pixel_accuracy

BUILD = Path("build/segmentation")
TARGET = "mca128"
NETWORKS = {"trained": "unet.onnx", "pruned": "pruned.onnx"}
MAPPINGS = {"im2col": "deconv{scheme=zero-insert},im2col", "kernel-first": "kernel-first"}
"""im2col as it is commonly used: it slides over an input with zeros between for ConvTranspose."""
EXCERPTS = ((0, 150, 60), (6, 250, 250))
"""Held-out image, top, left of what `prediction.png` shows."""
EXCERPT_SIDE = 208

Logits = NDArray[np.float32]


def xbarc(*arguments: str | Path) -> str:
    """Run an `xbarc` command as a user would type it; what it prints on stdout.

    Its progress and errors are seen as they come; an error ends the program with its exit code.
    """
    command = [str(a) for a in arguments]
    print("$ xbarc", *command, file=sys.stderr, flush=True)
    program = Path(sys.executable).parent / "xbarc"
    done = subprocess.run([program, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def in_float(model: Path, images: data.Images) -> Logits:
    """(N, 1, H, W) by onnxruntime, image by image."""
    session = ort.InferenceSession(model)
    return np.concatenate([session.run(["cell"], {"image": image[None]})[0] for image in images])


def on_crossbars(
    model: Path, program: Path, passes: str, images: Path, calibration: Path
) -> tuple[Logits, dict[str, Any]]:
    """(N, 1, H, W) by the simulator, and the totals of `xbarc cost`."""
    output = program.with_suffix(".npz")
    compile_options = ("--target", TARGET, "--passes", passes, "--calibration", calibration)
    xbarc("compile", model, *compile_options, "-o", program)
    run_options = ("--input", images, "--batch", "1", "--output", output)
    told = json.loads(xbarc("run", program, *run_options, "--json"))
    print(f"{told['samples']} images, {told['images_per_second']:.2f} a second", file=sys.stderr)
    with np.load(output) as stored:
        logits = stored["cell"]
    return logits, json.loads(xbarc("cost", program, "--json"))["totals"]


def scores(logits: Logits, cells: data.Cells) -> tuple[float, float, float]:
    """Pixel accuracy, IoU of the membranes, V_rand, each 0 to 1."""
    found = logits > 0
    with np.errstate(over="ignore"):
        probabilities = 1 / (1 + np.exp(-logits[:, 0]))
    return (
        pixel_accuracy(found, cells),
        membrane_iou(found, cells),
        best_v_rand(list(probabilities), list(cells[:, 0])),
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all but the first column are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def cost_row(name: str, totals: dict[str, Any]) -> list[str]:
    """What one image of 512 x 512 costs."""
    return [
        name,
        f"{totals['crossbars']}",
        f"{totals['macs'] / 1e9:.2f}",
        f"{totals['adc_conversions'] / 1e9:.3f}",
        f"{totals['energy_uj']['total'] / 1e3:.2f}",
        f"{totals['crossbar_power_w'] * 1e3:.3f}",
        f"{totals['read_power_w'] * 1e3:.1f}",
    ]


def main() -> None:
    """Both networks, both mappings."""
    for file in NETWORKS.values():
        if not (BUILD / file).is_file():
            sys.exit(f"{BUILD / file}: no such file; train.py and prune.py write it")
    train, test = data.load()
    calibration, images = BUILD / "calibration.npz", BUILD / "held_out.npz"
    np.savez(calibration, image=train.images)
    np.savez(images, image=test.images)

    qualities, costs = [], []
    found: dict[str, Logits] = {}
    for network, file in NETWORKS.items():
        model = BUILD / file
        logits = {"float, onnxruntime": in_float(model, test.images)}
        for mapping, passes in MAPPINGS.items():
            program = BUILD / f"{network}-{mapping}.xbar"
            name = f"crossbars, {mapping}"
            logits[name], totals = on_crossbars(model, program, passes, images, calibration)
            costs.append(cost_row(f"{mapping}, {network}", totals))
        for name, values in logits.items():
            found[f"{network}, {name}"] = values
            shares = [f"{share:.2%}" for share in scores(values, test.cells)]
            qualities.append([f"{network}, {name}", *shares])

    print(table(["", "pixels right", "IoU, membranes", "V_rand"], qualities), end="\n\n")
    head = ["", "crossbars", "GMAC", "G conversions", "mJ an image", "mW in cells", "mW"]
    print(table(head, costs))
    columns = list(found.values())[:: len(found) - 1]  # in float as trained, pruned on crossbars
    rows = []
    for which, top, left in EXCERPTS:
        cut = np.s_[which, 0, top : top + EXCERPT_SIDE, left : left + EXCERPT_SIDE]
        true = test.cells[cut]
        judged = [picture.judged(logits[cut] > 0, true) for logits in columns]
        rows.append([picture.shown(test.images[cut]), picture.judged(true, true), *judged])
    picture.write_png(BUILD / "prediction.png", picture.beside(rows))
    print(f"\nimage, truth, float, pruned on crossbars: {BUILD / 'prediction.png'}")


if __name__ == "__main__":
    main()
