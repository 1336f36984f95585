"""What `import xbarc` gives: compile, load, and a program with what can be done with it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from xbarc.artifact import CompiledProgram, store
from xbarc.hw.target import Target
from xbarc.support.data import (
    Array,
    Feeds,
    InputSpec,
    as_arrays,
    match_inputs,
    sample_count,
    unknown_inputs,
)
from xbarc.support.errors import UsageError, XbarcError, nearest

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn
    from torch.export import ExportedProgram
    from tvm import IRModule

    from xbarc.driver.evaluate import Samples
    from xbarc.driver.trace import Trace
    from xbarc.driver.trials import Trials
    from xbarc.pipeline import Instrumentation
    from xbarc.simulator.interpreter import Simulator
    from xbarc.train.data import Pixels
    from xbarc.train.method import Method
    from xbarc.train.training import Watch
    from xbarc.train.tune import Tuned


@dataclass(repr=False)
class Program(CompiledProgram):
    """A compiled program, and what can be done with it: run, cost, update, report, save."""

    _ready: "tuple[tuple[Any, ...], tuple[Any, ...], Simulator] | None" = field(
        default=None, init=False, repr=False, compare=False
    )
    """Of the last run: the parts of its simulator, what was wrong with devices, the simulator."""

    @classmethod
    def of(cls, compiled: CompiledProgram) -> Self:
        """A program of the same parts."""
        return cls(**{f.name: getattr(compiled, f.name) for f in fields(CompiledProgram)})

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what `run` keeps: a copy prepares its own."""
        return {**vars(self), "_ready": None}

    def run(
        self,
        inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        *,
        batch: int | None = None,
        threads: int | None = None,
        noise: str = "",
        device: str | Path | None = None,
        seed: int = 0,
        torch_device: str | None = None,
    ) -> dict[str, Array]:
        """The outputs by the model's own names.

        `inputs` is one array, or arrays by input name; axis 0 counts the samples. `batch` samples
        are run at once by each of `threads` threads: without them as memory allows, and one thread
        a core (or `XBARC_THREADS`). No result depends on either. `noise` ("read{sigma=0.02}") and
        `device` (a name or a TOML file) say what is wrong with devices beside what the target says,
        `seed` that of all that is random in them: `docs/devices.md`. `torch_device` ("cpu" or
        "cuda"): torch multiplies there, with the same results. The first run programs the
        crossbars, and later runs that ask for the same devices use them again. If a pass has
        changed the module since, make a new `Program`. Raises `XbarcError` if the inputs don't fit,
        `UsageError` where the effects can't be.
        """
        simulator = self._simulator(noise, device, seed, torch_device)
        feeds = _by_name(inputs, simulator.inputs)
        return simulator.run(feeds, batch=batch, threads=threads)

    def trials(
        self,
        inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        labels: npt.ArrayLike,
        *,
        trials: int,
        seed: int = 0,
        noise: str = "",
        device: str | Path | None = None,
        vary: str | None = None,
        by_layer: bool = False,
        batch: int | None = None,
        threads: int | None = None,
        torch_device: str | None = None,
    ) -> "Trials":
        """The accuracy of `trials` runs with seeds from `seed` on: its mean, spread, and each.

        `inputs`, `noise`, `device`, `batch`, `threads`, `torch_device` as `run`; `labels` are an
        integer class a sample, or a mask. `vary` ("programming.sigma=0,0.02,0.05") runs the trials
        at each value of an effect's option, `by_layer` with the effects in one layer at a time.
        Nothing is kept: `xbarc run --trials` does that. Raises `XbarcError` if inputs or labels
        don't fit, `UsageError` where there are no effects, or they can't be.
        """
        from xbarc.driver.trials import Conditions, bench, in_turn, run_trials, vary_of

        if trials < 1:
            raise UsageError(f"trials = {trials}: give a whole number from 1 up")
        varying = None if vary is None else vary_of(vary)
        samples = self._samples(inputs, labels, None)
        at = bench(self, samples, Conditions(noise, device, varying, by_layer, torch_device))
        return run_trials(at, range(seed, seed + trials), in_turn(at, batch, threads))

    def evaluate(
        self,
        inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        labels: npt.ArrayLike | None = None,
        *,
        metric: str | None = None,
        ideal: bool = False,
        noise: str = "",
        device: str | Path | None = None,
        seed: int = 0,
        batch: int | None = None,
        threads: int | None = None,
        torch_device: str | None = None,
    ) -> dict[str, Any]:
        """The document of `xbarc run --json`: accuracy beside float, what converters clipped.

        `inputs`, `noise`, `device`, `seed`, `batch`, `threads`, `torch_device` as `run`; `labels`
        are an integer class a sample, one-hot classes or a mask, and `metric` says what they are
        where that isn't clear (top1, top5, mask, iou, psnr, snr). `ideal`: lossless converters and
        ideal devices. Nothing is kept. Raises `XbarcError` if inputs or labels don't fit,
        `UsageError` where options can't be.
        """
        from xbarc.driver.evaluate import run_samples

        samples = self._samples(inputs, labels, metric)
        return run_samples(
            self,
            samples,
            batch=batch,
            threads=threads,
            ideal=ideal,
            noise=noise,
            device=device,
            seed=seed,
            torch_device=torch_device,
        )[1]

    def trace(
        self,
        inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        *,
        layer: str | None = None,
        ideal: bool = False,
        noise: str = "",
        device: str | Path | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> "Trace":
        """Each layer beside the float network's, in the network and alone, and what would help.

        Options as those of `evaluate`; only `layer` where it is given. Raises `XbarcError` if the
        inputs don't fit, there is no such layer, or the program has no float network.
        """
        from xbarc.driver.trace import trace

        samples = self._samples(inputs, None, None)
        return trace(
            self,
            samples,
            layer=layer,
            ideal=ideal,
            noise=noise,
            device=device,
            seed=seed,
            threads=threads,
        )

    def inspect(self, layer: str | None = None, *, tiles: bool = False) -> dict[str, Any]:
        """The document of `xbarc inspect --json`: how each layer stands on crossbars.

        Raises `XbarcError` where there is no such layer.
        """
        from xbarc.report.inspect import inspect

        return inspect(self, layer, with_tiles=tiles)

    def compare(self, *others: "Program") -> dict[str, Any]:
        """The document of `xbarc compare --json`: this program's figures beside the others'."""
        from xbarc.report import compare_programs

        programs = (self, *others)
        return compare_programs([(Path(p._name(i)), p, []) for i, p in enumerate(programs)])

    def write_report(self, path: str | Path) -> None:
        """Write the page of `xbarc report`, without runs. Raises `XbarcError` as `save`."""
        from xbarc.report import report_page, write_page

        write_page(Path(path), report_page(self, None))

    def layers(self) -> Any:
        """A row a layer of the report: a pandas frame, or dicts where pandas isn't installed.

        `energy_pj` is the sum over the components.
        """
        rows = [
            {**row, "energy_pj": sum(row["energy_pj"].values())} for row in self.report["layers"]
        ]
        try:
            import pandas as pd
        except ImportError:
            return rows
        return pd.DataFrame(rows).set_index("name")

    def __repr__(self) -> str:
        """One line: what it is of, and what it takes."""
        totals = self.report.get("totals")
        if totals is None:
            return f"<xbarc.Program for {self.target.name}>"
        return (
            f"<xbarc.Program {self.report['model']} for {self.report['target']}: "
            f"{len(self.report['layers'])} layers on {totals['crossbars']} crossbars>"
        )

    def _repr_html_(self) -> str:
        """The figures that matter most, for a notebook."""
        from xbarc.report.card import card

        return card(self)

    def _name(self, index: int) -> str:
        return f"{index}: {self.report.get('model', 'model')} for {self.target.name}"

    def _samples(
        self,
        inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        labels: npt.ArrayLike | None,
        metric: str | None,
    ) -> "Samples":
        """The inputs by name, and the labels, one a sample. Raises as `evaluate`."""
        import numpy as np

        from xbarc.driver.evaluate import Samples, check_labels
        from xbarc.driver.metrics import metric_named
        from xbarc.simulator.interpreter import input_specs

        asked = None if metric is None else metric_named(metric)
        if asked is not None and labels is None:
            raise UsageError(f"metric {asked.name!r} compares with labels: give labels")
        specs = input_specs(self)
        feeds = _by_name(inputs, specs)
        unknown_inputs(specs, list(feeds))
        feeds = match_inputs(specs, feeds)
        count = sample_count(specs, feeds)
        truth = None if labels is None else np.asarray(labels)
        if truth is not None:
            check_labels(truth, "labels", asked)
            if len(truth) != count:
                raise XbarcError(f"there are {len(truth)} labels for {count} samples")
        return Samples(feeds, truth, count, count, asked)

    def _simulator(
        self, noise: str, device: str | Path | None, seed: int, torch_device: str | None = None
    ) -> "Simulator":
        from xbarc.simulator.interpreter import Simulator
        from xbarc.simulator.noise import engine_for

        # Threads that come first together each prepare one; all of them are alike.
        parts = (self.module, self.weights, self.digital, self.target)
        asked = noise, device, seed, torch_device
        ready = self._ready
        if (
            ready is None
            or any(a is not b for a, b in zip(ready[0], parts, strict=True))
            or ready[1] != asked
        ):
            engine = engine_for(self, noise, device, torch_device=torch_device)
            made = Simulator(self, engine=engine, seed=seed)
            ready = self._ready = parts, asked, made
        return ready[2]

    def cost(self) -> dict[str, Any]:
        """The document of `xbarc cost --json`: a copy, the caller's own."""
        return copy.deepcopy(self.report)

    def update_weights(
        self,
        model: "str | Path | onnx.ModelProto | ir.Model",
        calibration: "str | Path | Array | Feeds | None" = None,
        *,
        plugins: Sequence[str | Path] = (),
    ) -> "Program":
        """The same tiles with the weights of `model`: see `xbarc.driver.update.update_weights`."""
        from xbarc.driver.update import update_weights

        return Program.of(update_weights(self, model, calibration, plugins=plugins))

    def save(self, path: str | Path) -> None:
        """Write the program to the directory `path`; an older program there is replaced.

        Raises `XbarcError` where something else stands there, or the disk refuses; nothing is left
        half-written.
        """
        store.save(self, path)


def _by_name(
    inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike], specs: Sequence[InputSpec]
) -> dict[str, Array]:
    """Arrays by input; of a program with one input, the array alone will do."""
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            names = ", ".join(s.name for s in specs) or "none"
            raise XbarcError(f"give the inputs by name: the program takes {names}")
        inputs = {specs[0].name: inputs}
    return as_arrays(inputs)


