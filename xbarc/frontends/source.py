"""What a frontend is, what it takes and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

LONGEST_PATH = 4096
"""Characters; longer text is no path."""


@dataclass(frozen=True)
class SideWeights:
    """Weights that stand beside a program; see `docs/tvm.md`.

    `params`: a `.params` or npz file, or arrays by parameter name. `constants`: an npz file, arrays
    in order or by a name that ends in the index: Relay's `meta[relay.Constant][i]`. `seed`: random
    arrays for the weights that a Relay program lacks.
    """

    params: str | Path | Mapping[str, Any] | None = None
    constants: str | Path | Mapping[str, Any] | Sequence[Any] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Inputs:
    """What the user says of a model's inputs.

    `shapes`: whole shapes by input name, for dimensions that the model leaves open. `batch_axes`:
    the axis that is an input's batch, or None where it has none. `names`: which parameters of a
    Relay program are inputs; all others are weights. `examples`: arrays that a torch module is
    exported with, in the order of its arguments.
    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    names: Sequence[str] | None = None
    examples: Any = None


@dataclass(frozen=True)
class Options:
    """How to import: what the user says of inputs, and weights that the source itself lacks.

    Without `complete`, missing weights stay inputs.
    """

    inputs: Inputs = Inputs()
    weights: SideWeights = SideWeights()
    complete: bool = True


@dataclass(frozen=True)
class Loaded:
    """An ONNX graph, and the names of weights that are random.

    A frontend may give any valid graph: the registry brings it to the form that passes read
    (`xbarc.frontends.onnx.importer`).
    """

    model: "ir.Model"
    random: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frontend:
    """An importer of one format.

    A source is a path (`str` or `Path`), text, or an object in memory. `recognises` is asked of
    every source: it may look at a file's name and its first bytes, and imports nothing slow. `load`
    is called for what it recognises, and raises `XbarcError` where that can't be imported.

    `title` is what messages call the format, `suffixes` how its files end, `takes` the fields of
    `SideWeights` that it reads, `takes_names` whether it asks which names are inputs.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Any], bool]
    load: Callable[[Any, Options], Loaded]
    takes: tuple[str, ...] = ()
    takes_names: bool = False


def path_of(source: object) -> Path | None:
    """The path that `source` may be: a `Path`, or text of one short line."""
    if isinstance(source, str) and (len(source) > LONGEST_PATH or "\n" in source):
        return None
    return Path(source) if isinstance(source, str | Path) else None


def beginning(source: object, count: int = 4096) -> bytes:
    """The first bytes of a file; none where `source` is no file that can be read twice."""
    path = path_of(source)
    try:
        if path is None or not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except (OSError, ValueError):
        return b""
