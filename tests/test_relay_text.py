"""Relay's text: what is read, what is refused and where, and text of any kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_programs import HEADER, problem_of

from xbarc.frontends.relay.text import parse
from xbarc.frontends.relay.tree import (
    Binding,
    Block,
    Branch,
    Call,
    Function,
    Global,
    Meta,
    Name,
    Operator,
    OtherType,
    Parameter,
    Projection,
    Scalar,
    TensorType,
    TupleOf,
)
from xbarc.support.errors import XbarcError

INT8 = TensorType("int8", ())
X1 = Projection(Name("%x"), 1)


def body(text):
    return parse(HEADER + text, "t").body


def refusal(text, header=HEADER):
    with pytest.raises(XbarcError) as caught:
        parse(header + text, "t")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%x", Name("%x")),
        ("%12", Name("%12")),
        ("%layer1.0.weight", Name("%layer1.0.weight")),
        ("%onnx::Conv_0", Name("%onnx::Conv_0")),
        ("%dense/kernel:0", Name("%dense/kernel:0")),
        ("fn (%x.1: int8) { %x.1 }", Function((Parameter("%x.1", INT8),), X1)),
        ("let %x.1 = %y; %x.1", Block((Binding("%x.1", None, Name("%y")),), X1)),
        ("%x.1 == %y", Call(Operator("equal"), (X1, Name("%y")), {})),
        ("%x.0", Projection(Name("%x"), 0)),
        ("%1.0.1", Projection(Projection(Name("%1"), 0), 1)),
        ("1f", Scalar(1.0, "float32")),
        ("-1.5e-05f", Scalar(-1.5e-05, "float32")),
        ("2.5f64", Scalar(2.5, "float64")),
        ("1.5f16", Scalar(1.5, "float16")),
        ("-inff", Scalar(float("-inf"), "float32")),
        ("3", Scalar(3, "int32")),
        ("--3", Scalar(3, "int32")),
        ("3000000000", Scalar(3000000000, "int64")),
        ("2i64", Scalar(2, "int64")),
        ("-7i8", Scalar(-7, "int8")),
        ("True", Scalar(True, "bool")),
        ("meta[relay.Constant][3]", Meta("relay.Constant", 3)),
        ("()", TupleOf(())),
        ("(%x,)", TupleOf((Name("%x"),))),
        ("(%x, 1f)", TupleOf((Name("%x"), Scalar(1.0, "float32")))),
        ("(%x)", Name("%x")),
        ("nn.relu(%x)", Call(Operator("nn.relu"), (Name("%x"),), {})),
        ("@f(%x).1", Projection(Call(Global("@f"), (Name("%x"),), {}), 1)),
        (
            'f(%x, a=[1, 2], b=[[0, 1], []], c="NCHW", d=None, e=True, g=0.5f, h=2i64, i=word)',
            Call(
                Operator("f"),
                (Name("%x"),),
                {
                    "a": (1, 2),
                    "b": ((0, 1), ()),
                    "c": "NCHW",
                    "d": None,
                    "e": True,
                    "g": 0.5,
                    "h": 2,
                    "i": "word",
                },
            ),
        ),
        (
            "let %y: Tensor[(1, ?), float32] = %x; %0 = %y; free_var %w: int8; %0",
            Block(
                (
                    Binding("%y", TensorType("float32", (1, None)), Name("%x")),
                    Binding("%0", None, Name("%y")),
                    Binding("%w", TensorType("int8", ()), None),
                ),
                Name("%0"),
            ),
        ),
        (
            "fn (%a: (Tensor[(2,), int8], bool), %b, Primitive=1) -> bool { %b }",
            Function((Parameter("%a", OtherType("a tuple")), Parameter("%b", None)), Name("%b")),
        ),
        (
            "if (%c) { %x } else { let %z = %y; %z }",
            Branch(
                Name("%c"),
                Name("%x"),
                Block((Binding("%z", None, Name("%y")),), Name("%z")),
            ),
        ),
        (
            "%a + %b * 2f",
            Call(
                Operator("add"),
                (
                    Name("%a"),
                    Call(Operator("multiply"), (Name("%b"), Scalar(2.0, "float32")), {}),
                ),
                {},
            ),
        ),
    ],
)
def test_expressions(text, expected):
    assert body(text) == expected


def test_definitions():
    program = parse(
        f"{HEADER}def @f[A](%x: A) {{ %x }}\n"
        'def @main(%x: Tensor[(3), float32], hash="ab") -> Tensor[(3), float32] { @f(%x) }',
        "t",
    )
    assert list(program.functions) == ["@f", "@main"]
    assert program.functions["@main"].parameters == (Parameter("%x", TensorType("float32", (3,))),)


def test_comments_are_space():
    text = """
      /* a comment /* in a comment */ "quoted" */
      %0 = f(%x /* ty=Tensor[(1), float32] span=from_string:3:8 */, s="/* no comment */"); // end
      %0 /* ty=float32 */
    """
    found = body(text)
    assert found.bindings[0].value.attributes == {"s": "/* no comment */"}


@pytest.mark.parametrize("comment", ["span=http://a.b:0:0", '5" wide', '"', "//", '// /* " */'])
def test_quotes_and_slashes_in_comments_are_text(comment):
    assert body(f'f(%x, a="y") /* {comment} */') == body('f(%x, a="y")')
    assert body(f'f(%x, /* {comment} */ a="y")') == body('f(%x, a="y")')


def test_types_of_constants_stand_in_comments():
    text = (
        "f(meta[relay.Constant][0] /* ty=Tensor[(8, 1), float32] span=a:1:2 */, "
        "meta[relay.Constant][7] /* ty=int8 */, meta[relay.Constant][1])"
    )
    found = parse(HEADER + text, "t").constant_types
    assert found == {0: TensorType("float32", (8, 1)), 7: TensorType("int8", ())}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def @main(%x) { nn.relu(%x) ", "t: the program is cut short"),
        ("def @main(%x) {\n  f(%x, a=[1 2])\n}", "t:3:14: '2' isn't expected here"),
        ("def @main(%x) {\n  ~\n}", "t:3:3: '~' isn't Relay"),
        ("/* a", "t: a comment doesn't end"),
        ("%x */", "t:2:4: a comment ends that didn't begin"),
        ("/* two\nlines */ %x %y", "t:3:13: '%y' isn't expected here"),
        ("match (%x) { Nil => %y }", "'match' isn't imported"),
        ("type List[A] { Nil } ~", "t:2:22: '~' isn't Relay"),
        ("def @f(%x) { type List[A] { Nil } }", "'type' isn't imported"),
        ("99999999999999999999999", "is too large a number"),
        ("3i8000", "there is no type int8000"),
        ("300i8", "isn't a number of type int8"),
        ("1f17", "there is no type float17"),
        ("f(%x, a=1, a=2)", "attribute 'a' is given twice"),
        ("fn (%x, %x) { %x }", "%x is a parameter twice"),
        ("def @f(%x) { %x } def @f(%x) { %x }", "@f is defined twice"),
        ("(" * 20_000 + "%x" + ")" * 20_000, "more than 10000 brackets within brackets"),
    ],
)
def test_refusals(text, what):
    assert what in refusal(text)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("", 't lacks the first line of Relay text, #[version = "0.0.5"]'),
        ('#[version = "0.0.4"]\n', "version '0.0.4': 0.0.5 is read"),
        ("PK", "t lacks the first line"),
    ],
)
def test_headers(header, what):
    assert what in refusal("%x", header)


def test_depth_is_no_matter():
    deep = body("f(" * 9000 + "%x" + ")" * 9000)
    depth = 0
    while isinstance(deep, Call):
        deep, depth = deep.arguments[0], depth + 1
    assert depth == 9000


# --- Any text ------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in ("let", "fn", "if", "else", "def", "free_var", "inff", "meta")
)
variables = names.map(lambda name: Name(f"%{name}")) | st.integers(0, 99).map(
    lambda n: Name(f"%{n}")
)
scalars = (
    st.floats(width=32, allow_nan=False).map(lambda x: Scalar(x, "float32"))
    | st.integers(-(1 << 31), (1 << 31) - 1).map(lambda i: Scalar(i, "int32"))
    | st.integers(-(1 << 63), (1 << 63) - 1).map(lambda i: Scalar(i, "int64"))
    | st.booleans().map(lambda t: Scalar(t, "bool"))
)
types = st.builds(
    TensorType,
    st.sampled_from(["float32", "int8", "bool"]),
    st.lists(st.none() | st.integers(0, 999), min_size=1, max_size=4).map(tuple),
)
leaves = (
    variables
    | scalars
    | st.integers(0, 99).map(lambda i: Meta("relay.Constant", i))
    | names.map(lambda name: Global(f"@{name}"))
)
attribute_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 31), (1 << 31) - 1)
    | st.text('abcNCHW \\"/*', max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def _composed(inner):
    blocks = st.builds(
        Block,
        st.lists(
            st.builds(Binding, variables.map(lambda v: v.text), st.none(), inner)
            | st.builds(Binding, names.map(lambda n: f"%{n}"), types, inner),
            min_size=1,
            max_size=3,
        ).map(tuple),
        inner,
    )
    parameters = st.lists(
        st.builds(Parameter, names.map(lambda n: f"%{n}"), st.none() | types),
        max_size=3,
        unique_by=lambda p: p.name,
    ).map(tuple)
    functions = st.builds(Function, parameters, inner | blocks)
    callee = names.map(Operator) | functions | variables
    return (
        st.builds(
            Call,
            callee,
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(names, attribute_values, max_size=2),
        )
        | st.lists(inner, max_size=3).map(lambda fields: TupleOf(tuple(fields)))
        | st.builds(Projection, inner, st.integers(0, 9))
        | blocks
        | functions
        | st.builds(Branch, inner, inner | blocks, inner | blocks)
    )


expressions = st.recursive(leaves, _composed, max_leaves=15)


def printed_type(kind):
    sizes = ", ".join("?" if size is None else str(size) for size in kind.shape)
    return f"Tensor[({sizes}), {kind.dtype}]"


def printed_value(value):
    match value:
        case None | True | False:
            return str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(map(printed_value, value)) + "]"
    return str(value)


def printed(expr):
    """The expression as TVM prints it, with a comment here and there."""
    match expr:
        case Name(text) | Global(text) | Operator(text):
            return f"{text} /* ty=float32 */" if isinstance(expr, Name) else text
        case Scalar(value, "bool"):
            return str(value)
        case Scalar(value, "float32"):
            return f"{value!r}f".replace("+", "")
        case Scalar(value, "int64"):
            return f"{value}i64"
        case Scalar(value, _):
            return str(value)
        case Meta(kind, index):
            return f"meta[{kind}][{index}]"
        case TupleOf(fields):
            inside = ", ".join(map(printed, fields))
            return f"({inside},)" if len(fields) == 1 else f"({inside})"
        case Projection(of, index):
            return f"({printed(of)}).{index}"
        case Call(function, arguments, attributes):
            given = [*map(printed, arguments)]
            given += [f"{name}={printed_value(value)}" for name, value in attributes.items()]
            callee = printed(function)
            return (
                f"{callee if isinstance(function, Operator) else f'({callee})'}({', '.join(given)})"
            )
        case Block():
            return "(" + inside_braces(expr) + ")"
        case Function(parameters, inner):
            given = ", ".join(
                p.name + (f": {printed_type(p.type)}" if p.type else "") for p in parameters
            )
            return f"(fn ({given}) {{ {inside_braces(inner)} }})"
        case Branch(condition, then, otherwise):
            return (
                f"(if ({printed(condition)}) {{ {inside_braces(then)} }} "
                f"else {{ {inside_braces(otherwise)} }})"
            )
    raise TypeError(expr)


def inside_braces(expr):
    if not isinstance(expr, Block):
        return printed(expr)
    lines = []
    for binding in expr.bindings:
        kind = f": {printed_type(binding.type)}" if binding.type else ""
        let = "" if binding.name[1:].isdigit() else "let "
        lines.append(f"{let}{binding.name}{kind} = {printed(binding.value)};")
    return "\n".join([*lines, printed(expr.result)])


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_random_programs_come_back(expr):
    assert body(inside_braces(expr)) == expr


SEED_TEXT = HEADER + (
    "def @main(%x: Tensor[(1, ?), float32], %w: Tensor[(4, 3), int8]) -> float32 {\n"
    '  %0 = nn.conv2d(%x, %w, strides=[1, 2], data_layout="NHWC") /* ty=float32 */;\n'
    "  let %y = if (True) { %0.0 } else { (fn (%a) { %a + 1f })(%x) };\n"
    "  (%y, meta[relay.Constant][0], -2i64)\n}\n"
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_text_is_read_or_refused_in_one_line(data):
    text = SEED_TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 8)))
        piece = data.draw(
            st.sampled_from([*list('%@(){}[],;.=#/*"-10fi\n~\\é'), "/*", "*/", "let "])
        )
        text = text[:at] + piece + text[end:]
    assert "\n" not in problem_of(parse, text, "t")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    assert "\n" not in problem_of(parse, HEADER + text, "t")
