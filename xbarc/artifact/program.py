"""A compiled program as data: what every tool reads, and `xbarc.artifact.store` keeps on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from xbarc.artifact.float_network import FloatNetwork
from xbarc.hw.target import Target
from xbarc.support.data import Array

LOWERED = "lowered"
"""In `origin`: the tile IR before mapping, line by line, that new weights are held to."""


@dataclass
class CompiledProgram:
    """A compiled program; `xbarc.Program` adds what can be done with it.

    `module` is the mapped tile IR, `weights` its arrays by name, `digital` the ONNX files by path,
    `report` the document of `xbarc cost --json`, `origin` the model's name, hash and passes.
    `network` gives the float network, which a stored program reads only when it is asked for.
    """

    module: ModuleOp
    weights: Mapping[str, Array]
    digital: Mapping[str, bytes]
    target: Target
    origin: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    network: Callable[[], FloatNetwork] | None = None
