"""`fine-tune`: weights learn, the structure stays."""

from dataclasses import dataclass
from typing import ClassVar

from xbarc.train.method import Method


@dataclass(frozen=True)
class FineTune(Method):
    """All weights learn but those that are zero in the network given, which stay zero."""

    name: ClassVar[str] = "fine-tune"
