"""The float network beside a program: the same inputs through onnxruntime."""

import math
from collections.abc import Mapping

import onnxruntime as ort
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.ir import SSAValue

from xbarc.artifact import CompiledProgram
from xbarc.graph.inputs import batch_size
from xbarc.graph.run import Session
from xbarc.ir.interface import COUPLED, main_function, names_in
from xbarc.simulator.interpreter import input_specs, join
from xbarc.support import cache
from xbarc.support.data import Array, Feeds, batches, sample_count

LARGEST = 1 << 24
"""Numbers of an output that is kept on disk: what is larger is computed again."""


def float_output(
    program: CompiledProgram, feeds: Feeds, files: Mapping[str, str] | None = None
) -> Array | None:
    """The first output of the float network; None of a program that was saved without it.

    `files` are the hashes of a stored program's files: with them a small output is kept on disk by
    content, so that a second run over the same data doesn't compute it again. Raises `XbarcError`
    where the network doesn't run.
    """
    if program.network is None:
        return None

    def compute() -> Array:
        return _first_output(program, feeds)

    if files is None or not _small(program, feeds):
        return compute()
    known = [files.get("float.onnx"), files.get("float.data"), ort.__version__]
    # Hashing large data costs less than the network does.
    given = [part for name in sorted(feeds) for part in (name, feeds[name])]
    return cache.kept("float", [*known, *given], compute)


def _small(program: CompiledProgram, feeds: Feeds) -> bool:
    kind = _first_result(program).type
    if not isinstance(kind, TensorType):
        return False  # strings, say
    samples = sample_count(input_specs(program), feeds)
    sizes = [size for size in kind.get_shape() if size != DYNAMIC_INDEX]
    return samples * math.prod(sizes) <= LARGEST


def _first_result(program: CompiledProgram) -> SSAValue:
    result = main_function(program.module).body.block.last_op
    assert result is not None
    return result.operands[0]


def _first_output(program: CompiledProgram, feeds: Feeds) -> Array:
    assert program.network is not None
    function = main_function(program.module)
    name = names_in(function.res_attrs)[0]
    session = Session(program.network().model, [name])
    specs = input_specs(program)
    coupled = COUPLED in function.attributes
    size = sample_count(specs, feeds) if coupled else batch_size(specs, feeds)
    parts = list(batches(specs, feeds, max(1, size)))
    outputs = [session.run(part)[name] for part in parts]
    sizes = [sample_count(specs, part) for part in parts]
    kind = _first_result(program).type
    joined: Array = join(outputs, kind, sizes, batched=any(s.batched for s in specs))
    return joined
