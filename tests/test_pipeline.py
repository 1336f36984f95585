"""The pipeline: its text, where passes are found, and what is seen while it runs."""

import errno
import os
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xdsl.context import Context
from xdsl.dialects import test as test_dialect
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from xbarc.driver import extensions
from xbarc.graph.run import relative_error
from xbarc.pipeline import (
    GraphPass,
    Instrumentation,
    Option,
    Registry,
    XbarContext,
    load_registry,
    parse_passes,
    run_graph_passes,
    run_module_passes,
)
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError


@dataclass(frozen=True)
class Scale(GraphPass):
    """Multiply each weight by `by`.

    W -> by * W
    """

    name: ClassVar[str] = "scale"
    preserves: ClassVar[bool] = False

    by: float = 2.0

    def apply(self, model, target):
        for value in model.graph.initializers.values():
            scaled = value.const_value.numpy() * np.float32(self.by)
            value.const_value = ir.tensor(scaled, name=value.name)
        return True


class Claims(Scale):
    """Scale, but promise that nothing changes."""

    name: ClassVar[str] = "claims"
    preserves: ClassVar[bool] = True


@dataclass(frozen=True)
class Options(ModulePass):
    """Every type of option."""

    name = "options"

    patch: tuple[int, int]
    layers: tuple[str, ...] = ()
    by: Literal["row", "column"] = "row"
    exact: bool = False
    seed: int | None = None
    max_share: float = 0.5

    def apply(self, ctx, op):
        pass


class Mark(ModulePass):
    """Put one more operation at the end."""

    name = "mark"

    def apply(self, ctx, op):
        op.body.block.add_op(test_dialect.TestOp())


class Invalid(ModulePass):
    """Leave something that doesn't verify."""

    name = "invalid"

    def apply(self, ctx, op):
        bad = test_dialect.TestOp()

        def verify(verify_nested_ops=True):
            raise VerifyException("two tiles\n  overlap")

        bad.verify = verify
        op.body.block.add_op(bad)


class Crash(ModulePass):
    """Divide by zero."""

    name = "crash"

    def apply(self, ctx, op):
        return 1 // 0


@pytest.fixture
def registry():
    found = Registry()
    for cls in (Scale, Claims, Options, Mark, Invalid, Crash):
        found.add(cls.name, lambda cls=cls: cls, "the test")
    return found


@pytest.fixture
def model():
    return ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18]>'
        "g (float[N,2] x) => (float[N,1] y) <float[2,1] w = {1.0, 3.0}> { y = MatMul(x, w) }"
    )


FEEDS = {"x": np.eye(2, dtype=np.float32)}


# --- The text


def test_text(registry):
    text = 'scale{by=3},options{patch=8,4 layers=fc,"res1.conv2" exact max-share=1e-3}'
    passes = parse_passes(text, registry)
    assert passes.graph == (Scale(3.0),)
    assert passes.mapping == (
        Options(patch=(8, 4), layers=("fc", "res1.conv2"), exact=True, max_share=1e-3),
    )


@pytest.mark.parametrize(
    "text",
    [
        "scale{by=3.0}, options{patch=8,4}",
        " scale { by = 3 } ,\n options{ patch=8, 4 }",
        "scale{by=3},options{patch=8,4},",
    ],
)
def test_blanks(registry, text):
    assert parse_passes(text, registry) == parse_passes("scale{by=3},options{patch=8,4}", registry)


def test_blanks_in_quotes_stay(registry):
    (parsed,) = parse_passes('options{patch=1,1 layers="a , b"}', registry)
    assert parsed.layers == ("a , b",)


def test_printed_text_reads_back(registry):
    text = 'scale{by=0.001},options{patch=8,4 layers="res1.conv2" seed=7 exact=true}'
    passes = parse_passes(text, registry)
    assert parse_passes(str(passes), registry) == passes


