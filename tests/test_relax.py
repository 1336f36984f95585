"""The walk of a Relax module: values, tuples, functions, sizes, weights, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from models import reference
from relax_modules import arrays_of, computed_by_tvm, deviation, module_of

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.frontends.relax.frontend import is_module
from xbarc.frontends.relax.importer import load_relax
from xbarc.frontends.source import Inputs
from xbarc.frontends.tvm_ops.relax_only import OPERATORS as RELAX
from xbarc.graph.serialize import to_proto
from xbarc.support.errors import UsageError, XbarcError

tvm = pytest.importorskip("tvm", reason="apache-tvm isn't installed: pip install xbarc[tvm]")


def script(text):
    from tvm.script import from_source

    return from_source("@I.ir_module\nclass Module:\n" + text)


def imported(module, params=None, input_shapes=None):
    shapes = input_shapes or {}
    return to_proto(load(load_relax(module, params, Inputs(shapes)), shapes))


def agrees(module, feeds, model=None):
    """Whether the import computes what TVM does."""
    model = model or imported(module)
    expected = computed_by_tvm(module, feeds.values())
    found = list(reference(model, feeds).values())
    assert len(expected) == len(found)
    return all(deviation(w, f) < 1e-5 for w, f in zip(expected, found, strict=True))


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- Values, tuples, functions --------------------------------------------------------------------


def test_tuples_go_in_and_out():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 3), "float32"),
             pair: R.Tuple(R.Tensor((3,), "float32"), R.Tensor((2, 3), "float32"))):
        with R.dataflow():
            both = (R.add(x, pair[0]), (pair[1], R.nn.relu(x)))
            inner = both[1]
            y = R.subtract(inner[0], inner[1])
            R.output(both, y)
        return (both, y)
    """)
    model = imported(module)
    assert [v.name for v in model.graph.input] == ["x", "pair_0", "pair_1"]
    assert [v.name for v in model.graph.output] == [f"output_{i}" for i in range(4)]
    x, a, b = values(2, 3), values(3, seed=1), values(2, 3, seed=2)
    found = list(reference(model, {"x": x, "pair_0": a, "pair_1": b}).values())
    for got, want in zip(found, [x + a, b, np.maximum(x, 0), b - np.maximum(x, 0)], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


FUNCTIONS = """
    @R.function(private=True)
    def double(x: R.Tensor(("n", 3), "float32")) -> R.Tensor(("n", 3), "float32"):
        with R.dataflow():
            y = R.multiply(x, R.const(2.0, "float32"))
            R.output(y)
        return y

    @R.function
    def main(x: R.Tensor((2, 3), "float32"), z: R.Tensor((4, 3), "float32")):
        cls = Module
        with R.dataflow():
            a = cls.double(x)
            b = cls.double(cls.double(z))
            y = R.concat((a, b), axis=0)
            R.output(y)
        return y
    """


def test_functions_are_inlined_at_each_call():
    module = script(FUNCTIONS)
    model = imported(module)
    assert agrees(module, {"x": values(2, 3), "z": values(4, 3, seed=1)}, model)
    assert [node.op_type for node in model.graph.node].count("Mul") == 3


def test_a_function_that_calls_itself_is_refused():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 3), "float32")) -> R.Tensor((2, 3), "float32"):
        cls = Module
        y: R.Tensor((2, 3), "float32") = cls.main(x)
        return y
    """)
    with pytest.raises(XbarcError, match="call each other more than 100 deep"):
        load_relax(module)


def test_shapes_are_values():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 6), "float32"), w: R.Tensor((3, 4), "float32")):
        p = T.int64()
        q = T.int64()
        with R.dataflow():
            s = R.shape_of(w)
            t = R.shape_to_tensor(s)
            u = R.tensor_to_shape(R.const([4, 3], "int64"))
            v = R.match_cast(u, R.Shape([p, q]))
            y = R.reshape(x, s)
            z = R.reshape(x, R.shape([p, q]))
            R.output(y, t, z)
        return (y, t, z)
    """)
    x = values(2, 6)
    y, t, z = reference(imported(module), {"x": x, "w": values(3, 4)}).values()
    np.testing.assert_array_equal(y, x.reshape(3, 4))
    np.testing.assert_array_equal(t, np.array([3, 4]))
    np.testing.assert_array_equal(z, x.reshape(4, 3))


