"""Keys that another key rules: giving one is an error, because it would change nothing.

A key is refused where `--set`, or a file over its base, gives it a value other than the one in
force; in a file without a base, which may be a whole target written out, also not the default. What
a base says of such a key falls back to the default, so that a target's text always reads back.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xbarc.hw.target.schema import Target


@dataclass(frozen=True)
class Rule:
    """A key, when it has no effect, what is in force then (None: nothing), and why."""

    key: str
    idle: Callable[[Target], bool]
    why: str
    value: Callable[[Target], Any] = lambda target: None


def _lossless(target: Target) -> bool:
    return target.adc.mode == "lossless"


RULES = (
    Rule(
        "array.columns_per_adc",
        lambda t: t.core.adcs is not None,
        "core.adcs rules, from which the columns that share an ADC follow",
        lambda t: t.columns_per_adc(),
    ),
    Rule(
        "adc.bits",
        lambda t: _lossless(t) and t.adc.price == "as-needed",
        'adc.mode = "lossless" rules, whose converters have the bits that they need; '
        'adc.price = "as-configured" prices adc.bits',
        lambda t: t.converter_bits(),
    ),
    Rule("adc.price", lambda t: not _lossless(t), 'adc.mode rules: only "lossless" has a need'),
    Rule("adc.flipped", lambda t: not _lossless(t), 'adc.mode rules: only "lossless" has a need'),
    Rule(
        "adc.ranges",
        lambda t: t.adc.mode != "calibrated",
        'adc.mode rules: only "calibrated" has a range',
    ),
    Rule(
        "adc.percentile",
        lambda t: t.adc.mode != "calibrated" or t.adc.ranges != "percentile",
        'only the range of adc.mode = "calibrated" and adc.ranges = "percentile" has one',
    ),
    Rule(
        "device.programmings_per_day",
        lambda t: t.device.endurance is None,
        "it needs device.endurance, or a device.cell that has one: only lifetime_years follows",
    ),
    Rule("core.buffer_kb", lambda t: not t.core.buffers, "core.buffers is 0"),
    Rule("core.input_register_bytes", lambda t: not t.core.input_registers, "there are none"),
    Rule("core.output_register_bytes", lambda t: not t.core.output_registers, "there are none"),
    Rule("node.buffer_kb", lambda t: not t.node.buffers, "node.buffers is 0"),
    Rule("node.bus_bits", lambda t: not t.node.buses, "node.buses is 0"),
    Rule("node.register_bytes", lambda t: not t.node.registers, "node.registers is 0"),
    Rule("chip.buffer_kb", lambda t: not t.chip.buffers, "chip.buffers is 0"),
)


def given(tables: Mapping[str, Any]) -> set[str]:
    """The keys that rules are about, of those that tables as TOML has them give."""
    return {
        rule.key
        for rule in RULES
        if rule.key.partition(".")[2] in _table(tables, rule.key.partition(".")[0])
    }


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, Mapping) else {}


def faults(target: Target, keys: set[str], *, defaults: bool) -> Iterator[str]:
    """Of `keys` that a file or `--set` gives, those without effect, in one line each.

    `defaults`: whether they may say the default.
    """
    for rule in RULES:
        if rule.key not in keys or not rule.idle(target):
            continue
        table, _, name = rule.key.partition(".")
        value, in_force = getattr(getattr(target, table), name), rule.value(target)
        if value != in_force and not (defaults and value == _default(target, table, name)):
            shown = f": {in_force} is in force" if in_force is not None else ""
            yield f"{rule.key} = {value!r} has no effect{shown}: {rule.why}"


def settle(target: Target, keys: set[str]) -> Target:
    """The target with what a base said of keys without effect back at the default."""
    for rule in RULES:
        if rule.key in keys or not rule.idle(target):
            continue
        table, _, name = rule.key.partition(".")
        section = getattr(target, table)
        plain = section.model_copy(update={name: _default(target, table, name)})
        target = target.model_copy(update={table: plain})
    return target


def _default(target: Target, table: str, name: str) -> Any:
    return type(getattr(target, table)).model_fields[name].default
