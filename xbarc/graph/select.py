"""Which nodes an option `layers=...` means."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from xbarc.support.errors import UsageError
from xbarc.support.names import matching, named

Found = TypeVar("Found")


def select(
    layers: Sequence[str], found: Mapping[str, Found], refused: Mapping[str, str]
) -> list[Found]:
    """What `layers`, names or patterns, mean among `found`: all of them where there are none.

    `refused` says why a layer can't be taken, by name: `"its kernel is 1 x 1"`. A pattern leaves
    those out.

    Raises:
        UsageError: a name is refused, with the reason, or unknown, with the nearest known one.
    """
    for name in layers:
        unfit = [] if matching(name, found) else matching(name, refused)
        if unfit:
            raise UsageError(f"layer {unfit[0]!r} can't be taken: {refused[unfit[0]]}")
    return [found[name] for name in named(layers, found, "layer")]
