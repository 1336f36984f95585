"""What a target file may say, as a page: `python -m xbarc.hw.target.reference`."""

import inspect
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from xbarc.hw.target.schema import ComponentTable, LayerKeys, Section, Target

UNITS = {
    **{"um2": "um²", "mm2": "mm²", "pj": "pJ", "mw": "mW", "ns": "ns", "us": "µS", "v": "V"},
    **{"gsps": "1e9 samples/s", "gps": "1e9/s", "nm": "nm", "ghz": "GHz", "kb": "KiB"},
}
"""Endings of keys. In `[device]` `us` are conductances."""

HEAD = """# Target keys

A target is a TOML file: `xbarc targets NAME` prints one, `--target FILE.toml` takes yours, and
`base = "mca128"` says what yours differs from. `--set array.rows=64` overrides a key for one call.
An unknown key is an error that suggests the nearest. `source` in any table says where its values
come from. `xbarc targets --schema` prints a JSON schema, by which editors complete and check keys.

This page is made from the code (`make schema`). In front of the tables a target has a `name` and a
one-line `description`.
"""


def markdown() -> str:
    """The page: a table a section, then the keys of a component."""
    lines = [HEAD]
    for name, field in Target.model_fields.items():
        kind = _section_of(field.annotation)
        if kind is not None and name != "cost":
            lines += _table(f"[{name}]", kind)
    lines += _table("[cost.COMPONENT]", ComponentTable)
    lines += _by_layer()
    return "\n".join(lines)


def _by_layer() -> Iterator[str]:
    """The keys of `layers`, all tables of it in one."""
    yield f'## [layers."NAME"]\n\n{inspect.cleandoc(LayerKeys.__doc__ or "")}\n'
    yield "| key | value | meaning |"
    yield "|---|---|---|"
    for part, field in LayerKeys.model_fields.items():
        section = next(kind for kind in typing.get_args(field.annotation) if _section_of(kind))
        for name, own in section.model_fields.items():
            yield f"| `{part}.{name}` | {_value(own)} | {own.description} |"
    yield ""


def _section_of(annotation: Any) -> type[BaseModel] | None:
    found = isinstance(annotation, type) and issubclass(annotation, Section)
    return annotation if found else None


def _table(title: str, kind: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n\n{inspect.cleandoc(kind.__doc__ or '')}\n"
    yield "| key | value | unit | default | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in kind.model_fields.items():
        if name != "source":
            meaning = " ".join((field.description or "").split())
            unit = UNITS.get(name.rpartition("_")[2], "")
            yield f"| `{name}` | {_value(field)} | {unit} | {_default(field)} | {meaning} |"
    yield ""


def _value(field: FieldInfo) -> str:
    """What a key takes: the words, or a number and its range."""
    kind: Any = field.annotation
    bounds = list(field.metadata)
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in typing.get_args(kind))
    if len(options) == 1 and typing.get_origin(kind) is not dict:
        kind = options[0]
    if typing.get_origin(kind) is Annotated:
        kind, *inner = typing.get_args(kind)
        bounds += [bound for one in inner for bound in getattr(one, "metadata", [one])]
    names: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true, false"}
    return " ".join([names.get(kind, "table"), *_range(bounds)])


def _range(bounds: list[Any]) -> Iterator[str]:
    for bound in bounds:
        for attribute, word in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to")):
            if (value := getattr(bound, attribute, None)) is not None:
                yield f"{word} {value if isinstance(value, int) else format(value, 'g')}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", {}):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(markdown(), end="")
