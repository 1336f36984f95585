"""Reductions, places of extremes and sorting, against numpy."""

import numpy as np
import pytest
from relay_operators import check, real, whole

pytestmark = pytest.mark.usefixtures("same_numbers")


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod"])
def test_reductions(name):
    x = real(2, 3, 4)
    function = getattr(np, name)
    check(f"{name}(%x)", function(x), {"x": x})
    check(f"{name}(%x, axis=[1])", function(x, 1), {"x": x})
    check(f"{name}(%x, axis=[0, -1], keepdims=True)", function(x, (0, 2), keepdims=True), {"x": x})
    check(f"{name}(%x, axis=[1], exclude=True)", function(x, (0, 2)), {"x": x})


def test_other_reductions():
    x = real(2, 3, 4)
    check("variance(%x, axis=[1])", x.var(1), {"x": x})
    check(
        "variance(%x, axis=[1], unbiased=True, keepdims=True)",
        x.var(1, ddof=1, keepdims=True),
        {"x": x},
    )
    body = "%0 = mean(%x, axis=[2], keepdims=True);\nvariance(%x, %0, axis=[2])"
    check(body, x.var(2), {"x": x})
    check("std(%x, axis=[0])", x.std(0), {"x": x})
    check("logsumexp(%x, axis=[1])", np.log(np.exp(x).sum(1)), {"x": x})
    c = whole(0, 2, 3, 4).astype(bool)
    check("all(%c, axis=[1])", c.all(1), {"c": c})
    check("any(%c, axis=[1], keepdims=True)", c.any(1, keepdims=True), {"c": c})


def test_places_of_extremes():
    x = np.round(real(3, 4), 0)
    check("argmax(%x, axis=[1])", x.argmax(1).astype(np.int32), {"x": x})
    check("argmin(%x, axis=[0], keepdims=True)", x.argmin(0)[None].astype(np.int32), {"x": x})
    check("argmax(%x)", np.int32(x.argmax()), {"x": x})
    last = 3 - x[:, ::-1].argmax(1)
    check("argmax(%x, axis=[1], select_last_index=True)", last.astype(np.int32), {"x": x})


def test_sorting():
    x = real(3, 5)
    down = np.sort(x, 1)[:, ::-1]
    places = np.argsort(-x, 1).astype(np.int32)
    check("topk(%x, k=2)", (down[:, :2], places[:, :2]), {"x": x})
    check('topk(%x, k=2, ret_type="values", is_ascend=True)', np.sort(x, 1)[:, :2], {"x": x})
    body = 'topk(%x, k=2, axis=0, ret_type="indices", dtype="int64")'
    check(body, np.argsort(-x, 0)[:2], {"x": x})
    check("argsort(%x)", np.argsort(x, 1).astype(np.int32), {"x": x})
    check("argsort(%x, is_ascend=False)", places, {"x": x})
    check("sort(%x, axis=0)", np.sort(x, 0), {"x": x})
    check("cumsum(%x, axis=1)", x.cumsum(1), {"x": x})
    check("cumsum(%x)", x.cumsum(), {"x": x})
    check("cumsum(%x, axis=1, exclusive=True)", x.cumsum(1) - x, {"x": x}, tolerance=1e-4)
