"""`xbarc opt` on tile IR: mapping and tile passes from one text to another."""

from collections.abc import Sequence
from pathlib import Path

from xbarc.cost.components import check_tables
from xbarc.driver import extensions
from xbarc.hw.target import load_target
from xbarc.ir import parse_module, print_module
from xbarc.ir.dialect import CROSSBAR, CrossbarAttr
from xbarc.pipeline import (
    Instrumentation,
    XbarContext,
    load_registry,
    parse_passes,
    run_module_passes,
)
from xbarc.support.errors import UsageError


def rewrite(
    text: str,
    name: str,
    passes: str = "",
    *,
    target: str | None = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    instrumentation: Instrumentation | None = None,
    generic: bool = False,
) -> str:
    """The tile IR `text` after `passes` and no others, verified; `name` stands in errors.

    `generic`: printed in MLIR's generic form.

    Raises:
        UsageError: the passes or the target are wrong, or a pass needs what wasn't given.
        XbarcError: `text` isn't tile IR, or a pass failed.
    """
    seen = instrumentation or Instrumentation()
    with extensions.using(plugins):
        pipeline = parse_passes(passes, load_registry())
        if pipeline.graph:
            raise UsageError(
                f"pass {pipeline.graph[0].name!r} works on ONNX graphs: give it to "
                "`xbarc compile`, or to `xbarc opt` with an .onnx file"
            )
        hardware = None if target is None else load_target(target, overrides)
        if hardware is not None:
            check_tables(hardware)
        module = parse_module(text, name)
        crossbar = module.attributes.get(CROSSBAR)
        if hardware and crossbar not in (None, CrossbarAttr.of(hardware.array)):
            raise UsageError(
                f"{name} is for other crossbars than those of target {hardware.name!r}: "
                "give the target that it was compiled for"
            )
        seen.check(pipeline.mapping)
        run_module_passes(pipeline.mapping, XbarContext(hardware), module, seen)
    seen.print_times()
    return print_module(module, generic=generic)
