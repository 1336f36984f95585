"""The hardware a program is compiled for: the schema of a target file, loading and writing one."""

from xbarc.hw.target.cell import cell_description, cell_names, cell_text
from xbarc.hw.target.dump import described, dump_target
from xbarc.hw.target.load import load_target, parse_target, target_names, target_text
from xbarc.hw.target.schema import (
    CONSTANTS,
    Adc,
    Chip,
    ComponentTable,
    Core,
    CrossbarArray,
    Device,
    Inputs,
    LayerKeys,
    Node,
    Section,
    Target,
    Technology,
    Weights,
)

__all__ = [
    "CONSTANTS",
    "Adc",
    "Chip",
    "ComponentTable",
    "Core",
    "CrossbarArray",
    "Device",
    "Inputs",
    "LayerKeys",
    "Node",
    "Section",
    "Target",
    "Technology",
    "Weights",
    "cell_description",
    "cell_names",
    "cell_text",
    "described",
    "dump_target",
    "load_target",
    "parse_target",
    "target_names",
    "target_text",
]
