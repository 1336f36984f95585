"""The tile IR: dialect `xbar` in xDSL. Grammar and meaning: `docs/ir.md`."""

from xbarc.ir.text import DIALECTS, load_dialects, parse_module, print_module

__all__ = ["DIALECTS", "load_dialects", "parse_module", "print_module"]
