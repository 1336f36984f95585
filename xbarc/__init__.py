"""xbarc: compile trained networks for memristor crossbars, run and cost the result.

import xbarc

program = xbarc.compile("model.onnx", target="mca256", calibration="inputs.npz")
outputs = program.run(images)
program.save("model.xbar")
program = xbarc.load("model.xbar")
"""

from typing import TYPE_CHECKING, Any

from xbarc.errors import UsageError, XbarcError

if TYPE_CHECKING:
    from xbarc.compiler import compile
    from xbarc.program import Program, load
    from xbarc.target import Target, load_target

__all__ = ["Program", "Target", "UsageError", "XbarcError", "compile", "load", "load_target"]

_HOMES = {
    "compile": "xbarc.compiler",
    "load": "xbarc.program",
    "Program": "xbarc.program",
    "Target": "xbarc.target",
    "load_target": "xbarc.target",
}


def __getattr__(name: str) -> Any:
    # `import xbarc` is free: each part is imported when it is first used.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'xbarc' has no attribute {name!r}")
