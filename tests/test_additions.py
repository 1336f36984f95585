"""Every kind of addition is found in the same three places."""

import pytest

from xbarc.driver.extensions import GROUPS
from xbarc.support.errors import XbarcError
from xbarc.train.method import METHODS

ALL = (*GROUPS, METHODS)
BY_NOUN = [pytest.param(group, id=group.noun) for group in ALL]
BY_FILE = [pytest.param(group, id=group.noun) for group in ALL if group.folder is not None]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package with one entry point: called with its group and name."""

    def install(name, group, point):
        info = tmp_path / name / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{point} = {name}_module:THING\n")
        (tmp_path / name / f"{name}_module.py").write_text("THING = 1 / 0\n")
        monkeypatch.syspath_prepend(tmp_path / name)

    return install


@pytest.mark.parametrize("group", BY_NOUN)
def test_a_package_brings_one_and_it_is_imported_when_needed(group, package):
    package("mine", group.entry_points, "my-thing")
    registry = group.registry()
    assert registry.owner("my-thing") == "package mine (mine_module:THING)"
    with pytest.raises(XbarcError, match=f"{group.noun} 'my-thing' of package mine .*division"):
        registry.load("my-thing")


@pytest.mark.parametrize("group", BY_NOUN)
def test_no_name_is_taken_twice(group, package):
    package("mine", group.entry_points, "my-thing")
    package("yours", group.entry_points, "my-thing")
    with pytest.raises(XbarcError, match="'my-thing' of .* is taken twice"):
        group.registry()


@pytest.mark.parametrize("group", BY_FILE)
def test_xbarcs_own_names_are_taken(group, package):
    name = group.registry().names[0]
    package("mine", group.entry_points, name)
    with pytest.raises(XbarcError, match=f"'{name}' is defined twice: by xbarc and by package"):
        group.registry()


@pytest.mark.parametrize("group", BY_FILE)
def test_a_file_defines_what_it_is_called(group):
    registry = group.registry()
    assert registry.names
    for name in registry.names:
        thing = registry.load(name)
        module = getattr(thing, "__module__", "")
        if module.startswith(group.folder):
            assert module == f"{group.folder}.{name.replace('-', '_')}"
