"""The pipeline text, `"fold-batchnorm,sub-image{patch=8,8}"`, to passes with their options."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec

from xbarc.pipeline.options import build, parse_specs
from xbarc.pipeline.passes import GraphPass, PassClass, is_tile_pass
from xbarc.pipeline.registry import Registry
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Pipeline:
    """Passes in order: those on the graph, then those on the tile IR."""

    graph: tuple[GraphPass, ...] = ()
    mapping: tuple[ModulePass, ...] = ()

    def __iter__(self) -> Iterator[GraphPass | ModulePass]:
        return iter((*self.graph, *self.mapping))

    def __str__(self) -> str:
        return ",".join(str(p) for p in self)


def split_tile_passes(
    passes: Sequence[ModulePass],
) -> tuple[list[ModulePass], list[ModulePass]]:
    """The passes before the first tile pass, and the passes from it on.

    Between the two all remaining layers are mapped. Raises `UsageError` if a mapping pass follows a
    tile pass: it would find nothing to map.
    """
    first = next((i for i, p in enumerate(passes) if is_tile_pass(p)), len(passes))
    for late in passes[first:]:
        if not is_tile_pass(late):
            raise UsageError(
                f"mapping pass {late.name!r} can't follow {passes[first].name!r}, before which all "
                "layers are mapped: put it in front"
            )
    return list(passes[:first]), list(passes[first:])


def parse_passes(text: str, registry: Registry) -> Pipeline:
    """Read a pipeline text.

    Raises:
        UsageError: the text, a name, an option or its value is wrong, or a graph pass follows a
            mapping pass.
    """
    graph: list[GraphPass] = []
    mapping: list[ModulePass] = []
    for spec in parse_specs(text, "--passes", 'im2col{layers="res1.conv2",fc}'):
        built = build_pass(registry.load(spec.name), spec)
        if isinstance(built, ModulePass):
            mapping.append(built)
        elif mapping:
            raise UsageError(
                f"graph pass {spec.name!r} can't follow {mapping[-1].name!r}, which leaves no "
                "ONNX graph behind: put graph passes first"
            )
        else:
            graph.append(built)
    return Pipeline(tuple(graph), tuple(mapping))


def build_pass(cls: PassClass, spec: ArgSpec) -> GraphPass | ModulePass:
    """The pass with the options of `spec`.

    Raises:
        UsageError: an option is unknown, missing, or of the wrong type or value.
    """
    made: GraphPass | ModulePass = build(cls, spec, f"pass {cls.name!r}")
    return made
