"""Reports from stored runs: tables, sentences, charts, and one HTML file that works offline."""

from studbook.report.aggregate import table
from studbook.report.figures import chart
from studbook.report.run import Cell, Pictures, Run, load_run
from studbook.report.sentences import summary
from studbook.report.tables import without_bins
from studbook.report.write import write_report

__all__ = ["Cell", "Pictures", "Run", "chart", "load_run", "summary", "table", "without_bins", "write_report"]
