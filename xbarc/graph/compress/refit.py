"""Fitting the weights that are left to what the layers computed before some were taken out."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from xbarc.graph.activations import activations, first_runs
from xbarc.graph.analysis.dependencies import Mask
from xbarc.graph.compress.least_squares import Moments, fit
from xbarc.graph.compress.matrices import LayerMatrix, find_matrices
from xbarc.graph.query import attribute, is_op
from xbarc.support.data import Array, Feeds

SAMPLES = 512
"""Calibration samples that are run."""

VECTORS = 1 << 14
"""Vectors of a layer that a fit takes in, or eight for each row where that is more."""

MAX_FEATURES = 5120
"""Rows and columns of a layer up to which it is fitted: memory grows with their square."""

MAX_WORK = 4e11
"""Multiplications to solve one layer's systems, one for each pattern of zeros."""


def refit(before: ir.Model, after: ir.Model, kept: Mapping[str, Mask], feeds: Feeds) -> list[str]:
    """Fit each layer of `after` to what the layer of the same name gave in `before`.

    Layers are fitted in the graph's order, so that each reads what the fitted ones before it give.
    A fit is the least squares of the output in `before` on the input in `after`, with a ridge
    towards the weights that the layer has; weights that are zero stay zero. `kept` says, by layer,
    which output channels are left, where not all are. A layer too large for a fit only gets the
    right mean, by its bias. A layer whose inputs and weights are as before is left alone.

    Returns:
        the names of the layers that were changed.

    Raises:
        XbarcError: the data don't fit the model.
    """
    originals, _ = find_matrices(before.graph)
    layers, _ = find_matrices(after.graph)
    first = first_runs(before, feeds, SAMPLES)
    changed = []
    moved = False
    for name, layer in layers.items():
        original = originals.get(name)
        if original is None:
            continue
        same = not moved and np.array_equal(original.matrix, layer.matrix)
        if not same and _refit_layer(before, after, original, layer, kept.get(name), first):
            changed.append(name)
        moved = moved or not same
    return changed


def _refit_layer(
    before: ir.Model,
    after: ir.Model,
    original: LayerMatrix,
    layer: LayerMatrix,
    kept: Mask | None,
    feeds: Feeds,
) -> bool:
    """Fit one layer; whether that changed it."""
    pairs = _pairs(before, after, original, layer, feeds)
    if kept is not None:
        pairs = ((x, y[kept]) for x, y in pairs)
    is_fitted = _solvable(layer)
    if not is_fitted and not layer.takes_bias:
        return False
    if is_fitted:
        weights, bias = _fitted(layer, pairs)
        layer.replace(weights)
    else:
        bias = _mean_error(layer, pairs)
    if layer.takes_bias:
        return layer.add_to_bias(bias - _bias_of(layer)) or is_fitted
    return is_fitted


def _fitted(layer: LayerMatrix, pairs: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The weights [K, N] and the bias [N] of least squares."""
    w = layer.matrix.astype(np.float64)
    (k, n), alpha = w.shape, _alpha(layer)
    columns = _columns_of_groups(layer)
    moments = [Moments(k, n // layer.groups) for _ in columns]
    for x, y in pairs:
        for g, own in enumerate(columns):
            moments[g].add(x[g * k : (g + 1) * k], y[own])
    fitted, bias = w.copy(), np.zeros(n)
    for own, of_group in zip(columns, moments, strict=True):
        x_mean, y_mean = of_group.means
        features, cross, _ = of_group.covariance()
        if not layer.takes_bias:
            # No bias takes the means: they are the weights' to explain.
            features, cross = features + np.outer(x_mean, x_mean), cross + np.outer(x_mean, y_mean)
        fitted[:, own] = _fit_columns(features, cross, w[:, own] * alpha) / alpha
        bias[own] = y_mean - alpha * (fitted[:, own].T @ x_mean)
    return fitted, bias


def _mean_error(layer: LayerMatrix, pairs: Iterable[tuple[Array, Array]]) -> Array:
    """The bias [N] that makes up for what the weights, left as they are, miss in the mean."""
    w = layer.matrix.astype(np.float64)
    (k, n), alpha = w.shape, _alpha(layer)
    columns = _columns_of_groups(layer)
    moments = [Moments(1, n // layer.groups) for _ in columns]
    for x, y in pairs:
        for g, own in enumerate(columns):
            rows = x[g * k : (g + 1) * k]
            missed = y[own] - alpha * (w[:, own].T @ rows)
            moments[g].add(np.zeros((1, rows.shape[1])), missed)
    return np.concatenate([of_group.means[1] for of_group in moments])


def _columns_of_groups(layer: LayerMatrix) -> list[slice]:
    """Which columns of [K, N] are each group's."""
    width = layer.matrix.shape[1] // layer.groups
    return [slice(g * width, (g + 1) * width) for g in range(layer.groups)]


def _alpha(layer: LayerMatrix) -> float:
    """What a Gemm multiplies the product by."""
    return attribute(layer.node, "alpha", 1.0) if is_op(layer.node, "Gemm") else 1.0


def _bias_of(layer: LayerMatrix) -> Array:
    """What the layer's output holds besides the product, [N]: its own bias, not an Add's."""
    n = layer.matrix.shape[1]
    if is_op(layer.node, "MatMul") or len(layer.node.inputs) < 3 or layer.node.inputs[2] is None:
        return np.zeros(n)
    beta = attribute(layer.node, "beta", 1.0) if is_op(layer.node, "Gemm") else 1.0
    bias = layer.node.inputs[2].const_value
    assert bias is not None
    return np.broadcast_to(beta * bias.numpy().reshape(-1).astype(np.float64), (n,))


def _pairs(
    before: ir.Model,
    after: ir.Model,
    original: LayerMatrix,
    layer: LayerMatrix,
    feeds: Feeds,
) -> Iterator[tuple[Array, Array]]:
    """Input vectors of the layer in `after`, its results in `before`, a batch at a time."""
    source, result = str(layer.source.name), str(original.output.name)
    vectors = max(VECTORS, 8 * layer.matrix.shape[0])
    samples = max((len(a) for a in feeds.values() if np.ndim(a)), default=1)
    new, old = activations(after, [source], feeds), activations(before, [result], feeds)
    for (part, now), (_, then) in zip(new, old, strict=True):
        share = max((len(a) for a in part.values() if np.ndim(a)), default=1) / samples
        x, y = now[source], then[result]
        yield layer.sample(x, y, max(1, int(vectors * share)))


def _solvable(layer: LayerMatrix) -> bool:
    """Whether the systems of a layer are small enough, and few enough, to solve."""
    w, groups = layer.matrix, layer.groups
    k, n = w.shape
    if k + n // groups > MAX_FEATURES:
        return False
    patterns = np.unique(w != 0, axis=1)
    return float((patterns.sum(0, dtype=np.float64) ** 3).sum()) * groups <= MAX_WORK


def _fit_columns(features: Array, cross: Array, w: Array) -> Array:
    """The columns of [K, N], each fitted on its own nonzero rows; columns alike are one system."""
    fitted = np.zeros_like(w)
    patterns, which = np.unique(w != 0, axis=1, return_inverse=True)
    for p in range(patterns.shape[1]):
        rows, columns = np.flatnonzero(patterns[:, p]), np.flatnonzero(which.ravel() == p)
        if len(rows):
            part = np.ix_(rows, columns)
            fitted[part] = fit(features[np.ix_(rows, rows)], cross[part], w[part].T).T
    return fitted
