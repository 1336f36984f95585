"""Whatever a model comes as, to the one ONNX graph that the compiler's passes read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from xbarc.frontends.onnx.importer import load as load_onnx
from xbarc.support.data import load_npz
from xbarc.support.errors import UsageError


@dataclass(frozen=True)
class Weights:
    """Weights that stand beside a TVM program; see `docs/tvm.md`.

    `params`: a `.params` or npz file, or arrays by parameter name. `constants`: an npz file, arrays
    in order or by a name that ends in the index: Relay's `meta[relay.Constant][i]`. `seed`: random
    arrays for the weights that a Relay program lacks.
    """

    params: str | Path | Mapping[str, Any] | None = None
    constants: str | Path | Mapping[str, Any] | Sequence[Any] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Loaded:
    """The model in the ONNX importer's form, and the names of weights that are random."""

    model: ir.Model
    random: tuple[str, ...] = ()


def load(
    source: Any,
    input_shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
    weights: Weights = Weights(),
    *,
    complete: bool = True,
) -> Loaded:
    """Import an ONNX model, a Relax module or Relay text, from memory or a file.

    A file is told by its beginning, a Relay file by `.relay` as well. Without `complete`, missing
    parameters of a Relay program stay inputs.

    Raises:
        UsageError: weights are given to a model that takes none of that kind.
        XbarcError: the model can't be imported; one line a cause.
    """
    from xbarc.frontends.relay.importer import is_relay

    if is_relay(source):
        from xbarc.frontends.relay.importer import load_relay

        relay = load_relay(source, weights, input_shapes, complete=complete)
        return Loaded(load_onnx(relay.model, input_shapes), relay.random)
    model = _relax(source, input_shapes, weights)
    if model is None:
        if weights != Weights():
            raise UsageError("an ONNX model holds its weights: params and constants are for TVM's")
        return Loaded(load_onnx(source, input_shapes))
    return Loaded(load_onnx(model, input_shapes))


def is_tvm_file(path: Path) -> bool:
    """Whether a file holds a program of TVM's, by its name or its beginning."""
    from xbarc.frontends.relax.serialized import form_of
    from xbarc.frontends.relay.importer import is_relay

    return is_relay(path) or form_of(path) is not None


def _relax(
    source: Any, input_shapes: Mapping[str, Sequence[int]], weights: Weights
) -> ir.Model | None:
    """The graph of a Relax module or of a file that holds one; None for anything else."""
    from xbarc.frontends.relax.importer import is_relax, load_relax
    from xbarc.frontends.relax.serialized import form_of, load_file

    is_file = isinstance(source, str | Path) and form_of(source) is not None
    if not is_file and not is_relax(source):
        return None
    if weights.constants is not None or weights.seed is not None:
        raise UsageError("constants and random weights are for Relay text, not for Relax")
    params = weights.params
    if isinstance(params, str | Path):
        from xbarc.frontends.tvm_params import load_params

        params = load_npz(params) if Path(params).suffix == ".npz" else load_params(params)
    if is_file:
        return load_file(source, params, input_shapes)
    return load_relax(source, params, input_shapes)
