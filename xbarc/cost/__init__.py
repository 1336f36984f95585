"""What a program costs: events counted from the mapped IR, times its target's components."""

from xbarc.cost.program import report

__all__ = ["report"]
