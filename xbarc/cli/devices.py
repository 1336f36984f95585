"""`xbarc devices`."""

import sys
from typing import Annotated

import typer

from xbarc.cli import options

EXAMPLES = (
    "xbarc devices",
    "xbarc devices programming",
)


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    cell: Annotated[
        bool, typer.Option("--cell", help="The cell of that name, for --set device.cell.")
    ] = False,
    plugin: options.Plugins = None,
) -> None:
    """List device effects and devices, or describe one."""
    from xbarc.driver import extensions
    from xbarc.hw.target import cell_description, cell_names, cell_text
    from xbarc.simulator.effect import EFFECTS
    from xbarc.simulator.noise import describe, device_names, load_device
    from xbarc.support.errors import UsageError, nearest

    with extensions.using(plugin or ()):
        registry = EFFECTS.registry()
    if name is None:
        lines = {n: (registry.load(n).__doc__ or "").partition("\n")[0] for n in registry.names}
        _list("effects, for --noise", lines)
        print()
        _list("devices, for --device", {n: load_device(n).description for n in device_names()})
        print()
        _list("cells, for --set device.cell", {n: cell_description(n) for n in cell_names()})
    elif cell:
        sys.stdout.write(cell_text(name))
    elif name in registry.names:
        print(describe(registry.load(name), registry.owner(name)))
    elif name in device_names() or name.endswith(".toml"):
        sys.stdout.write(load_device(name).text)
    elif name in cell_names():
        sys.stdout.write(cell_text(name))
    else:
        known = {*registry.names, *device_names(), *cell_names()}
        raise UsageError(f"unknown effect or device {name!r}: {nearest(name, known)}")


def _list(title: str, lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    print(f"{title}:")
    for name, line in lines.items():
        print(f"  {name:<{width}}  {line}")
