"""Relay programs from text to results: functions, weights, refusals, the command line."""

import base64
import inspect
import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_programs import HEADER, NO_WEIGHTS, problem_of, program, run, run_text
from shared import SHARED, needs_shared
from test_tvm_params import params_bytes, tensor_bytes
from typer.testing import CliRunner

import xbarc
from xbarc.cli import app
from xbarc.frontends.registry import load
from xbarc.frontends.source import Inputs, SideWeights
from xbarc.frontends.tvm_ops import OPERATORS
from xbarc.support.errors import UsageError, XbarcError

X = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)
TYPE = "Tensor[(2, 3), float32]"

NETWORK = HEADER + (
    "def @main(%x: Tensor[(1, 2, 4, 4), float32], %w: Tensor[(3, 2, 3, 3), float32],\n"
    "          %b: Tensor[(3), float32]) {\n"
    "  %0 = nn.conv2d(%x, %w, padding=[1, 1], channels=3, kernel_size=[3, 3]);\n"
    "  %1 = nn.bias_add(%0, %b);\n"
    "  nn.relu(%1)\n}\n"
)
WEIGHTS = {
    "w": np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 2, 3, 3),
    "b": np.array([1, 2, 3], np.float32),
}


def refusal(text, weights=NO_WEIGHTS, complete=False):
    with pytest.raises(XbarcError) as caught:
        load(text, weights=weights, complete=complete)
    return str(caught.value)


# --- What a program means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("let %y = nn.relu(%x); let %z = add(%y, %x); %z", np.maximum(X, 0) + X),
        ("%0 = nn.relu(%x); %1 = (%0, %x); add(%1.0, %1.1)", np.maximum(X, 0) + X),
        ("%0 = ((%x, 1f), 2f); add(%0.0.0, %0.1)", X + 2),
        ("let %f = fn (%a) { add(%a, 1f) }; %f(%f(%x))", X + 2),
        ("(fn (%a, %b: float32) { multiply(%a, %b) })(%x, 3f)", X * 3),
        ("let %k = 2f; let %f = fn (%a) { add(%a, %k) }; let %k = 9f; %f(%x)", X + 2),
        ("let %k = 2f; let %f = fn (%a) { add(%a, %k) }; (fn (%k) { %f(%k) })(%x)", X + 2),
        ("%0 = fn (%a, Primitive=1) { nn.relu(%a) }; %0(%x)", np.maximum(X, 0)),
        ("if (True) { nn.relu(%x) } else { foo(%x) }", np.maximum(X, 0)),
        ("let %c = False; if (%c) { %x } else { let %y = negative(%x); %y }", -X),
        ("let %y = (let %a = add(%x, 1f); multiply(%a, 2f)); %y", (X + 1) * 2),
        ("let %op = nn.relu; %op(%x)", np.maximum(X, 0)),
        ("%x - 1f * 2f + %x / 2f", X - 2 + X / 2),
        ("%x", X),
    ],
)
def test_expressions(body, expected):
    (found,) = run(body, {"x": X})
    np.testing.assert_array_equal(found, expected)


def test_calls_of_functions_are_inlined():
    text = HEADER + (
        f"def @double(%x: {TYPE}) {{ add(%x, %x) }}\n"
        f"def @main(%x: {TYPE}) {{ %0 = @double(%x); @quadruple(%0) }}\n"
        f"def @quadruple(%x: {TYPE}) {{ @double(@double(%x)) }}\n"
    )
    (found,) = run_text(text, {"x": X})
    np.testing.assert_array_equal(found, 8 * X)


@pytest.mark.parametrize(
    "text",
    [
        f"fn (%x: {TYPE}) {{ nn.relu(%x) }}",
        f"free_var %x: {TYPE};\nnn.relu(%x)",
        f"free_var %x: {TYPE}\n%0 = nn.relu(%x);\n%0",
        f"def @only(%x: {TYPE}) {{ nn.relu(%x) }}",
    ],
)
def test_a_program_may_be_a_function_or_an_expression(text):
    (found,) = run_text(HEADER + text, {"x": X})
    np.testing.assert_array_equal(found, np.maximum(X, 0))


def test_names_of_other_frameworks():
    text = NETWORK.replace("%x", "%input.1").replace("%w", "%onnx::Conv_7")
    given = SideWeights({"onnx::Conv_7": WEIGHTS["w"], "b": WEIGHTS["b"]})
    x = np.ones((1, 2, 4, 4), np.float32)
    (found,) = run_text(text, {"input.1": x}, given)
    np.testing.assert_array_equal(found, run_text(NETWORK, {"x": x}, SideWeights(WEIGHTS))[0])