def test_a_parameter_may_be_the_result():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 3), "float32")) -> R.Tensor((2, 3), "float32"):
        return x
    """)
    model = imported(module)
    (found,) = reference(model, {"x": values(2, 3)}).values()
    np.testing.assert_array_equal(found, values(2, 3))


# --- Sizes ----------------------------------------------------------------------------------------

OPEN = """
    @R.function
    def main(x: R.Tensor(("n", 3, "m"), "float32")):
        n = T.int64()
        m = T.int64()
        with R.dataflow():
            y = R.reshape(x, R.shape([n, 3 * m]))
            z = R.match_cast(R.nn.relu(y), R.Tensor((n, 3 * m), "float32"))
            s = R.broadcast_to(R.mean(z, axis=[1], keepdims=True), R.shape([n, m]))
            R.output(z, s)
        return (z, s)
    """


def test_the_batch_stays_open_and_other_sizes_are_given():
    model = imported(script(OPEN), input_shapes={"x": [-1, 3, 4]})
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param
    assert [dim.dim_value for dim in dims[1:]] == [3, 4]
    for batch in (1, 5):
        x = values(batch, 3, 4)
        z, s = reference(model, {"x": x}).values()
        flat = np.maximum(x.reshape(batch, 12), 0)
        np.testing.assert_allclose(z, flat)
        want = np.broadcast_to(flat.mean(1, keepdims=True), (batch, 4))
        np.testing.assert_allclose(s, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({}, r"input 'x' has open dimensions \[n, 3, m\]"),
        ({"x": [1, 5, 4]}, "dimension 1 of input 'x' is 3"),
        ({"y": [1]}, "no input 'y'"),
    ],
)
def test_open_sizes_are_asked_for(shapes, problem):
    with pytest.raises(XbarcError, match=problem):
        load_relax(script(OPEN), given=Inputs(shapes))


def test_an_open_batch_is_filled_and_repeated():
    module = script("""
    @R.function
    def main(z: R.Tensor(("m", 3), "float32"), x: R.Tensor(("n", 3), "float32"),
             w: R.Tensor((1, 3), "float32")):
        n = T.int64()
        with R.dataflow():
            a = R.broadcast_to(w, R.shape([n, 3]))
            b = R.full(R.shape([2, n]), R.const(2.0, "float32"), dtype="float32")
            c = R.add(R.ones_like(x), R.zeros(R.shape([n, 3]), "float32"))
            R.output(a, b, c)
        return (a, b, c)
    """)
    w = values(1, 3, seed=1)
    model = imported(module, {"w": w})
    for batch in (1, 4):
        a, b, c = reference(model, {"x": values(batch, 3), "z": values(2, 3)}).values()
        np.testing.assert_array_equal(a, np.repeat(w, batch, axis=0))
        np.testing.assert_array_equal(b, np.full((2, batch), 2.0))
        np.testing.assert_array_equal(c, np.ones((batch, 3)))


def test_a_size_that_no_input_has_is_refused():
    module = script("""
    @R.function
    def main(x: R.Tensor(("n", 3), "float32")):
        n = T.int64()
        with R.dataflow():
            a = R.zeros(R.shape([n * 2, 3]), "float32")
            b = R.add(R.concat((x, x), axis=0), a)
            R.output(b)
        return b
    """)
    with pytest.raises(XbarcError, match=r"zeros: needs the size n \* T.int64\(2\)"):
        load_relax(module)


def test_match_cast_names_a_size():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 6), "float32")):
        k = T.int64()
        with R.dataflow():
            y = R.match_cast(x, R.Tensor((2, k), "float32"))
            z = R.broadcast_to(R.const(1.0, "float32"), R.shape([k, 2 * k]))
            w = R.matmul(y, z)
            R.output(w)
        return w
    """)
    (found,) = reference(imported(module), {"x": values(2, 6)}).values()
    np.testing.assert_allclose(found, values(2, 6) @ np.ones((6, 12), np.float32), rtol=1e-5)


# --- Weights --------------------------------------------------------------------------------------

DENSE = """
    @R.function
    def main(x: R.Tensor((2, 4), "float32"), w: R.Tensor((4, 3), "float32"),
             b: R.Tensor((3,), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.add(R.matmul(x, w), b)
            R.output(y)
        return y
    """


