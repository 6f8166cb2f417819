"""Accuracy with intervals, cost side by side, results as data (numpy, scipy; torch only for cost)."""

from .correlation import (
    Correlation,
    compare,
    compare_over_domains,
    correlate,
    fitted,
    mean_over_domains,
    plcc,
    plcc_fitted,
    srcc,
)
from .efficiency import SideBySide, Spread, count_parameters, measure_side_by_side, peak_memory
from .protocol import LeakageError, Protocol, assert_disjoint
from .results import Record, read_records, write_records
from .samples import CollapsedScores

__all__ = [
    "CollapsedScores",
    "Correlation",
    "LeakageError",
    "Protocol",
    "Record",
    "SideBySide",
    "Spread",
    "assert_disjoint",
    "compare",
    "compare_over_domains",
    "correlate",
    "count_parameters",
    "fitted",
    "mean_over_domains",
    "measure_side_by_side",
    "peak_memory",
    "plcc",
    "plcc_fitted",
    "read_records",
    "srcc",
    "write_records",
]
