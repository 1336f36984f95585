"""Run passes, and verify the model or module after each."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xdsl.passes import ModulePass

from xbarc.pipeline.instrumentation import Instrumentation
from xbarc.pipeline.passes import GraphPass, XbarContext
from xbarc.support.errors import UsageError, XbarcError

if TYPE_CHECKING:  # each of these costs tenths of a second, and `xbarc --help` needs none
    import numpy as np
    import onnx_ir as ir
    from xdsl.dialects.builtin import ModuleOp

    from xbarc.hw.target import Target


MAX_DEVIATION = 1e-4
"""Relative L2 error of the outputs up to which a pass counts as keeping a float32 function."""


def check_hardware(passes: Iterable[GraphPass], target: "Target | None") -> None:
    """Raise `UsageError` where a pass needs a target and there is none."""
    for graph_pass in passes if target is None else ():
        if graph_pass.needs_target:
            raise UsageError(
                f"pass {graph_pass.name!r}: this pass asks for the hardware: give --target"
            )


def run_graph_passes(
    passes: Iterable[GraphPass],
    model: "ir.Model",
    target: "Target | None",
    instrumentation: Instrumentation | None = None,
) -> dict[str, float]:
    """Rewrite `model` in place by each pass in turn.

    Returns:
        For each lossy pass, the deviation it caused (`xbarc.graph.run.relative_error`); nothing
        without feeds. The second run of a pass is called `name (2)`.

    Raises:
        UsageError: a pass was called wrongly, or needs a target and there is none.
        XbarcError: a pass failed, or didn't keep the function that it says it keeps.
    """
    passes = tuple(passes)
    check_hardware(passes, target)
    seen = instrumentation or Instrumentation()
    seen.show_graph("input", model, is_pass=False)
    deviations: dict[str, float] = {}
    outputs: Mapping[str, np.ndarray[Any, Any]] | None = None
    for graph_pass in passes:
        name = graph_pass.name
        measured = bool(seen.feeds) and (seen.verify_passes or not graph_pass.keeps_function)
        if not measured:
            outputs = None
        elif outputs is None:
            outputs = _outputs(model, seen.feeds, f"before pass {name!r}")
        with seen.running(name):
            graph_pass.apply(model, target)
        seen.show_graph(name, model)
        if not measured:
            continue
        assert outputs is not None
        before, outputs = outputs, _outputs(model, seen.feeds, f"after pass {name!r}")
        moved = _deviation(before, outputs, name)
        if not graph_pass.keeps_function:
            runs = sum(done == name for done, _ in seen.times)
            deviations[name if runs == 1 else f"{name} ({runs})"] = moved
        elif moved > MAX_DEVIATION:
            raise XbarcError(
                f"pass {name!r} says that it keeps the function, but the outputs moved by "
                f"{moved:.3g} (relative L2 error, at most {MAX_DEVIATION:g}): see the graph by "
                f"--dump-dir, leave the pass out, or report it to its author"
            )
    return deviations


def run_module_passes(
    passes: Iterable[ModulePass],
    ctx: XbarContext,
    module: "ModuleOp",
    instrumentation: Instrumentation | None = None,
) -> None:
    """Rewrite `module` in place by each pass in turn, and verify it after each.

    If `ctx` has the weights, also check that weights left out by tiles are zero.

    Raises:
        UsageError: a pass was called wrongly.
        XbarcError: a pass failed, or left an invalid module behind.
    """
    from xbarc.ir.analysis.coverage import check_numbers

    seen = instrumentation or Instrumentation()
    seen.show_module("lowered" if seen.dumped("onnx") else "input", module, is_pass=False)
    for module_pass in passes:
        name = module_pass.name
        with seen.running(name):
            module_pass.apply(ctx, module)
        seen.show_module(name, module)  # before the verifier: the dump shows what is wrong
        try:
            module.verify()
            check_numbers(module, ctx.weights)
        except Exception as error:
            raise XbarcError(f"pass {name!r} left an invalid module: {_one_line(error)}") from error


def _deviation(
    before: "Mapping[str, np.ndarray[Any, Any]]",
    after: "Mapping[str, np.ndarray[Any, Any]]",
    name: str,
) -> float:
    if before.keys() != after.keys():
        raise XbarcError(
            f"pass {name!r} changed the model's outputs from {', '.join(before)} to "
            f"{', '.join(after)}: a pass must keep their names"
        )
    from xbarc.graph.run import relative_error

    return relative_error(before, after)


def _outputs(
    model: "ir.Model", feeds: "Mapping[str, np.ndarray[Any, Any]]", when: str
) -> "Mapping[str, np.ndarray[Any, Any]]":
    from xbarc.graph.run import Session

    try:
        return Session(model).run(dict(feeds))
    except Exception as error:
        raise XbarcError(f"{when}, the graph doesn't run: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