@pytest.mark.parametrize("form", ["arrays", "tensors", "detached"])
def test_weights_are_given_by_name_or_in_order(form):
    w, b, x = values(4, 3), values(3, seed=1), values(2, 4, seed=2)
    params = {
        "arrays": {"b": b, "w": w},
        "tensors": {"b": tvm.runtime.tensor(b), "w": tvm.runtime.tensor(w)},
        "detached": {"main": [tvm.runtime.tensor(w), tvm.runtime.tensor(b)]},
    }[form]
    model = imported(script(DENSE), params)
    assert [value.name for value in model.graph.input] == ["x"]
    (found,) = reference(model, {"x": x}).values()
    np.testing.assert_allclose(found, x @ w + b, rtol=1e-5)


def test_attached_weights_are_taken():
    module = script(DENSE)
    w, b, x = values(4, 3), values(3, seed=1), values(2, 4, seed=2)
    params = [tvm.runtime.tensor(w), tvm.runtime.tensor(b)]
    module["main"] = module["main"].with_attr("params", params)
    (found,) = reference(imported(module), {"x": x}).values()
    np.testing.assert_allclose(found, x @ w + b, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "error", "problem"),
    [
        (None, XbarcError, r"no weights for its parameters 'w' .*\(4, 3\).*, 'b' .*\(3,\)"),
        ({"w": values(4, 3)}, XbarcError, r"parameters 'b' R.Tensor"),
        ({"v": values(4, 3)}, UsageError, "no parameter 'v': its parameters are 'x', 'w', 'b'"),
        ({"w": values(3, 4), "b": values(3)}, UsageError, r"'w' is float32\[3, 4\], but"),
        ({"w": values(4, 3).astype(np.float64)}, UsageError, r"'w' is float64\[4, 3\], but"),
        ({"main": [values(3)] * 4}, UsageError, "params has 4 weights, 'main' 3 parameters"),
    ],
)
def test_weights_that_do_not_fit(params, error, problem):
    with pytest.raises(error, match=problem):
        load_relax(script(DENSE), params)


# --- Kernels --------------------------------------------------------------------------------------


def with_kernel(function, *args, shape=(2, 3, 4), **kwargs):
    """A module with a call of a kernel, as TVM's ONNX importer writes it."""
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(builder.call_te(function, x, *args, **kwargs))
        builder.emit_func_output(result)
    return builder.get()


def kernels():
    from tvm import relax, topi

    return {
        "pad": with_kernel(topi.nn.pad, [0, 1, 2], [0, 3, 0], 0.0),
        "pad, value": with_kernel(topi.nn.pad, [0, 0, 1], [0, 2, 2], -1.5),
        "pad, all behind": with_kernel(topi.nn.pad, [0, 0, 0], [0, 1, 1], 0.0),
        "pad, infinite": with_kernel(topi.nn.pad, [0, 0, 1], [0, 0, 1], float("-inf")),
        "reflect": with_kernel(topi.nn.mirror_pad, [0, 1, 2], [0, 0, 3], "REFLECT"),
        "edge": with_kernel(topi.nn.replicate_pad, [0, 1, 2], [0, 0, 3]),
        "circular": with_kernel(topi.nn.circular_pad, [0, 1, 2], [0, 0, 3]),
        "tile": with_kernel(topi.tile, [2, 1, 3]),
        "flip": with_kernel(topi.flip, axis=2),
        "maximum": with_kernel(topi.maximum, relax.const(0.25, "float32")),
        "minimum": with_kernel(topi.minimum, relax.const(0.25, "float32")),
    }


@pytest.mark.parametrize(
    "name",
    ["pad", "pad, value", "pad, all behind", "pad, infinite", "reflect", "edge", "circular",
     "tile", "flip", "maximum", "minimum"],
)  # fmt: skip
def test_library_kernels_are_recognised(name):
    assert agrees(kernels()[name], {"x": values(2, 3, 4)})


def test_an_open_batch_is_padded():
    from tvm import tirx, topi

    module = with_kernel(
        topi.nn.pad, [0, 0, 1], [0, 0, 2], 0.0, shape=(tirx.Var("n", "int64"), 3, 4)
    )
    model = imported(module)
    for batch in (1, 4):
        x = values(batch, 3, 4)
        (found,) = reference(model, {"x": x}).values()
        np.testing.assert_array_equal(found, np.pad(x, ((0, 0), (0, 0), (1, 2))))


def test_a_kernel_that_is_only_named_so_is_refused():
    from tvm import te

    def pad(x):
        return te.compute((2, 5), lambda i, j: te.if_then_else(j < 4, x[i, j] + 1.0, 0.0))

    with pytest.raises(XbarcError, match="call_tir of pad: a kernel without a counterpart"):
        load_relax(with_kernel(pad, shape=(2, 4)))


