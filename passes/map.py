"""map: chooses for each layer the mapping with which the program costs least."""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any, Literal, cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from xbarc.cost.choice import Candidate, Choice, Search
from xbarc.cost.components import Parts, components
from xbarc.cost.layer import Operation, layer_cost, together
from xbarc.cost.rollup import has_room
from xbarc.cost.time import Times, digital_work, rates_of, times
from xbarc.graph.serialize import to_proto
from xbarc.hw.target import Target
from xbarc.ir.analysis.alone import alone, full_weights, kind_of
from xbarc.ir.analysis.stages import stages_of
from xbarc.ir.dialect import LayerOp, MvmOp, weights_of
from xbarc.pipeline import (
    MappingScheme,
    Registry,
    XbarContext,
    load_registry,
    map_all,
    parse_passes,
    run_module_passes,
    schemes,
)
from xbarc.support.data import Array
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.names import named

CHOICES = "mapping_choices"
"""The key of `report.json` under which the choices stand."""


@dataclass(frozen=True)
class Map(ModulePass):
    """Choose the mapping of each layer by what it costs.

    Before:

        %1 = xbar.conv %0, @conv1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x16x32x32xui8> -> ...
        %3 = xbar.dense %2, @fc axis 1 to 1 : ...

    After `map{by=energy}`, on crossbars of 512 x 512 and two columns a weight:

        %1 = xbar.gather %0 window [5, 6] strides [3, 4] pads [1, 1, 2, 1] : ...
        %2 = xbar.mvm %1, @conv1 by "vw-sdk" unroll [3, 3] window [5, 6] patch [3, 4] ...
        %3 = xbar.scatter %2 window [3, 4] strides [3, 4] pads [0, 0, 1, 0] : ...
        %5 = xbar.gather %4 axis 1 : ...
        %6 = xbar.mvm %5, @fc by "im2col" grid [512, 256] : ...
        %7 = xbar.scatter %6 axis 1 : ...

    The pass maps each layer alone by every scheme, and counts it as the cost report does. It
    chooses the schemes that minimise a figure of all these layers together, each on crossbars of
    its own. If schemes are equal, the first in the list wins.

    - `by=crossbars`: arrays occupied.
    - `by=cycles`: reads in sequence, with all tiles and copies working in parallel.
    - `by=energy`: for one image, with the leakage of everything occupied for the time of the mode
      (a second chip brings links, which leak all the time).
    - `by=area-delay`: area in use times the time of the mode.

    `mode` says how the hardware is used, for energy and area x delay. In a stream (`mode=stream`,
    the default) layers work side by side, an image every interval, which the slowest layer sets.
    With `mode=single` one image is alone, and its layers work one after the other.

    A choice that doesn't fit on the target's chips is never taken. For energy and area x delay the
    search starts from each layer's own minimum of each of the four figures. It then changes one
    layer at a time to the scheme that lowers the total, until nothing changes. Of the distinct
    results it takes the best by the same figure with the time of the whole program, mesh and
    digital operations included.

    `schemes` lists the schemes to try: names of mapping schemes, each in all its variants (`window`
    means `window{scheme=sdk}` and `window{scheme=vw-sdk}`), or pipeline text in quotes:
    `"sub-image{patch=8,8}"`. Without it the pass tries every scheme, those of plug-ins too. It
    tries a scheme only on the layer operations that the scheme is for.

    `layers` names the layers to map; without it the pass takes all unmapped layers. A layer that no
    scheme can map is left to the passes after this one, or is an error if `layers` names it.
    `report.json` lists under `mapping_choices` each layer's candidates with their figures, or why a
    scheme can't map the layer.
    """

    name = "map"

    by: Literal["crossbars", "cycles", "energy", "area-delay"] = "crossbars"
    mode: Literal["stream", "single"] | None = None
    schemes: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `UsageError` where `mode` has no effect."""
        if self.mode is not None and self.by in ("crossbars", "cycles"):
            raise UsageError(f"mode has no effect: {self.by} are the same in a stream and alone")

    @property
    def operation(self) -> Operation:
        """The mode that figures are of."""
        return self.mode or "stream"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Choose and map.

        Raises:
            UsageError: `layers` names what isn't there or no scheme takes; a scheme is no mapping
                pass.
        """
        context = XbarContext.of(ctx)
        found = {weights_of(o).symbol: o for o in op.walk() if isinstance(o, LayerOp)}
        wanted = named(self.layers, found, "unmapped layer")
        registry = load_registry()
        trial = _Trial(context, registry, chosen_schemes(self.schemes, registry), self.operation)
        candidates = {name: tuple(trial.candidates(found[name])) for name in wanted}
        ends = Search(self.by, candidates, trial.target, trial.parts, self.operation).ends()
        choices = ends[0]
        if len(ends) > 1:
            choices = min(ends, key=lambda end: self._in_program(op, trial, end))
        for name in wanted if self.layers else ():
            if choices[name].chosen is None:
                reasons = "; ".join(f"{c.scheme}: {c.refused}" for c in choices[name].candidates)
                raise UsageError(f"no scheme takes layer {name!r}: {reasons}")
        run_module_passes(trial.passes(choices), context, op)
        context.figures.setdefault(CHOICES, {}).update(
            {name: choice.document() for name, choice in choices.items()}
        )

    def _in_program(self, op: ModuleOp, trial: "_Trial", choices: Mapping[str, Choice]) -> float:
        """The figure that counts, with the time of the whole program: mesh and digital too."""
        whole = together(
            [cost for choice in choices.values() if (cost := choice.cost) is not None],
            trial.target,
            trial.parts,
            self.operation,
            trial.times(choices, op),
        )
        return whole.figure(self.by) if has_room(whole.crossbars, trial.target) else inf


