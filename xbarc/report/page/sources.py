"""Where the constants come from."""

from collections.abc import Iterator, Mapping
from typing import Any

from xbarc.artifact import CompiledProgram
from xbarc.report import charts
from xbarc.report.figures import flatten, words
from xbarc.report.html import Markup, Section, tag


def section(program: CompiledProgram) -> Section:
    """Every constant that names its source: the components', then the target's other tables."""
    target = program.target.model_dump(exclude_none=True, exclude={"cost"})
    found = [*sourced(program.report["components"]), *sourced(target)]
    rows = [[words(path), [source, pairs(constants)]] for path, constants, source in found]
    table = charts.grid("Constants and where they come from", ["Of", "Source"], rows, numbers=9)
    return Section("sources", "Sources of the constants", table)


def pairs(constants: Mapping[str, Any]) -> Markup:
    """Constants by the names that the target file has for them."""
    entries = [tag("div", tag("dt", k), tag("dd", shown(v))) for k, v in constants.items()]
    return tag("dl", entries)


def sourced(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each table with a source: its path, its constants, the source."""
    if values.get("source"):
        plain = {k: v for k, v in flatten(values) if k != "source" and v not in ("", None)}
        yield path, plain, str(values["source"])
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from sourced(value, f"{path}.{key}" if path else key)


def shown(value: Any) -> str:
    """A constant, in six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
