"""Word lines that select what is integrated. Action: one bit line's word line, for one conversion.

A target has them if it has the table `[cost.word_line]`: on most chips word lines carry the inputs,
and their drivers are the DACs.
"""

from xbarc.cost.components.base import ComponentKind, Role
from xbarc.hw.target import Target


def word_lines_per_core(target: Target) -> int:
    """Word lines of one core, of targets that price them."""
    return target.core.crossbars * target.array.rows if "word_line" in target.cost else 0


KIND = ComponentKind(
    "word_line",
    (
        Role(
            "word_line",
            {"core": word_lines_per_core},
            lambda layer, target: layer.adc_conversions,
            used_with="crossbar",
        ),
    ),
)
