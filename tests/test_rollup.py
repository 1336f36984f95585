"""A target's totals against the published chips, and what of a chip is occupied."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarc.cost.components import components
from xbarc.cost.rollup import area_mm2, check_capacity, level_totals, occupied, peak, roll_up
from xbarc.hw.target import load_target
from xbarc.support.errors import XbarcError


def rolled(name, *overrides):
    target = load_target(name, overrides)
    return roll_up(target, components(target))


def test_isaac_closes():
    found = rolled("isaac")
    # ISAAC's component table: IMA, tile, chip.
    assert found["core"]["power_w"] * 1e3 == pytest.approx(24.08, abs=0.005)
    assert found["core"]["area_mm2"] == pytest.approx(0.0131, abs=0.00005)
    assert 12 * found["core"]["power_w"] * 1e3 == pytest.approx(289, abs=0.5)
    assert 12 * found["core"]["area_mm2"] == pytest.approx(0.157, abs=0.0005)
    assert found["node"]["power_w"] * 1e3 == pytest.approx(330, abs=0.5)
    assert found["node"]["area_mm2"] == pytest.approx(0.372, abs=0.0005)
    assert found["chip"]["power_w"] == pytest.approx(65.8, abs=0.05)
    assert found["chip"]["area_mm2"] == pytest.approx(85.4, abs=0.05)


def test_isaac_peak():
    """41.3 TOPS: 16128 arrays of 128 x 16 weights in 16 cycles of 100 ns, two operations each."""
    target = load_target("isaac")
    found = peak(target, components(target))
    assert found["tops"] == pytest.approx(2 * 16128 * 128 * 16 / 1.6e-6 * 1e-12)
    # Of the chip's 85.4 mm2 and 65.8 W; its text says 0.36 TOPS/W: docs/cost.md.
    assert found["tops_per_mm2"] == pytest.approx(0.483, abs=0.0005)
    assert found["tops_per_w"] == pytest.approx(0.627, abs=0.0005)
    assert found["energy_per_mac_pj"] == pytest.approx(2 / found["tops_per_w"])


def test_puma_closes():
    found = rolled("puma")
    # PIMCOMP, Table I: core, chip. The core's parts are published to 0.005 mm2, and there are 36.
    assert found["core"]["power_w"] * 1e3 == pytest.approx(1270.56, abs=0.005)
    assert found["core"]["area_mm2"] == pytest.approx(1.01, abs=0.005)
    assert found["chip"]["power_w"] == pytest.approx(56.79, abs=0.005)
    assert found["chip"]["area_mm2"] == pytest.approx(62.92, abs=36 * 0.005)
    assert found["chip"]["area_mm2"] == pytest.approx(62.92, rel=1e-3)


@pytest.mark.parametrize("name", ["isaac", "puma", "neurram", "mca128", "mca512"])
def test_levels_add_up(name):
    target = load_target(name)
    parts = components(target)
    found, own = roll_up(target, parts), level_totals(parts)
    area = sum(a for a, _ in own["core"].values())
    assert found["core"]["area_mm2"] == pytest.approx(area * 1e-6)
    inner = {"node": ("core", target.node.cores), "chip": ("node", target.chip.nodes)}
    for level, (below, count) in inner.items():
        for index, key, unit in ((0, "area_mm2", 1e-6), (1, "power_w", 1e-3)):
            extra = sum(figures[index] for figures in own[level].values()) * unit
            assert found[level][key] == pytest.approx(count * found[below][key] + extra)


def test_a_whole_chip_is_all_occupied():
    target = load_target("isaac", ["chip.links=0"])
    parts = components(target)
    area = area_mm2(target.crossbars_per_chip, target, parts)
    assert sum(area.values()) == pytest.approx(roll_up(target, parts)["chip"]["area_mm2"])


def test_links_are_in_use_between_chips():
    target = load_target("isaac")
    parts = components(target)
    assert occupied(target.crossbars_per_chip, target, parts)["link"] == 0
    assert occupied(target.crossbars_per_chip + 1, target, parts)["link"] == 8


@settings(deadline=None)
@given(
    st.sampled_from(["isaac", "puma", "neurram", "mca64", "mca128", "mca256", "mca512"]),
    st.integers(0, 40000),
)
def test_area_never_falls_with_a_crossbar(name, crossbars):
    target = load_target(name)
    parts = components(target)
    less, more = (area_mm2(n, target, parts) for n in (crossbars, crossbars + 1))
    assert all(more[unit] >= less[unit] for unit in less)
    assert sum(more.values()) > sum(less.values())


def test_nothing_takes_no_area():
    target = load_target("mca128")
    assert sum(area_mm2(0, target, components(target)).values()) == 0


def test_capacity():
    target = load_target("mca128", ["chip.chips=1", "chip.nodes=2", "node.cores=3"])
    check_capacity({"a": 40, "b": 8}, target)
    with pytest.raises(XbarcError) as error:
        check_capacity({"a": 40, "b": 60}, target)
    assert str(error.value) == (
        "target 'mca128 + chip.chips=1, chip.nodes=2, node.cores=3' has 48 crossbars "
        "(1 x 2 nodes x 3 cores x 8), the program needs 100: 52 are missing (the largest layer, "
        "'b', takes 60); 3 chips would do: chip.chips"
    )
    check_capacity({"a": 10**6}, load_target("mca128"))
