"""Reading the pages that xbarc writes, as a parser sees them and as a browser lays them out."""

import html
import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "col", "wbr", "br"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(HTMLParser):
    """Elements in order (name, attributes), all text, and the figures by their `data-key`.

    Fails on a tag that isn't closed or opened.
    """

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.figures, self.texts, self._open = [], {}, [], []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        key = dict(attrs).get("data-key")
        if tag == "data" and key:
            value = dict(attrs).get("value")
            self.figures[key] = None if value is None else json.loads(_plain(value))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def ids(self):
        return [a["id"] for _, a in self.elements if "id" in a]


def _plain(value):
    return {"True": "true", "False": "false"}.get(value, value)


FILE = "data:image/svg+xml;charset=utf-8,"


def saved_files(source):
    """The files that a page's links save, by name: SVG as text."""
    links = [a for tag, a in Page(source).elements if tag == "a" and "download" in a]
    files = [(a["download"], urllib.parse.unquote(a["href"].removeprefix(FILE))) for a in links]
    assert all(a["href"].startswith(FILE) for a in links)
    assert len(dict(files)) == len(files)
    return dict(files)


def outside(source):
    """What a page would load from elsewhere: attributes and style that point out of the file.

    Files that its links save are part of it.
    """
    page = Page(source)
    found = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "poster", "action", "background")
        or (name in ("href", "xlink:href") and not value.startswith(("#", FILE)))
        or "url(" in (value or "")
        or name.startswith("on")
    ]
    found += [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "object")]
    return found + re.findall(r"url\(|@import", source)


# The page stands in a frame of the width that is asked for: Chromium's own window has a least one.
FRAME = """<!DOCTYPE html>
<meta name="color-scheme" content="light dark">
<iframe srcdoc="%s" style="width: %dpx; height: 1200px; border: 0"></iframe>
<script>
addEventListener("load", () => {
  const view = frames[0], root = view.document.documentElement, body = view.document.body;
  const style = e => view.getComputedStyle(e);
  const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = rgb(c).map(linear);
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = style(e).backgroundColor, v = rgb(c);
    if (v.length == 3 || v[3] > 0) return c; }
    return "rgb(255, 255, 255)"; };
  const wide = [], pale = [];
  for (const e of body.querySelectorAll("*")) {
    if (e.closest("svg svg") || !e.getClientRects().length) continue;
    const box = e.getBoundingClientRect(), what = e.tagName + " " + e.className + " " + box.right;
    const out = box.right > view.innerWidth + .5 || box.left < -.5;
    if (out && !e.parentElement.closest(".scroll")) wide.push(what);
    const written = [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
    if (!written || e.closest("svg")) continue;
    const [a, b] = [light(style(e).color), light(ground(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) pale.push(what);
  }
  const seen = { width: view.innerWidth, scroll: root.scrollWidth, ground: light(ground(body)),
    elements: body.querySelectorAll("*").length, wide, pale };
  document.documentElement.setAttribute("data-seen", JSON.stringify(seen));
});
</script>"""


def laid_out(source, width, scheme):
    """What Chromium makes of a page: its widths, how light the ground is, what sticks out."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(FRAME % (html.escape(source), width), encoding="utf-8")
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
        command += ["--disable-component-update", "--disable-dev-shm-usage"]
        command += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
        command += [f"--user-data-dir={folder}/profile", "--window-size=1700,1300"]
        done = subprocess.run(
            [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
        )
    (tag,) = re.findall(r"<html[^>]*>", done.stdout)[:1]
    return json.loads(dict(Page(tag + "</html>").elements[0][1])["data-seen"])
