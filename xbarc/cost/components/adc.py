"""Analog-to-digital converters. Action: one conversion.

Published figures differ tenfold and more for the same bits, so a target says whose it takes.
"""

import math

from xbarc.cost.components.base import Component, ComponentKind, Role, Spec

ISAAC_TABLE = {
    4: (0.79, 361.0),
    5: (0.99, 477.0),
    6: (1.20, 627.0),
    7: (1.42, 845.0),
    8: (2.0 / 1.2, 1200.0),
    9: (1.97, 1828.0),
    10: (2.38, 3002.0),
}
"""Bits -> pJ a conversion, um2, at 32 nm. 8 bits: ISAAC's table (8 ADCs: 16 mW at 1.2 GS/s,
0.0096 mm2); the others: scaled from it after Saberi et al., 2011 (1.67 pJ at 8 bits)."""

SAR_LAW = ((0.1958, 4.12e-4), (81.75, 2.133))
"""What `ISAAC_TABLE` follows, in pJ and um2: x b + y 2^b. Of a SAR converter reference buffer,
memory and clock grow with the bits, the capacitive DAC doubles with each (Saberi et al., 2011, as
ISAAC scales). Fitted to the table, which it has within 0.4 %."""

MNSIM_TABLE = {
    4: (0.7, 500.0, 1.0),
    6: (1.26, 1650.0, 1.0),
    8: (2.0, 1200.0, 1.28),
}
"""Bits -> mW, um2, GS/s of MNSIM 2.0's built-in converters (8 bits is ISAAC's)."""


NEUROSIM_SAR: dict[float, tuple[float, float, float, float]] = {
    130: (8.4483, 65.243, 169380.0, 2.303),
    90: (5.9869, 37.462, 144323.0, 2.303),
    65: (3.7506, 25.844, 121272.0, 2.303),
    45: (2.1691, 16.693, 100225.0, 2.303),
    32: (1.1294, 8.8998, 79449.0, 2.297),
    22: (0.538, 4.3753, 72341.0, 2.303),
    14: (0.3132, 2.5681, 61085.0, 2.303),
    10: (0.1823, 1.5073, 51580.0, 2.303),
    7: (0.1061, 0.8847, 43555.0, 2.303),
}
"""nm -> uW a bit, uW, uW, decay of NeuroSim 1.4's SAR converter, LSTP transistors."""

ISAAC_RATES = (1.2, 1.28)
"""GS/s: of ISAAC's table, and of its text (128 columns in a cycle of 100 ns)."""

MOST_BITS = 20
"""Bits up to which the fit to the Murmann survey is used: about the best SNDR that it has (model).
"""


def isaac(spec: Spec) -> Component:
    """ISAAC's 8-bit converter, and its scaling by bits after Saberi, 4 to 10 bits at 32 nm.

    Its energy is that of the table, 2 mW at 1.2 GS/s. It also runs at the 1.28 GS/s of the paper's
    cycle. Raises `XbarcError` for other bits, rates and nodes.
    """
    spec.need_node(32, "ISAAC")
    bits, rate = spec.adc_bits(), spec.target.adc.rate_gsps
    if bits not in ISAAC_TABLE:
        raise spec.fault(
            f"ISAAC's table has 4 to 10 bits, {spec.why_bits()}: "
            'take model = "murmann" or "isaac-extended"'
        )
    if not ISAAC_RATES[0] <= rate <= ISAAC_RATES[1]:
        raise spec.fault(
            f"ISAAC's converter makes 1.2 GS/s (its table) to 1.28 (its text), adc.rate_gsps is "
            f'{rate:g}: take model = "murmann" or "isaac-extended"'
        )
    energy, area = ISAAC_TABLE[bits]
    return Component(
        area,
        energy,
        rate_gps=rate,
        power_mw=energy * ISAAC_RATES[0],
        source="ISAAC: 8 ADCs of 8 bits 16 mW at 1.2 GS/s, 0.0096 mm2"
        + ("" if bits == 8 else f"; {bits} bits scaled after Saberi 2011"),
    )


