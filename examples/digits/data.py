"""scikit-learn's handwritten digits as the network takes them, and how they are split."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def load() -> tuple[Images, Images, Labels, Labels]:
    """Training images, held-out images, training labels, held-out labels.

    Images are (N, 1, 8, 8), scaled from 0..16 to 0..1; 1257 train, 540 are held out.
    """
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.3, random_state=0, stratify=labels
    )
    return train_x, test_x, train_y, test_y
