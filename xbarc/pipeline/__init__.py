"""Passes: their base classes, where they are found, the pipeline text, and running them.

Two kinds share one registry and one text (`"fold-batchnorm,sub-image{patch=8,8}"`):

- a `GraphPass` rewrites the ONNX graph;
- an `xdsl.passes.ModulePass` rewrites the tile IR; its context is an `XbarContext`.

How to write one: `docs/writing_passes.md`.
"""

from xbarc.pipeline.instrumentation import Instrumentation
from xbarc.pipeline.passes import GraphPass, PassClass, XbarContext, is_tile_pass
from xbarc.pipeline.registry import Option, PassInfo, Registry, load_registry
from xbarc.pipeline.runner import (
    MAX_DEVIATION,
    check_hardware,
    run_graph_passes,
    run_module_passes,
)
from xbarc.pipeline.schemes import MappingScheme, follow_ups, map_all, map_rest, schemes
from xbarc.pipeline.text import Pipeline, build_pass, parse_passes, split_tile_passes

__all__ = [
    "MAX_DEVIATION",
    "GraphPass",
    "Instrumentation",
    "MappingScheme",
    "Option",
    "PassClass",
    "PassInfo",
    "Pipeline",
    "Registry",
    "XbarContext",
    "build_pass",
    "check_hardware",
    "follow_ups",
    "is_tile_pass",
    "load_registry",
    "map_all",
    "map_rest",
    "parse_passes",
    "run_graph_passes",
    "run_module_passes",
    "schemes",
    "split_tile_passes",
]
