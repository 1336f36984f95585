"""Dependencies: a group that goes leaves what the graph computed with the group at zero."""

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model

from xbarc.frontends.onnx.importer import load
from xbarc.graph.analysis.dependencies import analyse
from xbarc.graph.compress.shrink import remove
from xbarc.graph.operators.channels.reshapes import segments
from xbarc.graph.query import constant
from xbarc.graph.run import random_inputs, same_function
from xbarc.graph.serialize import to_proto, without_weights

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

GRAPHS = {
    "chain": """g (float[N,3,8,8] x) => (float[N,5] y)
<float[8,3,3,3] w1, float[8] b1, float[6,8,3,3] w2, float[5,6] w3, float[5] b3> {
  a = Conv(x, w1, b1) r = Relu(a) c = Conv<strides=[2,2]>(r, w2) p = GlobalAveragePool(c)
  f = Flatten(p) y = Gemm<transB=1>(f, w3, b3) }""",
    "flatten": """g (float[N,3,6,6] x) => (float[N,5] y)
<float[8,3,3,3] w1, float[8] b1, float[128,7] w2, float[7] b2, float[7,5] w3> {
  a = Conv(x, w1, b1) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) q = Pad(p, pads)
  f = Reshape(q, shape) h = MatMul(f, w2) i = Add(h, b2) t = Tanh(i) y = MatMul(t, w3) }""",
    "residual": """g (float[N,3,8,8] x) => (float[N,4,8,8] y)
<float[8,3,3,3] w1, float[8] gamma, float[8] beta, float[8] mean, float[8] var,
 float[6,8,1,1] w2, float[8,6,3,3] w3, float[4,8,1,1] w4, float[8,1,1] slope> {
  a = Conv<pads=[1,1,1,1]>(x, w1) n = BatchNormalization(a, gamma, beta, mean, var)
  r = PRelu(n, slope) b = Conv(r, w2) s = Relu(b) c = Conv<pads=[1,1,1,1]>(s, w3)
  u = Add(c, r) v = Max(u, c) y = Conv(v, w4) }""",
    "dense": """g (float[N,3,6,6] x) => (float[N,4,6,6] y)
<float[4,3,3,3] w1, float[5,4,3,3] w2, float[3,9,3,3] w3, float[4,12,1,1] w4, float[12] k> {
  a = Conv<pads=[1,1,1,1]>(x, w1) b = Conv<pads=[1,1,1,1]>(a, w2) c = Concat<axis=1>(a, b)
  d = Relu(c) e = Conv<pads=[1,1,1,1]>(d, w3) f = Concat<axis=1>(c, e) g = Relu(f)
  y = Conv(g, w4) }""",
    "inception": """g (float[N,3,6,6] x) => (float[N,4,2,2] y)
<float[4,3,1,1] w1, float[5,3,3,3] w2, float[4,3,1,1] w3, float[6,4,3,3] w4, float[4,18,3,3] w5> {
  a = Conv(x, w1) b = Conv<pads=[1,1,1,1]>(x, w2) c = Conv(x, w3)
  d = Conv<pads=[1,1,1,1]>(c, w4) p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)
  e = Concat<axis=1>(a, b, d, p) y = Conv<strides=[2,2]>(e, w5) }""",
    "squeeze-excite": """g (float[N,3,6,6] x) => (float[N,4,6,6] y)
<float[8,3,3,3] w1, float[8,1,3,3] wd, float[2,8,1,1] s1, float[8,2,1,1] s2, float[8] sb,
 float[4,8,1,1] w2> {
  a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a) d = Conv<group=8, pads=[1,1,1,1]>(r, wd)
  p = ReduceMean<keepdims=1>(d, axes) q = Conv(p, s1) t = Relu(q) u = Conv(t, s2, sb)
  h = HardSigmoid(u) m = Mul(d, h) y = Conv(m, w2) }""",
    "shuffle": """g (float[N,3,4,4] x) => (float[N,4,4,4] y)
<float[12,3,1,1] w1, float[12,6,3,3] w2, float[12,1,3,3] w3, float[4,12,1,1] w4> {
  a = Conv(x, w1) b = Conv<group=2, pads=[1,1,1,1]>(a, w2) r = Reshape(b, split)
  t = Transpose<perm=[0,2,1,3,4]>(r) m = Reshape(t, merged)
  d = Conv<group=12, pads=[1,1,1,1]>(m, w3) e = Add(d, a) y = Conv(e, w4) }""",
    "u-net": """g (float[N,2,8,8] x) => (float[N,1,8,8] y)
<float[4,2,3,3] w1, float[6,4,3,3] w2, float[6,4,2,2] w3, float[4] b3, float[5,8,3,3] w4,
 float[1,5,1,1] w5> {
  a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
  b = Conv<pads=[1,1,1,1]>(p, w2) u = ConvTranspose<strides=[2,2]>(b, w3, b3)
  c = Concat<axis=1>(u, r) d = Conv<pads=[1,1,1,1]>(c, w4) e = Resize(d, none, scales)
  y = Conv(e, w5) }""",
    "split": """g (float[N,3,4,4] x) => (float[N,2,4,4] y)
<float[8,3,1,1] w1, float[3,3,3,3] w2, float[2,13,1,1] w3> {
  a = Conv(x, w1) b, c = Split<axis=1>(a, sizes) d = Conv<pads=[1,1,1,1]>(b, w2)
  s = Slice(a, starts, ends, axes1) e = Concat<axis=1>(d, c, s) y = Conv(e, w3) }""",
    "padded-shortcut": """g (float[N,4,4,4] x) => (float[N,2,4,4] y)
<float[4,4,1,1] w0, float[8,4,3,3] w1, float[2,8,1,1] w2> {
  i = Conv(x, w0) a = Conv<pads=[1,1,1,1]>(i, w1) b = Pad(i, channels) c = Add(a, b)
  y = Conv(c, w2) }""",
    "sequence": """g (float[N,6,4] x) => (float[N,6,3] y)
<float[4,8] q, float[4,8] k, float[4,8] v, float[8,5] o, float[5] bo, float[5,3] f> {
  a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v) t = Transpose<perm=[0,2,1]>(b)
  s = MatMul(a, t) p = Softmax<axis=-1>(s) m = MatMul(p, c) n = MatMul(m, o) e = Add(n, bo)
  g = Relu(e) y = MatMul(g, f) }""",
}
CONSTANTS = {
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "channels": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
    "shape": np.array([0, 128]),
    "split": np.array([0, 2, 6, 4, 4]),
    "merged": np.array([0, 12, 4, 4]),
    "axes": np.array([2, 3]),
    "sizes": np.array([3, 5]),
    "starts": np.array([1]),
    "ends": np.array([6]),
    "axes1": np.array([1]),
}


