"""Networks and data of the reproductions: ONNX text with random weights, pictures and classes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx

import xbarc
from xbarc.reproduce.paper import MissingDataError, Progress, Result, data_file
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


@dataclass(frozen=True)
class Case:
    """A network that a paper is tried on, untrained, and what it is trained with (`xbarc.tune`)."""

    name: str
    network: Callable[[], onnx.ModelProto]
    samples: Callable[[], Samples]
    training: Mapping[str, Any]


class Sampled(Protocol):
    """What needs samples."""

    @property
    def name(self) -> str:
        """What a note calls it."""

    @property
    def samples(self) -> Callable[[], Samples]:
        """Raises `MissingDataError` where they aren't there."""


SomeCase = TypeVar("SomeCase", bound=Sampled)


def available(
    cases: Sequence[SomeCase], result: Result, progress: Progress
) -> Iterator[tuple[SomeCase, Samples]]:
    """Each network with its data; a note says which are left out for want of data.

    Raises `MissingDataError` where none is left.
    """
    missing = 0
    for case in cases:
        try:
            samples = case.samples()
        except MissingDataError as error:
            missing += 1
            if missing == len(cases):
                raise
            note = f"{case.name} is left out: {error}."
            progress(note)
            result.notes.append(note)
            continue
        yield case, samples


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


def mlp(sizes: Sequence[int]) -> onnx.ModelProto:
    """A ReLU network without biases, with random weights."""
    shapes = list(pairwise(sizes))
    weights = ", ".join(f"float[{k},{n}] w{i}" for i, (k, n) in enumerate(shapes, start=1))
    body, value = [], "x"
    for i in range(1, len(shapes)):
        body.append(f"m{i} = MatMul({value}, w{i}) r{i} = Relu(m{i})")
        value = f"r{i}"
    body.append(f"y = MatMul({value}, w{len(shapes)})")
    ends = f"(float[N,{sizes[0]}] x) => (float[N,{sizes[-1]}] y)"
    return random_network(f"mlp {ends} <{weights}> {{ {' '.join(body)} }}")


def cnn(
    picture: tuple[int, int, int],
    kernel: int,
    maps: Sequence[int],
    hidden: Sequence[int],
    *,
    pad: int = 0,
) -> onnx.ModelProto:
    """Convolutions, each with ReLU and 2x2 max pooling, then `hidden` layers, then 10 classes.

    `picture`: channels, rows, columns. `maps` of each convolution. All layers have biases.
    """
    channels, side, columns = picture
    weights, body, value = [], [], "x"
    pads = f"<pads=[{pad},{pad},{pad},{pad}]>"
    for i, (before, after) in enumerate(pairwise((channels, *maps)), start=1):
        weights.append(f"float[{after},{before},{kernel},{kernel}] w{i}, float[{after}] b{i}")
        body.append(
            f"c{i} = Conv{pads}({value}, w{i}, b{i}) r{i} = Relu(c{i}) "
            f"p{i} = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r{i})"
        )
        value = f"p{i}"
        side, columns = ((n + 2 * pad - kernel + 1) // 2 for n in (side, columns))
    body.append(f"f = Flatten({value})")
    value = "f"
    sizes = (maps[-1] * side * columns, *hidden, 10)
    for i, (k, n) in enumerate(pairwise(sizes), start=len(maps) + 1):
        weights.append(f"float[{k},{n}] w{i}, float[{n}] b{i}")
        last = i == len(maps) + len(sizes) - 1
        body.append(f"{'y' if last else f'g{i}'} = Gemm({value}, w{i}, b{i})")
        if not last:
            body.append(f"r{i} = Relu(g{i})")
            value = f"r{i}"
    shape = ",".join(map(str, picture))
    ends = f"(float[N,{shape}] x) => (float[N,10] y)"
    return random_network(f"cnn {ends} <{', '.join(weights)}> {{ {' '.join(body)} }}")


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


def cifar10(*, grey: bool = False) -> Samples:
    """CIFAR-10 from XBARC_DATA.

    [n, 3, 32, 32], scaled as ResNet-20 takes it, or grey [n, 1024] (ITU-R BT.601), 0 to 1.
    """
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)

    def prepared(pixels: Array) -> Array:
        if grey:
            weights = np.array([0.299, 0.587, 0.114], np.float32) / 255
            return (pixels.astype(np.float32) @ weights).reshape(len(pixels), -1)
        numbers = (pixels / np.float32(255) - mean) / deviation
        return np.ascontiguousarray(numbers.transpose(0, 3, 1, 2))

    x, y = [], []
    for name in ("data/cifar10.npz", "data/cifar10_more.npz"):
        with np.load(data_file(name)) as found:
            x.append(found["x_train"])
            y.append(found["y_train"].astype(np.int64))
            if "x_test" in found:
                test = prepared(found["x_test"]), found["y_test"].astype(np.int64)
    # One file has what the other has not: mixed, so that the first samples stand for all.
    order = np.random.default_rng(0).permutation(sum(map(len, y)))
    return Samples((prepared(np.concatenate(x)[order]), np.concatenate(y)[order]), test)


