"""The tile IR: dialect `xbar` in xDSL. Grammar and meaning: `docs/ir.md`."""

from xbarc.ir.text import load_dialects, parse_module, print_module

__all__ = ["load_dialects", "parse_module", "print_module"]
