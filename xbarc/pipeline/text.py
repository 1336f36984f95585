"""The pipeline text, `"fold-batchnorm,sub-image{patch=8,8}"`, to passes with their options."""

import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError

from xbarc.pipeline.options import default_text, options_of, type_text
from xbarc.pipeline.passes import GraphPass, PassClass, is_tile_pass
from xbarc.pipeline.registry import Registry
from xbarc.support.errors import UsageError, nearest


@dataclass(frozen=True)
class Pipeline:
    """Passes in order: those on the graph, then those on the tile IR."""

    graph: tuple[GraphPass, ...] = ()
    mapping: tuple[ModulePass, ...] = ()

    def __iter__(self) -> Iterator[GraphPass | ModulePass]:
        return iter((*self.graph, *self.mapping))

    def __str__(self) -> str:
        return ",".join(str(p) for p in self)


def split_tile_passes(
    passes: Sequence[ModulePass],
) -> tuple[list[ModulePass], list[ModulePass]]:
    """The passes before the first tile pass, and the passes from it on.

    Between the two all remaining layers are mapped. Raises `UsageError` if a mapping pass follows a
    tile pass: it would find nothing to map.
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
    known = {option.name: option for option in options_of(cls)}
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
                    f"{where}: option {name!r} expects {type_text(hints[name])}, got {values}"
                ) from None
        elif default_text(option) is None:
            raise UsageError(f"{where} needs option {name!r} ({type_text(hints[name])})")
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