def test_no_passes(registry):
    assert list(parse_passes("", registry)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sclae", "unknown pass 'sclae': did you mean 'scale'?"),
        ("scale{bye=1}", "pass 'scale' has no option 'bye': did you mean 'by'?"),
        ("scale{by=two}", "pass 'scale': option 'by' expects float, got two"),
        ("scale{by}", "pass 'scale': option 'by' expects float, got nothing"),
        ("scale{by=true}", "pass 'scale': option 'by' expects float, got True"),
        ("options", "pass 'options' needs option 'patch' (tuple[int, int])"),
        ("options{patch=8}", "pass 'options': option 'patch' expects tuple[int, int], got 8"),
        (
            "options{patch=8,4,2}",
            "pass 'options': option 'patch' expects tuple[int, int], got 8,4,2",
        ),
        (
            "options{patch=1,1 by=tile}",
            "pass 'options': option 'by' expects row | column, got tile",
        ),
        (
            "options{patch=1,1 seed=1.5}",
            "pass 'options': option 'seed' expects int | None, got 1.5",
        ),
        (
            "mark,scale",
            "graph pass 'scale' can't follow 'mark', which leaves no ONNX graph behind: "
            "put graph passes first",
        ),
    ],
)
def test_wrong_text(registry, text, message):
    with pytest.raises(UsageError) as error:
        parse_passes(text, registry)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("mark,,mark", 5),
        ("options{layers=res1.conv2}", 19),
        ("mark{", 5),
        ("mark mark", 4),
        ('options{layers="a}', 15),
    ],
)
def test_parse_error_shows_the_place(registry, text, at):
    with pytest.raises(UsageError) as error:
        parse_passes(text, registry)
    what, line, caret, hint = str(error.value).splitlines()
    assert what.startswith("--passes can't be read: ")
    assert line == f"  {text}"
    assert caret.index("^") == at + 2
    assert '"res1.conv2"' in hint


# --- The registry


def test_describe(registry):
    info = registry.describe("options")
    assert (info.kind, info.owner, info.preserves) == ("mapping", "the test", None)
    assert info.summary == "Every type of option."
    assert info.options == (
        Option("patch", "tuple[int, int]", None),
        Option("layers", "tuple[str, ...]", "none"),
        Option("by", "row | column", "row"),
        Option("exact", "bool", "false"),
        Option("seed", "int | None", "none"),
        Option("max_share", "float", "0.5"),
    )
    assert str(registry.describe("scale")).splitlines() == [
        "scale: graph pass, lossy; from the test",
        "",
        "Multiply each weight by `by`.",
        "",
        "W -> by * W",
        "",
        "options:",
        "  by: float (default 2.0)",
    ]


def test_name_taken_twice(registry):
    with pytest.raises(XbarcError, match="'mark' is defined twice: by the test and by another"):
        registry.add("mark", lambda: Mark, "another")


def test_a_pass_is_imported_when_asked_for():
    def load():
        raise ImportError("no module named 'absent'")

    registry = Registry()
    registry.add("broken", load, "package p")
    assert registry.names == ["broken"]
    with pytest.raises(XbarcError, match="'broken' of package p can't be loaded: no module named"):
        registry.load("broken")


def test_what_is_no_pass():
    @dataclass(frozen=True)
    class Undecided(GraphPass):
        name: ClassVar[str] = "undecided"

        def apply(self, model, target):
            return False

    class Undecorated(ModulePass):
        name = "undecorated"
        bits: int = 4

        def apply(self, ctx, op):
            pass

    registry = Registry()
    registry.add("other", lambda: Mark, "p")
    registry.add("int", lambda: int, "p")
    registry.add("undecided", lambda: Undecided, "p")
    registry.add("undecorated", lambda: Undecorated, "p")
    for name, why in [
        ("other", "says its name is 'mark'"),
        ("int", "no GraphPass and no ModulePass"),
        ("undecided", "doesn't say `preserves"),
        ("undecorated", r"no @dataclass\(frozen=True\)"),
    ]:
        with pytest.raises(XbarcError, match=why):
            registry.load(name)


def test_every_built_in_pass_can_be_described():
    registry = load_registry()
    for name in registry.names:
        assert registry.describe(name).summary