def graph(name: str) -> ir.Model:
    """A network of `GRAPHS`, imported."""
    text = GRAPHS[name]
    declared = "".join(
        f", int64[{len(array)}] {value}"
        for value, array in CONSTANTS.items()
        if f" {value})" in text or f" {value}," in text
    )
    if "scales" in text:
        text = text.replace("none, scales", ", scales")
        declared += ", float[4] scales"
    model = text_model(
        text.replace("> {", declared + "> {", 1),
        var=np.linspace(0.5, 2, 8),
        scales=np.ones(4),
        **CONSTANTS,
    )
    return load(model)


def masked(model: ir.Model, groups: set[int]) -> ir.Model:
    """A copy with the groups' parts of every weight at zero."""
    copy = model.clone()
    dependencies = analyse(copy)
    for dim, mask in dependencies.kept(groups).items():
        array = constant(dim.value)
        if array is not None:
            array = array.copy()
            np.moveaxis(array, dim.axis, 0)[~mask] = 0
            dim.value.const_value = ir.Tensor(array, name=dim.value.name)
    return copy


def groups_of(model: ir.Model) -> list[int]:
    return sorted(analyse(model).removable)


def check(model: ir.Model, groups: set[int]) -> ir.Model:
    """Removing `groups` leaves a valid graph that computes what the masked one does."""
    expected = masked(model, groups)
    pruned = model.clone()
    remove(pruned, analyse(pruned), groups)
    onnx.checker.check_model(to_proto(pruned), full_check=True)
    same_function(expected, pruned, random_inputs(model, 2))
    return pruned


def legal(model: ir.Model, groups: list[int]) -> set[int]:
    """As many of `groups` as leave something of every dimension."""
    dependencies, chosen = analyse(model), set()
    for group in groups:
        if all(mask.any() for mask in dependencies.kept(chosen | {group}).values()):
            chosen.add(group)
    return chosen


