"""Pictures of the documentation are as their script draws them."""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def drawn():
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "site" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.pictures())


@pytest.mark.parametrize("name", sorted(p.name for p in (DOCS / "pictures").glob("*.svg")))
def test_it_is_as_the_script_draws_it(name):
    text = (DOCS / "pictures" / name).read_text(encoding="utf-8")
    assert text == drawn()[name], "make schema"
    root = ElementTree.fromstring(text)
    assert root[0].text  # a title, for those who don't see it


def test_all_of_them_are_there():
    assert set(drawn()) == {p.name for p in (DOCS / "pictures").glob("*.svg")}