def isaac_extended(spec: Spec) -> Component:
    """ISAAC's table, continued in bits and rate as the Murmann fit grows (model).

    Below 4 bits the law of its rows goes on (`SAR_LAW`); above 10 bits its 10-bit row times the
    fit's ratio to 10 bits. At another rate than ISAAC's 1.2 to 1.28 GS/s, times the fit's ratio to
    the nearer. So there is no step where the table ends. Raises `XbarcError` above 20 bits or 10
    GS/s, and for other nodes.
    """
    spec.need_node(32, "ISAAC")
    bits, rate = spec.adc_bits(), spec.target.adc.rate_gsps
    _check_fit(spec)
    low, high = min(ISAAC_TABLE), max(ISAAC_TABLE)
    row = min(max(bits, low), high)
    energy, area = ISAAC_TABLE[row]
    source = "ISAAC: 8 ADCs of 8 bits 16 mW at 1.2 GS/s, 0.0096 mm2"
    source += "" if row == 8 else f"; {row} bits scaled after Saberi 2011"
    power_rate = ISAAC_RATES[0]
    if bits < low:
        energy, area = (x * bits + y * 2**bits for x, y in SAR_LAW)
        source = (
            "ISAAC: 8 bits 2 mW at 1.2 GS/s, 4 to 10 bits scaled after Saberi 2011; model: "
            f"{bits} bits as these rows fall, linear in bits and doubling with each"
        )
    elif bits > high:
        energy, area = _grown(energy, area, (high, ISAAC_RATES[0]), (bits, ISAAC_RATES[0]))
        source += f"; model: {bits} bits as the Murmann fit grows from 10"
    known = min(max(rate, ISAAC_RATES[0]), ISAAC_RATES[1])
    if rate != known:
        fitted = max(bits, low)  # where the fit begins
        energy, area = _grown(energy, area, (fitted, known), (fitted, rate))
        source += f"; model: {rate:g} GS/s as the Murmann fit grows from {known:g}"
        power_rate = rate
    return Component(
        area,
        energy,
        rate_gps=rate,
        power_mw=energy * power_rate,
        source=source,
    )


def _grown(
    energy_pj: float, area_um2: float, at: tuple[int, float], to: tuple[int, float]
) -> tuple[float, float]:
    """Figures at some bits and GS/s, as they grow by the Murmann fit at 32 nm to others."""
    here, there = (murmann_energy_pj(bits, 32, rate * 1e9) for bits, rate in (at, to))
    areas = [murmann_area_um2(e, 32, rate * 1e9) for e, (_, rate) in ((here, at), (there, to))]
    return energy_pj * there / here, area_um2 * areas[1] / areas[0]


def murmann_energy_pj(bits: int, node_nm: float, rate_hz: float) -> float:
    """Energy of a conversion by the fit to the Murmann survey (arXiv 2404.06553).

    The figure of merit FOM_s (dB) falls with the rate and is capped by the resolution;
    E = 10^((SNDR - FOM_s) / 10) / 2, times a power of node and resolution.
    """
    sndr_db = 6.02 * bits + 1.76
    cap_db = 128.3068287 + 3.22051151 * bits
    fom_db = min(213.7806687 - 2.87190304 * math.log(rate_hz), cap_db)
    scale = 26.04962157 + 1.88003692 * math.log(node_nm) - 2.82912561 * math.log(bits)
    return 0.5 * 10 ** ((sndr_db - fom_db) / 10) * math.exp(scale - 1.47020221)


def murmann_area_um2(energy_pj: float, node_nm: float, rate_hz: float) -> float:
    """Area by the fit to the Murmann survey (arXiv 2404.06553), its best tenth."""
    return math.exp(
        0.993279474 * math.log(node_nm)
        + 0.180715384 * math.log(rate_hz)
        + 0.299124262 * math.log(energy_pj)
        + 1.346191644
    )


def murmann(spec: Spec) -> Component:
    """The fit to the Murmann survey of arXiv 2404.06553, from 4 to 20 bits, to 10 GS/s.

    Raises `XbarcError` outside.
    """
    bits, rate = spec.adc_bits(), spec.target.adc.rate_gsps
    node = spec.target.technology.node_nm
    if bits < 4:
        raise spec.fault(f"the Murmann fit begins at 4 bits, {spec.why_bits()}")
    _check_fit(spec)
    energy = murmann_energy_pj(bits, node, rate * 1e9)
    return Component(
        murmann_area_um2(energy, node, rate * 1e9),
        energy,
        rate_gps=rate,
        source=f"fit to the Murmann ADC survey, arXiv 2404.06553: {bits} bits, {node:g} nm, "
        f"{rate:g} GS/s",
    )


def _check_fit(spec: Spec) -> None:
    bits, rate = spec.adc_bits(), spec.target.adc.rate_gsps
    if bits > MOST_BITS:
        raise spec.fault(f"the Murmann fit is used up to {MOST_BITS} bits, {spec.why_bits()}")
    if rate > 10:
        raise spec.fault(f"the Murmann fit ends at 10 GS/s, adc.rate_gsps is {rate:g}")


