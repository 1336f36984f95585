"""How good a segmentation is: pixel accuracy, IoU, and the ISBI 2012 challenge's Rand score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Cells = NDArray[np.bool_]
Labels = NDArray[np.int32]

THRESHOLDS = np.arange(1, 10) / 10
"""Probabilities of being a cell; the challenge scores the best threshold."""


def pixel_accuracy(proposed: Cells, true: Cells) -> float:
    """Share of pixels that are what they should be, 0 to 1."""
    return float((proposed == true).mean())


def membrane_iou(proposed: Cells, true: Cells) -> float:
    """Pixels that both call membrane over those that either does, 0 to 1."""
    return float((~proposed & ~true).sum() / max(1, (~proposed | ~true).sum()))


def segments(cells: Cells) -> Labels:
    """(H, W): each cell's own number from 1 up, 0 for membrane. Cells touch along edges."""
    labels, _ = ndimage.label(cells)
    return np.asarray(labels, np.int32)


def thinned(labels: Labels) -> Labels:
    """Membranes without width: each of their pixels goes to the nearest cell.

    The challenge thins a proposal before it is scored, to a skeleton of one pixel.
    """
    if not labels.any():
        return labels
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(nearest)])


def v_rand(proposed: Labels, true: Labels) -> float:
    """Foreground-restricted Rand score V of two labellings, 0 to 1.

    With p_ij the share of pixels in segment i of `proposed` and j of `true`:
    V = sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2), s_i = sum_j p_ij, t_j = sum_i p_ij; so the
    harmonic mean of the split and the merge score. Pixels where `true` is 0 don't count; of the
    others, each where `proposed` is 0 is a segment of its own. (Arganda-Carreras et al., Frontiers
    in Neuroanatomy 9:142, 2015, with alpha = 0.5.)
    """
    inside = true > 0
    i, j = proposed[inside].astype(np.int64), true[inside].astype(np.int64)
    alone = int((i == 0).sum())

    def pairs(labels: NDArray[np.int64]) -> float:
        counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
        return float((counts**2).sum())

    both = i * (j.max(initial=0) + 1) + j
    together = pairs(both[i > 0]) + alone
    return 2 * together / (pairs(i[i > 0]) + alone + pairs(j))


def best_v_rand(probabilities: Sequence[NDArray[np.float32]], true: Sequence[Cells]) -> float:
    """The mean `v_rand` over images (H, W), proposals thinned, at the threshold that suits best."""
    truth = [segments(cells) for cells in true]
    return max(
        float(
            np.mean(
                [
                    v_rand(thinned(segments(p > threshold)), t)
                    for p, t in zip(probabilities, truth, strict=True)
                ]
            )
        )
        for threshold in THRESHOLDS
    )