REMOVABLE = {
    "chain": 8 + 6,
    "flatten": 8 + 7,
    "residual": 8 + 6,
    "dense": 4 + 5 + 3,
    "inception": 4 + 5 + 4 + 6,
    "squeeze-excite": 8 + 2,
    "shuffle": 3,
    "u-net": 4 + 6 + 4 + 5,
    "split": 8 + 3,
    "padded-shortcut": 8,
    "sequence": 8 + 8 + 5,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_each_group_alone(name):
    model = graph(name)
    groups = groups_of(model)
    assert len(groups) == REMOVABLE[name]
    for group in groups[:: max(1, len(groups) // 4)]:
        check(model, {group})


@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_groups_together(name, data):
    model = graph(name)
    groups = groups_of(model)
    order = data.draw(st.permutations(groups))
    check(model, legal(model, order[: data.draw(st.integers(1, len(groups)))]))


def test_what_belongs_together():
    model = graph("residual")
    dependencies = analyse(model)
    (conv,) = [p.output for p in dependencies.producers if p.node.inputs[1].name == "w1"]
    parts = dependencies.shrinking(int(dependencies.labels[conv][3]))
    found = {(p.node.op_type, p.node.inputs[p.input].name, p.axis, p.indices) for p in parts}
    assert found == {
        ("Conv", "w1", 0, (3,)),
        *(("BatchNormalization", n, 0, (3,)) for n in ("gamma", "beta", "mean", "var")),
        ("PRelu", "slope", 0, (3,)),
        ("Conv", "w2", 1, (3,)),
        ("Conv", "w3", 0, (3,)),
        ("Conv", "w4", 1, (3,)),
    }


def test_a_flattened_channel_is_a_run_of_rows():
    model = graph("flatten")
    dependencies = analyse(model)
    (conv, *_) = [p.output for p in dependencies.producers]
    parts = dependencies.shrinking(int(dependencies.labels[conv][1]))
    (rows,) = [p.indices for p in parts if p.node.op_type == "MatMul"]
    assert rows == tuple(range(16, 32))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Conv(x, w)", "the output 'y'"),
        ("a = Conv(x, w) s = Softmax<axis=1>(a) y = Conv(s, v)", "Softmax 'Softmax' is taken"),
        ("a = Conv(x, w) s = LRN<size=3>(a) y = Conv(s, v)", "LRN 'LRN' is taken over it"),
        ("a = Conv(x, w) s = CumSum(a, one) y = Conv(s, v)", "CumSum 'CumSum' reads it"),
        ("a = Conv(x, w) s = Add(a, x) y = Conv(s, v)", "the input 'x'"),
        (
            "a = Conv(x, w) d, m = Dropout(a) f = Cast<to=1>(m) s = Mul(d, f) y = Conv(s, v)",
            "Dropout 'Dropout' has a second output",
        ),
        ("a = Conv(x, w) s = ReduceSum(a, ones) y = Add(s, x)", "reduces over it"),
    ],
)
def test_fixed_groups_say_why(body, reason):
    model = load(
        text_model(
            f"g (float[N,4,2,2] x) => (float[N,4,2,2] y) "
            f"<float[4,4,1,1] w, float[4,4,1,1] v, int64 one, int64[1] ones> {{ {body} }}",
            one=1,
            ones=[1],
        )
    )
    dependencies = analyse(model)
    first = dependencies.labels[dependencies.producers[0].output]
    assert dependencies.removable.isdisjoint(first.tolist())
    assert all(reason in dependencies.reasons[int(g)] for g in first)
    with pytest.raises(ValueError, match="is fixed"):
        remove(model, dependencies, {int(first[0])})


def test_a_dimension_is_never_emptied():
    model = graph("chain")
    dependencies = analyse(model)
    labels = dependencies.labels[dependencies.producers[0].output]
    with pytest.raises(ValueError, match="nothing would be left"):
        remove(model, dependencies, set(labels.tolist()))


def test_arrays_are_replaced_not_written_to():
    model = graph("residual")
    arrays = {n: constant(v) for n, v in model.graph.initializers.items()}
    copies = {n: a.copy() for n, a in arrays.items()}
    remove(model, analyse(model), set(groups_of(model)[:2]))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, copies[name])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([None, 16, 7, 7], [None, 784], [([0], [0]), ([1, 2, 3], [1])]),
        ([None, 12, 4, 4], [None, 2, 6, 4, 4], [([0], [0]), ([1], [1, 2]), ([2], [3]), ([3], [4])]),
        ([None, 8, 1, 1], [None, 8], [([0], [0]), ([1], [1]), ([2], []), ([3], [])]),
        ([None, 5, 8], [None, 8], [([0, 1], [0]), ([2], [1])]),
        ([2, 3], [3, 2], [([0, 1], [0, 1])]),
        ([1, 6, 5], [1, 2, 3, 5], [([0], [0]), ([1], [1, 2]), ([2], [3])]),
        ([4, 1, 6], [1, 24], [([], [0]), ([0, 1, 2], [1])]),
    ],
)
def test_segments(a, b, expected):
    assert list(segments(a, b)) == expected


@pytest.mark.parametrize(
    "name",
    ["resnet50", "densenet121", "inception_v1", "shufflenet", "squeezenet", "bvlc_alexnet"],
)
def test_light_models(name):
    """Real graphs: some channels of some layers go, and shapes fit."""
    model = load(LIGHT / f"light_{name}.onnx")
    dependencies = analyse(model)
    assert dependencies.removable
    groups = sorted(dependencies.removable)[:: max(1, len(dependencies.removable) // 9)]
    assert remove(model, dependencies, legal(model, groups))
    onnx.shape_inference.infer_shapes(without_weights(model), strict_mode=True)