def test_a_name_with_a_number_is_no_projection_of_another():
    text = f"{HEADER}def @main(%x: {TYPE}, %x.1: {TYPE}) {{ %0 = (%x.1, %x); subtract(%x, %0.0) }}"
    (found,) = run_text(text, {"x": X, "x.1": X * 3})
    np.testing.assert_array_equal(found, -2 * X)


@pytest.mark.parametrize("name", ["193", "_param_1"])
def test_weights_whose_names_tvm_prints_with_a_v(name):
    text = NETWORK.replace("%w", f"%v{name}")
    x = np.ones((1, 2, 4, 4), np.float32)
    (found,) = run_text(text, {"x": x}, SideWeights({name: WEIGHTS["w"], "b": WEIGHTS["b"]}), True)
    np.testing.assert_array_equal(found, run_text(NETWORK, {"x": x}, SideWeights(WEIGHTS))[0])


def test_a_v_before_a_letter_belongs_to_the_name():
    text = NETWORK.replace("%w", "%vw")
    assert "%vw  float32 [3, 2, 3, 3]" in refusal(text, SideWeights(WEIGHTS), complete=True)


def test_a_module_as_print_shows_it_lacks_its_first_line():
    text = f"def @main(%x: {TYPE}) {{\n  nn.relu(%x)\n}}"
    assert refusal(text).startswith("the Relay text lacks the first line of Relay text, #[version")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "net.txt"
    path.write_text(NETWORK, encoding="utf-8-sig")
    assert load(path, weights=SideWeights(WEIGHTS)).model.graph.outputs[0].name == "output"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("dyn.reshape(%x, shape_of(%y), newshape=[])", X.reshape(3, 2)),
        (
            "dyn.strided_slice(%x, %begin, %end, %steps, begin=None, end=None, strides=None)",
            X[1:2, 0:3:2],
        ),
        ("dyn.tile(%x, %end, reps=None)", np.tile(X, (2, 3))),
        ('add(%x, dyn.full(2f, %end, shape=None, dtype="float32"))', X + 2),
        ("dyn.expand_dims(%x, 1, num_newaxis=1)", X[:, None]),
    ],
)
def test_dynamic_operators_with_constants(call, expected):
    weights = {"begin": [1, 0], "end": [2, 3], "steps": [1, 2]}
    weights = {name: np.array(array, np.int64) for name, array in weights.items()}
    found = run(call, {"x": X, "y": X.reshape(3, 2)}, weights)[0]
    np.testing.assert_array_equal(found, expected)


def test_dynamic_operators_need_constants():
    text = program("dyn.reshape(%x, %s, newshape=[])", {"x": X, "s": np.array([3, 2])})
    assert refusal(text) == "the Relay text: dyn.reshape: needs a constant newshape"


def outputs_of(body):
    return [v.name for v in load(program(body, {"x": X}), complete=False).model.graph.outputs]


def test_outputs_are_named_as_the_program_names_them():
    assert outputs_of("nn.relu(%x)") == ["output"]
    assert outputs_of("%0 = nn.relu(%x); (%0, (negative(%0), %x))") == [
        "output_0",
        "output_1",
        "output_2",
    ]
    assert outputs_of("let %y = nn.relu(%x); let %z = negative(%x); (%y, %z)") == ["y", "z"]


def test_layers_are_named_by_their_operator_or_variable():
    text = NETWORK.replace("%0", "let %stem", 1).replace("%0", "%stem")
    model = load(text, weights=SideWeights(WEIGHTS)).model
    assert [node.name for node in model.graph if node.op_type == "Conv"] == ["stem"]
    model = load(NETWORK, weights=SideWeights(WEIGHTS)).model
    assert [node.name for node in model.graph if node.op_type == "Conv"] == ["conv2d"]


def test_an_open_size_is_the_batch():
    text = NETWORK.replace("Tensor[(1, 2", "Tensor[(?, 2")
    x = np.ones((5, 2, 4, 4), np.float32)
    (found,) = run_text(text, {"x": x}, SideWeights(WEIGHTS))
    assert found.shape == (5, 3, 4, 4)


