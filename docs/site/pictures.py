"""The pictures of the explanations: `python docs/site/pictures.py docs/pictures`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

INK, GREY, FAINT = "#1b2733", "#6b7a89", "#e3e8ee"
PLUS, MINUS, ROWS, LINES = "#2f6fc4", "#d9822b", "#1f9e89", "#8a5cc2"


class Picture:
    """An SVG file that grows: shapes in pixels from the left and the top."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.parts = (width, height), [f"<title>{escape(title)}</title>"]

    def box(self, x: float, y: float, w: float, h: float, fill: str = "none", **at: str) -> None:
        """A rectangle."""
        at = {"stroke": INK, "rx": "2", **at}
        self._add(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}"', at)

    def line(self, x: float, y: float, to_x: float, to_y: float, color: str = INK) -> None:
        """A line."""
        self._add(f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" stroke="{color}" fill="none"', {})

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """A cell."""
        self._add(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"', {"stroke": INK})

    def text(self, x: float, y: float, words: str, size: int = 12, **at: str) -> None:
        """Words; `anchor` "middle" or "end" says what stands at x."""
        anchor, color = at.pop("anchor", "start"), at.pop("color", INK)
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{color}">{escape(words)}</text>'
        )

    def _add(self, shape: str, attributes: dict[str, str]) -> None:
        more = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
        self.parts.append(f"{shape}{more}/>")

    def __str__(self) -> str:
        """The whole file, on white: it is read on light and dark pages."""
        w, h = self.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
            f'height="{h}" font-family="sans-serif" role="img">'
        )
        body = "\n".join([self.parts[0], f'<rect width="{w}" height="{h}" fill="#fff"/>'])
        return "\n".join([head, body, *self.parts[1:], "</svg>", ""])


def crossbar() -> Picture:
    """A crossbar with what stands around it."""
    p = Picture(640, 330, "A crossbar: DACs drive rows, cells conduct, ADCs read columns")
    for r in range(4):
        y = 50 + 45 * r
        p.box(90, y - 11, 44, 22, FAINT)
        p.text(112, y + 4, "DAC", 11, anchor="middle")
        p.text(80, y + 4, f"x{r + 1}", anchor="end")
        p.line(134, y, 400, y, ROWS)
    for c in range(4):
        x = 190 + 60 * c
        p.line(x, 34, x, 232, LINES)
        for r in range(4):
            p.dot(x, 50 + 45 * r, 8, [FAINT, "#a9c4e8", PLUS][(r * 2 + c) % 3])
        p.box(x - 22, 232, 44, 22, FAINT)
        p.text(x, 247, "ADC", 11, anchor="middle")
    p.line(190, 266, 370, 266)
    for c in range(4):
        p.line(190 + 60 * c, 254, 190 + 60 * c, 266)
    p.line(280, 266, 280, 276)
    p.box(210, 276, 140, 24, FAINT)
    p.text(280, 292, "shift and add", 11, anchor="middle")
    p.text(418, 54, "word line (row): a slice of an", color=ROWS)
    p.text(418, 70, "input as a voltage, in each read", color=ROWS)
    p.text(418, 112, "cell: a slice of a weight, as one")
    p.text(418, 128, "of 2^cell_bits conductances")
    p.text(418, 170, "bit line (column): currents add", color=LINES)
    p.text(418, 186, "up, voltage x conductance", color=LINES)
    p.text(418, 247, "a code of adc.bits for each sum")
    p.text(418, 292, "reads and slices by their powers of 2")
    return p


def weight() -> Picture:
    """A weight's slices and polarities."""
    p = Picture(640, 250, "The weight -90 in 8 bits: four slices of two bits, in pairs of cells")
    p.text(20, 30, "weight -90, weights.bits = 8, array.cell_bits = 2, differential encoding", 13)
    p.text(20, 62, "magnitude 90 =")
    for i, digits in enumerate(("01", "01", "10", "10")):
        p.box(130 + 60 * i, 44, 50, 26, FAINT)
        p.text(155 + 60 * i, 62, digits, 13, anchor="middle")
        p.text(155 + 60 * i, 86, f"x 4^{3 - i}", 11, anchor="middle", color=GREY)
    p.line(20, 150, 600, 150, ROWS)
    p.text(604, 154, "row", 12, color=ROWS)
    for i, level in enumerate((2, 2, 1, 1)):
        x = 60 + 140 * i
        for k, (name, color, held) in enumerate((("G+", PLUS, 0), ("G-", MINUS, level))):
            at = x + 48 * k
            p.line(at, 116, at, 200, color)
            p.dot(at, 150, 14, "#fff" if not held else color)
            p.text(at, 154, str(held), 12, anchor="middle", color=INK if not held else "#fff")
            p.text(at, 216, name, 12, anchor="middle", color=color)
        p.text(x + 24, 110, f"slice {i}", 12, anchor="middle")
        p.text(x + 24, 236, f"(0 - {level}) x 4^{i}", 11, anchor="middle", color=GREY)
    return p


