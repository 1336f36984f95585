"""Passes: their base classes, where they are found, the pipeline text, and running them.

Two kinds share one registry and one text (`"fold-batchnorm,sub-image{patch=8,8}"`):

- a `GraphPass` rewrites the ONNX graph;
- an `xdsl.passes.ModulePass` rewrites the tile IR; its context is an `XbarContext`.

How to write one: `docs/writing_passes.md`.
"""

import copy
import dataclasses
import inspect
import re
import sys
import time
import types
import typing
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TextIO, TypeAlias

from xdsl.context import Context
from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, ArgSpecConvertible, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError

from xbarc import plugins
from xbarc.errors import UsageError, XbarcError, nearest

if TYPE_CHECKING:  # each of these costs tenths of a second, and `xbarc --help` needs none
    import numpy as np
    import onnx_ir as ir
    from xdsl.dialects.builtin import ModuleOp

    from xbarc.target import Target

MAX_DEVIATION = 1e-4
"""Relative L2 error of the outputs up to which a pass counts as keeping a float32 function."""


@dataclass(frozen=True)
class GraphPass(ArgSpecConvertible):
    """A rewrite of the ONNX graph. The fields of the (frozen) dataclass are its options."""

    name: ClassVar[str]
    preserves: ClassVar[bool]
    """The function stays the same up to rounding; else the pass is lossy."""

    @property
    def keeps_function(self) -> bool:
        """`preserves`, unless a pass says otherwise because its options decide."""
        return self.preserves

    @property
    def follow_up(self) -> str:
        """Mapping passes, as pipeline text, that make of this pass what it is for.

        They run after all others, but for those that the pipeline names itself.
        """
        return ""

    @abstractmethod
    def apply(self, model: "ir.Model", target: "Target") -> bool:
        """Rewrite `model` in place; whether anything was modified."""


class XbarContext(Context):
    """xDSL's context, with what a mapping pass reads beside the module.

    `weights` are the arrays that the module names by symbol; a pass may add to them. `digital` are
    the graphs that it names by file, where they are at hand; a pass leaves them as they are.
    `figures` is what passes leave for `report.json`, by its keys (JSON).
    """

    def __init__(
        self,
        target: "Target | None" = None,
        weights: "MutableMapping[str, np.ndarray[Any, Any]] | None" = None,
        digital: "Mapping[str, ir.Model] | None" = None,
        registry: "Registry | None" = None,
    ) -> None:
        super().__init__()
        self._target = target
        self._registry = registry
        self.weights = {} if weights is None else weights
        self.digital = {} if digital is None else digital
        self.figures: dict[str, Any] = {}

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """`ctx`, as what it is: a pass's first line, since xDSL types it as a plain `Context`.

        Raises:
            XbarcError: it is a plain one (the pass was run by xDSL's own tools).
        """
        if not isinstance(ctx, cls):
            raise XbarcError("this pass needs xbarc's context: run it by xbarc, not by xdsl-opt")
        return ctx

    @property
    def target(self) -> "Target":
        """The hardware compiled for. Raises UsageError where none was given."""
        if self._target is None:
            raise UsageError("this pass asks for the hardware: give --target")
        return self._target

    @property
    def registry(self) -> "Registry":
        """The passes of this run, for one that runs others; without plug-in files if not given."""
        if self._registry is None:
            self._registry = load_registry()
        return self._registry

    def clone(self) -> "XbarContext":
        """A context of its own, for the same target and the same arrays."""
        clone = XbarContext(self._target, copy.copy(self.weights), self.digital, self._registry)
        clone.figures = copy.deepcopy(self.figures)
        for registered in dataclasses.fields(Context):
            setattr(clone, registered.name, copy.copy(getattr(self, registered.name)))
        return clone


PassClass: TypeAlias = type[GraphPass] | type[ModulePass]
Kind: TypeAlias = Literal["graph", "mapping"]


