"""The training loop: epochs, steps, checkpoints, and the best network so far."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbarc.support.errors import XbarcError
from xbarc.train import checkpoint
from xbarc.train.augment import augmented
from xbarc.train.data import Data
from xbarc.train.fixed_batch import FixedBatch, in_batches
from xbarc.train.method import Method
from xbarc.train.network import Network, TrainedLayer, as_tensors
from xbarc.train.objective import Objective, Teacher
from xbarc.train.optimiser import optimiser_of, parameters_of
from xbarc.train.randomness import determined, mixed
from xbarc.train.record import Record, Score
from xbarc.train.settings import Settings

VALIDATION_SEED = 1 << 20
"""Of the devices that validation is run on, each epoch the same."""


Watch = Callable[[int, int | None, int, Score], None]
"""Is told of epoch (from 1), batches of it, the batch that is done, and how it goes."""


@dataclass
class Training:
    """A network under training; what a method sees of it.

    `epoch` counts from 0. `memory` are a method's tensors, which checkpoints keep.
    """

    network: Network
    method: Method
    settings: Settings
    objective: Objective
    data: Data
    validation: Data | None
    teacher: Teacher | None = None
    fixed_batch: FixedBatch | None = None
    epoch: int = 0
    step: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    optimiser: torch.optim.Optimizer = field(init=False)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_record: Record | None = None

    def __post_init__(self) -> None:
        self.optimiser = optimiser_of(self.network, self.settings)

    @property
    def layers(self) -> dict[str, TrainedLayer]:
        """The layers on crossbars by name."""
        return self.network.layers

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that learns, by name."""
        return parameters_of(self.network)

    @property
    def batch(self) -> int:
        """Samples of a step: as the settings say, or as many more as make a fixed batch whole."""
        size = self.settings.batch
        return size if self.fixed_batch is None else self.fixed_batch.rounded(size)

    @property
    def share(self) -> float:
        """How much of the training is done, 0 to 1, before this epoch."""
        return self.epoch / self.settings.epochs

    def run(self, question: str, watch: Watch | None = None) -> None:
        """Train to the end, from the checkpoint where there is one.

        Raises:
            UsageError: the checkpoint is of another training.
            XbarcError: labels don't fit, the loss isn't finite, or the disk refuses.
        """
        with determined(self.settings):
            if self._resumed(question):
                self._find_ranges()
            else:
                self.method.start(self)
                self.network.apply_masks()
                self._find_ranges()
                before = self._score(self.validation)
                record = Record(0, 0.0, None, None, *_figures(before))
                may = self.method.untrained_counts and self.method.counts(self)
                self._note(record, may=may)
            while self.epoch < self.settings.epochs and not self._tired():
                self._train_epoch(watch)
                self._save(question)
            self._restore_best()
            self.network.fold_norms()

    def _train_epoch(self, watch: Watch | None) -> None:
        before = self._weights()
        self.method.before_epoch(self)
        self.network.apply_masks()
        if any(not torch.equal(p, before[n]) for n, p in self.network.weights.items()):
            self._find_ranges()
        found = self._steps(watch)
        self.network.apply_masks()
        figures = dict(self.method.after_epoch(self, found.loss))
        self.network.apply_masks()
        self._find_ranges()
        score = self._score(self.validation)
        rate = self.settings.rate_at(self.epoch)
        may = self.method.counts(self)
        self.epoch += 1
        record = Record(self.epoch, rate, found.loss, found.accuracy, *_figures(score), figures)
        self._note(record, may=may)

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.network.weights.items()}

    def _find_ranges(self) -> None:
        """Converters whose ranges are calibrated follow the weights, as compiling finds them."""
        if not self.settings.plain and self.network.target.adc.mode == "calibrated":
            self.network.remap()

    def _steps(self, watch: Watch | None) -> Score:
        """All steps of an epoch."""
        settings, seen = self.settings, _Mean()
        steps = self.data.steps(self.batch)
        batches = self.data.batches(self.batch, (settings.seed, self.epoch))
        for index, (feeds, labels) in enumerate(batches):
            torch.manual_seed(mixed(settings.seed, self.epoch, index))
            part = index / steps if steps else 0.0
            for group in self.optimiser.param_groups:
                group["lr"] = settings.rate_at(self.epoch + part)
            if not settings.plain:
                self._program(index)
            seen_as = augmented(feeds, labels, settings, self.epoch, index)
            loss, right, count = self._loss(seen_as, labels, train=True)
            if not math.isfinite(float(loss.detach())):
                raise XbarcError(
                    f"the loss isn't finite in epoch {self.epoch + 1}, step {index + 1}: try a "
                    f"lower learning rate than {settings.start_rate:g}"
                )
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward([loss])
            self.optimiser.step()
            self._keep_ranges()
            self.step += 1
            self.method.after_step(self)
            if self.method.masks_each_step:
                self.network.apply_masks()
            seen.add(float(loss.detach()), right, count)
            if watch is not None:
                watch(self.epoch + 1, steps, index + 1, seen.score)
        if not seen.count:
            raise XbarcError("the data gave no batch in this epoch: an iterable must start anew")
        return seen.score

    def _program(self, index: int) -> None:
        network, settings = self.network, self.settings
        network.number(self.step * self.batch)
        network.program_arrays(
            mixed(settings.seed, 1, self.step // settings.redraw),
            exact=False,
            redraw=index % settings.redraw == 0,
        )

    def _keep_ranges(self) -> None:
        """A learned range stays above 0."""
        for quantiser in self.network.quantisers.values():
            if quantiser.learned:
                with torch.no_grad():
                    quantiser.factor.clamp_(min=1e-6)

    def _loss(
        self, feeds: Mapping[str, Any], labels: Any, *, train: bool
    ) -> tuple[Tensor, float | None, int]:
        """The loss of a batch, how much of it is right (None: nobody knows), and its samples."""
        device, reader = self.settings.torch_device, self.objective.labels
        inputs = as_tensors(feeds, device)
        module = self.network.plain if self.settings.plain else self.network.module
        dropping = self.settings.dropout if train else 0.0
        module.train(train)
        with self.network.dropout(dropping), self._precision(train=train):
            outputs = _real(self._forward(module, inputs))
            taught = None if self.teacher is None else _real(self.teacher(inputs))
        main = outputs[self.objective.output.name or ""].detach()
        truth = right = None
        if labels is not None and reader is not None:
            read = reader.read(np.asarray(labels), main.shape)
            truth, right = read.to(device), reader.right(main.cpu().numpy(), read.numpy())
        loss = self.objective(outputs, truth, taught)
        return loss, right, len(next(iter(inputs.values())))

    def _precision(self, *, train: bool) -> AbstractContextManager[Any]:
        """What products are computed in; validation is in float32."""
        narrow = train and self.settings.precision == "bfloat16"
        kind = torch.device(self.settings.torch_device).type
        return torch.autocast(kind, torch.bfloat16) if narrow else nullcontext()

    def _forward(self, module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        values = [*self.objective.wanted, self.objective.output]
        return in_batches(self.fixed_batch, lambda some: module(some, values), inputs)

    def _score(self, data: Data | None) -> Score | None:
        """The network's loss and accuracy on `data`, on the same devices each time."""
        if data is None:
            return None
        if not self.settings.plain:
            self.network.number(0)
            self.network.program_arrays(VALIDATION_SEED, exact=False)
        seen = _Mean()
        torch.manual_seed(VALIDATION_SEED)
        with torch.no_grad():
            for feeds, labels in data.batches(self.batch, None):
                loss, right, count = self._loss(feeds, labels, train=False)
                seen.add(float(loss), right, count)
        return seen.score if seen.count else None

    def _note(self, record: Record, *, may: bool) -> None:
        """Keep an epoch's record, and the network where it is the best so far that counts."""
        self.history.append(record)
        best = None if self.settings.keep == "last" else self.best_record
        if may and (best is None or _better(record, best)):
            self.best_record = record
            self.best = self._state()

    def _state(self) -> dict[str, Tensor]:
        found = {n: p.detach().clone() for n, p in self.parameters.items()}
        masks = {n: la.mask.clone() for n, la in self.layers.items() if la.mask is not None}
        norms = {
            f"{name}/{what}": buffer.clone()
            for name, norm in self.network.norms.items()
            for what, buffer in norm.named_buffers()
        }
        return {**_under("weight", found), **_under("mask", masks), **_under("norm", norms)}

    def _set_state(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight/{name}"])
            for name, norm in self.network.norms.items():
                for what, buffer in norm.named_buffers():
                    buffer.copy_(tensors[f"norm/{name}/{what}"])
        for name, layer in self.layers.items():
            mask = tensors.get(f"mask/{name}")
            layer.mask = None if mask is None else mask.to(layer.weight.device)

    def _restore_best(self) -> None:
        """Make the best network the result; the last one where none counted."""
        if self.best_record is None:
            self.best_record, self.best = self.history[-1], self._state()
        self._set_state(self.best)

    def _tired(self) -> bool:
        """Whether too many epochs brought nothing better."""
        if self.settings.patience is None or self.best_record is None:
            return False
        return self.epoch - self.best_record.epoch >= self.settings.patience

    def _save(self, question: str) -> None:
        path = self.settings.checkpoint_path
        if path is None:
            return
        names = {id(p): n for n, p in self.parameters.items()}
        state = {
            f"{names[id(p)]}/{key}": value
            for p, values in self.optimiser.state.items()
            for key, value in values.items()
            if isinstance(value, Tensor)
        }
        tensors = {
            **self._state(),
            **_under("best", self.best),
            **_under("optimiser", state),
            **_under("memory", self.memory),
        }
        said = {
            "question": question,
            "epoch": self.epoch,
            "step": self.step,
            "history": [asdict(record) for record in self.history],
            "best": None if self.best_record is None else asdict(self.best_record),
        }
        checkpoint.save(path, tensors, said)

    def _resumed(self, question: str) -> bool:
        """Take up what a checkpoint says; whether there was one."""
        path = self.settings.checkpoint_path
        found = None if path is None else checkpoint.load(path, question)
        if found is None:
            return False
        self._set_state(found.tensors)
        for name, parameter in self.parameters.items():
            state = found.of("optimiser")
            kept = {k.removeprefix(f"{name}/"): t for k, t in state.items() if _is_of(k, name)}
            if kept:
                self.optimiser.state[parameter] = {
                    k: t if k == "step" else t.to(parameter.device) for k, t in kept.items()
                }
        self.memory, self.best = found.of("memory"), found.of("best")
        self.epoch, self.step = int(found.said["epoch"]), int(found.said["step"])
        self.history = [Record(**record) for record in found.said["history"]]
        best = found.said["best"]
        self.best_record = None if best is None else Record(**best)
        return True


@dataclass
class _Mean:
    """Means over the samples of batches."""

    loss: float = 0.0
    right: float = 0.0
    count: int = 0
    judged: int = 0

    def add(self, loss: float, right: float | None, count: int) -> None:
        self.loss += loss * count
        self.count += count
        if right is not None:
            self.right += right * count
            self.judged += count

    @property
    def score(self) -> Score:
        return Score(self.loss / self.count, self.right / self.judged if self.judged else None)


def _better(record: Record, than: Record) -> bool:
    """By validation accuracy, else validation loss, else the loss of training."""
    if record.validation_accuracy is not None and than.validation_accuracy is not None:
        if record.validation_accuracy != than.validation_accuracy:
            return record.validation_accuracy > than.validation_accuracy
        assert record.validation_loss is not None and than.validation_loss is not None
        return record.validation_loss < than.validation_loss
    if record.validation_loss is not None and than.validation_loss is not None:
        return record.validation_loss < than.validation_loss
    return than.loss is None or (record.loss is not None and record.loss < than.loss)


def _real(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Outputs of narrow products in float32, as losses want them."""
    return {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in outputs.items()}


def _figures(score: Score | None) -> tuple[float | None, float | None]:
    return (None, None) if score is None else (score.loss, score.accuracy)


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _is_of(key: str, name: str) -> bool:
    return key.startswith(f"{name}/") and "/" not in key[len(name) + 1 :]
