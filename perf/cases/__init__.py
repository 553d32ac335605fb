"""The cases: a small file for each row of what is promised, some with variants."""

from perf.cases import apart, count, cron, growth, opening, power, read, readers, shell, workers

__all__ = ["CASES"]

CASES = (
    *count.CASES,
    *read.CASES,
    *workers.CASES,
    *readers.CASES,
    *opening.CASES,
    *cron.CASES,
    *growth.CASES,
    *power.CASES,
    *apart.CASES,
    *shell.CASES,
)
