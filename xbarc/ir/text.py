"""The tile IR as text: parse, verify, print. Grammar and meaning: `docs/ir.md`."""

import io
import re
import types

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func
from xdsl.ir import Dialect
from xdsl.parser import Parser, ParserState
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Input, Token
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRTokenKind, StringLiteral

from xbarc.ir.dialect import Xbar
from xbarc.support import plugins
from xbarc.support.errors import XbarcError
from xbarc.support.plugins import Group


def _found(module: types.ModuleType) -> dict[str, Dialect]:
    return {dialect.name: dialect for dialect in plugins.instances(module, Dialect)}


def _own() -> dict[str, Dialect]:
    return {dialect.name: dialect for dialect in (Builtin, Func, Xbar)}


DIALECTS: Group[Dialect] = Group("dialect", "xbarc.dialects", None, _found, _own)
"""What tile IR is written in: `builtin`, `func`, `xbar`, and the operations of plug-ins."""


def load_dialects(context: Context) -> None:
    """Make the dialects known to an xDSL context. Raises `XbarcError` where a name is taken."""
    for dialect in DIALECTS.registry().all().values():
        context.load_dialect(dialect)


class _Lexer(MLIRLexer):
    # Possessive, where xDSL's own pattern takes exponential time over a quote that isn't closed.
    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+"')

    def _lex_string_literal(self, start_pos: int) -> Token[MLIRTokenKind]:
        """A string wherever it is UTF-8; xDSL's own takes one with escapes for bytes."""
        token = super()._lex_string_literal(start_pos)
        if token.kind is not MLIRTokenKind.BYTES_LIT:
            return token
        literal = StringLiteral(start_pos, self.pos, self.input)
        try:
            literal.bytes_contents.decode()
        except UnicodeDecodeError:
            raise ParseError(literal, "a string that isn't UTF-8") from None
        return Token(MLIRTokenKind.STRING_LIT, literal)


def parse_module(text: str, name: str = "<tile IR>") -> ModuleOp:
    """The verified module that `text` says. Raises `XbarcError` with the place of the fault."""
    context = Context()
    load_dialects(context)
    parser = Parser(context, "", name)
    try:
        parser._parser_state = ParserState(_Lexer(Input(text, name)))
        module = parser.parse_module()
    except ParseError as error:
        raise XbarcError(_fault(error.msg, text, error.span.start, name)) from None
    except (VerifyException, ValueError, OverflowError, MemoryError) as error:
        # An attribute's own verifier; a number of no digits, or of far too many.
        raise XbarcError(_fault(str(error), text, parser.pos, name)) from None
    except RecursionError:
        raise XbarcError(f"{name}: nested too deeply to be tile IR") from None
    _verify(module, name)
    return module


def _fault(what: str, text: str, position: int, name: str) -> str:
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"{name}:{line}:{column}: {' '.join(what.split())}"


def _verify(module: ModuleOp, name: str) -> None:
    """Raises `XbarcError` that counts the operations up to the one at fault."""
    for index, op in enumerate(module.walk()):
        try:
            op.verify(verify_nested_ops=False)
        except VerifyException as error:
            what = " ".join(str(error).split())
            raise XbarcError(f"{name}: operation {index}, {op.name}: {what}") from None
    try:
        module.verify()
    except VerifyException as error:
        raise XbarcError(f"{name}: {' '.join(str(error).split())}") from None


def print_module(module: ModuleOp, *, generic: bool = False) -> str:
    """The text of a module; `parse_module` of it gives the same module.

    `generic`: operations in MLIR's generic form, which tools read that don't know the dialect.
    """
    out = io.StringIO()
    Printer(stream=out, print_generic_format=generic).print_op(module)
    return out.getvalue().rstrip("\n") + "\n"
