"""The pictures of a page drawn again for a file of its own: in pixels, with colours of its own.

On the page a picture stretches with the window and takes its colours from the style sheet. A file
that is put on a slide has neither. So each shape is moved to where it stands, and each class is
replaced by what the style sheet's light colours make of it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree

from xbarc.report.html import Markup, style, tag

PROPERTIES = (
    "fill",
    "fill-opacity",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
)
"""What the style sheet may say of a shape."""

STEP = re.compile(r"([MLHVhvz])([^MLHVhvz]*)")
NUMBER = re.compile(r"-?[\d.]+(?:e-?\d+)?")


@dataclass(frozen=True)
class Box:
    """Where a picture stands in a file, in pixels."""

    x: float
    y: float
    width: float
    height: float


@cache
def palette() -> dict[str, str]:
    """The style sheet's colours in light, by name: `{"ink": "#18212c", ...}`."""
    root = style().split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-fA-F]+)", root))


@cache
def _rules() -> Mapping[str, Mapping[str, str]]:
    """What the style sheet says of each class by itself."""
    found: dict[str, dict[str, str]] = {}
    sheet = style().split("@media (max-width", 1)[0]
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
        for selector in selectors.split(","):
            if re.fullmatch(r"\.[\w-]+", selector.strip()):
                said = (line.split(":", 1) for line in body.split(";") if ":" in line)
                rule = found.setdefault(selector.strip()[1:], {})
                rule.update({key.strip(): _color(value.strip()) for key, value in said})
    return found


def _color(value: str) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda m: palette().get(m[1], m[0]), value)


@cache
def looks(classes: str) -> Mapping[str, str]:
    """What classes make of a shape: SVG's properties, and `vector-effect`."""
    said: dict[str, str] = {}
    for name in classes.split():
        said.update(_rules().get(name, {}))
    return {k: v for k, v in said.items() if k in PROPERTIES or k == "vector-effect"}


def redraw(picture: Markup, box: Box) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The shapes of a picture, moved into `box`: paths and how they look, in drawing order.

    `picture` is an `svg` element with a viewBox, of rectangles and of paths of straight lines.
    """
    root = ElementTree.fromstring(picture)
    left, top, wide, high = map(float, root.attrib["viewBox"].split())
    across, down = box.width / wide, box.height / high
    scales = (across, down)
    for shape in root.iter():
        if shape.tag == "rect":
            x, y, w, h = (float(shape.get(key, 0)) for key in ("x", "y", "width", "height"))
            d = f"M{x} {y}h{w}v{h}h{-w}z"
        elif shape.tag == "path":
            d = shape.attrib["d"]
        else:
            continue
        said = dict(looks(shape.get("class", "")))
        said.update({k: v for k, v in shape.attrib.items() if k in PROPERTIES})
        if said.pop("vector-effect", "") == "" and "stroke-width" in said:
            said["stroke-width"] = _short(float(said["stroke-width"]) * min(scales))
        origin = (box.x - left * across, box.y - top * down)
        moved = _moved(d, origin, scales)
        yield _dots(moved, said) if "stroke-linecap" in said else (moved, said)


def _moved(d: str, origin: tuple[float, float], scales: tuple[float, float]) -> str:
    """A path in pixels. It knows M, L, H, V, h, v and z."""
    parts = []
    for step, rest in STEP.findall(d):
        numbers = [float(n) for n in NUMBER.findall(rest)]
        along = (1,) if step in "Vv" else (0, 1)  # the axes of the numbers
        moved = [
            n * scales[axis] + (origin[axis] if step.isupper() else 0)
            for n, axis in zip(numbers, along, strict=False)
        ]
        parts.append(step + " ".join(map(_short, moved)))
    return "".join(parts)


def _dots(d: str, said: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Strokes without length as what their ends draw; not every program draws such ends."""
    r = float(said["stroke-width"]) / 2
    size = _short(2 * r)
    if said["stroke-linecap"] == "round":
        end = f"a{_short(r)} {_short(r)} 0 1 0 {size} 0a{_short(r)} {_short(r)} 0 1 0 -{size} 0z"
        up = 0.0
    else:
        end, up = f"h{size}v{size}h-{size}z", r
    places = [tuple(map(float, NUMBER.findall(m))) for m in re.findall(r"M([^Mh]*)", d)]
    drawn = "".join(f"M{_short(x - r)} {_short(y - up)}{end}" for x, y in places)
    look = {"fill": said["stroke"]}
    if "stroke-opacity" in said:
        look["fill-opacity"] = said["stroke-opacity"]
    return drawn, look


def _short(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def shapes(drawn: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[Markup]:
    """Paths as elements: one for all that look alike, in the order in which looks come first."""
    paths: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for d, look in drawn:
        paths.setdefault(tuple(look.items()), []).append(d)
    for look_of, parts in paths.items():
        yield _path("".join(parts), dict(look_of))


def _path(d: str, look: Mapping[str, str]) -> Markup:
    said = {key.replace("-", "_"): value for key, value in look.items()}
    return tag("path", d=d, **{"fill": palette()["ink"], **said} if "fill" not in said else said)
