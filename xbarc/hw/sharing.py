"""Tiles of two matrices on the same crossbars.

A read drives the rows of one matrix and converts its columns. A row that isn't driven adds nothing
to a column, and a column that isn't selected isn't converted. So two matrices that work one after
the other may share rows and columns. They only need different cells.
"""

from collections.abc import Sequence

Size = tuple[int, int]
"""Rows and columns, in cells."""


def share(hosts: Sequence[Size], guests: Sequence[Size], crossbar: Size) -> list[int] | None:
    """For each guest tile the host tile whose crossbar it stands on; None where one has no place.

    Each host stands in a corner. What is left of a crossbar, below it and beside it, is cut into
    rectangles; the guests take the first that holds them, the largest guest first.
    """
    rows, columns = crossbar
    free: list[list[Size]] = []
    for height, width in hosts:
        free.append([(rows - height, columns), (height, columns - width)])
    found = [-1] * len(guests)
    for index in sorted(range(len(guests)), key=lambda i: (-guests[i][0] * guests[i][1], i)):
        at = _take(free, guests[index])
        if at is None:
            return None
        found[index] = at
    return found


def _take(free: list[list[Size]], guest: Size) -> int | None:
    """Take `guest` out of the first rectangle that holds it; the number of its crossbar."""
    height, width = guest
    for number, rectangles in enumerate(free):
        for i, (rows, columns) in enumerate(rectangles):
            if height <= rows and width <= columns:
                rectangles[i : i + 1] = [(rows - height, columns), (height, columns - width)]
                return number
    return None
