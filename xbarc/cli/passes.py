"""`xbarc passes`."""

from typing import Annotated

import typer

from xbarc.cli import options

EXAMPLES = (
    "xbarc passes",
    "xbarc passes sub-image",
)


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    plugin: options.Plugins = None,
) -> None:
    """List the passes, or describe one."""
    from xbarc.driver import extensions
    from xbarc.pipeline import load_registry

    with extensions.using(plugin or ()):
        registry = load_registry()
    if name is not None:
        print(registry.describe(name))
        return
    width = max(map(len, registry.names))
    for known in registry.names:
        info = registry.describe(known)
        print(f"{known:<{width}}  {info.kind:<7}  {info.summary}")
