"""Relay programs from a line of text, and what their ONNX graph computes."""

import numpy as np
import onnx_ir as ir
import onnxruntime

from xbarc.frontends.registry import load
from xbarc.frontends.source import SideWeights
from xbarc.support.errors import XbarcError

NO_WEIGHTS = SideWeights()

HEADER = '#[version = "0.0.5"]\n'


def type_of(array):
    array = np.asarray(array)
    sizes = ", ".join(map(str, array.shape))
    return f"Tensor[({sizes}), {array.dtype}]" if array.ndim else str(array.dtype)


def program(body, arrays):
    """`def @main(%x: ..., ...) { body }`, a parameter for each array."""
    parameters = ", ".join(f"%{name}: {type_of(array)}" for name, array in arrays.items())
    return f"{HEADER}def @main({parameters}) {{\n{body}\n}}\n"


def run(body, inputs, weights=None, constants=None):
    """The outputs in order; `weights` are static, `inputs` are fed."""
    weights = weights or {}
    text = program(body, {**inputs, **weights})
    return run_text(text, inputs, SideWeights(params=weights or None, constants=constants))


def run_text(text, inputs, weights=NO_WEIGHTS, complete=False):
    model = load(text, weights=weights, complete=complete).model
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    wanted = {value.name for value in session.get_inputs()}
    return session.run(None, {name: a for name, a in inputs.items() if name in wanted})


def problem_of(function, *arguments, **settings):
    """What `function` refuses its arguments for, or nothing; anything but a refusal is raised."""
    try:
        function(*arguments, **settings)
    except XbarcError as error:
        return str(error)
    return ""