def chosen_schemes(texts: tuple[str, ...], registry: Registry) -> dict[str, MappingScheme]:
    """The schemes that `texts` mean, by their own text, in order; all that there are without any.

    Raises `UsageError` where one is no mapping scheme.
    """
    known = schemes(registry)
    every = [
        variant
        for text in texts or known
        for variant in ((known[text].variants if text in known else ()) or (text,))
    ]
    found: dict[str, MappingScheme] = {}
    for text in every:
        pipeline = parse_passes(text, registry)
        passes = [*pipeline]
        if len(passes) != 1 or pipeline.graph:
            raise UsageError(f"a scheme is one mapping pass, {text!r} isn't")
        (scheme,) = pipeline.mapping
        if not isinstance(scheme, MappingScheme):
            raise UsageError(f"{text!r} maps no layers by name: it can't be a scheme")
        if scheme.layers:
            raise UsageError(f"{text!r} names layers: give `layers` to map")
        found[text] = scheme
    return found


def _with_layers(scheme: MappingScheme, names: list[str]) -> MappingScheme:
    return cast(MappingScheme, replace(cast(Any, scheme), layers=tuple(names)))


@dataclass
class _Trial:
    """Maps layers by themselves; layers alike are tried once, where their weights don't matter."""

    context: XbarContext
    registry: Registry
    schemes: Mapping[str, MappingScheme]
    mode: Operation
    parts: Parts = field(init=False)
    _known: dict[tuple[Any, ...], Candidate] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.parts = components(self.target)

    @property
    def target(self) -> Target:
        return self.context.target

    def candidates(self, layer: LayerOp) -> Iterator[Candidate]:
        """Every scheme that is for such a layer, tried."""
        for scheme, mapping in self.schemes.items():
            if mapping.takes and layer.name not in mapping.takes:
                continue
            key = (scheme, *kind_of(layer, self.target))
            if key not in self._known:
                candidate, depends = self._try(scheme, mapping, layer)
                if depends:
                    yield candidate
                    continue
                self._known[key] = candidate
            yield self._known[key]

    def passes(self, choices: Mapping[str, Choice]) -> list[MappingScheme]:
        """The schemes chosen, each with its layers."""
        taken: dict[str, list[str]] = {}
        for name, choice in choices.items():
            if choice.chosen is not None:
                taken.setdefault(choice.chosen, []).append(name)
        return [_with_layers(self.schemes[scheme], names) for scheme, names in taken.items()]

    def times(self, choices: Mapping[str, Choice], module: ModuleOp) -> Times:
        """The times of `module` mapped as chosen, other layers as always."""
        module = module.clone()
        weights = ChainMap({}, self.context.weights)
        context = XbarContext(self.target, weights, self.context.digital)
        map_all(context, module, self.passes(choices), self.registry)
        stages = stages_of(module)
        work = digital_work(stages, self._files, self.parts, self.target)
        return times(stages, self.target, work, rates_of(self.target, self.parts))

    @cached_property
    def _files(self) -> dict[str, bytes]:
        """The digital operations, as the time model reads them."""
        return {path: to_proto(g).SerializeToString() for path, g in self.context.digital.items()}

    def _try(self, scheme: str, mapping: MappingScheme, layer: LayerOp) -> tuple[Candidate, bool]:
        """A scheme on a layer, and whether other weights of the same shape might cost otherwise."""
        name, module = weights_of(layer).symbol, alone(layer)
        weights = _Watched({}, self.context.weights)
        context = XbarContext(self.target, weights, self.context.digital)
        try:
            _with_layers(mapping, [name]).apply(context, module)
        except XbarcError as error:
            # The reason names the layer: it isn't another's.
            return Candidate(scheme, refused=" ".join(str(error).split())), True
        if any(isinstance(o, LayerOp) for o in module.walk()):
            return Candidate(scheme, refused="it leaves the layer unmapped"), weights.read
        module.verify()
        mvms = [o for o in module.walk() if isinstance(o, MvmOp)]
        depends = weights.read or any(o.gated is not None or o.sparse is not None for o in mvms)
        arrays = ChainMap({}, weights.maps[0], self.context.weights)
        if name not in arrays:  # a module without its weights: as if no cell were off
            arrays[name] = full_weights(weights_of(layer))
        try:
            cost = layer_cost(module, arrays, self.target, self.parts, self.mode)
        except XbarcError as error:
            return Candidate(scheme, refused=str(error)), True
        return Candidate(scheme, cost), depends


class _Watched(ChainMap[str, Array]):
    """Arrays of which a pass may read any, and add some for itself."""

    read = False

    def __getitem__(self, key: str) -> Array:
        self.read = True
        return super().__getitem__(key)
