"""Charts as files: SVG that stands alone, with the title, the texts and the colours of the page."""

import re
from xml.etree import ElementTree

import pytest
from pages import Page, saved_files

from xbarc.report import charts, plots, saved
from xbarc.report.charts import Row, Segment
from xbarc.report.html import Markup
from xbarc.report.redraw import Box, looks, palette, redraw

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(file):
    """The file as a tree, its texts, the colours that it fills with; nothing of it is outside."""
    tree = ElementTree.fromstring(file)
    assert tree.tag == f"{SPACE}svg"
    assert not re.search(r"(href|class|style|url\()", re.sub(r">[^<]*<", "><", file))
    texts = [e.text for e in tree.iter(f"{SPACE}text")]
    return tree, texts, {e.get("fill") for e in tree.iter() if e.get("fill")}


def bars():
    segments = [Segment(2.0, "s0", "a"), Segment(1.0, "s2", "b")]
    rows = [Row("one <b>", charts.bar(segments, 4.0, "one"), ["3 J", "75 %"])]
    rows.append(Row("two", charts.bar(segments[:1], 4.0, "two"), ["2 J", "50 %"]))
    marks = [(0.0, "0 J"), (0.5, "2 J")]
    foot = Row("total", "", ["5 J", ""])
    return charts.table(
        'Energy & "all"',
        ["Part", "", "energy", "share"],
        rows,
        foot=foot,
        marks=marks,
        key={"first": "s0", "second": "s2"},
    )


def test_a_chart_is_saved_with_all_its_texts():
    ((name, file),) = saved_files(bars()).items()
    assert name == "energy-all.svg"
    tree, texts, fills = parsed(file)
    assert tree.find(f"{SPACE}title").text == 'Energy & "all"'
    for text in ('Energy & "all"', "Part", "energy", "share", "one <b>", "two", "total"):
        assert text in texts
    for text in ("3 J", "75 %", "2 J", "50 %", "5 J", "0 J", "first", "second"):
        assert text in texts
    assert {palette()["s0"], palette()["s2"], palette()["ink"]} <= fills


def test_bars_keep_their_lengths():
    (file,) = saved_files(bars()).values()
    tree, _, _ = parsed(file)
    blue = next(e for e in tree.iter(f"{SPACE}path") if e.get("fill") == palette()["s0"])
    green = next(e for e in tree.iter(f"{SPACE}path") if e.get("fill") == palette()["s2"])
    wide = saved.BAR[0]
    assert [float(w) for w in re.findall(r"v[\d.]+h(-[\d.]+)", blue.get("d"))] == [-wide / 2] * 2
    assert [float(w) for w in re.findall(r"v[\d.]+h(-[\d.]+)", green.get("d"))] == [-wide / 4]
    (start,) = {float(x) for x in re.findall(r"M([\d.]+)", blue.get("d"))}
    assert float(re.match(r"M([\d.]+)", green.get("d"))[1]) == pytest.approx(start + wide / 2)


def test_everything_is_within_the_file():
    (file,) = saved_files(bars()).values()
    tree, _, _ = parsed(file)
    width, height = float(tree.get("width")), float(tree.get("height"))
    for text in tree.iter(f"{SPACE}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height


def test_a_plot_is_saved_with_its_axes():
    x = plots.Axis("bits", 3.0, 9.0, [(3.0, "3"), (9.0, "9")])
    y = plots.accuracy_axis([0.5, 0.9])
    places = [(x.at(3.0), y.at(0.5)), (x.at(9.0), y.at(0.9))]
    drawn = [plots.line(places, "s0"), plots.dots(places, "s0")]
    frame = plots.frame(x, y, drawn, "Accuracy", "3: 50 %; 9: 90 %", {"trials": "s0"})
    ((name, file),) = saved_files(frame).items()
    assert name == "accuracy.svg"
    tree, texts, _ = parsed(file)
    assert tree.find(f"{SPACE}desc").text == "3: 50 %; 9: 90 %"
    assert {"Accuracy", "bits", "accuracy", "3", "9", "50 %", "90 %", "trials"} <= set(texts)
    # Dots are shapes, not ends of strokes, and don't stretch.
    dots = next(e for e in tree.iter(f"{SPACE}path") if "a3 3" in e.get("d"))
    assert dots.get("fill") == palette()["s0"]
    assert dots.get("d").count("M") == 2


def test_shapes_move_into_their_box():
    picture = Markup(
        '<svg viewBox="10 20 100 50"><title>t</title><rect x="10" y="20" width="50" height="25" '
        'class="s0"></rect><path d="M110 70h-10v-5z" fill="#123456"></path></svg>'
    )
    found = list(redraw(picture, Box(5, 6, 200, 200)))
    assert found == [
        ("M5 6h100v100h-100z", {"fill": palette()["s0"]}),
        ("M205 206h-20v-20z", {"fill": "#123456"}),
    ]


def test_looks_are_those_of_the_style_sheet_in_light():
    assert looks("line line-s1 dashed") == {
        "fill": "none",
        "stroke": "#d9822b",
        "stroke-width": "1.5",
        "stroke-linejoin": "round",
        "stroke-dasharray": "5 4",
        "vector-effect": "non-scaling-stroke",
    }
    assert looks("s0 band") == {"fill": "#2f6fc4", "fill-opacity": ".2"}


def test_long_charts_are_cut_and_say_so():
    bar = charts.bar([Segment(1.0, "s0", "a")], 1.0, "a")
    rows = [Row(f"layer {i}", bar, [str(i)]) for i in range(saved.MOST_ROWS + 7)]
    (file,) = saved_files(charts.table("All", ["Layer", "", ""], rows)).values()
    _, texts, _ = parsed(file)
    assert "and 7 more" in texts
    assert f"layer {saved.MOST_ROWS - 1}" in texts
    assert f"layer {saved.MOST_ROWS}" not in texts


def test_a_gallery_has_each_figure_and_its_lines():
    picture = Markup('<svg viewBox="0 0 2 2"><rect width="1" height="2" class="s0"></rect></svg>')
    figures = [saved.Figure(f"layer {i}", [(picture, ["1 ×", "50 %"])]) for i in range(5)]
    _, texts, fills = parsed(saved.gallery("Tiles", figures, (64, 64), columns=2))
    assert [t for t in texts if t.startswith("layer")] == [f"layer {i}" for i in range(5)]
    assert texts.count("50 %") == 5
    assert palette()["s0"] in fills


def test_pages_have_a_link_at_each_chart_and_none_at_an_empty_one():
    assert next(a for t, a in Page(bars()).elements if t == "a")["class"] == "save"
    assert saved_files(charts.table("None", ["Layer", "", ""], [])) == {}
