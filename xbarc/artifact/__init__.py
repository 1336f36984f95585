"""A compiled program as data: in memory, on disk, and the runs kept beside it."""

from xbarc.artifact.program import LOWERED, CompiledProgram

__all__ = ["LOWERED", "CompiledProgram"]
