"""Real devices: a picture a file."""

from xbarc.report.page.devices.section import section

__all__ = ["section"]
