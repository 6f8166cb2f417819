"""Accuracy with intervals, cost side by side, results as data; only cost needs torch."""

from rali_lab.estimate import Estimate
from rali_lab.evaluate.correlation import (
    compare,
    compare_over_domains,
    correlate,
    fitted,
    mean_over_domains,
    plcc,
    plcc_fitted,
    srcc,
)
from rali_lab.evaluate.efficiency import (
    SideBySide,
    Spread,
    count_parameters,
    measure_side_by_side,
    peak_memory,
)
from rali_lab.evaluate.protocol import LeakageError, Protocol, assert_disjoint
from rali_lab.evaluate.results import Record, read_records, write_records
from rali_lab.evaluate.samples import CollapsedScores

__all__ = [
    "CollapsedScores",
    "Estimate",
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