PLUGIN = """
from xdsl.passes import ModulePass

class Mine(ModulePass):
    '''Nothing.'''
    name = {name!r}
    def apply(self, ctx, op):
        pass
"""


def test_plugin_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine"))
    registry = load_registry([path, path])
    assert registry.owner("mine") == str(path)
    assert str(parse_passes("mine", registry)) == "mine"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (PLUGIN.format(name="im2col"), XbarcError, "'im2col' is defined twice: by xbarc and by "),
        ("x = 1", UsageError, "defines nothing that xbarc looks for: .*pass, .*component"),
        ("import absent_module", XbarcError, "ModuleNotFoundError at bad.py:1: No module named"),
        ("def f(:", XbarcError, r"SyntaxError: .* \(line 1\)"),
    ],
)
def test_bad_plugin_file(tmp_path, code, error, message):
    path = tmp_path / "bad.py"
    path.write_text(code)
    with pytest.raises(error, match=message), extensions.using([path]):
        load_registry()


def test_missing_plugin_file(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_registry([tmp_path / "absent.py"])


def test_entry_point_taken_twice(monkeypatch):
    points = [
        plugins.EntryPoint("mine", "one:Mine", "xbarc.passes"),
        plugins.EntryPoint("mine", "two:Mine", "xbarc.passes"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    with pytest.raises(XbarcError, match=r"taken twice: .*\(one:Mine\) and by .*\(two:Mine\)"):
        plugins.installed("xbarc.passes")


# --- Running


def test_context():
    context = XbarContext(target=None, weights={"w": np.zeros(1)})
    assert XbarContext.of(context.clone()).weights.keys() == {"w"}
    with pytest.raises(UsageError, match="--target"):
        _ = context.target
    with pytest.raises(XbarcError, match="xdsl-opt"):
        XbarContext.of(Context())


def test_dump_and_print(registry, model, tmp_path):
    stream = StringIO()
    seen = Instrumentation(print_ir_after=["scale", "mark"], dump_dir=tmp_path / "d", stream=stream)
    passes = parse_passes("scale,claims,mark", registry)
    seen.check(passes)
    run_graph_passes(passes.graph, model, None, seen)
    run_module_passes(passes.mapping, XbarContext(), ModuleOp([]), seen)
    names = ["00-input.onnx", "01-scale.onnx", "02-claims.onnx", "03-lowered.mlir", "04-mark.mlir"]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == names
    weights = [
        onnx.numpy_helper.to_array(onnx.load(tmp_path / "d" / n).graph.initializer[0])
        .ravel()
        .tolist()
        for n in names[:3]
    ]
    assert weights == [[1, 3], [2, 6], [4, 12]]
    assert "test.op" in (tmp_path / "d" / "04-mark.mlir").read_text()
    printed = stream.getvalue()
    assert "// ONNX graph after scale" in printed
    assert "MatMul (x, w)" in printed
    assert "claims" not in printed
    assert "// IR after mark" in printed


def test_a_module_alone_is_dumped_as_input(tmp_path):
    run_module_passes([Mark()], XbarContext(), ModuleOp([]), Instrumentation(dump_dir=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-input.mlir", "01-mark.mlir"]


def test_large_weights_are_not_printed(model):
    value = model.graph.initializers["w"]
    value.const_value = ir.tensor(np.full((100, 1), 7.25, np.float32), name="w")
    stream = StringIO()
    seen = Instrumentation(print_ir_after=["all"], stream=stream)
    run_graph_passes([Scale(1.0)], model, None, seen)
    assert "7.25" not in stream.getvalue()
    assert value.const_value.numpy()[0] == 7.25


def test_a_dump_cut_short_leaves_nothing_and_names_the_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_ir.save", lambda model, path, **_: _cut_short(path))
    with pytest.raises(XbarcError, match=r"can't write .*00-input\.onnx: No space left"):
        run_graph_passes([], model, None, Instrumentation(dump_dir=tmp_path))
    assert not os.listdir(tmp_path)
    (tmp_path / "sub").write_text("mine")
    with pytest.raises(XbarcError, match="can't write to .*sub"):
        run_graph_passes([], model, None, Instrumentation(dump_dir=tmp_path / "sub"))


def _cut_short(path):
    Path(path).write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_weights_from_another_folder_are_dumped(model, tmp_path):
    (tmp_path / "in").mkdir()
    ir.save(model, tmp_path / "in" / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    loaded = ir.load(tmp_path / "in" / "m.onnx")
    run_graph_passes([], loaded, None, Instrumentation(dump_dir=tmp_path / "out"))
    dumped = ir.load(tmp_path / "out" / "00-input.onnx")
    assert dumped.graph.initializers["w"].const_value.numpy().ravel().tolist() == [1, 3]


def test_print_after_a_pass_that_does_not_run(registry):
    seen = Instrumentation(print_ir_after=["scal"])
    with pytest.raises(UsageError, match=r"--print-ir-after=scal: no such pass .*'scale'"):
        seen.check(parse_passes("scale", registry))


def test_verifying_needs_inputs():
    with pytest.raises(UsageError, match="--verify-passes needs inputs"):
        Instrumentation(verify_passes=True).check([])


def test_times(registry):
    stream = StringIO()
    seen = Instrumentation(time_passes=True, stream=stream)
    run_module_passes([Mark(), Mark()], XbarContext(), ModuleOp([]), seen)
    seen.print_times()
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["mark", "mark", "total"]
    assert lines[-1].endswith("100.0%")


def test_lossy_passes_are_measured(model):
    seen = Instrumentation(feeds=FEEDS)
    moved = run_graph_passes([Scale(1.1), Claims(2.0), Scale(0.5)], model, None, seen)
    assert moved == {"scale": pytest.approx(0.1, rel=1e-5), "scale (2)": pytest.approx(0.5)}


def test_a_pass_that_keeps_its_promise(model):
    seen = Instrumentation(verify_passes=True, feeds=FEEDS)
    assert run_graph_passes([Claims(1.0 + 1e-6)], model, None, seen) == {}


def test_a_pass_that_breaks_its_promise(model):
    seen = Instrumentation(verify_passes=True, feeds=FEEDS)
    with pytest.raises(XbarcError, match=r"pass 'claims' says .* moved by 1 "):
        run_graph_passes([Claims(2.0)], model, None, seen)


def test_a_pass_that_breaks_the_graph(model):
    @dataclass(frozen=True)
    class Breaks(GraphPass):
        name: ClassVar[str] = "breaks"
        preserves: ClassVar[bool] = True

        def apply(self, model, target):
            model.graph.node(0).op_type = "Nonsense"
            return True

    seen = Instrumentation(verify_passes=True, feeds=FEEDS)
    with pytest.raises(XbarcError, match="after pass 'breaks', the graph doesn't run"):
        run_graph_passes([Breaks()], model, None, seen)


def test_a_failing_pass_is_named():
    with pytest.raises(XbarcError) as error:
        run_module_passes([Mark(), Crash()], XbarContext(), ModuleOp([]))
    assert str(error.value).startswith(
        "pass 'crash' failed: ZeroDivisionError at test_pipeline.py:"
    )
    assert str(error.value).endswith("(passes before it: mark)")


def test_an_invalid_module_is_named():
    with pytest.raises(
        XbarcError, match=r"^pass 'invalid' left an invalid module: .*tiles overlap"
    ):
        run_module_passes([Invalid()], XbarContext(), ModuleOp([]))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, 1e-9], float("inf")),
        ([np.nan, 4.0], [np.nan, 5.0], 0.25),
        ([np.nan, 4.0], [3.0, 4.0], float("inf")),
        ([3.0, 4.0], [np.inf, 4.0], float("inf")),
        ([3.0, 4.0], [3.0], float("inf")),
    ],
)
def test_deviation(before, after, expected):
    same = np.ones(2)
    moved = relative_error({"a": same, "b": np.array(before)}, {"a": same, "b": np.array(after)})
    assert moved == pytest.approx(expected)
