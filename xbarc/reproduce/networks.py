"""Networks and data of the reproductions: ONNX text with random weights, scikit-learn's digits."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

import xbarc
from xbarc.reproduce.paper import data_file
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

DIFFERENTIAL = ("array.cell_bits=7", "array.encoding=differential", "inputs.dac_bits=8")
"""Two columns a weight, inputs at once: how MSCCNN, CKF and sub-image count."""

LOSSLESS = ("array.cell_bits=7", "array.encoding=differential", "adc.mode=lossless")
"""Two columns a weight, bit-serial inputs, converters that lose nothing: what accuracies are of."""


@dataclass(frozen=True)
class Samples:
    """Inputs and their classes, to train on and to judge by."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]


def random_network(text: str, seed: int = 0) -> onnx.ModelProto:
    """A model of ONNX text; each value that is declared and not computed is a random weight.

    Weights are normal, of the variance 2 / inputs; biases (rank 1) are zero.
    """
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]>{text}')
    rng = np.random.default_rng(seed)
    for info in list(model.graph.value_info):
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        fan = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        w = np.zeros(shape) if len(shape) == 1 else rng.normal(0, math.sqrt(2 / fan), shape)
        tensor = onnx.numpy_helper.from_array(w.astype(np.float32), info.name)
        model.graph.initializer.append(tensor)
        model.graph.value_info.remove(info)
    return model


def digits(shape: tuple[int, ...]) -> Samples:
    """scikit-learn's digits, 0 to 1, each of that shape. Raises `XbarcError` without it."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise XbarcError("--quick needs scikit-learn: pip install 'xbarc[train]'") from None
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, *shape)
    y = y[order].astype(np.int64)
    return Samples((x[:1400], y[:1400]), (x[1400:], y[1400:]))


def mnist(shape: tuple[int, ...]) -> Samples:
    """MNIST from XBARC_DATA, 0 to 1, each of that shape."""
    with np.load(data_file("data/mnist.npz")) as found:
        train, test = (
            (
                (found[f"x_{part}"].astype(np.float32) / 255).reshape(-1, *shape),
                found[f"y_{part}"].astype(np.int64),
            )
            for part in ("train", "test")
        )
    return Samples(train, test)


def accuracy(program: xbarc.Program, samples: Samples) -> float:
    """Share of the test samples that a program classifies right."""
    (scores,) = program.run(samples.test[0]).values()
    return float((np.argmax(scores.reshape(len(scores), -1), 1) == samples.test[1]).mean())


def tuned(model: Any, samples: Samples, **options: Any) -> Any:
    """A network trained on the samples: the ONNX graph."""
    x, y = samples.train
    options = {"validation_share": 0.05, **options}
    return xbarc.tune(model, x, y, **options).model
