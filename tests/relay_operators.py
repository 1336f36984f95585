"""Operators of Relay text against a reference.

Where TVM computes something else than ONNX does, the reference is TVM's definition, written out:
these tests say so.
"""

import numpy as np
import torch
from relay_programs import run

RNG = np.random.default_rng(7)


def restart():
    """The same numbers again."""
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return (RNG.random(shape) + 0.5).astype(np.float32)


def whole(low, high, *shape, dtype=np.int32):
    return RNG.integers(low, high, shape).astype(dtype)


def t(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def check(body, expected, inputs, weights=None, tolerance=1e-5):
    """One expression, or more, gives `expected` in the same type and shape."""
    found = run(body, inputs, weights)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        want = want.numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, want)
