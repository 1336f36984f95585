"""What onnx's checker refuses, one fault each: a line says so, and the program doesn't crash."""

import onnx
import pytest
from models import text_model
from onnx import AttributeProto, TensorProto, helper

import xbarc
from xbarc.driver.optimize import optimize
from xbarc.support.errors import XbarcError

MODEL = """g (float[N,4] x) => (float[N,4] y) <float[4,4] w, float[4] b, bool yes>
{ m = MatMul(x, w) a = Add(m, b) r = Clip(a) s = LeakyRelu<alpha=0.1>(r)
  y = If(yes) <then_branch = t () => (p) { p = Relu(s) }, else_branch = f () => (q) { q = Neg(s) }>
}"""


def fault(name):
    def keep(change):
        FAULTS[name] = change
        return change

    return keep


FAULTS = {}


def _node(model, op):
    return next(node for node in model.graph.node if node.op_type == op)


@fault("no graph")
def _(m):
    m.ClearField("graph")


@fault("no IR version")
def _(m):
    m.ClearField("ir_version")


@fault("an IR version of the future")
def _(m):
    m.ir_version = 1 << 40


@fault("no opset")
def _(m):
    del m.opset_import[:]


@fault("an opset of the future")
def _(m):
    m.opset_import[0].version = 9999


@fault("a negative opset")
def _(m):
    m.opset_import[0].version = -3


@fault("two opsets of a domain")
def _(m):
    m.opset_import.add(domain="", version=13)


@fault("an unknown domain")
def _(m):
    _node(m, "Add").domain = "nobody"


@fault("an unknown operator")
def _(m):
    _node(m, "Add").op_type = "Ad"


@fault("a node without an operator")
def _(m):
    _node(m, "Add").ClearField("op_type")


@fault("a node without outputs")
def _(m):
    del _node(m, "Add").output[:]


@fault("two nodes that make one value")
def _(m):
    m.graph.node.add().CopyFrom(_node(m, "Add"))


@fault("a circle")
def _(m):
    _node(m, "MatMul").input[0] = "r"


@fault("a value that nothing makes")
def _(m):
    _node(m, "Add").input[0] = "nothing"


@fault("too few inputs")
def _(m):
    del _node(m, "Add").input[1:]


@fault("too many inputs")
def _(m):
    _node(m, "Add").input.extend(["m", "m", "m"])


@fault("a required input left out")
def _(m):
    _node(m, "MatMul").input[1] = ""


@fault("an unknown attribute")
def _(m):
    _node(m, "Add").attribute.append(helper.make_attribute("axis", 1))


@fault("an attribute of another type")
def _(m):
    del _node(m, "LeakyRelu").attribute[:]
    _node(m, "LeakyRelu").attribute.append(helper.make_attribute("alpha", "much"))


@fault("an attribute without a name")
def _(m):
    _node(m, "LeakyRelu").attribute[0].ClearField("name")


@fault("an attribute without a type")
def _(m):
    _node(m, "LeakyRelu").attribute[0].ClearField("type")


@fault("an attribute of two values")
def _(m):
    _node(m, "LeakyRelu").attribute[0].ints.append(1)


@fault("an attribute twice")
def _(m):
    node = _node(m, "LeakyRelu")
    node.attribute.add().CopyFrom(node.attribute[0])


@fault("an attribute that refers to a function's, outside of one")
def _(m):
    attribute = _node(m, "LeakyRelu").attribute[0]
    attribute.ref_attr_name = "other"


@fault("a tensor attribute without a type")
def _(m):
    node = m.graph.node.add(op_type="Constant", output=["k"])
    node.attribute.add(name="value", type=AttributeProto.TENSOR).t.dims.append(1)


@fault("a required attribute left out")
def _(m):
    del _node(m, "If").attribute[:]


@fault("a branch without outputs")
def _(m):
    del _node(m, "If").attribute[0].g.output[:]


@fault("a branch without a name")
def _(m):
    _node(m, "If").attribute[0].g.ClearField("name")


@fault("a branch that hides a value")
def _(m):
    graph = _node(m, "If").attribute[0].g
    graph.node[0].output[0] = graph.output[0].name = "r"


@fault("a graph without a name")
def _(m):
    m.graph.ClearField("name")


@fault("an input without a name")
def _(m):
    m.graph.input[0].ClearField("name")


@fault("an input without a type")
def _(m):
    m.graph.input[0].ClearField("type")


@fault("an input twice")
def _(m):
    m.graph.input.add().CopyFrom(m.graph.input[0])


@fault("an input without an element type")
def _(m):
    m.graph.input[0].type.tensor_type.elem_type = 0


@fault("an input of an unknown element type")
def _(m):
    m.graph.input[0].type.tensor_type.elem_type = 77


