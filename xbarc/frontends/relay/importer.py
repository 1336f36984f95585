"""The Relay importer: a program as text, and its weights, to an ONNX graph.

TVM dropped Relay after 0.19; its text format stays readable here without TVM. The text becomes a
tree (`text`, `grammar`, `tree`), the tree is evaluated with ONNX values for tensors (`evaluate`);
`parameters` and `constants` say what is given for its weights. Where weights are to be random, a
first evaluation finds which are missing, a second one has them.
"""

from collections.abc import Mapping

import numpy as np

from xbarc.frontends.relay.constants import Constants
from xbarc.frontends.relay.evaluate import Evaluation
from xbarc.frontends.relay.parameters import Parameters
from xbarc.frontends.relay.text import parse
from xbarc.frontends.relay.tree import Program
from xbarc.frontends.relay.weights import constants_of, missing_lines, params_of, random_array
from xbarc.frontends.source import Inputs, Loaded, Options
from xbarc.frontends.tvm_ops import OPERATORS, Builder
from xbarc.support.data import Array
from xbarc.support.errors import XbarcError


def load_relay(text: str, where: str, options: Options) -> Loaded:
    """Import Relay text; `where` begins each error line.

    Parameters that have a shape in `options.inputs` are inputs, however they are used; those that
    it names are the only ones. Where the import must be complete, missing weights are an error;
    else missing parameters stay inputs.

    Raises:
        XbarcError: the text can't be read, an operator or a type isn't known (all are named), or
            weights are missing or don't fit.
    """
    weights, inputs = options.weights, options.inputs
    program = parse(text, where)
    params = params_of(weights.params)
    constants = {**program.constants, **constants_of(weights.constants)}
    first = _evaluated(program, where, params, constants, weights.seed, inputs)
    if not first.missing or (not options.complete and weights.seed is None):
        if first.constants.missing:
            raise XbarcError(*missing_lines(where, first.constants.missing))
        return Loaded(first.finish(), tuple(first.constants.random))
    if weights.seed is None:
        raise XbarcError(*missing_lines(where, first.missing))
    rng = np.random.default_rng(weights.seed)
    generated = {
        name: random_array(rng, kind)
        for name, kind in first.missing.items()
        if name.startswith("%")
    }
    params |= {name[1:]: array for name, array in generated.items()}
    second = _evaluated(program, where, params, constants, weights.seed, inputs)
    if second.missing:
        raise XbarcError(*missing_lines(where, second.missing))
    return Loaded(second.finish(), (*(name[1:] for name in generated), *second.constants.random))


def _evaluated(
    program: Program,
    where: str,
    params: Mapping[str, Array],
    constants: Mapping[int, Array],
    seed: int | None,
    inputs: Inputs,
) -> Evaluation:
    builder = Builder(OPERATORS)
    evaluation = Evaluation(
        program,
        where,
        builder,
        Parameters(where, params, inputs.shapes, builder, inputs.names),
        Constants(where, constants, program.constant_types, seed, builder),
    )
    evaluation.run()
    return evaluation