def test_deep_and_long_programs():
    (found,) = run("nn.relu(" * 2000 + "%x" + ")" * 2000, {"x": X})
    np.testing.assert_array_equal(found, np.maximum(X, 0))
    lines = [f"%{i + 1} = add(%{i}, 1f);" for i in range(1000)]
    (found,) = run("%0 = nn.relu(%x);\n" + "\n".join(lines) + "\n%1000", {"x": X})
    np.testing.assert_array_equal(found, np.maximum(X, 0) + 1000)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("%y", "%y isn't defined where it is used"),
        ("%3", "%3 isn't defined"),
        ("@f(%x)", "function @f isn't defined"),
        ("let %f = fn (%a) { %f(%a) }; %f(%x)", "f calls itself"),
        ("%x(%x)", "a tensor is called"),
        ("(fn (%a) { %a })(%x, %x)", "takes 1 arguments, not 2"),
        ("%x.0", ".0 of what is no tuple"),
        ("(%x, %x).2", ".2 of a tuple of 2"),
        ("fn (%a) { %a }", "result is no tensor"),
        ("()", "result is no tensor"),
        ("map(%x, fn (%a) { %a })", "map: a function as an argument"),
        ("if (%x) { %x } else { %x }", "if: its condition isn't constant"),
        ("nn.relu(meta[DictAttrs][0])", "meta[DictAttrs][0]: of metadata only constants"),
    ],
)
def test_refusals(body, what):
    text = refusal(program(body, {"x": X}))
    assert what in text
    assert "\n" not in text


def test_recursion_is_refused():
    text = f"def @f(%x: {TYPE}) {{ @g(%x) }}\ndef @g(%x: {TYPE}) {{ @f(%x) }}\n"
    main = f"def @main(%x: {TYPE}) {{ @f(%x) }}"
    assert (
        refusal(HEADER + text + main) == "the Relay text: @f calls itself: recursion isn't imported"
    )


def test_inlining_without_end_is_refused():
    functions = [f"def @f0(%x: {TYPE}) {{ add(%x, %x) }}"]
    functions += [f"def @f{i}(%x: {TYPE}) {{ @f{i - 1}(@f{i - 1}(%x)) }}" for i in range(1, 40)]
    idle = [text.replace("add(%x, %x)", "%x") for text in functions]
    main = f"def @main(%x: {TYPE}) {{ @f39(%x) }}"
    assert "never come to an end" in refusal(HEADER + "\n".join([*idle, main]))


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ("%x", "%x has no type"),
        ("%x: (float32, float32)", "%x is a tuple"),
        ("%x: Tensor[(2), float17]", "element type 'float17'"),
        ("%x: Tensor[(2, ?), float32]", "open dimensions [2, ?]"),
    ],
)
def test_parameters_that_are_no_inputs(parameters, what):
    assert what in refusal(f"{HEADER}def @main({parameters}) {{ nn.relu(%x) }}")


ARGUMENTS = ("%x", "%x", "%x", "%y", "%i", "(%x, %y)", "1f", "2", "()", "meta[relay.Constant][0]")
VALUES = ("1", "-1", "0", "[1, 2]", "[]", '"NHWC"', '"float32"', "None", "True", "1.5f", "inff")
VALUES += ("[[1, 1], [0, 2]]", "[-3, 7, 0, 1]", "99999999999", "[99999999999, 3]")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_call_is_imported_or_refused(data):
    name = data.draw(st.sampled_from(sorted(OPERATORS)))
    parameters = list(inspect.signature(OPERATORS[name]).parameters.values())[1:]
    needed = sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters)
    count = data.draw(st.sampled_from([needed, needed, 0, 1, 2, 6]))
    given_ = data.draw(st.lists(st.sampled_from(ARGUMENTS), min_size=count, max_size=count))
    optional = [p.name for p in parameters if p.default is not p.empty]
    for key in data.draw(st.sets(st.sampled_from(optional or ["a"]), max_size=4)):
        given_.append(f"{key}={data.draw(st.sampled_from(VALUES))}")
    types = "%x: Tensor[(2, 4, 6, 6), float32], %y: Tensor[(4, 4), int8], %i: Tensor[(3), int32]"
    text = f"{HEADER}def @main({types}) {{ {name}({', '.join(given_)}) }}"
    weights = SideWeights(constants=[[1.0, 2, 3, 4]])
    problem = problem_of(load, text, weights=weights, complete=False)
    assert not problem or problem.startswith(("the Relay text", "the graph", "initialiser"))


# --- Weights -------------------------------------------------------------------------------------