# --- What is refused ------------------------------------------------------------------------------


def test_one_error_names_all_that_is_unknown():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 3), "float32")):
        with R.dataflow():
            a = R.call_dps_packed("vendor.gemm", (x,), out_ty=R.Tensor((2, 3), "float32"))
            b = R.nonzero(x)
            c = R.nonzero(R.nn.relu(x))
            d = R.nn.softmax(a)
            e = R.layout_transform(x, index_map=lambda i, j: (j, i))
            R.output(b, c, d, e)
        return (b, c, d, e)
    """)
    with pytest.raises(XbarcError) as error:
        load_relax(module, name="net.json")
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("net.json: call_dps_packed of vendor.gemm: compiled code")
    assert lines[1].startswith("net.json: nonzero: no such operator")
    assert lines[1].endswith("(2 times)")
    assert lines[2].startswith("net.json: layout_transform: ")


def test_control_flow_is_refused_by_name():
    module = script("""
    @R.function
    def main(c: R.Tensor((), "bool"), x: R.Tensor((2,), "float32")) -> R.Tensor((2,), "float32"):
        if c:
            y = R.nn.relu(x)
        else:
            y = R.negative(x)
        return y
    """)
    with pytest.raises(XbarcError, match="If: no such expression"):
        load_relax(module)


def test_an_input_of_a_type_that_onnx_lacks_is_refused():
    module = script("""
    @R.function
    def main(x: R.Tensor((2, 3), "float8_e3m4")) -> R.Tensor((2, 3), "float8_e3m4"):
        return x
    """)
    with pytest.raises(XbarcError, match="parameter 'x': element type 'float8_e3m4' has no"):
        load_relax(module)


def test_a_module_without_main_is_refused():
    with pytest.raises(XbarcError, match="no Relax function 'main'"):
        load_relax(tvm.IRModule({}))


def test_a_result_that_contradicts_tvm_is_an_error(monkeypatch):
    module = module_of("x:2x3", "R.tile(x, [1, 2])")
    monkeypatch.setitem(RELAX, "tile", lambda b, x, repeats: b.op("Neg", x))
    with pytest.raises(XbarcError, match=r"tile: gives shape \[2, 3\] where TVM says \[2, 6\]"):
        load_relax(module)
    both = module_of("x:2x3", "R.split(x, 3, axis=1)")
    monkeypatch.setattr(
        "xbarc.frontends.relax.importer.OPERATORS", {"split": lambda b, x, **_: (x, x, x)}
    )
    with pytest.raises(XbarcError, match=r"split: gives shape \[2, 3\] where TVM says \[2, 1\]"):
        load_relax(both)
    monkeypatch.setitem(RELAX, "tile", lambda b, x, repeats: b.op("IsNaN", x))
    with pytest.raises(XbarcError, match="tile: gives BOOL where TVM says float32"):
        load_relax(module)


def test_an_operator_that_loses_the_batch_is_an_error(monkeypatch):
    module = script("""
    @R.function
    def main(x: R.Tensor(("n", 3), "float32")):
        with R.dataflow():
            y = R.tril(x)
            R.output(y)
        return y
    """)
    table = "xbarc.frontends.relax.importer.OPERATORS"
    single = {"tril": lambda b, x, k: b.constant(np.zeros((1, 3), np.float32))}
    monkeypatch.setattr(table, single)
    with pytest.raises(XbarcError, match=r"tril: gives shape \[1, 3\] where TVM says \['n', 3\]"):
        load_relax(module)


# --- Through the compiler -------------------------------------------------------------------------


def test_a_module_compiles_and_runs():
    expression = "R.nn.relu(R.nn.conv2d(x, w, padding=1, data_layout='NHWC', kernel_layout='HWIO'))"
    arrays = arrays_of("x:2x6x6x3 w:3x3x3x4")
    module = module_of("x:2x6x6x3 w:3x3x3x4", expression)
    program = xbarc.compile(module, "mca128", params={"w": arrays["w"]}, calibration=arrays["x"])
    (want,) = computed_by_tvm(module, arrays.values())
    (found,) = program.run(arrays["x"]).values()
    assert np.abs(want - found).max() < 0.05 * np.abs(want).max()
    assert program.report["coverage"]["crossbar_operators"] == 1


def test_asking_whether_something_is_relax_needs_no_tvm():
    code = (
        "import sys; from xbarc.frontends.relax.frontend import is_module; "
        "print(is_module(1), 'tvm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert is_module(tvm.IRModule({}))
