"""Mapping schemes, and the passes that run unasked: default mappings, and follow-ups."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from xdsl.passes import ModulePass

from xbarc.ir.dialect import LayerOp
from xbarc.pipeline.instrumentation import Instrumentation
from xbarc.pipeline.passes import GraphPass, XbarContext
from xbarc.pipeline.registry import Registry
from xbarc.pipeline.runner import run_module_passes

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


class MappingScheme(ModulePass):
    """A pass that turns layer operations into gather, mvm and scatter: all, or those in `layers`.

    It refuses a layer that it can't map by an `XbarcError` that gives the reason. `map` tries every
    scheme on every layer operation in the scheme's `takes`.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    """The layer operations that it maps: `xbar.conv`, `xbar.conv_transpose`, `xbar.dense`."""

    variants: ClassVar[tuple[str, ...]] = ()
    """Pipeline texts of this pass for `map` to try (`window{scheme=sdk}`); none: just its name."""

    default: ClassVar[bool] = False
    """Without options it maps the layers that no other pass has mapped (xbarc's own only)."""

    order: ClassVar[int] = 100
    """If schemes cost the same, `map` takes the one with the lowest order."""

    layers: tuple[str, ...]
    """An option of every scheme: the names of the layers to map; empty means all."""


def schemes(registry: Registry) -> dict[str, type[MappingScheme]]:
    """Every scheme by name, by its order."""
    found = {n: cls for n, cls in registry.all().items() if issubclass(cls, MappingScheme)}
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def map_rest(
    ctx: XbarContext,
    module: "ModuleOp",
    registry: Registry,
    instrumentation: Instrumentation | None = None,
) -> list[ModulePass]:
    """Map the layers of `module` that no pass has mapped, each by its default scheme.

    Returns the passes that ran. Only xbarc's own schemes can be defaults: a package that is merely
    installed changes no program.
    """
    ran: list[ModulePass] = []
    for name in (n for n in registry.names if registry.owner(n) == "xbarc"):
        left = {op.name for op in module.walk() if isinstance(op, LayerOp)}
        if not left:  # The passes after this one need no import.
            break
        cls = registry.load(name)
        if issubclass(cls, MappingScheme) and cls.default and left.intersection(cls.takes):
            ran.append(cls())
            run_module_passes(ran[-1:], ctx, module, instrumentation)
    return ran


def map_all(
    ctx: XbarContext,
    module: "ModuleOp",
    passes: Sequence[ModulePass],
    registry: Registry,
    instrumentation: Instrumentation | None = None,
) -> list[ModulePass]:
    """Map every layer of `module`: by `passes`, and what they leave by the default schemes.

    Gives the passes that ran. Raises as `run_module_passes`.
    """
    run_module_passes(passes, ctx, module, instrumentation)
    return [*passes, *map_rest(ctx, module, registry, instrumentation)]


def follow_ups(
    graph: Iterable[GraphPass], named: Iterable[ModulePass], registry: Registry
) -> list[ModulePass]:
    """The tile passes that complete the work of graph passes, without those `named` already.

    A tile pass with `follows: ClassVar[str] = "zeros"` runs after all other passes if a graph pass
    `leaves` `"zeros"`.
    """
    left = {what: layers for p in graph for what, layers in p.leaves.items()}
    if not left:
        return []
    taking = {
        getattr(cls, "follows", None): cls
        for cls in registry.all().values()
        if issubclass(cls, ModulePass)
    }
    known = {p.name for p in named}
    found = [(taking[what], layers) for what, layers in left.items() if what in taking]
    return [
        cls(**({"layers": layers} if layers else {}))
        for cls, layers in found
        if cls.name not in known
    ]
