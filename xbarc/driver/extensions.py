"""The plug-in files of a run, and the kinds of addition that they can bring."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xbarc.cost.components import COMPONENTS
from xbarc.frontends.registry import FRONTENDS
from xbarc.graph.operators import OPERATORS
from xbarc.ir import DIALECTS
from xbarc.lowering.layers import LAYERS
from xbarc.pipeline.registry import PASSES
from xbarc.simulator.effect import EFFECTS
from xbarc.simulator.step import STEPS
from xbarc.support import plugins
from xbarc.support.errors import UsageError
from xbarc.support.plugins import Group

GROUPS: tuple[Group[Any], ...] = (
    FRONTENDS,
    PASSES,
    OPERATORS,
    LAYERS,
    COMPONENTS,
    DIALECTS,
    STEPS,
    EFFECTS,
)
"""Every kind of addition that a file can bring."""


@contextmanager
def using(files: Iterable[str | Path], *also: Group[Any]) -> Iterator[None]:
    """Within the block, xbarc also finds what the files define; `also` of these kinds.

    Raises:
        UsageError: a file is missing, or defines no addition that xbarc knows.
        XbarcError: a file fails, or uses a name that is taken.
    """
    for file in dict.fromkeys(map(Path, files)):
        module = plugins.import_file(file)
        if not any(group.found(module) for group in (*GROUPS, *also)):
            known = ", ".join(group.noun for group in (*GROUPS, *also))
            raise UsageError(f"--plugin {file}: defines nothing that xbarc looks for: {known}")
    with plugins.using(files):
        for group in (*GROUPS, *also):
            group.registry()  # a name that is taken twice is said before anything runs
        yield