def neurosim_sar(spec: Spec) -> Component:
    """NeuroSim's SAR converter (LSTP): P(uW) by bits and column, (bits + 1) ns a conversion.

    `P = p b + q + k e^(-s log10 R)` by node (`NEUROSIM_SAR`), R (ohm) the resistance of a column,
    here of `options.active_rows` (all without it) at the mean conductance (model). The formula has
    no area: `options.area_um2`, else ISAAC's table at 32 nm, 4 to 10 bits. `options.conversion_ns`
    is the time of a conversion where that is another; the energy stays.

    Raises `XbarcError` for other nodes and, without an area, other bits.
    """
    bits, device, array = spec.adc_bits(), spec.target.device, spec.target.array
    node = spec.target.technology.node_nm
    if node not in NEUROSIM_SAR:
        known = ", ".join(f"{nm:g}" for nm in NEUROSIM_SAR)
        raise spec.fault(f"NeuroSim's SAR is known at {known} nm, not {node:g}")
    rows = spec.option("active_rows") if "active_rows" in spec.table.options else array.rows
    siemens = rows * (device.g_on_us + device.g_off_us) / 2 * 1e-6
    each, fixed, column, decay = NEUROSIM_SAR[node]
    ohm = max(1 / siemens, 1.0)
    power_uw = each * bits + fixed + column * math.exp(-decay * math.log10(ohm))
    area, whose = _sar_area(spec, bits)
    energy_pj = power_uw * (bits + 1.0) * 1e-3
    time_ns = bits + 1.0
    if "conversion_ns" in spec.table.options:
        time_ns = spec.option("conversion_ns")
    if not time_ns > 0:
        raise spec.fault(f"options.conversion_ns = {time_ns:g}: a conversion takes time")
    return Component(
        area,
        energy_pj,
        rate_gps=1 / time_ns,
        source=f"NeuroSim 1.4, SAR at {node:g} nm LSTP, a column of {1 / siemens:.3g} ohm (model: "
        f"{rows:g} rows at the mean conductance)"
        + (f", in {time_ns:g} ns" if "conversion_ns" in spec.table.options else "")
        + f"; area: {whose}",
    )


def _sar_area(spec: Spec, bits: int) -> tuple[float, str]:
    """The area of NeuroSim's SAR in um2, and whose it is."""
    if "area_um2" in spec.table.options:
        return spec.option("area_um2"), str(spec.table.options.get("source", "the target's"))
    spec.need_node(32, "ISAAC")
    if bits not in ISAAC_TABLE:
        raise spec.fault(f"the area of NeuroSim's SAR is known from 4 to 10 bits, not {bits}")
    return ISAAC_TABLE[bits][1], "ISAAC's table (model)"


def mnsim(spec: Spec) -> Component:
    """MNSIM 2.0's converters of 4, 6 and 8 bits, by its code (`Hardware_Model/ADC.py`).

    A conversion takes (bits + 2) samples, and the power all that time. Raises `XbarcError` for
    other bits.
    """
    bits = spec.adc_bits()
    if bits not in MNSIM_TABLE:
        raise spec.fault(f"MNSIM has converters of 4, 6 and 8 bits, {spec.why_bits()}")
    power, area, rate = MNSIM_TABLE[bits]
    time_ns = (bits + 2) / rate
    return Component(
        area,
        power * time_ns,
        rate_gps=1 / time_ns,
        source=f"MNSIM 2.0: {bits} bits, {power:g} mW for {bits + 2} samples at {rate:g} GS/s, "
        f"{area:g} um2",
    )


def puma(spec: Spec) -> Component:
    """PUMA's 8-bit converter: 2.0 mW, 0.0012 mm2; the 128 columns of an array in 100 ns.

    0.2 of the 2.0 mW are leakage. Raises `XbarcError` for other bits.
    """
    spec.need_node(32, "PUMA")
    bits = spec.adc_bits()
    if bits != 8:
        raise spec.fault(f"PUMA's converter has 8 bits, {spec.why_bits()}")
    return Component(
        1200.0,
        1.8 * 100 / 128,
        leakage_mw=0.2,
        rate_gps=1.28,
        power_mw=2.0,
        source="PUMA's simulator: 8 bits 1.8 mW and 0.2 mW leakage, 0.0012 mm2; model: 128 columns "
        "in the 100 ns of an MVM",
    )


KIND = ComponentKind(
    "adc",
    (
        Role(
            "adc",
            {"core": lambda target: target.adcs_per_core()},
            lambda layer, target: layer.adc_conversions,
        ),
    ),
    {
        "isaac": isaac,
        "isaac-extended": isaac_extended,
        "mnsim": mnsim,
        "murmann": murmann,
        "neurosim-sar": neurosim_sar,
        "puma": puma,
    },
    {"neurosim-sar": ("active_rows", "area_um2", "conversion_ns")},
)