@fault("an input of a negative size")
def _(m):
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -4


@fault("a sequence as an input")
def _(m):
    m.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


@fault("a map as an input")
def _(m):
    m.graph.input[0].type.map_type.key_type = TensorProto.FLOAT


@fault("an optional of nothing as an input")
def _(m):
    m.graph.input[0].type.optional_type.SetInParent()


@fault("an output that nothing makes")
def _(m):
    m.graph.output[0].name = "nothing"


@fault("no outputs")
def _(m):
    del m.graph.output[:]


@fault("an output of another shape")
def _(m):
    m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@fault("a weight without a name")
def _(m):
    m.graph.initializer[0].ClearField("name")


@fault("a weight without a type")
def _(m):
    m.graph.initializer[0].ClearField("data_type")


@fault("a weight of an unknown type")
def _(m):
    m.graph.initializer[0].data_type = 99


@fault("a weight of another length")
def _(m):
    m.graph.initializer[0].dims[0] = 5


@fault("a weight of a negative size")
def _(m):
    m.graph.initializer[0].dims[0] = -4


@fault("a weight with two kinds of data")
def _(m):
    m.graph.initializer[0].raw_data = b"\0" * 64
    m.graph.initializer[0].float_data.extend([0.0] * 16)


@fault("a weight twice")
def _(m):
    m.graph.initializer.add().CopyFrom(m.graph.initializer[0])


@fault("a weight in a file without a name")
def _(m):
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL


@fault("text as raw data")
def _(m):
    m.graph.initializer[0].CopyFrom(TensorProto(name="w", dims=[4, 4], raw_data=b"x", data_type=8))


@fault("a sparse weight without indices")
def _(m):
    m.graph.sparse_initializer.add(dims=[4, 4]).values.CopyFrom(m.graph.initializer[0])


@fault("a sparse weight beyond its shape")
def _(m):
    sparse = m.graph.sparse_initializer.add(dims=[4, 4])
    sparse.values.CopyFrom(helper.make_tensor("w2", TensorProto.FLOAT, [1], [1.0]))
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [1], [99]))


@fault("a function without a name")
def _(m):
    m.functions.add(domain="f", output=["o"])


@fault("a function that calls itself")
def _(m):
    made = m.functions.add(name="F", domain="f", input=["i"], output=["o"])
    made.opset_import.add(domain="f", version=1)
    made.node.add(op_type="F", domain="f", input=["i"], output=["o"])
    m.graph.node[2].op_type, m.graph.node[2].domain = "F", "f"
    m.opset_import.add(domain="f", version=1)


@fault("a function without an opset")
def _(m):
    made = m.functions.add(name="F", domain="f", input=["i"], output=["o"])
    made.node.add(op_type="Relu", input=["i"], output=["o"])
    m.graph.node[2].op_type, m.graph.node[2].domain = "F", "f"


@fault("a function twice")
def _(m):
    for _ in range(2):
        made = m.functions.add(name="F", domain="f", input=["i"], output=["o"])
        made.opset_import.add(domain="", version=18)
        made.node.add(op_type="Relu", input=["i"], output=["o"])


@fault("metadata twice")
def _(m):
    for _ in range(2):
        m.metadata_props.add(key="a", value="b")


@fault("a name that isn't UTF-8 to others")
def _(m):
    _node(m, "Add").name = "\ud7ff\x00\x1b[31m"


@fault("types that contradict each other")
def _(m):
    m.graph.value_info.add().CopyFrom(helper.make_tensor_value_info("m", TensorProto.INT64, [3]))


@fault("an operator of a newer opset")
def _(m):
    _node(m, "Clip").op_type = "Gelu"


@fault("an operator that its opset has no more")
def _(m):
    _node(m, "Clip").op_type = "Upsample"


@pytest.mark.parametrize("how", ["compile", "optimize"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_a_line(tmp_path, name, how):
    """Or the model is read all the same, where what is wrong doesn't matter."""
    model = onnx.ModelProto()
    model.CopyFrom(text_model(MODEL, yes=True))
    FAULTS[name](model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    causes = _causes(path, how)
    assert len(causes) <= 1
    assert all(10 < len(cause) < 500 for cause in causes)


def test_the_model_itself_is_sound(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(text_model(MODEL, yes=True), path)
    assert _causes(path, "compile") == _causes(path, "optimize") == ()


def _causes(path, how):
    """The lines of the error that compiling or optimising ends in; none where it works."""
    try:
        if how == "compile":
            xbarc.compile(path, "mca128")
        else:
            optimize(path, path.with_name("out.onnx"), "canonicalize,fold-batchnorm")
    except XbarcError as error:
        return error.causes
    return ()
