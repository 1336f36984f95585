"""What installed packages add to xbarc: entry points, found without importing any of them."""

from importlib.metadata import EntryPoint, entry_points

from xbarc.errors import XbarcError

PASSES = "xbarc.passes"
TARGETS = "xbarc.targets"


def owner(point: EntryPoint) -> str:
    """Who brings an entry point, as an error or a listing names it."""
    package = f"package {point.dist.name}" if point.dist else "an installed package"
    return f"{package} ({point.value})"


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` (`PASSES` or `TARGETS`) by name.

    Raises:
        XbarcError: two packages bring the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other is not point:
            raise XbarcError(
                f"entry point {point.name!r} of {group} is taken twice: by {owner(other)} and by "
                f"{owner(point)}; uninstall one"
            )
    return found
