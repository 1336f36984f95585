"""The tile IR: dialect `xbar` in xDSL. Grammar and meaning: `docs/ir.md`."""

import io
import re

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.ir import Dialect
from xdsl.parser import Parser, ParserState
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer

from xbarc.errors import XbarcError
from xbarc.ir.attributes import (
    CrossbarAttr,
    DigitalType,
    GridAttr,
    PackedAttr,
    StreamType,
    TileListAttr,
    WindowAttr,
)
from xbarc.ir.ops import (
    ConvOp,
    DenseOp,
    DequantizeOp,
    DigitalOp,
    GatherOp,
    MvmOp,
    QuantizeOp,
    ScatterOp,
    WeightsOp,
)
from xbarc.ir.placement import MeshAttr

Xbar = Dialect(
    "xbar",
    [
        WeightsOp,
        QuantizeOp,
        ConvOp,
        DenseOp,
        GatherOp,
        MvmOp,
        ScatterOp,
        DequantizeOp,
        DigitalOp,
    ],
    [
        CrossbarAttr,
        MeshAttr,
        StreamType,
        DigitalType,
        WindowAttr,
        GridAttr,
        PackedAttr,
        TileListAttr,
    ],
)


def load_dialects(context: Context) -> None:
    """Make `builtin`, `func` and `xbar` known to an xDSL context."""
    context.load_dialect(Builtin)
    context.load_dialect(Func)
    context.load_dialect(Xbar)


class _Lexer(MLIRLexer):
    # Possessive, where xDSL's own pattern takes exponential time over a quote that isn't closed.
    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+"')


def parse_module(text: str, name: str = "<tile IR>") -> ModuleOp:
    """The verified module that `text` says. Raises `XbarcError` with the place of the fault."""
    context = Context()
    load_dialects(context)
    try:
        parser = Parser(context, "", name)
        parser._parser_state = ParserState(_Lexer(Input(text, name)))
        module = parser.parse_module()
        module.verify()
    except ParseError as error:
        raise XbarcError(_first_fault(error, name)) from None
    except VerifyException as error:
        raise XbarcError(f"{name}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise XbarcError(f"{name}: nested too deeply to be tile IR") from None
    return module


def _first_fault(error: ParseError, name: str) -> str:
    line, column = error.span.input.content.count("\n", 0, error.span.start) + 1, 0
    column = error.span.start - error.span.input.content.rfind("\n", 0, error.span.start)
    return f"{name}:{line}:{column}: {' '.join(error.msg.split())}"


def print_module(module: ModuleOp) -> str:
    """The text of a module; `parse_module` of it gives the same module."""
    out = io.StringIO()
    Printer(stream=out).print_op(module)
    return out.getvalue() + "\n"
