"""Things with typed options (passes, device effects): the fields of a dataclass, given as text.

The text is xDSL's: `name{option=value other=1,2},next`.
"""

import dataclasses
import re
import types
import typing
from typing import Any, Literal

from xdsl.utils.arg_spec import ArgSpec, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError

from xbarc.support.errors import UsageError, nearest


def parse_specs(text: str, where: str, example: str) -> list[ArgSpec]:
    """Names with the options that text gives them, in order.

    `where` the text stands (`--passes`) and an `example` of a quoted value are for the message of
    the `UsageError` that it raises.
    """
    # xDSL allows one blank between options and none elsewhere; we're laxer, outside quotes.
    parts = re.split(r'("(?:\\.|[^"\\])*")', text)
    parts[::2] = [re.sub(r"\s*([,={}])\s*", r"\1", re.sub(r"\s+", " ", p)) for p in parts[::2]]
    text = "".join(parts).strip()
    try:
        return list(parse_pipeline(text))
    except RecursionError:
        raise UsageError(f"{where} can't be read: nested too deeply") from None
    except (ValueError, OverflowError) as error:  # a number of far too many digits
        raise UsageError(f"{where} can't be read: {error}") from None
    except ArgSpecParseError as error:  # no Exception in xDSL
        _, _, line, caret, what, *_ = str(error).splitlines()
        raise UsageError(
            f"{where} can't be read: {what.strip()}",
            f"  {line}",
            f"  {caret}",
            "  options stand in braces, blanks between them; a value with dots or other signs is "
            f"quoted: {example}",
        ) from None


def build(cls: Any, spec: ArgSpec, where: str) -> Any:
    """The `cls` with the options of `spec`; messages begin with `where` ("pass 'prune'").

    Raises:
        UsageError: an option is unknown, missing, or of the wrong type or value.
    """
    hints = typing.get_type_hints(cls)
    given = spec.normalize_parameter_names().parameters
    known = {option.name: option for option in options_of(cls)}
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
    except (UsageError, ValueError) as error:  # a range check in __post_init__
        raise UsageError(f"{where}: {error}") from error


def options_of(cls: Any) -> list["dataclasses.Field[Any]"]:
    """The fields that text can give."""
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


def _convert(values: tuple[Any, ...], wanted: Any) -> Any:
    """Option values as text gave them -> a field of type `wanted`. Raises ValueError."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for member in typing.get_args(wanted):
            try:
                return _convert(values, member)
            except ValueError:
                continue
        raise ValueError
    if wanted is types.NoneType and values in ((), ("none",)):
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
