"""The command `xbarc`: which commands there are, and how a call ends.

Each command is the function `command` of the file that is named as it is. What these import is
light: whatever is slow is imported when a command runs.
"""

import logging
import os
import sys
from types import ModuleType
from typing import Annotated, NoReturn

import typer

from xbarc.cli import (
    compare,
    compile,
    cost,
    devices,
    inspect,
    opt,
    passes,
    report,
    reproduce,
    run,
    spice,
    sweep,
    targets,
    trace,
    tune,
    update_weights,
)
from xbarc.cli.failure import fail, fail_by_bug
from xbarc.cli.supervise import supervised
from xbarc.support.bounds import VERBOSE
from xbarc.support.errors import UsageError, XbarcError

app = typer.Typer(
    name="xbarc",
    help="Compile trained networks for memristor crossbars, run and cost the result.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(name: str, module: ModuleType) -> None:
    """A command, with the examples of its file below its help."""
    examples = "\n\n".join(["Examples:", *module.EXAMPLES])
    app.command(name, epilog=examples)(module.command)


_add("compile", compile)
_add("run", run)
_add("sweep", sweep)
_add("trace", trace)
_add("tune", tune)
_add("update-weights", update_weights)
_add("cost", cost)
_add("inspect", inspect)
_add("report", report)
_add("compare", compare)
_add("reproduce", reproduce)
_add("spice", spice)
_add("opt", opt)
_add("passes", passes)
_add("targets", targets)
_add("devices", devices)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Let onnxruntime say what it logs.")
    ] = False,
) -> None:
    if verbose:
        os.environ[VERBOSE] = "1"  # workers inherit it
    else:
        # It writes names as they are, control characters too; what matters is an exception.
        logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    if version:
        from importlib.metadata import version as installed

        print(f"xbarc {installed('xbarc')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line: exit 0 done, 1 the input can't be used, 2 bad usage, 130 Ctrl-C."""
    supervised(call)


def call() -> NoReturn:
    """Run the command line in this process. Raises `SystemExit`."""
    try:
        app()
    except UsageError as error:
        fail(error, 2)
    except XbarcError as error:
        fail(error, 1)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        fail(XbarcError("not enough memory: a smaller --batch may fit"), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(XbarcError(f"{where}{error.strerror or error}"), 1)
    except Exception as error:
        fail_by_bug(error)
    sys.exit(0)
