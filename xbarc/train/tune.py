"""`xbarc tune`: a network retrained under what the hardware will do."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from xbarc.driver import compile as driver
from xbarc.driver import extensions
from xbarc.driver.optimize import write
from xbarc.driver.stages import Imported, import_model
from xbarc.graph.inputs import input_specs
from xbarc.graph.serialize import to_proto
from xbarc.hw.target.dump import dump_target
from xbarc.simulator.noise import effects_of, files_of, on_torch
from xbarc.simulator.torch.engine import torch_device
from xbarc.support.data import Feeds, InputSpec
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.files import check_output, sha256_of
from xbarc.train import data as train_data
from xbarc.train.data import Arrays, Data, Pixels
from xbarc.train.fixed_batch import FixedBatch
from xbarc.train.method import METHODS, Method, method_of
from xbarc.train.network import Network, as_tensors, build
from xbarc.train.objective import Objective, Teacher
from xbarc.train.record import Record
from xbarc.train.settings import Settings
from xbarc.train.shown import Shown, with_labels
from xbarc.train.training import Training, Watch

if TYPE_CHECKING:
    import onnx

FREE = ("checkpoint", "patience", "threads")
"""Settings that a training may go on with otherwise."""

CALIBRATION = 256
"""Training samples that ranges are calibrated on, where no calibration data are given."""


@dataclass(frozen=True)
class Tuned:
    """A retrained network: the ONNX graph, what each epoch came to, and which one it is."""

    model: ir.Model
    history: tuple[Record, ...]
    best: Record
    figures: dict[str, float]

    def save(self, path: str | Path) -> None:
        """Write an ONNX file, whole or not at all. Raises `XbarcError` where the disk refuses."""
        write(self.model, Path(path))

    def document(self) -> dict[str, Any]:
        """What `xbarc tune --json` prints."""
        return {
            "epochs": [asdict(record) for record in self.history],
            "best": asdict(self.best),
            "figures": self.figures,
        }


def tune(
    source: "str | Path | onnx.ModelProto | ir.Model",
    data: Any,
    labels: Any = None,
    *,
    compiled: driver.Settings,
    settings: Settings,
    method: str | Method = "fine-tune",
    noise: str = "",
    device: str | Path | None = None,
    calibration: Any = None,
    validation: Any = None,
    teacher: "str | Path | onnx.ModelProto | ir.Model | None" = None,
    pixels: Pixels | None = None,
    watch: Watch | None = None,
) -> Tuned:
    """Retrain a network: `xbarc.tune` says of what, and what it raises."""
    if settings.checkpoint_path is not None:
        check_output(settings.checkpoint_path)
    with extensions.using(compiled.plugins, METHODS):
        how = method_of(method) if isinstance(method, str) else method
        training, question = prepare(
            source,
            data,
            labels,
            compiled=compiled,
            settings=settings,
            method=how,
            noise=noise,
            device=device,
            calibration=calibration,
            validation=validation,
            teacher=teacher,
            pixels=pixels,
        )
        training.run(question, watch)
        figures = dict(how.finish(training))
    network = training.network
    if settings.plain:
        network.write_weights()
    else:
        network.write_back()
    assert training.best_record is not None
    return Tuned(network.model, tuple(training.history), training.best_record, figures)


def prepare(
    source: "str | Path | onnx.ModelProto | ir.Model",
    data: Any,
    labels: Any,
    *,
    compiled: driver.Settings,
    settings: Settings,
    method: Method,
    noise: str,
    device: str | Path | None,
    calibration: Any,
    validation: Any,
    teacher: "str | Path | onnx.ModelProto | ir.Model | None",
    pixels: Pixels | None,
) -> tuple[Training, str]:
    """A training that is ready to run, and what its checkpoints are told apart by."""
    if settings.plain and (noise or device is not None):
        raise UsageError("--float trains without hardware: leave out --noise and --device")
    decided = driver.decide(compiled)
    effects = effects_of(decided.target, noise, device)
    imported = import_model(source, inputs=compiled.inputs, weights=compiled.weights)
    specs = _specs(imported)
    train, judge = _data(data, labels, validation, specs, settings, pixels)
    feeds = _feeds(train, specs) if calibration is None else None
    imported = (
        replace(imported, feeds=feeds)
        if feeds is not None
        else import_model(source, calibration, inputs=compiled.inputs, weights=compiled.weights)
    )
    network = _network(imported, decided, effects, settings, compiled.percentile)
    if settings.batch_norm:
        network.normalise()
    network.plain.eval()
    fixed = FixedBatch.of(network.plain, as_tensors(imported.feeds, settings.torch_device))
    objective = Objective(network.model, None, 0.0, settings.temperature)
    shown = Shown.of(network, objective, train, settings, fixed)
    judged = None if judge is None else Shown.of(network, objective, judge, settings, fixed)
    objective = with_labels(objective, shown, judged, settings)
    if teacher is not None and objective.distill == 0:
        raise UsageError(
            "with labels a teacher says nothing: give its share of the loss, --distill"
        )
    taught, teaching = None, None
    if objective.distill > 0:
        teaching = imported.model if teacher is None else import_model(teacher).model
        taught = Teacher(teaching, objective.wanted, settings.torch_device)
        taught.check(shown.inputs, shown.found)
    training = Training(
        network, method, settings, objective, train, judge, teacher=taught, fixed_batch=fixed
    )
    models = [imported.model] if teaching is None else [imported.model, teaching]
    data = [imported.feeds, *(d for d in (train, judge) if isinstance(d, Arrays))]
    about = {
        "method": str(method.spec()),
        "target": dump_target(decided.target),
        "passes": [str(p) for p in (*decided.graph, *decided.mapping, *decided.tile)],
        "plugins": sorted(map(sha256_of, compiled.plugins)),
        "percentile": compiled.percentile,
        "quantization": asdict(compiled.quantization),
        "layers": asdict(compiled.layers),
        "settings": {k: v for k, v in asdict(settings).items() if k not in FREE},
        "effects": [str(effect) for effect in effects],
        "files": files_of(effects),
    }
    return training, _question(models, data, about)


def _specs(imported: Imported) -> list[InputSpec]:
    """The model's inputs. Raises `XbarcError` where samples don't lie along axis 0."""
    specs = input_specs(imported.model)
    for spec in specs:
        if spec.axis != 0:
            raise XbarcError(
                f"input {spec.name!r} has its batch on axis {spec.axis}: retraining takes batches "
                "on axis 0; move it there by a Transpose"
            )
    return specs


def _network(
    imported: Imported,
    decided: driver.Decided,
    effects: Sequence[Any],
    settings: Settings,
    percentile: float,
) -> Network:
    device = torch_device(settings.torch_device)
    return build(
        imported,
        decided,
        effects=effects,
        percentile=percentile,
        learned=settings.ranges == "learned",
        engine=None if device.type == "cpu" else on_torch(tuple(effects), settings.torch_device),
        device=device,
    )


def _data(
    data: Any,
    labels: Any,
    validation: Any,
    specs: Sequence[InputSpec],
    settings: Settings,
    pixels: Pixels | None,
) -> tuple[Data, Data | None]:
    """What is trained on, and what isn't."""
    train = train_data.load(data, labels, specs, pixels)
    if validation is not None:
        key = labels if isinstance(labels, str) else None
        if isinstance(validation, tuple):
            validation, key = validation
        return train, train_data.load(validation, key, specs, pixels)
    if isinstance(train, Arrays):
        return train.split(settings.validation_share, settings.seed)
    return train, None


def _feeds(data: Data, specs: Sequence[InputSpec]) -> dict[str, Any]:
    """Samples to calibrate on: whole batches, of a model that has a fixed one."""
    fixed = 1 if specs[0].batched or not specs[0].dims else specs[0].dims[0] or 1
    feeds = train_data.sample_feeds(data, max(CALIBRATION // fixed, 1) * fixed)
    whole = len(next(iter(feeds.values()))) // fixed * fixed
    return {name: array[:whole] for name, array in feeds.items()}


def _question(
    models: Sequence[ir.Model], data: Sequence[Arrays | Feeds], about: dict[str, Any]
) -> str:
    """A hash of all that changes the result, by content: files may be moved or renamed."""
    digest = hashlib.blake2b(digest_size=16)
    for model in models:
        digest.update(to_proto(model).SerializeToString(deterministic=True))
    for part in data:
        arrays = (*part.feeds.values(), part.labels) if isinstance(part, Arrays) else part.values()
        for array in arrays:
            if array is not None:
                digest.update(repr((array.dtype.str, array.shape)).encode())
                digest.update(np.ascontiguousarray(array).data)
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    return digest.hexdigest()
