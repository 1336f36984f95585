"""The float network beside a program: the same inputs through onnxruntime."""

import functools
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
    """The first output of the float network: as `float_outputs`."""
    found = float_outputs(program, feeds, files)
    return None if found is None else next(iter(found.values()))


def float_outputs(
    program: CompiledProgram, feeds: Feeds, files: Mapping[str, str] | None = None
) -> dict[str, Array] | None:
    """The outputs of the float network by name; None of a program that was saved without it.

    `files` are the hashes of a stored program's files: with them small outputs are kept on disk by
    content, so that a second run over the same data doesn't compute them again. Raises `XbarcError`
    where the network doesn't run.
    """
    if program.network is None:
        return None
    results = _results(program)
    # One run of the network gives all outputs: whichever isn't kept asks for it, once.
    computed = functools.cache(lambda: _outputs(program, feeds))
    if files is None:
        return computed()
    known = [files.get("float.onnx"), files.get("float.data"), ort.__version__]
    # Hashing large data costs less than the network does.
    given = [part for name in sorted(feeds) for part in (name, feeds[name])]

    def output(name: str) -> Array:
        if not _small(program, results[name], feeds):
            return computed()[name]
        return cache.kept("float", [*known, name, *given], lambda: computed()[name])

    return {name: output(name) for name in results}


def _small(program: CompiledProgram, result: SSAValue, feeds: Feeds) -> bool:
    kind = result.type
    if not isinstance(kind, TensorType):
        return False  # strings, say
    samples = sample_count(input_specs(program), feeds)
    sizes = [size for size in kind.get_shape() if size != DYNAMIC_INDEX]
    return samples * math.prod(sizes) <= LARGEST


def _results(program: CompiledProgram) -> dict[str, SSAValue]:
    """What the program returns, by the outputs' names."""
    function = main_function(program.module)
    result = function.body.block.last_op
    assert result is not None
    return dict(zip(names_in(function.res_attrs), result.operands, strict=True))


def _outputs(program: CompiledProgram, feeds: Feeds) -> dict[str, Array]:
    assert program.network is not None
    function = main_function(program.module)
    results = _results(program)
    session = Session(program.network().model, list(results))
    specs = input_specs(program)
    coupled = COUPLED in function.attributes
    size = sample_count(specs, feeds) if coupled else batch_size(specs, feeds)
    parts = list(batches(specs, feeds, max(1, size)))
    outputs = [session.run(part) for part in parts]
    sizes = [sample_count(specs, part) for part in parts]
    batched = any(s.batched for s in specs)
    return {
        name: join([found[name] for found in outputs], result.type, sizes, batched=batched)
        for name, result in results.items()
    }
