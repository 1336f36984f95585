"""`xbarc targets`."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from xbarc.cli import options
from xbarc.cli.output import console, print_json, table
from xbarc.support.units import quantity

SOURCES_WIDTH = 1000
"""A constant and its source stand in one line of a file or a pipe: for grep."""


EXAMPLES = (
    "xbarc targets",
    "xbarc targets isaac --sources",
)


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    sets: options.Sets = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Every constant with its source, and the totals.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="A JSON schema of target files, for editors.")
    ] = False,
    plugin: options.Plugins = None,
    as_json: options.AsJson = False,
) -> None:
    """List the targets, or print one, with what its area and power add up to."""
    from xbarc.hw.target import Target, dump_target, load_target, target_text

    if schema:
        told = Target.model_json_schema()
        print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **told})
        return
    if name is None:
        _list(as_json=as_json)
        return
    from xbarc.cost.components import check_tables
    from xbarc.cost.rollup import document
    from xbarc.driver import extensions

    with extensions.using(plugin or ()):
        target = load_target(name, sets or ())
        if not (as_json or sources):
            check_tables(target)
            resolved = sets or name.endswith(".toml")
            sys.stdout.write(dump_target(target) if resolved else target_text(name))
            # Not to stdout: the file may be redirected into one of one's own.
            print(f"peak of a chip: {peak_text(document(target)['peak'])}", file=sys.stderr)
            return
        found = document(target, with_sources=sources)
    if as_json:
        print_json(found)
        return
    _print_sources(found)


def _list(*, as_json: bool) -> None:
    """Each target's name and description."""
    from xbarc.hw.target import load_target, target_names

    described = {name: load_target(name).description for name in target_names()}
    if as_json:
        print_json(described)
        return
    width = max(map(len, described))
    for name, description in described.items():
        print(f"{name:<{width}}  {description}")


def _print_sources(document: Mapping[str, Any]) -> None:
    """Every constant with its source, then what a core, a node and a chip add up to."""
    from rich.table import Table

    out = console(SOURCES_WIDTH)
    constants = Table(box=None, pad_edge=False, header_style="bold")
    constants.add_column("constant", no_wrap=True)
    constants.add_column("value", justify="right", no_wrap=True)
    constants.add_column("source", overflow="fold")
    above = ""
    for row in document["constants"]:
        value, source = row["value"], row["source"]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        repeated = out.is_terminal and source == above
        constants.add_row(row["key"], shown, "" if repeated else source)
        above = source
    out.print(constants)
    out.print()
    rolled = table("level", "area mm2", "power W")
    for level, sums in document["roll_up"].items():
        rolled.add_row(level, f"{sums['area_mm2']:.6g}", f"{sums['power_w']:.6g}")
    out.print(rolled)
    out.print("\narea and power at full load of one core, one node and one chip")
    out.print(f"peak of a chip: {peak_text(document['peak'])}")


def peak_text(figures: Mapping[str, float]) -> str:
    """TOPS, TOPS/W, TOPS/mm2 and pJ a MAC in a line."""
    return (
        f"{quantity('tops', figures['tops'])}, {quantity('tops_per_w', figures['tops_per_w'])}, "
        f"{quantity('tops_per_mm2', figures['tops_per_mm2'])}, "
        f"{quantity('energy_pj', figures['energy_per_mac_pj'])} a MAC"
    )