def membranes(side: int, count: int) -> Samples:
    """ISBI 2012 from XBARC_DATA: squares [n, 1, side, side] and masks, 1 cell and 0 membrane.

    To train on: `count` squares cut from the first 20 images, turned and mirrored at random. To
    judge by: the last 10 images, cut without a gap.
    """
    with np.load(data_file("data/isbi2012_membrane.npz")) as found:
        stack = np.stack([found["images"] / np.float32(255), found["masks"] > 127], axis=1)
    rng = np.random.default_rng(0)
    held, squares = 10, []
    for _ in range(count):
        top, left = rng.integers([s - side + 1 for s in stack.shape[2:]])
        square = stack[rng.integers(len(stack) - held), :, top : top + side, left : left + side]
        square = np.rot90(square, int(rng.integers(4)), (1, 2))
        squares.append(square[:, :, :: rng.choice([-1, 1])])
    across = stack.shape[-1] // side
    tiles = stack[-held:].reshape(held, 2, across, side, across, side)
    tiles = tiles.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 2, side, side)
    return Samples(_pictures_and_masks(np.stack(squares)), _pictures_and_masks(tiles))


def strokes() -> Samples:
    """scikit-learn's digits, twice as large, under noise; masks are 0 where ink is, else 1."""
    found = digits((1, 8, 8))
    rng = np.random.default_rng(0)

    def pairs(x: Array) -> tuple[Array, Array]:
        clean = x.repeat(2, axis=2).repeat(2, axis=3)
        noisy = clean + rng.normal(0, 0.3, clean.shape)
        return _pictures_and_masks(np.concatenate([noisy, clean < 0.5], axis=1))

    return Samples(pairs(found.train[0]), pairs(found.test[0]))


def _pictures_and_masks(pairs: Array) -> tuple[Array, Array]:
    """The two channels [n, 1, H, W] apart."""
    return pairs[:, :1].astype(np.float32), pairs[:, 1:].astype(np.uint8)


def right(program: xbarc.Program, samples: Samples) -> Array:
    """Which of the test samples a program classifies right."""
    (scores,) = program.run(samples.test[0]).values()
    return np.asarray(np.argmax(scores.reshape(len(scores), -1), 1) == samples.test[1])


def accuracy(program: xbarc.Program, samples: Samples) -> float:
    """Share of the test samples that a program classifies right."""
    return float(right(program, samples).mean())


def tuned(model: Any, samples: Samples, **options: Any) -> Any:
    """A network trained on the samples: the ONNX graph."""
    x, y = samples.train
    options = {"validation_share": 0.05, **options}
    return xbarc.tune(model, x, y, **options).model
