"""One target made of another: by a file that has a `base`, or by `--set`."""

import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from xbarc.hw.target.schema import CONSTANTS, Device, Section, Target
from xbarc.support.errors import CONTROL, UsageError, nearest


def derived(base: Target, own: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """The values of `base` with `own`, tables as TOML has them, over them key by key.

    A component's table with another `model`, or with constants in the place of one, keeps nothing
    of the base's. A `source` of the base doesn't speak for values that aren't the base's: where
    `own` changes some and gives no `source`, the table's says which keys were `whose` ("set in
    mine.toml").
    """
    values = base.model_dump(mode="json", exclude_none=True)
    for name, value in own.items():
        old = values.get(name)
        if not isinstance(value, dict) or not isinstance(old, dict):
            values[name] = value
        elif name == "layers":
            # Of several the last one holds: what is said anew comes after the base's.
            kept = {layer: keys for layer, keys in old.items() if layer not in value}
            values[name] = kept | {layer: old.get(layer, {}) | v for layer, v in value.items()}
        elif name == "cost":
            parts = {role: _component(old.get(role, {}), of, whose) for role, of in value.items()}
            values[name] = {**old, **parts}
        else:
            values[name] = _with_source(old, value, whose)
    return values


def _component(base: Mapping[str, Any], own: Any, whose: str) -> Any:
    """One table of `[cost]`; of a base that asks another model for its figures nothing stays."""
    if not isinstance(own, dict):
        return own
    says_figures = any(name in own for name in CONSTANTS if name != "source")
    model = own.get("model", "constant" if says_figures else base.get("model", "constant"))
    if model != base.get("model"):
        base = {}
    table = _with_source(base, own, whose) if model == "constant" else {**base, **own}
    options = own.get("options", {})
    if isinstance(options, dict):
        options = {**base.get("options", {}), **options}
    return {**table, "model": model, "options": options}


def _with_source(base: Mapping[str, Any], own: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """Both together; which keys the base's source isn't the source of, unless `own` gives one."""
    changed = [k for k, v in own.items() if k not in ("model", "options") and v != base.get(k)]
    # An effect's table is merged key by key, as others are.
    parts = {k: {**base[k], **v} for k, v in own.items() if isinstance(v, dict) and k in base}
    table = {**base, **own, **parts}
    if changed and "source" not in own:
        rest = f"; the rest: {base['source']}" if base.get("source") else ""
        table["source"] = f"{', '.join(changed)}: {whose}{rest}"
    return table


def overriding(texts: Iterable[str]) -> dict[str, Any]:
    """`--set` texts (`key.path=value`) as the tables that they mean.

    A value is written as in TOML; words may stand bare. Raises `UsageError` for an unknown key.
    """
    tables: dict[str, Any] = {}
    for text in texts:
        if CONTROL.search(text):
            raise UsageError(f"--set {text}: has a line break or another control character")
        key, value = _split(text)
        if not key or value is None:
            raise UsageError(f"--set {text}: written key.path=value, such as array.rows=64")
        *path, last = _path(key)
        table = _table_at(tables, path, last, text)
        try:
            table[last] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[last] = value.strip()
        except (ValueError, OverflowError, RecursionError):
            raise UsageError(f"--set {text}: a value of too many digits or brackets") from None
    return tables


LAYER = re.compile(r"layers\.(.+)\.([^.]+)\.([^.]+)")
"""The name of a layer may have dots and slashes in it."""

SPLIT = re.compile(r"""((?:"[^"]*"|[^"=])*)=(.*)""")
"""A quoted name may have an equals sign in it."""


def _split(text: str) -> tuple[str, str | None]:
    """Key and value of a `--set` text; no value where there is no equals sign."""
    found = SPLIT.fullmatch(text)
    if found is not None:
        return found[1].strip(), found[2]
    key, equals, value = text.partition("=")
    return key.strip(), value if equals else None


def _path(key: str) -> list[str]:
    """The parts of a key; the name of a layer or a pattern may stand in quotes."""
    layer = LAYER.fullmatch(key)
    if layer is None:
        return key.split(".")
    name = layer[1]
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
    return ["layers", name[1:-1] if quoted else name, *layer.groups()[1:]]


def last_of(texts: Iterable[str]) -> list[str]:
    """`--set` texts without those that a later one of the same key replaces."""
    found: dict[str, str] = {}
    for text in texts:
        key, value = _split(text)
        found[key] = (value or "").strip()
    return [f"{key}={value}" for key, value in found.items()]


def _table_at(tables: dict[str, Any], path: list[str], last: str, override: str) -> dict[str, Any]:
    """The table under `path`, made where it is missing, once the schema knows the key `last`."""
    table: dict[str, Any] = tables
    inside: Any = Target
    for depth, name in enumerate(path):
        if inside is Device and name not in Device.model_fields:
            inside = dict[str, Any]  # an effect's table
        else:
            inside = _type_of(inside, name, path[:depth], override)
        is_table, is_free = bool(types_in(inside, "")), _is_free(inside)
        if not is_table and not (is_free and depth == len(path) - 1):
            raise UsageError(f"--set {override}: {name!r} is a value, not a table")
        table = table.setdefault(name, {})
        if is_free:
            return table
    kind = _type_of(inside, last, path, override)
    if types_in(kind, "") or _is_free(kind):
        key = ".".join([*path, last])
        raise UsageError(f"--set {override}: {key} is a table; name a key of it")
    return table


def _type_of(table: Any, key: str, path: list[str], override: str) -> Any:
    known = types_in(table, key)
    if key not in known:
        place = ".".join(path) or "a target"
        raise UsageError(f"--set {override}: {place} has no key {key!r}: {nearest(key, known)}")
    return known[key]


def _is_free(kind: Any) -> bool:
    """Whether a key is a table of any values, as `options` are."""
    return typing.get_origin(kind) is dict and not types_in(kind, "")


def types_in(table: Any, name: str) -> dict[str, Any]:
    """The types of a table's keys, by its own (`Core`, `Core | None`); none if it is a value.

    A table of tables (`cost`) has any key: it has `name`.
    """
    if typing.get_origin(table) is dict:
        inner = typing.get_args(table)[1]
        return {name: inner} if types_in(inner, name) else {}
    for option in (table, *typing.get_args(table)):
        if isinstance(option, type) and issubclass(option, Section):
            return {key: field.annotation for key, field in option.model_fields.items()}
    return {}
