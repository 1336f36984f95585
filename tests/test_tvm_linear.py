"""Matrix products that Relay text can call, against numpy."""

import numpy as np
import pytest
from relay_operators import check, real, whole

pytestmark = pytest.mark.usefixtures("same_numbers")


def test_dense():
    x, w = real(4, 5), real(3, 5)
    check("nn.dense(%x, %w, units=None)", x @ w.T, {"x": x}, {"w": w})
    x = real(2, 4, 5)
    check("nn.dense(%x, %w, units=3)", x @ w.T, {"x": x}, {"w": w})
    x, w = whole(-9, 9, 2, 5, dtype=np.int8), whole(-99, 99, 3, 5, dtype=np.int8)
    expected = x.astype(np.int32) @ w.astype(np.int32).T
    check('nn.dense(%x, %w, out_dtype="int32")', expected, {"x": x}, {"w": w})


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_matmul(first, second):
    x, y = real(4, 5), real(5, 3)
    attributes = f"transpose_a={first}, transpose_b={second}"
    given = {"x": x.T.copy() if first else x, "y": y.T.copy() if second else y}
    check(f"nn.matmul(%x, %y, {attributes})", x @ y, given)
    check(f"matmul(%x, %y, {attributes})", x @ y, given)
    x, y = real(2, 4, 5), real(2, 5, 3)
    swap = (0, 2, 1)
    given = {"x": x.transpose(swap) if first else x, "y": y.transpose(swap) if second else y}
    check(f"nn.batch_matmul(%x, %y, {attributes})", x @ y, given)


def test_batch_matmul_of_text_before_tvm_0_8_transposes():
    x, y = real(2, 4, 5), real(2, 3, 5)
    check("nn.batch_matmul(%x, %y)", x @ y.transpose(0, 2, 1), {"x": x, "y": y})