def test_params_become_initialisers(tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    (expected,) = run_text(NETWORK, {"x": x, **WEIGHTS})
    binary, npz = tmp_path / "w.params", tmp_path / "w.npz"
    binary.write_bytes(params_bytes(WEIGHTS))
    np.savez(npz, **WEIGHTS)
    for params in (WEIGHTS, binary, str(npz)):
        (found,) = run_text(NETWORK, {"x": x}, SideWeights(params))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_missing_weights_are_listed():
    text = refusal(NETWORK, complete=True)
    assert text.splitlines() == [
        "the Relay text: 2 weights are missing; give --params FILE, "
        "or --random-weights SEED for a cost study; --inputs NAMES says which are inputs",
        "  %w  float32 [3, 2, 3, 3]",
        "  %b  float32 [3]",
    ]
    assert "%b" in refusal(NETWORK, SideWeights({"w": WEIGHTS["w"]}), complete=True)


def test_a_long_list_of_missing_weights_is_cut():
    parameters = ", ".join(f"%b{i}: Tensor[(3), float32]" for i in range(50))
    lines = "".join(f"%{i + 1} = nn.bias_add(%{i}, %b{i});" for i in range(50))
    text = f"{HEADER}def @main(%x: {TYPE}, {parameters}) {{ %0 = nn.relu(%x); {lines} %50 }}"
    found = refusal(text, complete=True).splitlines()
    assert len(found) == 32
    assert found[-1] == "  and 20 more"


def test_inputs_are_told_from_weights():
    body = (
        "%0 = concatenate((%a, %c), axis=1); %1 = nn.dense(%0, %w); %2 = add(%1, %b); nn.relu(%2)"
    )
    sizes = {"a": (1, 2), "c": (1, 3), "w": (4, 5), "b": (1, 4)}
    text = program(body, {name: np.zeros(s, np.float32) for name, s in sizes.items()})
    lines = refusal(text, complete=True).splitlines()[1:]
    assert lines == ["  %w  float32 [4, 5]", "  %b  float32 [1, 4]"]
    two = program("add(%x, %y)", {"x": X, "y": X})
    assert len(load(two).model.graph.inputs) == 2


def test_the_index_of_a_table_is_an_input():
    table, index = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([2, 0])
    text = program("take(%t, %i, axis=0)", {"t": table, "i": index})
    (found,) = run_text(text, {"i": index}, SideWeights({"t": table}), complete=True)
    np.testing.assert_array_equal(found, table[index])
    assert refusal(text, complete=True).splitlines()[1:] == ["  %t  float32 [4, 3]"]
    fixed = program("take(%x, 1, axis=0)", {"x": X})
    assert len(load(fixed).model.graph.inputs) == 1


def test_a_shape_names_an_input():
    text = program("add(nn.relu(%x), %mask)", {"x": X, "mask": X})
    assert "1 weight is missing" in refusal(text, complete=True)
    model = load(text, Inputs({"mask": (2, 3)})).model
    assert [v.name for v in model.graph.inputs] == ["x", "mask"]


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"w": np.zeros((3, 2, 3, 4), np.float32)}, "%w is float32 [3, 2, 3, 3], its weights are"),
        ({"w": np.zeros((3, 2, 3, 3))}, "its weights are float64 [3, 2, 3, 3]"),
        ({"v": np.zeros(3)}, "none of its parameters is among the given weights (v ...)"),
    ],
)
def test_weights_that_do_not_fit(params, what):
    assert what in refusal(NETWORK, SideWeights(params))


CONSTANTS = HEADER + (
    "def @main(%x: Tensor[(1, 2, 4, 4), float32]) {\n"
    "  %0 = nn.conv2d(%x, meta[relay.Constant][0], channels=3, kernel_size=[3, 3]);\n"
    "  %1 = add(%0, meta[relay.Constant][1] /* ty=Tensor[(3, 1, 1), float32] */);\n"
    "  nn.relu(%1)\n}\n"
)
ARRAYS = [WEIGHTS["w"], WEIGHTS["b"].reshape(3, 1, 1)]


