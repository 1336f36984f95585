"""What is random in a training follows from numbers, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from xbarc.support.threads import thread_count
from xbarc.train.settings import Settings


@contextmanager
def determined(settings: Settings) -> Iterator[None]:
    """torch's threads and random numbers are this training's own, and given back."""
    threads = torch.get_num_threads()
    devices = [] if settings.torch_device == "cpu" else [torch.device(settings.torch_device)]
    with torch.random.fork_rng(
        devices=devices, device_type=torch.device(settings.torch_device).type
    ):
        torch.set_num_threads(thread_count(settings.threads))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
