"""Groups of rows and columns of a matrix that share their nonzeros: a bipartite graph cut apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph, linalg

Indices = npt.NDArray[np.int64]

VECTORS = 5
"""Eigenvectors of the normalised Laplacian, and groups of one split (TraNNsformer: k = 5)."""

DENSE = 128
"""Parts with a side this short are decomposed whole; others by Lanczos iterations."""

TOLERANCE, RESTARTS = 1e-2, 40
"""Vectors are only compared by k-means: these needn't be exact."""

ROUNDS = 25
"""Rounds of k-means at most."""


def groups(
    matrix: Any, largest: tuple[int, int], fewest: float = 0.0
) -> Iterator[tuple[Indices, Indices]]:
    """Rows and columns of a sparse matrix [K, N] in groups of at most `largest` rows and columns.

    No row and no column is in two groups, and one without a nonzero is in none. Connected
    components come first. One that is too large is split by the eigenvectors of its normalised
    Laplacian and k-means, again and again (spectral co-clustering; TraNNsformer, Ankit et al.,
    ICCAD 2017). Of a part with fewer nonzeros than `fewest` nothing is made. The same matrix gives
    the same groups: no random start.
    """
    start = sparse.coo_matrix(matrix)
    parts = list(_components(_Part.of(start.row, start.col))) if start.nnz else []
    while parts:
        part = parts.pop()
        if len(part.rows) <= largest[0] and len(part.columns) <= largest[1]:
            yield part.rows, part.columns
        elif len(part.row) >= fewest:
            of_row, of_column = _split(part)
            label = of_row[part.row]
            inside = label == of_column[part.col]
            if inside.any():
                r, c = part.rows[part.row[inside]], part.columns[part.col[inside]]
                # Groups of a split share no row or column: each is a component, or several.
                parts += _components(_Part.of(r, c))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some `rows` and `columns`, and the entries among them: (`row`, `col`) of these."""

    rows: Indices
    columns: Indices
    row: Indices
    col: Indices

    @staticmethod
    def of(row: Indices, col: Indices) -> "_Part":
        """The rows and columns that have entries."""
        rows, at_row = np.unique(row, return_inverse=True)
        columns, at_col = np.unique(col, return_inverse=True)
        return _Part(rows, columns, at_row, at_col)

    @property
    def matrix(self) -> Any:
        """Ones [rows, columns], sparse."""
        shape = len(self.rows), len(self.columns)
        return sparse.csr_matrix((np.ones(len(self.row)), (self.row, self.col)), shape=shape)


def _components(part: _Part) -> Iterator[_Part]:
    """The connected components of a part."""
    k, size = len(part.rows), len(part.rows) + len(part.columns)
    entries = (np.ones(len(part.row), np.int8), (part.row, part.col + k))
    graph = sparse.csr_matrix(entries, shape=(size, size))
    count, label = csgraph.connected_components(graph, directed=False)
    if count == 1:
        yield part
        return
    of_entry = label[part.row]
    order = np.argsort(of_entry, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(of_entry[order])) + 1):
        yield _Part.of(part.rows[part.row[some]], part.columns[part.col[some]])


def _split(part: _Part) -> tuple[Indices, Indices]:
    """A label for each row and column of a connected part; at least two labels."""
    k = len(part.rows)
    points = _embedding(part.matrix)
    label = _kmeans(points, min(VECTORS, len(points)))
    if np.ptp(label) == 0:  # Nothing tells them apart: halves.
        label = np.arange(len(points)) % 2
    return label[:k], label[k:]


def _embedding(ones: Any) -> npt.NDArray[np.float64]:
    """Rows and columns [K + N, vectors] as the smallest eigenvectors of the Laplacian place them.

    Of a bipartite graph these are the largest singular vectors of the matrix, scaled by degrees.
    """
    by_row = 1 / np.sqrt(np.asarray(ones.sum(1)).ravel())
    by_column = 1 / np.sqrt(np.asarray(ones.sum(0)).ravel())
    scaled = sparse.diags(by_row) @ ones @ sparse.diags(by_column)
    count = min(VECTORS, *ones.shape)
    u, v = _singular_vectors(scaled, count)
    points = np.concatenate([u * by_row[:, None], v * by_column[:, None]])
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(length > 0, length, 1)


def _singular_vectors(scaled: Any, count: int) -> tuple[Any, Any]:
    """The vectors [K, count] and [N, count] of the largest singular values, each by its value."""
    wide = scaled.shape[0] < scaled.shape[1]
    a = sparse.csr_matrix(scaled.T) if wide else scaled
    transposed, n = sparse.csr_matrix(a.T), a.shape[1]
    if n <= DENSE:
        v = np.linalg.eigh((transposed @ a).toarray())[1][:, -count:]
    else:
        gram = linalg.LinearOperator(
            (n, n), matvec=lambda x: transposed @ (a @ x), dtype=np.float64
        )
        settings: dict[str, Any] = {"v0": np.ones(n), "tol": TOLERANCE, "maxiter": RESTARTS}
        try:
            _, v = linalg.eigsh(gram, count, which="LA", **settings)
        except linalg.ArpackNoConvergence as error:
            v = error.eigenvectors
    u = a @ v
    return (v, u) if wide else (u, v)


def _kmeans(points: npt.NDArray[np.float64], count: int) -> Indices:
    """A label a point; the centres begin at points far from each other."""
    if not points.shape[1]:
        return np.zeros(len(points), np.int64)
    centres = points[:1]
    distance = ((points - centres[0]) ** 2).sum(1)
    while len(centres) < count and distance.max() > 1e-9:
        centres = np.concatenate([centres, points[[int(distance.argmax())]]])
        distance = np.minimum(distance, ((points - centres[-1]) ** 2).sum(1))
    label = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        squares = (centres**2).sum(1)
        new = np.asarray((squares - 2 * points @ centres.T).argmin(1))
        if np.array_equal(new, label):
            break
        label = new
        sums = np.zeros_like(centres)
        np.add.at(sums, label, points)
        sizes = np.bincount(label, minlength=len(centres))[:, None]
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
    return label