def load(path: str | Path) -> Program:
    """The program in the directory `path`.

    Raises `XbarcError` where it isn't there, isn't whole, or a file isn't what was written.
    """
    return Program.of(store.load(path))


def compile(
    model: "str | Path | onnx.ModelProto | ir.Model | IRModule | nn.Module | ExportedProgram",
    target: str | Path | Target = "mca128",
    *,
    passes: str = "",
    calibration: "str | Path | Array | Feeds | None" = None,
    overrides: Sequence[str] = (),
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Sequence[str | Path] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch_axes: Mapping[str, int | None] | None = None,
    inputs: Sequence[str] | None = None,
    example_inputs: Any = None,
    percentile: float = 100.0,
    ranges: str | None = None,
    rounding: str | None = None,
    bias_correction: bool | None = None,
    equalize: bool | None = None,
    params: "str | Path | Mapping[str, Any] | None" = None,
    constants: "str | Path | Mapping[str, Any] | Sequence[Any] | None" = None,
    random_weights: int | None = None,
    instrumentation: "Instrumentation | None" = None,
) -> Program:
    """Compile a trained network for memristor crossbars.

    Args:
        model: a path, an `onnx.ModelProto` or an `onnx_ir.Model` (which isn't changed), a Relax
            `IRModule`, Relay text, a `torch.nn.Module` or a `torch.export.ExportedProgram`.
        target: a name (`xbarc targets`), a TOML file, or a `Target`.
        passes: pipeline text: what differs from the default, which maps by im2col.
        calibration: inputs that show the range of each activation: an npz file, arrays by input
            name, or one array. Without it, generated ones are used, and the report says so.
        overrides: target keys, as `array.rows=64`.
        layers: what is otherwise in some layers, by name or pattern: `{"conv*": {"weights.bits": 4,
            "inputs.bits": 6, "adc.bits": 6, "mapping": "kernel-first"}}`. Of several that say the
            same the last one holds.
        plugins: Python files that define passes and other additions; they are run.
        input_shapes: input name -> shape, for dynamic dimensions other than the batch.
        batch_axes: input name -> the axis that is its batch, None where it has none; where it isn't
            given, it is found (`docs/frontends.md`).
        inputs: which parameters of a Relay program are inputs; all others are weights.
        example_inputs: a tensor [samples, ...] a torch module takes, or several in order; without
            it, calibration data given as arrays serve.
        percentile: share of the calibration values within the range of an input, in percent.
        ranges: "min-max" (the default), "least-squares" or "further-sample" (wider, where samples
            are few and differ): the range of a layer's inputs.
        rounding: "output": weights keep a layer's outputs (the default with calibration data); or
            "nearest".
        bias_correction: biases take the mean error of a layer's outputs (so too).
        equalize: run the pass of that name after all others (so too).
        params: weights of a TVM program: a `.params` or npz file, or arrays by parameter name.
        constants: Relay's `meta[relay.Constant][i]`: an npz file, or arrays by index.
        random_weights: a seed: weights that a Relay program lacks are random, for cost studies.
        instrumentation: what to print, dump, time and verify on the way.

    Raises:
        UsageError: an unknown target, pass, key or option.
        XbarcError: the model or the data can't be compiled; one line a cause.
    """
    from xbarc.driver.by_layer import LayerSettings
    from xbarc.driver.compile import Settings, compile_model
    from xbarc.driver.quantization import Quantization
    from xbarc.frontends.source import Inputs, SideWeights

    weights = SideWeights(params, constants, random_weights)
    examples = example_inputs
    if examples is None and not isinstance(calibration, str | Path):
        examples = calibration
    given = Inputs(input_shapes or {}, batch_axes or {}, inputs, examples)
    codes = Quantization.of(
        ranges, rounding, bias_correction, equalize, calibrated=calibration is not None
    )
    settings = Settings(
        target,
        overrides,
        passes,
        plugins,
        given,
        percentile,
        weights,
        codes,
        LayerSettings.of(layers or {}),
    )
    return Program.of(compile_model(model, settings, calibration, instrumentation))


