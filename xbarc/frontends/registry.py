"""The frontends: whatever a model comes as, to the one ONNX graph that the compiler's passes read.

A frontend is registered by how it recognises its input. A plug-in adds one: a `Frontend` in a file
given by `--plugin`, or under the entry point group `xbarc.frontends`; see `docs/frontends.md`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from xbarc.frontends.onnx.frontend import FRONTEND as ONNX
from xbarc.frontends.relax.frontend import FRONTEND as RELAX
from xbarc.frontends.relay.frontend import FRONTEND as RELAY
from xbarc.frontends.source import Frontend, Inputs, Loaded, Options, SideWeights, path_of
from xbarc.frontends.torch.frontend import FRONTEND as TORCH
from xbarc.support import plugins
from xbarc.support.errors import UsageError, XbarcError
from xbarc.support.plugins import Group, Registry

T = TypeVar("T")

SIDE_WEIGHTS = {"params": "params", "constants": "constants", "seed": "random weights"}
"""The fields of `SideWeights`, as messages call them."""


def _found(module: ModuleType) -> dict[str, Frontend]:
    """The frontends that a plug-in file defines."""
    return {frontend.name: frontend for frontend in plugins.instances(module, Frontend)}


FRONTENDS: Group[Frontend] = Group("frontend", "xbarc.frontends", None, _found)


def frontends() -> Registry[Frontend]:
    """All frontends, in the order in which they are asked.

    Those of plug-ins come behind xbarc's own for TVM, and before ONNX: its files are protobuf,
    which doesn't say what it is. Raises `XbarcError` where a name is taken twice.
    """
    registry: Registry[Frontend] = Registry(FRONTENDS.noun)
    for frontend in (RELAY, RELAX, TORCH):
        registry.add(frontend.name, partial(_identity, frontend), "xbarc")
    FRONTENDS.fill(registry)
    registry.add(ONNX.name, partial(_identity, ONNX), "xbarc")
    return registry


def frontend_of(source: Any) -> Frontend | None:
    """The first frontend that recognises `source`. Raises `XbarcError` where one can't be asked."""
    registry = frontends()
    for name, frontend in registry.all().items():
        if _called(registry, name, partial(frontend.recognises, source)):
            return frontend
    return None


def load(
    source: Any,
    inputs: Inputs | None = None,
    weights: SideWeights | None = None,
    *,
    complete: bool = True,
) -> Loaded:
    """Import a model from memory or a file, in the form that the compiler's passes read.

    Without `complete`, weights that a Relay program lacks stay inputs.

    Raises:
        UsageError: weights, or names of inputs, are given to a model that takes none of that kind.
        XbarcError: no frontend recognises the model, or it can't be imported; one line a cause.
    """
    from xbarc.frontends.onnx.importer import load as to_normal_form

    registry = frontends()
    frontend = frontend_of(source)
    if frontend is None:
        raise _unknown(source, registry)
    options = Options(inputs or Inputs(), weights or SideWeights(), complete)
    _check_taken(frontend, options, registry)
    loaded = _called(registry, frontend.name, partial(frontend.load, source, options))
    if not isinstance(loaded, Loaded):
        raise XbarcError(
            f"frontend {frontend.name!r} of {registry.owner(frontend.name)} gives no Loaded, "
            f"but {type(loaded).__name__}"
        )
    return Loaded(
        to_normal_form(loaded.model, options.inputs.shapes, options.inputs.batch_axes),
        loaded.random,
    )


def _called(registry: Registry[Frontend], name: str, function: Callable[[], T]) -> T:
    """What a frontend's function gives; whatever it raises as one line that names its owner."""
    try:
        return function()
    except XbarcError:
        raise
    except Exception as error:
        raise XbarcError(
            f"frontend {name!r} of {registry.owner(name)} failed: {plugins.cause(error)}"
        ) from error


def _check_taken(frontend: Frontend, options: Options, registry: Registry[Frontend]) -> None:
    """Refuse weights and names that the frontend would pass over in silence."""
    weights = options.weights
    for field, called in SIDE_WEIGHTS.items():
        if getattr(weights, field) is not None and field not in frontend.takes:
            takers = [other.title for other in registry.all().values() if field in other.takes]
            raise UsageError(f"{called} are for {' and '.join(takers)}, not for {frontend.title}")
    if options.inputs.names is not None and not frontend.takes_names:
        takers = [other.title for other in registry.all().values() if other.takes_names]
        raise UsageError(
            f"names of inputs are for {' and '.join(takers)}, not for {frontend.title}"
        )


def _unknown(source: Any, registry: Registry[Frontend]) -> XbarcError:
    path = path_of(source)
    if path is not None and not path.exists():
        return XbarcError(f"{path} can't be read: no such file")
    formats = [f for f in registry.all().values() if f.suffixes]
    known = ", ".join(f"{f.title} ({f.suffixes[0]})" for f in formats)
    if path is not None:
        return XbarcError(f"{path} isn't a model that xbarc reads: {known}")
    if isinstance(source, str):
        return XbarcError(f"the text isn't a model that xbarc reads: {known}")
    return UsageError(
        "a model is a path, text, or an object in memory that a frontend knows, "
        f"not of type {type(source).__name__}: {known}"
    )


def is_model(path: Path) -> bool:
    """Whether a frontend recognises a file. Raises as `frontend_of`."""
    return frontend_of(path) is not None


def _identity(value: T) -> T:
    return value