# --- The registry -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option of a pass, as text: `default` is None where the option must be given."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class PassInfo:
    """What `xbarc passes NAME` says. `preserves` is None for a mapping pass.

    `by_options`: whether that depends on the options; `preserves` then holds for the defaults.
    """

    name: str
    kind: Kind
    owner: str
    preserves: bool | None
    doc: str
    options: tuple[Option, ...]
    by_options: bool = False

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.partition("\n")[0]

    def __str__(self) -> str:
        keeps = {True: ", keeps the function", False: ", lossy", None: ""}[self.preserves]
        if self.preserves is not None and self.by_options:
            keeps += " unless its options say otherwise"
        lines = [f"{self.name}: {self.kind} pass{keeps}; from {self.owner}", "", self.doc]
        if self.options:
            lines += ["", "options:"]
        for option in self.options:
            default = "required" if option.default is None else f"default {option.default}"
            lines.append(f"  {option.name}: {option.type} ({default})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Entry:
    owner: str
    load: Callable[[], Any]


class Registry:
    """Passes by name; a pass is imported when it is first asked for."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._files: set[Path] = set()

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def owner(self, name: str) -> str:
        """Who brings the pass: `xbarc`, a package, or a file. Raises UsageError if unknown."""
        return self._entry(name).owner

    def add(self, name: str, load: Callable[[], Any], owner: str) -> None:
        """Register a pass that `load` imports.

        Raises:
            XbarcError: the name is taken; the message names both owners.
        """
        taken = self._entries.get(name)
        if taken is not None:
            raise XbarcError(
                f"pass {name!r} is defined twice: by {taken.owner} and by {owner}; rename one"
            )
        self._entries[name] = _Entry(owner, load)

    def add_file(self, path: str | Path) -> None:
        """Register every pass that a Python file defines, and run that file to find them.

        Raises:
            UsageError: no such file, or neither a pass nor a component model in it.
            XbarcError: the file fails, or a name is taken.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"--plugin {path}: no such file")
        if path.resolve() in self._files:
            return
        module = plugins.import_file(path)
        found = [
            c
            for c in vars(module).values()
            if _is_pass(c) and c.__module__ == module.__name__ and not inspect.isabstract(c)
        ]
        if not found and not plugins.brings_components(module):
            raise UsageError(
                f"--plugin {path}: defines no GraphPass and no ModulePass, and no ComponentModel"
            )
        for cls in found:
            name = getattr(cls, "name", None)
            if not isinstance(name, str):
                raise XbarcError(f"--plugin {path}: class {cls.__name__} has no `name`")
            self.add(name, partial(_identity, cls), str(path))
        self._files.add(path.resolve())

    def load(self, name: str) -> PassClass:
        """The class of a pass.

        Raises:
            UsageError: unknown name; the nearest one is suggested.
            XbarcError: what is registered can't be imported or is no sound pass.
        """
        entry = self._entry(name)
        try:
            cls = entry.load()
        except Exception as error:
            raise XbarcError(f"pass {name!r} of {entry.owner} can't be loaded: {error}") from error
        if not _is_pass(cls):
            raise XbarcError(f"{name!r} of {entry.owner} is no GraphPass and no ModulePass")
        wrong = _unsound(cls, name)
        if wrong:
            raise XbarcError(f"pass {name!r} of {entry.owner}: {wrong}")
        return typing.cast(PassClass, cls)

    def describe(self, name: str) -> PassInfo:
        """What a pass does and takes. Raises as `load`."""
        cls = self.load(name)
        hints = typing.get_type_hints(cls)
        graph = issubclass(cls, GraphPass)
        return PassInfo(
            name=name,
            kind="graph" if graph else "mapping",
            owner=self.owner(name),
            preserves=cls.preserves if issubclass(cls, GraphPass) else None,
            doc=inspect.cleandoc(cls.__doc__ or ""),
            options=tuple(
                Option(f.name, _type_text(hints[f.name]), _default_text(f)) for f in _options(cls)
            ),
            by_options=issubclass(cls, GraphPass)
            and cls.keeps_function is not GraphPass.keeps_function,
        )

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise UsageError(f"unknown pass {name!r}: {nearest(name, self._entries)}")
        return self._entries[name]