def tune(
    model: "str | Path | onnx.ModelProto | ir.Model",
    data: Any,
    labels: Any = None,
    target: str | Path | Target = "mca128",
    *,
    passes: str = "",
    calibration: "str | Path | Array | Feeds | None" = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch_axes: Mapping[str, int | None] | None = None,
    percentile: float = 100.0,
    noise: str = "",
    device: str | Path | None = None,
    method: "str | Method" = "fine-tune",
    validation: Any = None,
    teacher: "str | Path | onnx.ModelProto | ir.Model | None" = None,
    pixels: "Pixels | None" = None,
    watch: "Watch | None" = None,
    **settings: Any,
) -> "Tuned":
    """Retrain a network under what the hardware will do (the extra `train`).

    The graph passes of `passes` run first; what they leave is trained: its structure and its zeros
    stay. `docs/retraining.md` has the whole story.

    Args:
        model: as `compile` takes it.
        data: an npz file, a folder of pictures (subfolders are classes), arrays by input name, one
            array, or any iterable of batches that starts anew each epoch: (inputs, labels), or
            inputs alone.
        labels: the name of an array of `data`, or the labels: an integer class a sample, a mask, or
            real numbers. Without labels the network is distilled from the one given.
        target, passes, calibration, overrides, plugins, input_shapes, batch_axes, percentile: as
            `compile`. Without calibration data ranges come from the first samples of `data`.
        noise, device: what is wrong with devices while it is trained, as `Program.run`.
        method: what happens between steps: "fine-tune", or another with its options.
        validation: data to judge each epoch by, as `data`; else `validation_share` of it.
        teacher: another network to distil from, with outputs of the same shapes.
        pixels: how pictures become numbers.
        watch: is told of each step: epoch, steps of it, step, loss and accuracy so far.
        settings: the fields of `xbarc.train.settings.Settings`: epochs, batch, rate ...

    Raises:
        UsageError: an unknown option, method, target or pass, or a value out of range.
        XbarcError: the model or the data can't be trained; one line a cause.
    """
    try:
        from xbarc.train.settings import Settings as Training
        from xbarc.train.tune import tune as run
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise XbarcError("retraining needs torch: pip install 'xbarc[train]'") from None
    from xbarc.driver.compile import Settings
    from xbarc.frontends.source import Inputs

    known = {f.name for f in fields(Training)}
    for name in settings:
        if name not in known:
            raise UsageError(f"tune has no option {name!r}: {nearest(name, known)}")
    given = Inputs(input_shapes or {}, batch_axes or {})
    return run(
        model,
        data,
        labels,
        compiled=Settings(target, overrides, passes, plugins, given, percentile),
        settings=Training(**settings),
        method=method,
        noise=noise,
        device=device,
        calibration=calibration,
        validation=validation,
        teacher=teacher,
        pixels=pixels,
        watch=watch,
    )
