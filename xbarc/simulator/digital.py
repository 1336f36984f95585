"""The digital unit: the program's ONNX files, each one onnxruntime session."""

from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime as ort

from xbarc.errors import XbarcError
from xbarc.graph.run import ERRORS_ONLY, ORT_FAILURES, one_line


def digital_unit(content: bytes, name: str) -> Callable[..., Sequence[Any]]:
    """A function from the file's inputs to its outputs, both in the file's order.

    Raises `XbarcError` where onnxruntime refuses the file; the function does where it fails.
    """
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # The cores take a batch each; threads of its own would get in their way.
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except ORT_FAILURES as error:
        raise XbarcError(f"{name}: {one_line(error)}") from None
    inputs = [i.name for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]

    def run(*values: Any) -> Sequence[Any]:
        try:
            results: Sequence[Any] = session.run(outputs, dict(zip(inputs, values, strict=True)))
        except ORT_FAILURES as error:
            raise XbarcError(f"{name}: {one_line(error)}") from None
        return results

    return run