def load_registry(plugin_files: Iterable[str | Path] = ()) -> Registry:
    """xbarc's own passes, those of installed packages, and those of `plugin_files`.

    Raises:
        UsageError: a plug-in file is missing or has no pass.
        XbarcError: a plug-in file fails, or a name is taken twice.
    """
    from xbarc.passes import get_all_passes

    registry = Registry()
    for name, load in get_all_passes().items():
        registry.add(name, load, "xbarc")
    for name, point in plugins.installed(plugins.PASSES).items():
        registry.add(name, point.load, plugins.owner(point))
    for path in plugin_files:
        registry.add_file(path)
    return registry


def _identity(cls: PassClass) -> PassClass:
    return cls


def _is_pass(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, GraphPass | ModulePass)


def _unsound(cls: type, name: str) -> str | None:
    """What keeps a registered class from being a pass."""
    if getattr(cls, "name", None) != name:
        return f"the class {cls.__name__} says its name is {getattr(cls, 'name', None)!r}"
    if inspect.isabstract(cls):
        return f"the class {cls.__name__} has no `apply`"
    if issubclass(cls, GraphPass) and not isinstance(getattr(cls, "preserves", None), bool):
        return f"the class {cls.__name__} doesn't say `preserves: ClassVar[bool]`"
    own = {n for n, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)}
    if own and "__dataclass_fields__" not in vars(cls):
        return f"the class {cls.__name__} has options but no @dataclass(frozen=True)"
    return None


# --- The pipeline text --------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """Passes in order: those on the graph, then those on the tile IR."""

    graph: tuple[GraphPass, ...] = ()
    mapping: tuple[ModulePass, ...] = ()

    def __iter__(self) -> Iterator[GraphPass | ModulePass]:
        return iter((*self.graph, *self.mapping))

    def __str__(self) -> str:
        return ",".join(str(p) for p in self)


def is_tile_pass(module_pass: ModulePass) -> bool:
    """Whether a pass works on mapped layers: its class says `tile: ClassVar[bool] = True`."""
    return getattr(module_pass, "tile", False) is True


def split_tile_passes(
    passes: Sequence[ModulePass],
) -> tuple[list[ModulePass], list[ModulePass]]:
    """The passes before the first tile pass, and from it on: between them all layers get mapped.

    Raises `UsageError` where a pass that maps follows a tile pass: it would find nothing to map.
    """
    first = next((i for i, p in enumerate(passes) if is_tile_pass(p)), len(passes))
    for late in passes[first:]:
        if not is_tile_pass(late):
            raise UsageError(
                f"mapping pass {late.name!r} can't follow {passes[first].name!r}, before which all "
                "layers are mapped: put it in front"
            )
    return list(passes[:first]), list(passes[first:])


def parse_passes(text: str, registry: Registry) -> Pipeline:
    """Read a pipeline text.

    Raises:
        UsageError: the text, a name, an option or its value is wrong, or a graph pass follows a
            mapping pass.
    """
    graph: list[GraphPass] = []
    mapping: list[ModulePass] = []
    for spec in _parse_text(text):
        built = build_pass(registry.load(spec.name), spec)
        if isinstance(built, ModulePass):
            mapping.append(built)
        elif mapping:
            raise UsageError(
                f"graph pass {spec.name!r} can't follow {mapping[-1].name!r}, which leaves no "
                "ONNX graph behind: put graph passes first"
            )
        else:
            graph.append(built)
    return Pipeline(tuple(graph), tuple(mapping))


def build_pass(cls: PassClass, spec: ArgSpec) -> GraphPass | ModulePass:
    """The pass with the options of `spec`.

    Raises:
        UsageError: an option is unknown, missing, or of the wrong type or value.
    """
    hints = typing.get_type_hints(cls)
    given = spec.normalize_parameter_names().parameters
    known = {option.name: option for option in _options(cls)}
    where = f"pass {cls.name!r}"
    for name in given:
        if name not in known:
            raise UsageError(f"{where} has no option {name!r}: {nearest(name, known)}")
    arguments: dict[str, Any] = {}
    for name, option in known.items():
        if name in given:
            try:
                arguments[name] = _convert(given[name], hints[name])
            except ValueError:
                values = ",".join(str(v) for v in given[name]) or "nothing"
                raise UsageError(
                    f"{where}: option {name!r} expects {_type_text(hints[name])}, got {values}"
                ) from None
        elif _default_text(option) is None:
            raise UsageError(f"{where} needs option {name!r} ({_type_text(hints[name])})")
    try:
        return cls(**arguments)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except ValueError as error:  # a range check in __post_init__
        raise UsageError(f"{where}: {error}") from error


