"""The options of a pass: its fields, their types and defaults as text."""

import dataclasses
import types
import typing
from typing import Any, Literal

from xbarc.pipeline.passes import PassClass


def options_of(cls: PassClass) -> list["dataclasses.Field[Any]"]:
    """The fields that pipeline text can give."""
    return [f for f in dataclasses.fields(cls) if f.init]


def default_text(option: "dataclasses.Field[Any]") -> str | None:
    """The default as text, or None where the option must be given."""
    if option.default is not dataclasses.MISSING:
        default = option.default
    elif option.default_factory is not dataclasses.MISSING:
        default = option.default_factory()
    else:
        return None
    if isinstance(default, tuple):
        return ",".join(str(v) for v in default) or "none"
    return str(default).lower() if isinstance(default, bool | None) else str(default)


def type_text(wanted: Any) -> str:
    """A field's type as messages and listings write it."""
    if typing.get_origin(wanted) is Literal:
        return " | ".join(str(value) for value in typing.get_args(wanted))
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, typing.get_args(wanted)))
    if wanted is types.NoneType:
        return "None"
    return wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("typing.", "")
