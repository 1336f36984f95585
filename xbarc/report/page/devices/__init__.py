"""Real devices: a picture a file."""

from xbarc.report.page.devices.whole import section

__all__ = ["section"]
