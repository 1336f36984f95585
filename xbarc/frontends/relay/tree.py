"""A Relay program as a tree: what the grammar makes of text, and the evaluation reads."""

from dataclasses import dataclass, field
from typing import Any

from xbarc.support.data import Array

CONSTANT = "relay.Constant"


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and sizes; None where the size is open."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OtherType:
    """A tuple's, function's or algebraic type: nothing that xbarc reads."""

    text: str


Type = TensorType | OtherType | None


@dataclass(frozen=True, slots=True)
class Name:
    """`%x` or `%0`, with the sign."""

    text: str


@dataclass(frozen=True, slots=True)
class Global:
    """`@main`, with the sign."""

    text: str


@dataclass(frozen=True, slots=True)
class Operator:
    """`nn.conv2d`."""

    name: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """`1f`, `2i64`, `True`."""

    value: bool | int | float
    dtype: str


@dataclass(frozen=True, slots=True)
class Meta:
    """`meta[relay.Constant][3]`."""

    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class TupleOf:
    """`(%x, %y)`."""

    fields: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """`%1.0`."""

    of: "Expr"
    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """`f(arguments, attribute=value)`."""

    function: "Expr"
    arguments: tuple["Expr", ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`%x: Tensor[(1, 3), float32]`."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Binding:
    """`let %x = value;`, `%0 = value;`, or `free_var %x;` where there is no value."""

    name: str
    type: Type
    value: "Expr | None"


@dataclass(frozen=True, slots=True)
class Block:
    """Bindings and what they are for."""

    bindings: tuple[Binding, ...]
    result: "Expr"


@dataclass(frozen=True, slots=True)
class Function:
    """`fn (parameters) { body }`, or a definition."""

    parameters: tuple[Parameter, ...]
    body: "Expr"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if (condition) { then } else { otherwise }`."""

    condition: "Expr"
    then: "Expr"
    otherwise: "Expr"


Expr = (
    Name
    | Global
    | Operator
    | Scalar
    | Meta
    | TupleOf
    | Projection
    | Call
    | Block
    | Function
    | Branch
)


@dataclass(frozen=True)
class Program:
    """Definitions by name, or an expression by itself (a printed function, say).

    `constants` are those of the metadata section, `constant_types` those that comments tell.
    """

    functions: dict[str, Function]
    body: Expr | None
    constants: dict[int, Array] = field(default_factory=dict)
    constant_types: dict[int, TensorType] = field(default_factory=dict)
