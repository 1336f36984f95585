"""Dense layers and matrix products."""

import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype


def dense(
    b: Builder, x: ir.Value, w: ir.Value, *, units: int | None = None, out_dtype: str = ""
) -> ir.Value:
    """`x` [..., K] by the transpose of `w` [units, K]."""
    sizes = b.dims(w)
    if len(sizes) != 2:
        raise Unsupported(f"weights of {len(sizes)} dimensions where 2 are known")
    if units is not None and isinstance(sizes[0], int) and units != sizes[0]:
        raise Unsupported(f"units {units}, but the weights are {list(sizes)}")
    return _product(b, x, w, out_dtype, transpose_b=True)


def _product(
    b: Builder,
    x: ir.Value,
    y: ir.Value,
    out_dtype: str,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> ir.Value:
    """numpy's matmul, each operand's last two axes swapped where asked, in the result's type.

    8-bit operands with a wider result are widened first, as TVM does.
    """
    result = onnx_dtype(out_dtype) if out_dtype else b.dtype(x)
    x, y = b.cast(x, result), b.cast(y, result)
    if (
        transpose_b
        and b.rank(x) == b.rank(y) == 2
        and result.name in ("FLOAT", "FLOAT16", "DOUBLE")
    ):
        return b.op("Gemm", x, y, transA=int(transpose_a), transB=1)
    if transpose_a:
        x = _swapped(b, x)
    if transpose_b:
        y = _swapped(b, y)
    return b.op("MatMul", x, y)


def _swapped(b: Builder, x: ir.Value) -> ir.Value:
    axes = list(range(b.rank(x)))
    if len(axes) < 2:
        raise Unsupported("a transposed operand needs two dimensions")
    axes[-2:] = axes[-1], axes[-2]
    return b.transpose(x, axes)


def matmul(
    b: Builder,
    x: ir.Value,
    y: ir.Value,
    *,
    units: int | None = None,
    out_dtype: str = "",
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> ir.Value:
    """Relax's `matmul`, Relay's `nn.matmul`: numpy's, with operands transposed where asked."""
    return _product(b, x, y, out_dtype, transpose_a=transpose_a, transpose_b=transpose_b)


def batch_matmul(
    b: Builder,
    x: ir.Value,
    y: ir.Value,
    *,
    out_dtype: str = "",
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> ir.Value:
    """Relay's product of [B, M, K] by [B, K, N].

    Before TVM 0.8 it had no attributes and `y` was [B, N, K]. Text without attributes is
    read in that way where only that fits.
    """
    if not transpose_a and not transpose_b and b.rank(x) == b.rank(y) == 3:
        inner, rows, columns = b.dims(x)[2], b.dims(y)[1], b.dims(y)[2]
        transpose_b = inner != rows and inner == columns
    return _product(b, x, y, out_dtype, transpose_a=transpose_a, transpose_b=transpose_b)


OPERATORS: dict[str, Operator] = {
    "matmul": matmul,
    "nn.batch_matmul": batch_matmul,
    "nn.dense": dense,
    "nn.matmul": matmul,
}
