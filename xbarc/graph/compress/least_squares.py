"""Linear fits in closed form, from sums that are gathered batch by batch."""

import numpy as np

from xbarc.support.data import Array
from xbarc.support.errors import XbarcError

RIDGE = 1e-4
"""Weight of the prior, as a share of the mean variance of the features.

Where features never vary, or samples are fewer than features, the data leave weights open and the
prior decides. Where the data decide, the prior moves a weight by about this share of the distance
between the two.
"""


class Moments:
    """Sums over samples of features and targets: all that a linear fit needs of the data.

    Memory is (features + targets)^2 numbers, however many samples there are.
    """

    def __init__(self, features: int, targets: int) -> None:
        size = features + targets
        self.features = features
        self.count = 0
        self._sum = np.zeros(size)
        self._products = np.zeros((size, size))

    def add(self, features: Array, targets: Array) -> None:
        """Count in samples: `features` [features, samples], `targets` [targets, samples]."""
        joint = np.concatenate([features, targets]).astype(np.float32, copy=False)
        self.count += joint.shape[1]
        self._sum += joint.sum(axis=1, dtype=np.float64)
        self._products += joint @ joint.T

    @property
    def means(self) -> tuple[Array, Array]:
        """The means of features and targets. Raises XbarcError where there are no samples."""
        mean = self._mean()
        return mean[: self.features], mean[self.features :]

    def covariance(self) -> tuple[Array, Array, Array]:
        """Covariances: features [F, F], features with targets [F, T]; variances of targets [T]."""
        mean, f = self._mean(), self.features
        whole = self._products / self.count - np.outer(mean, mean)
        return whole[:f, :f], whole[:f, f:], np.maximum(np.diagonal(whole)[f:], 0)

    def _mean(self) -> Array:
        if not self.count:
            raise XbarcError("no calibration data: the arrays have no samples")
        return self._sum / self.count


def fit(features: Array, cross: Array, prior: Array) -> Array:
    """The weights [T, F] of ridge regression of targets on features, pulled towards `prior` [T, F].

    `features` [F, F] and `cross` [F, T] are covariances, so the bias is not in the weights: it is
    `mean(targets) - weights @ mean(features)`. `RIDGE` says how strongly the prior pulls.
    """
    size = len(features)
    weight = RIDGE * float(np.trace(features)) / size or 1.0
    return np.asarray(np.linalg.solve(features + weight * np.eye(size), cross + weight * prior.T).T)


def residual(features: Array, cross: Array, variances: Array, weights: Array) -> float:
    """The relative error of a fit: sqrt(unexplained / whole variance of all targets), 0 to 1."""
    whole = float(variances.sum())
    explained = 2 * float(np.sum(weights * cross.T)) - float(np.sum(weights @ features * weights))
    return float(np.sqrt(max(whole - explained, 0) / whole)) if whole > 0 else 0.0
