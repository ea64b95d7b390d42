"""Whether a likelihood can be trusted: one report for any model, and a test for any claimed code length.

audit.report(model, x)     bounds, exact and coded figures of a model on items, calibration, and what would unmask them
audit.coins(claim)         whether a function from items to nats can be a likelihood at all, on four coins
audit.kraft(claim, …)      the same on items of any small shape
"""

from ardm.audit.claims import SOURCES, Verdict, coins, kraft, source
from ardm.audit.results import Budget, Check, Figure, Reliability, Report
from ardm.audit.run import report

__all__ = [
    "SOURCES",
    "Budget",
    "Check",
    "Figure",
    "Reliability",
    "Report",
    "Verdict",
    "coins",
    "kraft",
    "report",
    "source",
]
