"""The model against published, measured and simulated chips: writes docs/validation.md.

    python benchmarks/validate.py

Each figure is labelled: *reproduced* (follows from the source's own table), *predicted* (a model
whose constants come from elsewhere), *fitted* (a row that gave a constant), *taken* (a constant
divided out of the figure itself, so it agrees by construction), *counted* (on the mapped network).
The tests hold the same rows.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from yardsticks import Row, isaac, mnsim, neurosim, neurram, puma

OUT = Path(__file__).parents[1] / "docs" / "validation.md"


@dataclass(frozen=True)
class Yardstick:
    """A chapter of the page: its rows, what stands before and behind them."""

    title: str
    rows: Callable[[], list[Row]]
    before: str
    behind: str = ""


YARDSTICKS = (
    Yardstick(
        "ISAAC (ISCA 2016)",
        isaac,
        """
        The target's components, rolled up, and the peak that follows from them: 16128 arrays of
        128 x 16 weights, 16 reads of 100 ns an input. The paper's text says 0.36 TOPS/W. Its own
        table adds up to 65.8 W, and 41.3 TOPS at 0.36 TOPS/W would be 114 W: so ours is the
        table's.
        """,
    ),
    Yardstick(
        "PUMA (PIMCOMP, Table I)",
        puma,
        """
        The target's components, rolled up. A core's parts are published to 0.005 mm2, and there
        are 36. PUMA's own abstract has 577 GOPS/s/mm2 and 837 GOPS/s/W, of a chip of 90.6 mm2 and
        62.5 W: by power that is PIMCOMP's chip too, whose area is 31 % less.
        """,
    ),
    Yardstick(
        "NeuRRAM (Nature 2022), measured",
        neurram,
        """
        A 128 x 256 matrix of signed 4-bit weights on one core, compiled for `neurram` and
        counted; TOPS of 48 cores. Two of the ten rows gave constants: 3/1 and 10/8 bits, two
        phases. They gave the time of an integration and of a step, their energies, and that of an
        input pulse. The energy of a sample is CiMLoop's; word lines follow from a capacitance,
        nothing fitted. All other rows are predicted; the aim is a mean error under 10 %, 25 % at
        worst. A 1-bit input has as many magnitude bits as
        a signed one of 2 bits.
        """,
        """
        Word lines are off most at few bits: what they take beside the bits (17 % at one bit)
        isn't modelled. TOPS/W is off most at 8/6 bits in two phases, where the measurement
        disagrees with itself: its three groups add up to 108.94 fJ, 9.18 TOPS/W, not to 8.257.
        """,
    ),
    Yardstick(
        "NeuroSim 1.4, VGG-8 (manual, Fig. 27)",
        neurosim,
        """
        Target `neurosim22`: 22 nm, 2-bit cells of 100k and 10M ohm. Layers 2 to 6 by
        `kernel-first` (its novel mapping: a sub-array a kernel position), the others by `im2col`,
        with the copies that the figure prints.
        """,
        """
        *Agrees*: the floor plan, array by array, and so the area of the cells. Utilisation is by
        cells; NeuroSim's is the mean over its 47 tiles of two sizes, by which ours is 96.86 %
        too. *Agrees*: the time of conversions. A column takes one clock, 2.05141 ns, and eight
        share a converter. NeuroSim's windows are those that don't hang over the edge, 900 and not
        1024 in layer 1; with these windows both have the same conversions, but for the last
        layer, whose one vector NeuroSim shares among eight copies. *Predicted*: the ADCs' energy,
        by NeuroSim's formula for a SAR converter at 18 % of the rows active (its toggling rate
        for VGG-8). NeuroSim follows the traces of real images and weights, and a conversion in
        one clock says that the figure's converters are flash (its code's default), whose energy
        is no formula but follows from transistors: 0.28 pJ a conversion in layer 1, where the
        SAR's is 0.09. For NeuroSim's fewer windows ours is lower still. *Taken*: areas and
        energies of all else are divided out of the figure itself and show nothing. *Doesn't
        agree*: the time of one image. Of NeuroSim's 1456 us buffers take 1001, accumulation 246
        (its adder trees add up after the conversions; in xbarc shift-and-add keeps pace with
        them), interconnect 142, conversions 63, all else 4. `neurosim22` has no model of buffers
        and interconnect: their areas and energies are taken, their times aren't. Table VII isn't
        compared (378.06 mm2, 8.16 TOPS, 19.88 TOPS/W at 1 bit a cell): it has totals only. Of its
        378 mm2 the cells are 8 (48 F2 of its 40 nm wires); the manual doesn't split the rest.
        """,
    ),
    Yardstick(
        "MNSIM 2.0, VGG-8 (manual, case study)",
        mnsim,
        """
        Target `mnsim`, whose counts follow from the published areas: 64 tiles of 4 PEs of 8 pairs
        of 256 x 256 arrays, 64 ADCs an array.
        """,
        """
        *Agrees*: area, component by component, of the same 64 tiles. *Power*: 952 W are 90.8 % of
        what all ADCs draw at once, at a utilisation of 88.7 %. *Doesn't agree*: how many tiles
        the network takes. xbarc fills PEs one after the other. MNSIM gives each layer whole tiles
        and each array whole channels, which makes 43; the manual's 64 don't follow from the
        network and the rules of the code. *Time, agrees*: the conversions of the last layer, the
        one that the manual has part by part. *Time, doesn't*: reads. MNSIM reads an array anew
        for each of the two columns that share a converter, 20 times, xbarc once for both; it adds
        80 ns of DACs, which in xbarc drive a row while it is read, and 80 that it doesn't name. Its
        digital part, 94 ns, is stages one after the other; in xbarc shift-and-add keeps pace with
        the converters. Buffers, 28.5 ns, and links have no model in `mnsim`. One image: at 405
        ns a vector, as in the last layer, MNSIM computes for 1091 of its 1893 us; the rest are
        buffers and links between tiles.
        """,
    ),
)

HEAD = """# The model against chips

