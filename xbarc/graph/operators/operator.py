"""One operator: all that xbarc knows of it beside what it computes."""

from dataclasses import dataclass

from xbarc.graph.operators.costs import OTHER, Cost
from xbarc.graph.operators.products import Products, uncounted
from xbarc.graph.operators.rows import RowRule
from xbarc.graph.operators.shrinking import ShrinkRule
from xbarc.graph.operators.ties import ChannelRule
from xbarc.graph.query import ONNX_DOMAINS


@dataclass(frozen=True)
class Operator:
    """The rules of one operator; each that is left out is the safe one.

    `cost`: what it costs in the digital unit (one operation of class `other` a result).
    `products`: how often it multiplies and accumulates, which is then its cost (not at all).
    `rows`: which rows of its operands a row of its results waits for (all of all).
    `channels`: which channels of its operands and results hang together (none may go).
    `digital`: why one that multiplies never stands on crossbars.
    `shrink`: makes its attributes and constants fit when channels go (nothing of them says sizes).
    """

    op_type: str
    domain: str = ""
    cost: Cost = OTHER
    products: Products | None = None
    rows: RowRule | None = None
    channels: ChannelRule | None = None
    digital: str = ""
    shrink: ShrinkRule | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Domain and type, the default domain by its short name."""
        return domain_of(self.domain), self.op_type

    @property
    def name(self) -> str:
        """`Relu`; with its domain where that isn't ONNX's own: `com.microsoft.QuickGelu`."""
        return ".".join(filter(None, self.key))

    @property
    def counts_products(self) -> bool:
        """Whether it multiplies and accumulates, as often as its shapes tell."""
        return self.products is not None and self.products is not uncounted


def domain_of(domain: str) -> str:
    """A domain, ONNX's own by its short name."""
    return "" if domain in ONNX_DOMAINS else domain
