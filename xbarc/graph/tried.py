"""One try of a model by onnxruntime, in a process that it may end: `python -m xbarc.graph.tried`.

The arguments are the process that asks, a model, an npz file of its inputs in order, and their
names; without any, the model is only made ready.
"""

import sys

import numpy as np
import onnxruntime as ort

from xbarc.support.process import end_with


def main(parent: str, path: str, data: str, *names: str) -> None:
    """Run the model once."""
    end_with(int(parent))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    with np.load(data, allow_pickle=False) as arrays:
        feeds = {name: arrays[f"arr_{index}"] for index, name in enumerate(names)}
    if feeds or not session.get_inputs():
        session.run(None, feeds)


if __name__ == "__main__":
    main(*sys.argv[1:])
