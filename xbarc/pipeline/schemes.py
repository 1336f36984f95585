"""Mapping schemes, and what runs by itself: default mappings, and passes that follow others."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from xdsl.passes import ModulePass

from xbarc.pipeline.instrumentation import Instrumentation
from xbarc.pipeline.passes import GraphPass, XbarContext
from xbarc.pipeline.registry import Registry
from xbarc.pipeline.runner import run_module_passes

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


class MappingScheme(ModulePass):
    """A pass that turns layer operations into gather, mvm and scatter, all or those of `layers`.

    A layer that it can't take it refuses by an `XbarcError` that says why. `map` tries every scheme
    that there is on every layer that it is for.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    """The layer operations that it is for (`xbar.conv`, `xbar.dense`, ...)."""

    variants: ClassVar[tuple[str, ...]] = ()
    """Its own texts that `map` tries, where it has more than one way (`window{scheme=sdk}`)."""

    default: ClassVar[bool] = False
    """Maps, as it is, the layers that no other pass took."""

    order: ClassVar[int] = 100
    """Of schemes that cost the same, `map` takes the one of the lowest order."""

    layers: tuple[str, ...]
    """Each scheme has this option: the layers to map, by name; all without it."""


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
    """Map the layers of `module` that no pass has taken, each by the default scheme for it.

    Gives the passes that ran. The defaults are xbarc's own: a package that is merely installed
    changes no program.
    """
    ran: list[ModulePass] = []
    for name in registry.names:
        if registry.owner(name) != "xbarc":
            continue
        cls = registry.load(name)
        if not (issubclass(cls, MappingScheme) and cls.default):
            continue
        if any(op.name in cls.takes for op in module.walk()):
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
    """The passes that take up what graph passes leave, but for those that are `named` already.

    A tile pass says what it takes up: `follows: ClassVar[str] = "zeros"`, and runs after all others
    where a graph pass `leaves` that.
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
