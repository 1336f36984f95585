"""Pages about compiled programs: self-contained HTML, readable offline."""

from xbarc.report.compare import compare_page, compare_programs
from xbarc.report.html import write_page
from xbarc.report.page.page import report_page

__all__ = ["compare_page", "compare_programs", "report_page", "write_page"]