def hierarchy() -> Picture:
    """Cell, crossbar, core, node, chip."""
    p = Picture(640, 300, "The hierarchy: a chip has nodes, a node cores, a core crossbars")
    levels = [
        ("chip", "[chip]: nodes on a mesh, buffer, links, memory", "#f4f6f9"),
        ("node", "[node]: cores, buffer, bus, router, digital units", "#e7edf4"),
        ("core", "[core]: crossbars, ADCs, DACs, registers, shift-and-add", "#d5e0ec"),
        ("crossbar", "[array]: rows x cols of cells", "#bcd0e6"),
    ]
    for i, (name, about, fill) in enumerate(levels):
        x, y = 20 + 30 * i, 20 + 44 * i
        p.box(x, y, 600 - 60 * i, 260 - 60 * i, fill)
        p.text(x + 12, y + 20, name, 13)
        p.text(x + 90, y + 20, about, 12, color=GREY)
    for r in range(2):
        for c in range(8):
            p.dot(150 + 30 * c, 194 + 22 * r, 7, PLUS if (r + c) % 3 else "#fff")
    p.text(400, 206, "cell: [device]")
    return p


def mappings() -> Picture:
    """Where a kernel's weights stand, scheme by scheme."""
    p = Picture(640, 490, "The mappings: im2col, kernel-first, window, clusters")
    cell = 13

    def grid(x: float, y: float, rows: int, columns: int, filled: set[tuple[int, int]]) -> None:
        for r in range(rows):
            for c in range(columns):
                fill = PLUS if (r, c) in filled else "#fff"
                p.box(x + c * cell, y + r * cell, cell, cell, fill, stroke="#c3ccd6", rx="0")

    def panel(x: int, y: int, name: str, about: str) -> None:
        p.text(x, y, name, 14)
        p.text(x, y + 17, about, 11, color=GREY)

    panel(20, 28, "im2col", "one vector an output position; rows: kernel x channels")
    grid(20, 58, 9, 4, {(r, c) for r in range(9) for c in range(4)})
    p.text(84, 100, "9 rows of a 3 x 3 kernel,", 11, color=GREY)
    p.text(84, 116, "a column a filter", 11, color=GREY)
    panel(335, 28, "kernel-first", "a sub-array an offset; zeros take no operation")
    for i in range(9):
        filled = set() if i == 4 else {(r, c) for r in range(2) for c in range(4)}
        if i != 4:
            grid(335 + i % 3 * 65, 58 + i // 3 * 38, 2, 4, filled)
        else:
            p.text(335 + 65 + 26, 58 + 38 + 17, "none", 10, anchor="middle", color=GREY)
    p.text(530, 100, "9 offsets, each", 11, color=GREY)
    p.text(530, 116, "channels x filters", 11, color=GREY)
    panel(20, 238, "window, sub-image", "a patch of outputs in one shot: the kernel, shifted")
    rows = [(4 * a + b) for a in range(3) for b in range(3)]
    shifted = {(r + s, i) for i, s in enumerate((0, 1, 4, 5)) for r in rows}
    grid(20, 268, 16, 4, shifted)
    p.text(84, 330, "rows: an input window of 4 x 4,", 11, color=GREY)
    p.text(84, 346, "columns: 2 x 2 outputs of one filter", 11, color=GREY)
    panel(335, 238, "cluster", "rows and columns permuted: dense tiles are left")
    scattered = {(r, c) for r in range(8) for c in range(8) if (r * 3) % 8 // 4 == (c * 5) % 8 // 4}
    grid(335, 268, 8, 8, scattered)
    p.text(447, 325, "to", 12, color=GREY)
    grid(470, 268, 8, 8, {(r, c) for r in range(8) for c in range(8) if r // 4 == c // 4})
    for k in range(2):
        p.box(470 + 52 * k, 268 + 52 * k, 52, 52, stroke=MINUS, stroke_width="2", rx="0")
    return p


def pictures() -> Iterator[tuple[str, str]]:
    """File names and contents."""
    for draw in (crossbar, weight, hierarchy, mappings):
        yield f"{draw.__name__}.svg", str(draw())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pictures():
        (folder / name).write_text(content, encoding="utf-8")
