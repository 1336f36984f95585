"""PyTorch as a frontend: a module, or an exported program, in memory.

torch itself writes the ONNX graph (`torch.onnx.export`, dynamo); the batch stays open.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from xbarc.frontends.source import Frontend, Loaded, Options
from xbarc.support.errors import UsageError, XbarcError

KINDS = {"torch.nn.modules.module": "Module", "torch.export.exported_program": "ExportedProgram"}
"""What is recognised, by the module that defines it: torch isn't imported to ask."""

SAMPLES = 2
"""Samples of an example: torch takes an axis of length 1 for one that never varies."""


def recognises(source: object) -> bool:
    """Whether `source` is a `torch.nn.Module` or a `torch.export.ExportedProgram`."""
    return any(KINDS.get(kind.__module__) == kind.__name__ for kind in type(source).__mro__)


def _load(source: Any, options: Options) -> Loaded:
    import onnx_ir as ir
    import torch

    if isinstance(source, torch.export.ExportedProgram):
        proto = _exported(source, ())
    else:
        examples = _examples(options.inputs.examples)
        training = source.training
        source.eval()
        try:
            proto = _exported(source, examples)
        finally:
            source.train(training)
    return Loaded(ir.from_proto(proto))


def _examples(given: Any) -> tuple[Any, ...]:
    """Tensors of two samples each, in the order of the module's arguments."""
    import numpy as np
    import torch

    if given is None:
        raise UsageError(
            "a torch module doesn't say the shapes of its inputs: give example_inputs (a tensor, "
            "or several in order), or calibration data as arrays"
        )
    if isinstance(given, Mapping):
        given = tuple(given.values())
    several = isinstance(given, Sequence) and not isinstance(given, str)
    tensors = [torch.as_tensor(np.asarray(one)) for one in (given if several else [given])]
    if any(t.ndim == 0 or not len(t) for t in tensors):
        raise UsageError("an example input is a tensor [samples, ...] of one sample at least")
    return tuple(torch.cat([t, t])[:SAMPLES] for t in tensors)


def _exported(source: Any, examples: tuple[Any, ...]) -> Any:
    """The ONNX model that torch's exporter gives. Raises `XbarcError` where it fails."""
    import torch

    given: dict[str, Any] = {}
    if examples:
        batch = torch.export.Dim.DYNAMIC
        given = {"args": examples, "dynamic_shapes": [{0: batch} for _ in examples]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(source, dynamo=True, verbose=False, **given)
        except Exception as error:  # the exporter has dozens of classes of its own
            reason = " ".join(str(error).split())[:200]
            raise XbarcError(f"torch can't export the module: {reason}") from None
        finally:
            logging.disable(level)
    if program is None:
        raise XbarcError("torch can't export the module")
    return program.model_proto


FRONTEND = Frontend("torch", "PyTorch", (), recognises, _load)
