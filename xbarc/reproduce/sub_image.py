"""Sub-image partitioning (Oh, An and Min, Micromachines 14(2):309, 2023)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import xbarc
from xbarc.report.charts import Segment, bar
from xbarc.report.html import Markup, tag
from xbarc.reproduce.networks import (
    DIFFERENTIAL,
    LOSSLESS,
    Samples,
    accuracy,
    digits,
    mnist,
    random_network,
    tuned,
)
from xbarc.reproduce.paper import Line, Progress, Result, percent_less

TITLE = "Sub-image partitioning, 2D and 1D kernels"
SOURCE = "Oh, An and Min, Micromachines 14(2):309, 2023"
QUICK = "ResNet-20's counts, and a CNN on scikit-learn's digits: some minutes"
FULL = "ResNet-20's counts, and a CNN on MNIST (XBARC_DATA): about an hour on two cores"

RESNET20 = (
    (1, 32, 3, 16),
    (6, 32, 16, 16),
    (1, 16, 16, 32),
    (5, 16, 32, 32),
    (1, 8, 32, 64),
    (5, 8, 64, 64),
)
"""3x3 layers at stride 1: how many, side, input channels, filters."""

PUBLISHED = {
    128: ((768, 4096, 2048, 4096, 2048, 4096), (0, 512, 192, 256, 96, 128)),
    256: ((432, 2304, 2048, 4096, 2048, 4096), (0, 272, 128, 192, 64, 96)),
}
"""Crossbars of each of these as 3D kernels, and as 2D + 1D kernels (the first one stays)."""

RATIOS = (0.0, 0.5, 1.0)
WIRE = "wire{row=1.0 col=1.0}"


@dataclass(frozen=True)
class Case:
    """A share of layers replaced: crossbars at 128 x 128, and accuracy."""

    ratio: float
    crossbars: int
    accuracy: float
    model: Any


def reproduce(quick: bool, progress: Progress) -> Result:
    """The published counts, a network at several ratios retrained, and wires with resistance."""
    result = Result()
    for size in PUBLISHED:
        progress(f"counting ResNet-20 on crossbars of {size} x {size}")
        result.add(f"Crossbars of {size} x {size}, ResNet-20", list(_counts(size)))
    samples = digits((1, 8, 8)) if quick else mnist((1, 28, 28))
    cases = list(_cases(samples, quick, progress))
    first = cases[0]
    lines = []
    for case in cases:
        about = f"{case.ratio:.0%} of the layers as 2D + 1D kernels"
        lines += [
            Line(f"crossbars, {about}", case.crossbars, None, "model"),
            Line(f"accuracy, {about}", 100 * case.accuracy, None, "model", unit="%"),
        ]
    less = percent_less(cases[-1].crossbars, first.crossbars)
    lines.append(Line("crossbars saved by replacing all", less, None, "model", unit="%"))
    lost = 100 * (cases[-1].accuracy - first.accuracy)
    lines.append(Line("accuracy lost by it", lost, None, "model", unit="points"))
    result.add("Retrained, on crossbars of 128 x 128", lines)
    if not quick:  # Each of some hundred arrays is a grid to solve.
        progress("wire resistance")
        result.add("Wires of 1 ohm a cell", list(_wires(first.model, samples)))
    result.pictures.append(_bars(cases))
    result.notes += [
        "ResNet-20's layers are counted at stride 1 on their output size, as the paper's counting "
        "seems to; the true network, with its two strided layers, takes 82688 and 68016.",
        "The paper's accuracies are of ResNet-20 on CIFAR-10; these are of a smaller network on "
        "other data.",
        "One channel and one filter a crossbar is a weak baseline: packing saves much of the rest.",
    ]
    return result


def _layer(side: int, channels: int, filters: int, kernel: int, groups: int) -> Any:
    p, of = kernel // 2, channels // groups
    text = (
        f"g (float[N,{channels},{side},{side}] x) => (float[N,{filters},{side},{side}] y) "
        f"<float[{filters},{of},{kernel},{kernel}] w> "
        f"{{ y = Conv<pads=[{p},{p},{p},{p}], group={groups}>(x, w) }}"
    )
    return random_network(text)


def _crossbars(size: int, model: Any) -> int:
    program = xbarc.compile(model, target=f"mca{size}", overrides=DIFFERENTIAL, passes="sub-image")
    return int(program.cost()["totals"]["crossbars"])


def _counts(size: int) -> Iterator[Line]:
    totals, published = [0, 0], [0, 0]
    for (count, side, channels, filters), *figures in zip(RESNET20, *PUBLISHED[size], strict=True):
        whole = _crossbars(size, _layer(side, channels, filters, 3, 1))
        replaced = whole
        about = f"{count} of {side} x {side}, {channels} to {filters}"
        yield Line(f"{about}, 3D", whole, figures[0], "reproduction")
        if figures[1]:
            replaced = _crossbars(size, _layer(side, channels, channels, 3, channels))
            replaced += _crossbars(size, _layer(side, channels, filters, 1, 1))
            yield Line(f"{about}, 2D + 1D", replaced, figures[1], "reproduction")
        for i, one in enumerate((whole, replaced)):
            totals[i] += count * one
            published[i] += count * (figures[i] or figures[0])
    for i, name in enumerate(("3D", "2D + 1D")):
        yield Line(f"in all, {name}", totals[i], published[i], "reproduction")
    saved, wanted = percent_less(totals[1], totals[0]), {128: -90.0, 256: -95.0}[size]
    note = "the paper says almost 90 % and 95 %"
    yield Line("saved", saved, wanted, "reproduction", unit="%", note=note)


def _network(side: int) -> Any:
    half = side // 2
    return random_network(f"""cnn (float[N,1,{side},{side}] x) => (float[N,10] y)
    <float[8,1,3,3] w1, float[8] b1, float[16,8,3,3] w2, float[16] b2, float[16,16,3,3] w3,
     float[16] b3, float[16,16,3,3] w4, float[16] b4, float[{16 * half * half},10] w5, float[10] b5>
    {{ c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1)
       c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2) r2 = Relu(c2)
       p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
       c3 = Conv<pads=[1,1,1,1]>(p, w3, b3) r3 = Relu(c3)
       c4 = Conv<pads=[1,1,1,1]>(r3, w4, b4) r4 = Relu(c4)
       f = Flatten(r4) y = Gemm(f, w5, b5) }}""")


def _cases(samples: Samples, quick: bool, progress: Progress) -> Iterator[Case]:
    options: dict[str, Any] = {
        "target": "mca128",
        "epochs": 15 if quick else 4,
        "batch": 32 if quick else 64,
        "plain": True,
        "threads": 1 if quick else None,  # small products are slower on several
    }
    progress("training the network with 3D kernels")
    whole = tuned(_network(samples.train[0].shape[-1]), samples, **options)
    for ratio in RATIOS:
        model = whole
        if ratio:
            progress(f"{ratio:.0%} as 2D + 1D kernels, retrained")
            model = tuned(whole, samples, passes=f"kernel-2d1d{{ratio={ratio}}}", **options)
        program = _compiled(model, samples, "mca128")
        crossbars = int(program.cost()["totals"]["crossbars"])
        yield Case(ratio, crossbars, accuracy(program, samples), model)


def _compiled(model: Any, samples: Samples, target: str) -> Any:
    return xbarc.compile(
        model,
        target=target,
        overrides=LOSSLESS,
        passes="sub-image",
        calibration=samples.train[0][:128],
    )


def _wires(model: Any, samples: Samples) -> Iterator[Line]:
    """Small sub-image arrays against large unrolled ones, with and without wire resistance."""
    count = 200
    some = Samples(samples.train, (samples.test[0][:count], samples.test[1][:count]))
    note = f"of the first {count} test images"
    for size in (128, 256, 512):
        program = _compiled(model, samples, f"mca{size}")
        about = f"sub-images on {size} x {size}"
        ideal = 100 * accuracy(program, some)
        yield Line(f"{about}, no resistance", ideal, None, "model", "%", note)
        (scores,) = program.run(some.test[0], noise=WIRE).values()
        share = float((scores.argmax(1) == some.test[1]).mean())
        yield Line(f"{about}, with it", 100 * share, None, "model", "%", note)


def _bars(cases: Sequence[Case]) -> Markup:
    most = max(case.crossbars for case in cases)
    rows = [
        tag(
            "tr",
            tag("th", f"{case.ratio:.0%} 2D + 1D", scope="row"),
            tag(
                "td", bar([Segment(case.crossbars, "s0", f"{case.crossbars} crossbars")], most, "")
            ),
            tag("td", f"{case.crossbars:,}, {case.accuracy:.1%}"),
        )
        for case in cases
    ]
    caption = tag("figcaption", tag("b", "Crossbars and accuracy"))
    return tag("figure", caption, tag("table", rows, class_="grid"))
