"""What the values of a graph hold while calibration data run through it."""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from xbarc.graph.inputs import batch_size, input_specs
from xbarc.graph.run import Session
from xbarc.support.data import Array, Feeds, batches, first_samples


def activations(
    model: ir.Model, names: Sequence[str], feeds: Feeds
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Run the graph over `feeds` batch by batch: each batch of inputs with the values `names`.

    Batches are small enough for memory. Only what `names` needs is computed.

    Raises:
        XbarcError: a name isn't a value of the graph, or the data don't fit its inputs.
    """
    session = Session(model, names)
    specs = input_specs(model)
    for part in batches(specs, feeds, batch_size(specs, feeds)):
        yield part, session.run(part)


def first_runs(model: ir.Model, feeds: Feeds, samples: int) -> dict[str, Array]:
    """At most the first `samples` of `feeds`, in whole runs of the model, one run at least."""
    specs = input_specs(model)
    run = max((s.at_once(1) for s in specs), default=1)
    return first_samples(specs, feeds, max(run, samples // run * run))
