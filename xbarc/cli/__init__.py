"""The command line: results go to stdout, progress and warnings to stderr."""

from xbarc.cli.app import app, call, main

__all__ = ["app", "call", "main"]
