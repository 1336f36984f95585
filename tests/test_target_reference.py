"""docs/targets.md and the JSON schema say what a target file may have."""

import json
from pathlib import Path

import pytest

from xbarc.hw.target import load_target, target_names
from xbarc.hw.target.reference import markdown
from xbarc.hw.target.schema import Section

ROOT = Path(__file__).parents[1]


def test_the_page_is_as_the_code_has_it():
    page = ROOT / "docs" / "targets.md"
    assert page.read_text() == markdown(), "make schema"


@pytest.mark.parametrize("section", Section.__subclasses__(), ids=lambda s: s.__name__)
def test_every_key_has_a_meaning(section):
    assert section.__doc__
    for name, field in section.model_fields.items():
        if name == "source" or (
            isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        ):
            continue
        assert (field.description or "").endswith("."), name


def test_a_row_of_the_page():
    assert (
        "| `rows` | whole number from 1 to 65536 |  | required | Word lines of a crossbar. |"
        in (markdown())
    )
    assert "| `g_on_us` | number above 0 | µS | required | Largest conductance. |" in markdown()


def test_the_schema_knows_the_keys_of_every_target(xbarc):
    code, out, _ = xbarc("targets", "--schema")
    schema = json.loads(out)
    assert code == 0
    parts = schema["$defs"]
    for name in target_names():
        told = load_target(name).model_dump(mode="json", exclude_none=True)
        assert set(told) <= set(schema["properties"])
        for key in ("array", "core", "node", "chip", "adc", "inputs"):
            part = parts[schema["properties"][key].get("$ref", "").rpartition("/")[2]]
            assert set(told[key]) <= set(part["properties"])
            assert part["additionalProperties"] is False
    assert (
        parts["CrossbarArray"]["properties"]["rows"]["description"] == "Word lines of a crossbar."
    )