def test_constants(tmp_path):
    x = np.ones((1, 2, 4, 4), np.float32)
    npz = tmp_path / "c.npz"
    np.savez(npz, c0=ARRAYS[0], c1=ARRAYS[1])
    named = {"meta[relay.Constant][1]": ARRAYS[1], "meta[relay.Constant][0]": ARRAYS[0]}
    results = [
        run_text(CONSTANTS, {"x": x}, SideWeights(constants=given), complete=True)[0]
        for given in (npz, ARRAYS, named)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    assert results[0].max() > 1


def metadata(arrays):
    nodes = [{"type_key": ""}, {"type_key": "Map", "keys": ["relay.Constant"], "data": [2]}]
    nodes.append({"type_key": "Array", "data": [3 + i for i in range(len(arrays))]})
    nodes += [{"type_key": "relay.Constant", "attrs": {"data": str(i)}} for i in range(len(arrays))]
    blobs = [base64.b64encode(tensor_bytes(array)).decode() for array in arrays]
    return "\n#[metadata]\n" + json.dumps({"root": 1, "nodes": nodes, "b64ndarrays": blobs})


def test_constants_of_a_metadata_section():
    x = np.ones((1, 2, 4, 4), np.float32)
    (expected,) = run_text(CONSTANTS, {"x": x}, SideWeights(constants=ARRAYS))
    (found,) = run_text(CONSTANTS + metadata(ARRAYS), {"x": x}, complete=True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("section", ["{}", "not JSON", '{"root": 1, "nodes": [1, 2]}', "[" * 9999])
def test_any_other_metadata_section_is_passed_over(section):
    text = refusal(f"{CONSTANTS}\n#[metadata]\n{section}", complete=True)
    assert "2 weights are missing; give --constants FILE.npz" in text


def test_constants_that_do_not_fit():
    assert "meta[relay.Constant][1] is float32 [3, 1, 1], and float32 [3] is given" in refusal(
        CONSTANTS, SideWeights(constants=[ARRAYS[0], WEIGHTS["b"]])
    )
    with pytest.raises(UsageError, match="doesn't end in an index"):
        load(CONSTANTS, weights=SideWeights(constants={"bias": ARRAYS[1]}))


def test_random_weights_are_the_same_for_one_seed():
    def made(seed):
        loaded = load(NETWORK, weights=SideWeights(seed=seed))
        assert set(loaded.random) == {"w", "b"}
        values = loaded.model.graph.initializers.values()
        return np.concatenate([value.const_value.numpy().ravel() for value in values])

    np.testing.assert_array_equal(made(1), made(1))
    assert (made(1) != made(2)).any()
    assert load(NETWORK, weights=SideWeights({"w": WEIGHTS["w"]}, seed=1)).random == ("b",)


def test_random_constants_take_the_shape_that_fits():
    loaded = load(CONSTANTS, weights=SideWeights(seed=0))
    assert loaded.random == ("constant_0", "constant_1")
    assert loaded.model.graph.outputs[0].shape == [1, 3, 2, 2]
    unknown = program("take(meta[relay.Constant][0], %x)", {"x": X.astype(np.int32)})
    assert "meta[relay.Constant][0]  of unknown shape" in refusal(
        unknown, SideWeights(seed=0), True
    )


# --- From Python and the command line ------------------------------------------------------------


def test_compile_takes_text_and_says_what_is_random():
    compiled = xbarc.compile(NETWORK, params=WEIGHTS)
    assert "random_weights" not in compiled.report
    x = np.ones((1, 2, 4, 4), np.float32)
    (expected,) = run_text(NETWORK, {"x": x}, SideWeights(WEIGHTS))
    found = compiled.run({"x": x})["output"]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    compiled = xbarc.compile(NETWORK, random_weights=3)
    assert compiled.report["random_weights"] == {"seed": 3, "names": ["w", "b"]}
    assert compiled.report["model"] == "relay"


def command(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_opt_tells_a_program_by_its_first_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.txt").write_text(NETWORK)
    Path("net.params").write_bytes(params_bytes(WEIGHTS))
    done = command("opt", "net.txt", "--params", "net.params", "-o", "net.onnx")
    assert done.exit_code == 0, done.exception
    assert [v.name for v in ir.load("net.onnx").graph.inputs] == ["x"]


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.relay").write_text(NETWORK)
    Path("net.params").write_bytes(params_bytes(WEIGHTS))
    options = ("compile", "net.relay", "--target", "mca64")
    done = command(*options, "--params", "net.params", "-o", "a.xbar", "--json")
    assert done.exit_code == 0, done.output
    missing = command(*options, "-o", "b.xbar")
    assert isinstance(missing.exception, XbarcError)
    assert "2 weights are missing" in str(missing.exception)
    assert not Path("b.xbar").exists()
    random = command(*options, "--random-weights", 5, "-o", "c.xbar")
    assert random.exit_code == 0
    assert "2 weights are random: costs mean something, results don't" in random.output
    report = json.loads(Path("c.xbar/report.json").read_text())
    assert report["random_weights"]["seed"] == 5
    assert command("report", "c.xbar", "-o", "c.html").exit_code == 0
    page = Path("c.html").read_text()
    assert "2 weights are random (seed 5)" in page
    assert "--random-weights 5" in page
    assert command("report", "a.xbar", "-o", "a.html").exit_code == 0
    assert "--params net.params" in Path("a.html").read_text()


def test_opt_writes_a_relay_program_as_onnx(tmp_path):
    source, target = tmp_path / "net.relay", tmp_path / "net.onnx"
    source.write_text(NETWORK)
    assert command("opt", source, "-o", target).exit_code == 0
    session = onnxruntime.InferenceSession(target)
    assert [value.name for value in session.get_inputs()] == ["x", "w", "b"]


def test_weights_beside_an_onnx_model_are_bad_usage(tmp_path):
    path = tmp_path / "m.onnx"
    ir.save(load(NETWORK, weights=SideWeights(WEIGHTS)).model, path)
    with pytest.raises(UsageError, match="params are for TVM Relay and TVM Relax, not for ONNX"):
        xbarc.compile(path, params=WEIGHTS)


# --- Programs of others --------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "batch_flatten",
        "bias_add",
        "clip",
        "conv2d",
        "conv2d_padding",
        "dense",
        "max_pool2d",
        "relu",
        "reshape",
        "softmax",
    ],
)
def test_calyx(name):
    folder = SHARED / "relay/calyx"
    given = json.loads((folder / f"{name}.relay.data").read_text())
    expected = json.loads((folder / f"{name}.expect").read_text())
    model = load(folder / f"{name}.relay", complete=False).model
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    kinds = {"tensor(int32)": np.int32, "tensor(float)": np.float32}
    feeds = {v.name: np.array(given[v.name]["data"], kinds[v.type]) for v in session.get_inputs()}
    (found,) = session.run(None, feeds)
    wanted = np.array(expected[session.get_outputs()[0].name], object).astype(float)
    # Of the fixed-point numbers (16 bits behind the point) only softmax isn't exact: its exp is a
    # polynomial there.
    tolerance = 1e-3 if name == "softmax" else 0
    np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=0, atol=tolerance)