def _parse_text(text: str) -> list[ArgSpec]:
    # xDSL allows one blank between options and none elsewhere; we're laxer, outside quotes.
    parts = re.split(r'("(?:\\.|[^"\\])*")', text)
    parts[::2] = [re.sub(r"\s*([,={}])\s*", r"\1", re.sub(r"\s+", " ", p)) for p in parts[::2]]
    text = "".join(parts).strip()
    try:
        return list(parse_pipeline(text))
    except ArgSpecParseError as error:  # no Exception in xDSL
        _, _, line, caret, what, *_ = str(error).splitlines()
        raise UsageError(
            f"--passes can't be read: {what.strip()}\n"
            f"  {line}\n"
            f"  {caret}\n"
            "  options stand in braces, blanks between them; a value with dots or other signs is "
            'quoted: im2col{layers="res1.conv2",fc}'
        ) from None


def _options(cls: PassClass) -> list["dataclasses.Field[Any]"]:
    return [f for f in dataclasses.fields(cls) if f.init]


def _default_text(option: "dataclasses.Field[Any]") -> str | None:
    if option.default is not dataclasses.MISSING:
        default = option.default
    elif option.default_factory is not dataclasses.MISSING:
        default = option.default_factory()
    else:
        return None
    if isinstance(default, tuple):
        return ",".join(str(v) for v in default) or "none"
    return str(default).lower() if isinstance(default, bool | None) else str(default)


def _type_text(wanted: Any) -> str:
    if typing.get_origin(wanted) is Literal:
        return " | ".join(str(value) for value in typing.get_args(wanted))
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " | ".join(map(_type_text, typing.get_args(wanted)))
    if wanted is types.NoneType:
        return "None"
    return wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("typing.", "")


