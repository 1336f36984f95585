"""xbarc: compile trained networks for memristor crossbars, run and cost the result.

import xbarc

program = xbarc.compile("model.onnx", target="mca256", calibration="inputs.npz")
outputs = program.run(images)
program.save("model.xbar")
program = xbarc.load("model.xbar")
"""

from typing import TYPE_CHECKING, Any

from xbarc.support.errors import UsageError, XbarcError

if TYPE_CHECKING:
    from xbarc.api import Program, compile, load, tune
    from xbarc.hw.target import Target, load_target

__all__ = [
    "Program",
    "Target",
    "UsageError",
    "XbarcError",
    "compile",
    "load",
    "load_target",
    "tune",
]

_HOMES = {
    "compile": "xbarc.api",
    "load": "xbarc.api",
    "tune": "xbarc.api",
    "Program": "xbarc.api",
    "Target": "xbarc.hw.target",
    "load_target": "xbarc.hw.target",
}


def __getattr__(name: str) -> Any:
    # `import xbarc` is free: each part is imported when it is first used.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("xbarc")
    raise AttributeError(f"module 'xbarc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
