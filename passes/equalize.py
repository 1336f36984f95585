"""equalize: channels scaled so that each uses the codes of the layer that reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations, first_runs
from xbarc.graph.analysis.squeeze_excitation import find_blocks
from xbarc.graph.attachments import feeds_of, keep, kept, leave
from xbarc.graph.equalize.factors import best_factors
from xbarc.graph.equalize.sites import Site, find_maker, find_sites, multiply, scale_at
from xbarc.graph.equalize.spread import Real, Spread
from xbarc.graph.query import value_names
from xbarc.hw.target import Target
from xbarc.pipeline import GraphPass

SAMPLES = 32
"""Calibration samples that channels are measured on."""

WORTH, WORTH_A_MUL = 0.7, 0.5
"""What a scale may leave of the noise of quantising, to be worth it in weights, and as a Mul."""


@dataclass(frozen=True)
class Equalize(GraphPass):
    """Divide the channels that layers read by constants, and multiply their weights by them.

        %a = Relu(Conv(%x, %w, %b))       ->   %a = Relu(Conv(%x, %w / f, %b / f))
        %y = Conv<group=C>(%a, %k)             %y = Conv<group=C>(%a, %k * f)

    All channels of a tensor share one scale of input codes, so a channel that is 30 times smaller
    than the largest has 5 bits fewer. The pass makes them alike (cross-layer equalisation, Nagel
    and others, ICCV 2019). A depthwise layer loses nothing by it, because each of its columns has a
    weight scale of its own. For other layers the pass chooses the factors under which inputs and
    weights together add least noise.

    The factors go into the weights of what makes the tensor, a Conv or Gemm or the scale of a
    LayerNormalization, where only ReLU, LeakyReLU, PReLU and pooling lie between. ReLU6 becomes
    Relu and a Min with a limit for each channel. SiLU, hard-swish, GELU and sums of branches don't
    commute with a scale: behind them the tensor is multiplied by 1 / f, one digital operation a
    value. `digital=false` leaves those tensors alone.

    Ranges are measured on the first 32 calibration samples. The report lists the layers whose
    inputs were scaled under `pass_figures`, as `folded` and `digital`; the factors stay with the
    program, and `update-weights` applies the same.
    """

    name: ClassVar[str] = "equalize"
    preserves: ClassVar[bool] = True

    digital: bool = True

    def apply(self, model: ir.Model, target: Target | None) -> bool:
        """Rewrite `model` in place; raises `XbarcError` where it doesn't run on the data."""
        inside = {n for b in find_blocks(model.graph) for n in (b.first, b.second, b.folded)}
        sites = {
            site.key: site
            for site in find_sites(model.graph)
            # A squeeze-and-excitation block is one pattern: nothing may come between its parts.
            if not inside & {layer.node for layer in site.layers}
        }
        found = kept(model, self.name)
        if found is None:
            found = self._measured(model, sites, target)
        taken = value_names(model)
        done: dict[str, list[str]] = {"folded": [], "digital": []}
        for key, factors in found.items():
            if key not in sites:
                continue
            site = sites[key]
            maker = find_maker(site)
            if maker is not None:
                scale_at(maker, 1 / factors, taken)
            else:
                multiply(site, 1 / factors, taken)
            site.scale(factors)
            done["digital" if maker is None else "folded"].append(key)
        keep(model, self.name, found)
        leave(model, self.name, done)
        return bool(done["folded"] or done["digital"])

    def _measured(
        self, model: ir.Model, sites: Mapping[str, Site], target: Target | None
    ) -> dict[str, Real]:
        """By site, what to divide its channels by; those alone for which it is worth it."""
        found = {}
        for key, spread in _spreads(model, sites).items():
            site = sites[key]
            sizes = spread.sizes
            if not np.isfinite(sizes).all() or not sizes.any():
                continue
            folds = find_maker(site) is not None
            bits, symmetric = _codes(site, target)
            factors, left = best_factors(site, spread, bits, symmetric=symmetric)
            if left < (WORTH if folds else WORTH_A_MUL) and (folds or self.digital):
                found[key] = factors
        return found


def _codes(site: Site, target: Target | None) -> tuple[tuple[int, int], bool]:
    """Bits of inputs and weights, of several layers the most, and whether codes are symmetric."""
    if target is None:
        return (8, 8), True
    seen = [target.for_layer(layer.name) for layer in site.layers]
    bits = max(t.inputs.bits for t in seen), max(t.weights.bits for t in seen)
    return bits, seen[0].inputs.signed in ("two-pass", "twos-complement", "native")


def _spreads(model: ir.Model, sites: Mapping[str, Site]) -> dict[str, Spread]:
    found: dict[str, Spread] = {}
    names = {key: site.value.name or "" for key, site in sites.items()}
    feeds = first_runs(model, feeds_of(model), SAMPLES)
    for _, values in activations(model, list(names.values()), feeds):
        for key, name in names.items():
            (axis,) = sites[key].axes
            now = Spread.of(values[name], axis)
            found[key] = found[key].joined(now) if key in found else now
    return found
