"""`xbar.digital`: the digital unit, the program's ONNX files, each one onnxruntime session."""

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from xbarc.graph.run import ORT_FAILURES, open_session, said, session_options
from xbarc.graph.serialize import names_files
from xbarc.ir.dialect import DigitalOp
from xbarc.simulator.step import Preparation, Step, StepKind
from xbarc.support.bounds import guarded
from xbarc.support.errors import XbarcError


def prepare(op: DigitalOp, at: Preparation) -> Step:
    """The file's session. Raises `XbarcError` where onnxruntime refuses it."""
    unit = digital_unit(at.program.digital[op.file.data], op.file.data)
    return lambda batch, *values: unit(*values, size=batch.size)


def digital_unit(content: bytes, name: str) -> Callable[..., Sequence[Any]]:
    """A function from the file's inputs to its outputs, both in the file's order.

    The function takes as `size` the bytes of what this run and those beside it read and give. The
    file may take a multiple of them (`xbarc.support.bounds`); half of the machine without it.

    Raises `XbarcError` where onnxruntime refuses the file, or it names other files; the function
    does where it fails.
    """
    if _names_files(content):
        raise XbarcError(f"{name}: its tensors stand in other files, which a program never reads")
    # The cores take a batch each; threads of its own would get in their way.
    options = session_options(threads=1)
    try:
        session = open_session(content, options, len(content))
    except ORT_FAILURES as error:
        raise XbarcError(f"{name}: {said(error)}") from None
    inputs = [i.name for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]

    def run(*values: Any, size: int | None = None) -> Sequence[Any]:
        if len(values) != len(inputs):
            raise XbarcError(f"{name} takes {len(inputs)} inputs, the program gives {len(values)}")
        try:
            with guarded(None if size is None else size + len(content)):
                results: Sequence[Any] = session.run(
                    outputs, dict(zip(inputs, values, strict=True))
                )
        except ORT_FAILURES as error:
            raise XbarcError(f"{name}: {said(error)}") from None
        return results

    return run


def _names_files(content: bytes) -> bool:
    try:
        return names_files(onnx.load_model_from_string(content))
    except (DecodeError, ValueError):
        return False  # onnxruntime says what is wrong


STEP = StepKind(DigitalOp.name, prepare)
