"""Normalisations that Relay text can call, against torch."""

import numpy as np
import pytest
from relay_operators import check, positive, real, t
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("same_numbers")


@pytest.mark.parametrize("axis", [1, 3, -1, 2])
def test_batch_norm_along_any_axis(axis):
    x = real(2, 3, 4, 5)
    channels = x.shape[axis]
    weights = {
        "g": real(channels),
        "b": real(channels),
        "m": real(channels),
        "v": positive(channels),
    }
    along = [1, 1, 1, 1]
    along[axis] = channels
    g, b, m, v = (weights[k].reshape(along) for k in "gbmv")
    expected = g * (x - m) / np.sqrt(v + 1e-3) + b
    body = f"%0 = nn.batch_norm(%x, %g, %b, %m, %v, axis={axis}, epsilon=0.001f);\n%0.0"
    check(body, expected, {"x": x}, weights)
    body = f"%0 = nn.batch_norm(%x, %g, %b, %m, %v, axis={axis}, center=False, scale=False);\n%0.0"
    check(body, (x - m) / np.sqrt(v + 1e-5), {"x": x}, weights)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(axis):
    x = real(2, 3, 5)
    size = x.shape[axis]
    weights = {"g": real(size), "b": real(size)}
    along = (1, size, 1) if axis == 1 else (size,)
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    plain = (x - mean) / np.sqrt(var + 1e-5)
    expected = plain * weights["g"].reshape(along) + weights["b"].reshape(along)
    check(f"nn.layer_norm(%x, %g, %b, axis={axis})", expected, {"x": x}, weights)
    body = f"nn.layer_norm(%x, %g, %b, axis={axis}, center=False, scale=False)"
    check(body, plain, {"x": x}, weights)


def test_instance_norm_and_group_norm():
    x = real(2, 6, 4, 5)
    weights = {"g": real(6), "b": real(6)}
    expected = functional.instance_norm(t(x), weight=t(weights["g"]), bias=t(weights["b"]))
    check("nn.instance_norm(%x, %g, %b)", expected, {"x": x}, weights)
    last = x.transpose(0, 2, 3, 1)
    body = "nn.instance_norm(%x, %g, %b, axis=3)"
    check(body, expected.numpy().transpose(0, 2, 3, 1), {"x": last}, weights)
    expected = functional.group_norm(t(x), 3, t(weights["g"]), t(weights["b"]))
    check("nn.group_norm(%x, %g, %b, num_groups=3)", expected, {"x": x}, weights)


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(axis):
    x = real(2, 5, 3)
    power = np.exp(x - x.max(axis, keepdims=True))
    expected = power / power.sum(axis, keepdims=True)
    check(f"nn.softmax(%x, axis={axis})", expected, {"x": x})
    check(f"nn.fast_softmax(%x, axis={axis})", expected, {"x": x})
    check(f"nn.log_softmax(%x, axis={axis})", np.log(expected), {"x": x})


@pytest.mark.parametrize("axis", [1, 3])
def test_lrn(axis):
    x = real(2, 6, 4, 5)
    moved = np.moveaxis(x, axis, 1)
    squares = np.pad(moved**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = sum(squares[:, i : i + moved.shape[1]] for i in range(3))
    expected = np.moveaxis(moved / (1.5 + 0.2 / 3 * total) ** 0.6, 1, axis)
    body = f"nn.lrn(%x, size=3, axis={axis}, bias=1.5f, alpha=0.2f, beta=0.6f)"
    check(body, expected.astype(np.float32), {"x": x})


def test_l2_normalize_and_dropout():
    x = real(2, 5, 3)
    expected = x / np.sqrt(np.maximum((x**2).sum(1, keepdims=True), 2.0))
    check("nn.l2_normalize(%x, eps=2f, axis=[1])", expected, {"x": x})
    check("%0 = nn.dropout(%x, rate=0.3f);\n%1 = %0.0;\nnn.relu(%1)", np.maximum(x, 0), {"x": x})
