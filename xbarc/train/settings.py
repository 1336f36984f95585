"""How to train: the options of `xbarc tune`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from xbarc.support.errors import UsageError
from xbarc.train.labels import Loss

Optimiser = Literal["adam", "sgd"]
Schedule = Literal["cosine", "linear", "step", "constant"]
Ranges = Literal["calibrated", "learned"]
Precision = Literal["float32", "bfloat16"]
Keep = Literal["best", "last"]

_WORDS = {
    "optimiser": get_args(Optimiser),
    "schedule": get_args(Schedule),
    "ranges": get_args(Ranges),
    "loss": get_args(Loss),
    "precision": get_args(Precision),
    "keep": get_args(Keep),
}


@dataclass(frozen=True)
class Settings:
    """Options of the training itself.

    `rate` is the learning rate after `warmup` epochs; None: 1e-3 for adam, 1e-2 for sgd.
    `schedule`: cosine and linear go to 0 at the last epoch, step divides by 10 after a half and
    after three quarters. `distill` is the share of the loss that is the distance to the float
    network; None: all where there are no labels, else none. `ranges` of inputs are calibrated, or
    learned. `redraw`: devices are drawn anew every so many steps. `validation_share` of the samples
    isn't trained on. `patience`: stop after so many epochs without a better network. `plain`: train
    the float network, without hardware; `batch_norm` puts batch normalisation behind its
    convolutions, and folds it into them at the end. `dropout` of the inputs of all layers but the
    first. `flip` and `shift` mirror pictures and move them by up to so many pixels. `precision` is
    that of products while it trains. `keep`: the result is the network of the best epoch, or of the
    last.
    `checkpoint`: written after each epoch, and gone on from where it is there.
    """

    epochs: int = 10
    batch: int = 64
    optimiser: Optimiser = "adam"
    rate: float | None = None
    momentum: float = 0.9
    decay: float = 0.0
    schedule: Schedule = "cosine"
    warmup: float = 0.0
    loss: Loss = "auto"
    distill: float | None = None
    temperature: float = 2.0
    ranges: Ranges = "calibrated"
    redraw: int = 1
    dropout: float = 0.0
    validation_share: float = 0.1
    patience: int | None = None
    plain: bool = False
    batch_norm: bool = False
    flip: bool = False
    shift: int = 0
    precision: Precision = "float32"
    keep: Keep = "best"
    seed: int = 0
    threads: int | None = None
    torch_device: str = "cpu"
    checkpoint: str | Path | None = None

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                known = ", ".join(words)
                raise UsageError(f"{name} = {getattr(self, name)!r}: give one of {known}")
        _whole("epochs", self.epochs)
        _whole("batch", self.batch)
        _whole("redraw", self.redraw)
        if self.patience is not None:
            _whole("patience", self.patience)
        if self.shift < 0:
            raise UsageError(f"shift = {self.shift}: give a number of pixels, 0 or more")
        if self.batch_norm and not self.plain:
            raise UsageError("batch_norm is for training in float: give --float too")
        if self.plain and self.ranges == "learned":
            raise UsageError("ranges are learned under the hardware: leave out --float")
        if self.patience is not None and self.keep == "last":
            raise UsageError("patience waits for a better epoch, keep = 'last' takes the last one")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"rate = {self.rate}: give a number above 0")
        for name in ("decay", "warmup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} = {value}: give a number of 0 or more")
        for name in ("momentum", "dropout", "validation_share"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UsageError(f"{name} = {value}: give a share from 0 to below 1")
        if self.distill is not None and not 0 <= self.distill <= 1:
            raise UsageError(f"distill = {self.distill}: give a share from 0 to 1")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"temperature = {self.temperature}: give a number above 0")

    @property
    def checkpoint_path(self) -> Path | None:
        """Where training stands."""
        return None if self.checkpoint is None else Path(self.checkpoint)

    @property
    def start_rate(self) -> float:
        """The learning rate that the schedule begins with."""
        if self.rate is not None:
            return self.rate
        return 1e-3 if self.optimiser == "adam" else 1e-2

    def rate_at(self, epoch: float) -> float:
        """The learning rate after so many epochs."""
        rate = self.start_rate
        if epoch < self.warmup:
            return rate * (epoch + 1e-3) / self.warmup
        left = max(self.epochs - self.warmup, 1e-9)
        share = min(max((epoch - self.warmup) / left, 0.0), 1.0)
        if self.schedule == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * share))
        if self.schedule == "linear":
            return rate * (1 - share)
        if self.schedule == "step":
            return rate * (0.01 if share >= 0.75 else 0.1 if share >= 0.5 else 1.0)
        return rate


def _whole(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} = {value}: give a whole number from 1 up")