Written by `python benchmarks/validate.py`; `tests/test_validation.py` holds the same rows. Each
figure says how it came about:

| | |
|---|---|
| reproduced | follows from the source's own table |
| predicted | by a model whose constants come from elsewhere, or from the fitted rows |
| fitted | a row that gave a constant |
| taken | a constant was divided out of this very figure: it agrees by construction |
| counted | on the network as xbarc maps it |

What reconstructs an unpublished detail is a model; `xbarc targets NAME --sources` says which.
"""


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| figure | published | xbarc | error | how |", "|---|---|---|---|---|"]
    for row in rows:
        unit = f" {row.unit}" if row.unit else ""
        error = f"{round(100 * row.error, 1) + 0.0:+.1f} %"
        lines.append(
            f"| {row.what} | {row.published:.5g}{unit} | {row.found:.5g}{unit} | {error} | "
            f"{row.how} |"
        )
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """Mean and worst error of what was predicted."""
    errors = [abs(row.error) for row in rows if row.how == "predicted"]
    if len(errors) < 3:
        return ""
    return (
        f"Predicted: {len(errors)} figures, mean error {100 * mean(errors):.1f} %, worst "
        f"{100 * max(errors):.1f} %."
    )


def paragraph(text: str) -> str:
    """A text of the page, 120 characters a line."""
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False) if text else ""


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    for y in YARDSTICKS:
        rows = y.rows()
        print(f"{y.title}\n{table(rows)}\n{summary(rows)}")
        chapter = (f"## {y.title}", paragraph(y.before), table(rows), summary(rows))
        parts += [text for text in (*chapter, paragraph(y.behind)) if text]
    OUT.write_text("\n\n".join(part.strip() for part in parts) + "\n")


if __name__ == "__main__":
    main()
