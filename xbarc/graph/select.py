"""Which nodes an option `layers=...` means."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from xbarc.support.errors import UsageError, nearest

Found = TypeVar("Found")


def select(
    layers: Sequence[str], found: Mapping[str, Found], refused: Mapping[str, str]
) -> list[Found]:
    """What `layers` names among `found` (all of them, in order, where it names nothing).

    `refused` says why a layer can't be taken, by name: `"its kernel is 1 x 1"`.

    Raises:
        UsageError: a name is refused, with the reason, or unknown, with the nearest known one.
    """
    for name in layers:
        if name in refused:
            raise UsageError(f"layer {name!r} can't be taken: {refused[name]}")
        if name not in found:
            raise UsageError(f"no layer {name!r}: {nearest(name, found)}")
    return [item for name, item in found.items() if not layers or name in layers]