@needs_shared
def test_mnist8_is_the_onnx_model():
    folder = SHARED / "relay/mnist8"
    model = load(folder / "mnist8.relay", weights=SideWeights(folder / "mnist8.params")).model
    ours = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    path = SHARED / "models/mnist-8.onnx"
    theirs = onnxruntime.InferenceSession(path)
    with np.load(SHARED / "data/mnist.npz") as data:
        images = data["x_test"][:300].transpose(0, 3, 1, 2).astype(np.float32)
    name = theirs.get_inputs()[0].name
    for image in images[:20, None]:
        (expected,), (found,) = theirs.run(None, {name: image}), ours.run(None, {"x": image})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    compiled = xbarc.compile(
        folder / "mnist8.relay", params=folder / "mnist8.params", calibration={"x": images[:32]}
    )
    same = xbarc.compile(path, calibration={name: images[:32]})
    (found,), (expected,) = (
        compiled.run({"x": images}).values(),
        same.run({name: images}).values(),
    )
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))


@needs_shared
@pytest.mark.parametrize("name", ["mnist", "mobilenet", "resnet50"])
def test_whole_networks_with_constants(name):
    folder = SHARED / "relay/tvm"
    shapes = json.loads((folder / f"{name}_consts.shapes.json").read_text())
    constants = [np.full(shape, 0.01, np.float32) for shape in shapes]
    model = load(folder / f"{name}.relay", weights=SideWeights(constants=constants)).model
    assert model.graph.outputs[0].shape == ([1, 10] if name == "mnist" else [1, 1000])
    if name != "mnist":  # its dense layer doesn't say how many units it has
        loaded = load(folder / f"{name}.relay", weights=SideWeights(seed=0))
        assert len(loaded.random) == len(shapes)


@needs_shared
def test_resnet18_with_parameters():
    path = SHARED / "relay/resnet18.relay"
    loaded = load(path, weights=SideWeights(seed=0))
    assert [value.name for value in loaded.model.graph.inputs] == ["data"]
    assert len(loaded.random) == 99
    assert loaded.model.graph.outputs[0].shape == [1, 1000]
