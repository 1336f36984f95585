"""How compiling grows with a network: seconds of the processor against layers and nodes.

    python benchmarks/growth.py          # to 2000 layers
    python benchmarks/growth.py --full   # to 10,000 layers and 100,000 digital nodes

Each size is compiled, saved, loaded and reported in a process of its own. Linear growth is a column
of equal milliseconds; each bar is that figure, of compiling.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8
LAYERS, ALL_LAYERS = (250, 500, 1000, 2000), (250, 1000, 4000, 10_000)
NODES, ALL_NODES = (1000, 4000), (1000, 10_000, 100_000)


def chain(layers: int) -> onnx.ModelProto:
    """MatMul and Relu, `layers` times."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        w = (rng.standard_normal((WIDTH, WIDTH)) * np.sqrt(2 / WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
        last = f"r{i}"
    return _model(nodes, weights, last)


def digital(count: int) -> onnx.ModelProto:
    """`count` digital nodes, then one layer."""
    kinds = ("Relu", "Abs", "Neg", "Sigmoid")
    nodes = [
        helper.make_node(kinds[i % 4], [f"r{i - 1}" if i else "x"], [f"r{i}"]) for i in range(count)
    ]
    nodes.append(helper.make_node("MatMul", [f"r{count - 1}", "w"], ["y"]))
    return _model(nodes, [numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")], "y")


def _model(nodes, weights, last) -> onnx.ModelProto:
    kind, shape = TensorProto.FLOAT, ["N", WIDTH]
    inputs, outputs = ([helper.make_tensor_value_info(n, kind, shape)] for n in ("x", last))
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def measure(folder: Path, model: onnx.ModelProto) -> list[float]:
    """Seconds of the processor to compile, to save and load, and to write the report's page."""
    onnx.save(model, folder / "m.onnx")
    code = (
        "import time, xbarc\n"
        "from xbarc.report import report_page\n"
        "times = [time.process_time()]\n"
        "program = xbarc.compile('m.onnx')\n"
        "times.append(time.process_time())\n"
        "program.save('m.xbar')\n"
        "program = xbarc.load('m.xbar')\n"
        "times.append(time.process_time())\n"
        "report_page(program, None)\n"
        "times.append(time.process_time())\n"
        "print(*times)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    times = [float(time) for time in done.stdout.split()]
    return [end - start for start, end in itertools.pairwise(times)]


def main() -> None:
    full = "--full" in sys.argv
    for what, make, sizes in (
        ("layers", chain, ALL_LAYERS if full else LAYERS),
        ("nodes", digital, ALL_NODES if full else NODES),
    ):
        print(f"{what:>8} {'compile':>8} {'disk':>8} {'page':>8} {'ms each':>8}")
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                took, disk, page = measure(Path(folder), make(size))
                each = took / size * 1e3
                times = f"{took:>8.1f} {disk:>8.1f} {page:>8.1f} {each:>8.2f}"
                print(f"{size:>8} {times}  {'#' * max(1, round(each * 4))}", flush=True)


if __name__ == "__main__":
    main()