def _convert(values: tuple[Any, ...], wanted: Any) -> Any:
    """Option values as text gave them -> a field of type `wanted`. Raises ValueError."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for member in typing.get_args(wanted):
            try:
                return _convert(values, member)
            except ValueError:
                continue
        raise ValueError
    if wanted is types.NoneType and not values:
        return None
    if wanted is bool and not values:  # `pass{flag}`
        return True
    if typing.get_origin(wanted) is tuple:
        members = typing.get_args(wanted)
        if members[-1] is Ellipsis:
            members = members[:1] * len(values)
        if len(values) != len(members):
            raise ValueError
        return tuple(_convert((v,), m) for v, m in zip(values, members, strict=True))
    if len(values) != 1:
        raise ValueError
    return _convert_one(values[0], wanted)


def _convert_one(value: Any, wanted: Any) -> Any:
    if typing.get_origin(wanted) is Literal:
        if value in typing.get_args(wanted):
            return value
    elif wanted is float and not isinstance(value, bool):
        return float(value)  # of text too: xDSL's lexer takes 1e-3 for a word
    elif wanted in (int, str, bool) and type(value) is wanted:
        return value
    raise ValueError


# --- Running ------------------------------------------------------------------------------------


@dataclass
class Instrumentation:
    """What is seen of a pipeline while it runs. One object lasts for a whole compilation.

    Attributes:
        print_ir_after: names of passes, or "all", after which the IR is printed.
        dump_dir: folder for numbered files: `00-input.onnx`, `01-fold-batchnorm.onnx`,
            `02-lowered.mlir`, `03-im2col.mlir` ...; made if missing.
        time_passes: `print_times` has something to say.
        verify_passes: run the graph before and after each pass that says `preserves`.
        feeds: graph inputs for that, and for the deviation of lossy passes, which is measured
            whenever there are feeds.
        stream: where text goes.
    """

    print_ir_after: Sequence[str] = ()
    dump_dir: Path | None = None
    time_passes: bool = False
    verify_passes: bool = False
    feeds: "Mapping[str, np.ndarray[Any, Any]]" = field(default_factory=dict)
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    times: list[tuple[str, float]] = field(default_factory=list, init=False)
    """Passes that ran and the seconds that each took."""
    _dumped: set[str] = field(default_factory=set, init=False)
    _step: int = field(default=0, init=False)

    def check(self, passes: Iterable[GraphPass | ModulePass]) -> None:
        """Refuse an impossible request before anything runs.

        Raises:
            UsageError: `print_ir_after` names a pass that isn't among `passes`, or there are no
                feeds to verify with.
        """
        names = {p.name for p in passes}
        for name in self.print_ir_after:
            if name != "all" and name not in names:
                raise UsageError(
                    f"--print-ir-after={name}: no such pass in this pipeline, "
                    + nearest(name, names | {"all"})
                )
        if self.verify_passes and not self.feeds:
            raise UsageError("--verify-passes needs inputs to run the graph on")

    def print_times(self) -> None:
        """The table of `--time-passes`: milliseconds and share of each pass, in order."""
        if not self.time_passes:
            return
        total = sum(seconds for _, seconds in self.times)
        width = max([len(name) for name, _ in self.times] + [5])
        for name, seconds in [*self.times, ("total", total)]:
            share = seconds / total if total else 0.0
            print(f"{name:<{width}}  {seconds * 1e3:10.1f} ms  {share:6.1%}", file=self.stream)

    @contextmanager
    def _running(self, name: str) -> Iterator[None]:
        """Time a pass, and let its failure say which pass it was."""
        start = time.perf_counter()
        try:
            yield
        except UsageError as error:
            raise UsageError(f"pass {name!r}: {error}") from error
        except XbarcError as error:
            raise XbarcError(f"pass {name!r}: {error}") from error
        except Exception as error:
            before = ", ".join(n for n, _ in self.times) or "none"
            raise XbarcError(
                f"pass {name!r} failed: {plugins.cause(error)} (passes before it: {before})"
            ) from error
        self.times.append((name, time.perf_counter() - start))

    def _wants(self, name: str) -> bool:
        return name in self.print_ir_after or "all" in self.print_ir_after

    def _show_graph(self, label: str, model: "ir.Model", *, is_pass: bool = True) -> None:
        if is_pass and self._wants(label):
            print(f"// ONNX graph after {label}\n{_graph_text(model)}", file=self.stream)
        if self.dump_dir is not None and (is_pass or "onnx" not in self._dumped):
            _save_graph(model, self._dump_path(label, "onnx"))

    def _show_module(self, label: str, module: "ModuleOp", *, is_pass: bool = True) -> None:
        from xbarc.ir import print_module

        if is_pass and self._wants(label):
            print(f"// IR after {label}\n{print_module(module)}", end="", file=self.stream)
        if self.dump_dir is not None and (is_pass or "mlir" not in self._dumped):
            self._dump_path(label, "mlir").write_text(print_module(module), encoding="utf-8")

    def _dump_path(self, label: str, suffix: str) -> Path:
        assert self.dump_dir is not None
        self.dump_dir.mkdir(parents=True, exist_ok=True)
        path = self.dump_dir / f"{self._step:02d}-{label}.{suffix}"
        self._dumped.add(suffix)
        self._step += 1
        return path


def run_graph_passes(
    passes: Iterable[GraphPass],
    model: "ir.Model",
    target: "Target",
    instrumentation: Instrumentation | None = None,
) -> dict[str, float]:
    """Rewrite `model` in place by each pass in turn.

    Returns:
        For each lossy pass, the deviation it caused (see `deviation`); nothing without feeds. The
        second run of a pass is called `name (2)`.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: a pass failed, or didn't keep the function that it says it keeps.
    """
    seen = instrumentation or Instrumentation()
    seen._show_graph("input", model, is_pass=False)
    deviations: dict[str, float] = {}
    outputs: Mapping[str, np.ndarray[Any, Any]] | None = None
    for graph_pass in passes:
        name = graph_pass.name
        measured = bool(seen.feeds) and (seen.verify_passes or not graph_pass.keeps_function)
        if not measured:
            outputs = None
        elif outputs is None:
            outputs = _outputs(model, seen.feeds, f"before pass {name!r}")
        with seen._running(name):
            graph_pass.apply(model, target)
        seen._show_graph(name, model)
        if not measured:
            continue
        assert outputs is not None
        before, outputs = outputs, _outputs(model, seen.feeds, f"after pass {name!r}")
        moved = _deviation(before, outputs, name)
        if not graph_pass.keeps_function:
            runs = sum(done == name for done, _ in seen.times)
            deviations[name if runs == 1 else f"{name} ({runs})"] = moved
        elif moved > MAX_DEVIATION:
            raise XbarcError(
                f"pass {name!r} says that it keeps the function, but the outputs moved by "
                f"{moved:.3g} (relative L2 error, at most {MAX_DEVIATION:g}): see the graph by "
                f"--dump-dir, leave the pass out, or report it to its author"
            )
    return deviations


def run_module_passes(
    passes: Iterable[ModulePass],
    ctx: XbarContext,
    module: "ModuleOp",
    instrumentation: Instrumentation | None = None,
) -> None:
    """Rewrite `module` in place by each pass in turn, and verify it after each.

    Tiles that leave weights out are held to the weights, where `ctx` has them: those are zero.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: a pass failed, or left an invalid module behind.
    """
    from xbarc.ir.coverage import check_numbers

    seen = instrumentation or Instrumentation()
    seen._show_module("lowered" if "onnx" in seen._dumped else "input", module, is_pass=False)
    for module_pass in passes:
        name = module_pass.name
        with seen._running(name):
            module_pass.apply(ctx, module)
        seen._show_module(name, module)  # before the verifier: the dump shows what is wrong
        try:
            module.verify()
            check_numbers(module, ctx.weights)
        except Exception as error:
            raise XbarcError(f"pass {name!r} left an invalid module: {_one_line(error)}") from error


def deviation(
    before: "Mapping[str, np.ndarray[Any, Any]]", after: "Mapping[str, np.ndarray[Any, Any]]"
) -> float:
    """How far outputs moved: |after - before|_2 / |before|_2, the largest over the outputs.

    Infinite where shapes, or the places of NaN and infinities, differ.
    """
    import numpy as np

    worst = 0.0
    for name, array in before.items():
        if array.shape != after[name].shape:
            return float("inf")
        if array.dtype.kind not in "biuf":  # strings and the like
            same = np.array_equal(array, after[name])
            worst = max(worst, 0.0 if same else float("inf"))
            continue
        a, b = array.astype(np.float64), after[name].astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        error = float(np.linalg.norm(b[finite] - a[finite]))
        size = float(np.linalg.norm(a[finite]))
        if error > 0:
            worst = max(worst, error / size if size > 0 else float("inf"))
    return worst


def _deviation(
    before: "Mapping[str, np.ndarray[Any, Any]]",
    after: "Mapping[str, np.ndarray[Any, Any]]",
    name: str,
) -> float:
    if before.keys() != after.keys():
        raise XbarcError(
            f"pass {name!r} changed the model's outputs from {', '.join(before)} to "
            f"{', '.join(after)}: a pass must keep their names"
        )
    return deviation(before, after)


def _outputs(
    model: "ir.Model", feeds: "Mapping[str, np.ndarray[Any, Any]]", when: str
) -> "Mapping[str, np.ndarray[Any, Any]]":
    from xbarc.graph.run import Session

    try:
        return Session(model).run(dict(feeds))
    except Exception as error:
        raise XbarcError(f"{when}, the graph doesn't run: {_one_line(error)}") from error


def _graph_text(model: "ir.Model") -> str:
    import onnx_ir as ir

    # Large weights would fill the screen, and memory with their copy: --dump-dir has them.
    shown = model.clone()
    for value in (v for graph in shown.graphs() for v in graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.size > 8:
            value.const_value = ir.ExternalTensor(
                "...",
                None,
                None,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=tensor.name or "",
            )
    return ir.to_onnx_text(shown)


def _save_graph(model: "ir.Model", path: Path) -> None:
    import onnx_ir as ir

    weights = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    tensors = [t for t in weights if t is not None]
    # An external tensor's path holds from its own model's folder only; protobuf ends at 2 GB.
    beside = any(isinstance(t, ir.ExternalTensor) for t in tensors)
    beside = beside or sum(t.nbytes for t in tensors) > 1 << 30
    ir.save(model, path, external_data=f"{path.name}.data" if beside else None)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
