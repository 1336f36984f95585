"""Relax modules from a line of text, and what TVM itself computes."""

import math

import numpy as np

HEADER = """
@I.ir_module
class Module:
    @R.function
    def main({parameters}):
        with R.dataflow():
            {name} = {expression}
            R.output({name})
        return {name}
"""


def arrays_of(signature, seed=0):
    """`x:2x3x8 i:4:int64:0:3` as arrays by name: normal floats, integers of a range."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for text in signature.split():
        given = text.split(":")
        name, shape, dtype, low, high = given + ["", "", "float32", "-5", "6"][len(given) :]
        sizes = [int(size) for size in shape.split("x")] if shape else []
        kind = np.dtype(dtype)
        if kind.kind == "f":
            array = rng.standard_normal(sizes)
        elif kind.kind == "b":
            array = rng.integers(0, 2, sizes)
        else:
            array = rng.integers(int(low), int(high), sizes)
        arrays[name] = np.asarray(array).astype(kind)
    return arrays


def module_of(signature, expression):
    """A module whose `main` is one expression of the signature's parameters."""
    from tvm.script import from_source

    parameters = ", ".join(
        f"{name}: R.Tensor({array.shape}, '{array.dtype}')"
        for name, array in arrays_of(signature).items()
    )
    return from_source(HEADER.format(parameters=parameters, expression=expression, name="result"))


def computed_by_tvm(module, arrays):
    """The outputs, by TVM's own code generator."""
    import tvm
    from tvm import relax

    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(array) for array in arrays))
    return [item.numpy() for item in flat(result)]


def flat(result):
    """The tensors of a result that may be tuples of tuples."""
    if hasattr(result, "numpy"):
        return [result]
    return [tensor for item in result for tensor in flat(item)]


def deviation(expected, found):
    """The largest difference, relative to the output's scale."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype.kind != "f":
        return float(np.count_nonzero(expected != found))
    if not expected.size:
        return 0.0
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    if same.all():
        return 0.0
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) or 1.0
    difference = np.where(same, 0, np.abs(expected.astype(np.float64) - found))
    worst = float(difference.max())
    return math.inf if math.isnan(worst) else worst / scale
