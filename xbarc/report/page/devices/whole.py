"""Real devices: how much accuracy they leave, which layer minds, what cells really conduct."""

from collections.abc import Sequence

from xbarc.artifact.runs import Run
from xbarc.artifact.trials import Record
from xbarc.report.figures import data
from xbarc.report.html import Child, Markup, Section, tag
from xbarc.report.page.devices.by_layer import by_layer
from xbarc.report.page.devices.chips import sure
from xbarc.report.page.devices.conductances import programmed
from xbarc.report.page.devices.strengths import strengths
from xbarc.report.page.results import latest
from xbarc.report.studies import ideal_accuracy, studies_of
from xbarc.support.units import count


def section(runs: Sequence[Run], records: Sequence[Record]) -> Section | None:
    """What kept trials and runs with effects tell; None where there are neither."""
    studies = studies_of(records)
    real = [run for run in runs if run.result.effects]
    if not studies and not real:
        return None
    lead = (
        "Memristors differ from what they should be, each in its own way. Everything here is "
        "simulated. One trial, or one seed, is one simulated chip: the same program and samples, "
        "devices with errors of their own. A chip that you make is like one of these."
    )
    numbered = list(enumerate(studies))
    ideal = {i: ideal_accuracy(study, studies, runs) for i, study in numbered}
    body: list[Child] = [tag("p", lead, class_="lead")]
    if not studies:
        body.append(single(real[-1]))
    plain = [s for s in numbered if s[1].header.vary is None and not s[1].header.by_layer]
    if plain:
        body.append(sure(plain, ideal))
    if varied := [s for s in numbered if s[1].header.vary is not None]:
        body.append(strengths(varied, ideal))
    body += [by_layer(i, study, ideal[i]) for i, study in numbered if study.header.by_layer]
    run = latest(runs, "conductances")
    if run is not None and run.result.conductances is not None:
        body.append(programmed(run, run.result.conductances))
    return Section("devices", "Real devices", body)


def single(run: Run) -> Markup:
    """A run with effects, where there are no trials yet."""
    key = "run_with_effects.accuracy"
    return tag(
        "p",
        f"The newest run with real devices ({run.devices}; seed {run.options.seed}) is one chip: "
        f"accuracy ",
        data(key, run.result.accuracy),
        f" on {count(run.result.samples)} samples of {run.input}. The next chip differs. ",
        tag("code", "xbarc run --trials 20"),
        " says by how much.",
    )
