"""What an epoch came to."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """One epoch: losses, accuracies 0 to 1 (None without labels), and a method's figures.

    Epoch 0 is the network before training: its `loss` is None.
    """

    epoch: int
    rate: float
    loss: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """The mean loss over some samples, and the accuracy where they have labels."""

    loss: float
    accuracy: float | None
