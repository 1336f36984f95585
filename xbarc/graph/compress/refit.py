"""Fitting the weights that are left to what the layers computed before some were taken out."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from xbarc.graph.activations import activations, first_runs
from xbarc.graph.compress.least_squares import Moments, fit
from xbarc.graph.compress.matrices import LayerMatrix, find_matrices
from xbarc.graph.query import attribute, is_op
from xbarc.support.data import Array, Feeds

Mask = npt.NDArray[np.bool_]

SAMPLES = 512
"""Calibration samples that are run."""

VECTORS = 1 << 14
"""Vectors of a layer that a fit takes in, or eight for each row where that is more."""

MAX_FEATURES = 5120
"""Rows and columns of a layer up to which it is fitted: memory grows with their square."""

MAX_WORK = 4e11
"""Multiplications to solve one layer's systems, one for each pattern of zeros."""


def refit(before: ir.Model, after: ir.Model, kept: Mapping[str, Mask], feeds: Feeds) -> list[str]:
    """Fit each layer of `after`, from the inputs on, to its result in `before`.

    The least squares of the layer's output in `before` on its input in `after`, whose layers
    before it are fitted already, with a ridge towards the weights that it has; weights that are
    zero stay zero. Layers meet by name; `kept` says which output channels are left, by name, where
    not all are. A layer too large for a fit gets the right mean in its bias only; one whose
    inputs and weights are as before is left alone.

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
    w = layer.matrix.astype(np.float64)
    (k, n), groups = w.shape, layer.groups
    alpha = attribute(layer.node, "alpha", 1.0) if is_op(layer.node, "Gemm") else 1.0
    whole = _solvable(w, groups)
    moments = [Moments(k if whole else 1, n // groups) for _ in range(groups)]
    for x, y in _pairs(before, after, original, layer, feeds, max(VECTORS, 8 * k)):
        wanted = y if kept is None else y[kept]
        for g, of_group in enumerate(moments):
            columns = slice(g * (n // groups), (g + 1) * (n // groups))
            rows = x[g * k : (g + 1) * k]
            if whole:
                of_group.add(rows, wanted[columns])
            else:
                given = alpha * (w[:, columns].T @ rows)
                of_group.add(np.zeros((1, rows.shape[1])), wanted[columns] - given)
    biased = layer.takes_bias
    fitted, shift = w.copy(), np.zeros(n)
    for g, of_group in enumerate(moments):
        columns = slice(g * (n // groups), (g + 1) * (n // groups))
        x_mean, y_mean = of_group.means
        if not whole:
            shift[columns] = y_mean
            continue
        features, cross, _ = of_group.covariance()
        if not biased:
            # No bias takes the means: they are the weights' to explain.
            features, cross = features + np.outer(x_mean, x_mean), cross + np.outer(x_mean, y_mean)
        fitted[:, columns] = _fit_columns(features, cross, w[:, columns] * alpha) / alpha
        shift[columns] = y_mean - alpha * (fitted[:, columns].T @ x_mean)
    if whole:
        layer.replace(fitted)
    if biased:
        shift -= _bias_of(layer)
    return (layer.add_to_bias(shift) if biased else False) or whole


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
    vectors: int,
) -> Iterator[tuple[Array, Array]]:
    """Input vectors of the layer in `after`, its results in `before`, a batch at a time."""
    source, result = str(layer.source.name), str(original.output.name)
    samples = max((len(a) for a in feeds.values() if np.ndim(a)), default=1)
    new, old = activations(after, [source], feeds), activations(before, [result], feeds)
    for (part, now), (_, then) in zip(new, old, strict=True):
        share = max((len(a) for a in part.values() if np.ndim(a)), default=1) / samples
        x, y = now[source], then[result]
        yield layer.positions(x, y, max(1, int(vectors * share)))


def _solvable(w: Array, groups: int) -> bool:
    """Whether the systems of a layer are small enough, and few enough, to solve."""
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
