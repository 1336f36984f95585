"""What happens to a network between the steps of its training: a method.

One method a file in `methods/`, a frozen dataclass whose fields are its options, as a pass's are.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor
from xdsl.utils.arg_spec import ArgSpecConvertible

from xbarc.pipeline.options import build, parse_specs
from xbarc.support import plugins
from xbarc.support.errors import UsageError
from xbarc.support.plugins import Group
from xbarc.train.network import Network, TrainedLayer
from xbarc.train.record import Record
from xbarc.train.settings import Settings


class Training(Protocol):
    """A training as a method sees it (`xbarc.train.training`).

    `epoch` counts from 0. `memory` are the method's tensors, which checkpoints keep.
    """

    epoch: int
    network: Network
    settings: Settings
    memory: dict[str, Tensor]
    history: list[Record]

    @property
    def layers(self) -> Mapping[str, TrainedLayer]:
        """The layers on crossbars by name."""


@dataclass(frozen=True)
class Method(ArgSpecConvertible):
    """How a network is retrained; each call is one moment and does nothing unless a method says so.

    A method sees the layers (`training.layers`): their weights as a matrix, and their masks, which
    it sets. What it must remember goes into `training.memory` (tensors by name), which checkpoints
    keep: a run that is resumed calls `start` no more.

    `masks_each_step`: masks are applied after each step; else only before and after an epoch, so
    that weights may grow back within one.
    `untrained_counts`: the network given may be the result, where no epoch is better.
    """

    name: ClassVar[str]
    masks_each_step: ClassVar[bool] = True
    untrained_counts: ClassVar[bool] = True

    def start(self, training: Training) -> None:
        """Before the first epoch."""

    def before_epoch(self, training: Training) -> None:
        """Before epoch `training.epoch`, counted from 0."""

    def after_step(self, training: Training) -> None:
        """After each step of the optimiser, before masks are applied."""

    def after_epoch(self, training: Training, loss: float) -> Mapping[str, float]:
        """After an epoch whose mean training loss was `loss`; figures for its record."""
        return {}

    def counts(self, training: Training) -> bool:
        """Whether the network of this epoch may be the result."""
        return True

    def finish(self, training: Training) -> Mapping[str, float]:
        """After the last epoch, on the weights of the result; figures for the report."""
        return {}


def _found(module: types.ModuleType) -> dict[str, type[Method]]:
    found = plugins.classes(module, Method)
    return {cls.name: cls for cls in found if issubclass(cls, Method) and cls is not Method}


METHODS: Group[type[Method]] = Group(
    "training method", "xbarc.methods", "xbarc.train.methods", _found
)

EXAMPLE = "fine-tune"


def method_of(text: str) -> Method:
    """The method that `name{option=value}` says.

    Raises `UsageError` where there is no such method, or it can't have these options.
    """
    specs = parse_specs(text, "--method", EXAMPLE)
    if len(specs) != 1:
        raise UsageError(f"--method {text}: give one method")
    cls = METHODS.registry().load(specs[0].name)
    made: Method = build(cls, specs[0], f"method {specs[0].name!r}")
    return made
