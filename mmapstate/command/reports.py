"""The subcommands that tell how a file is, and those that put it right: check, repair."""

from __future__ import annotations

from typing import Any

from mmapstate import inspection, repairs
from mmapstate.command.outcome import FAILED, LOST, WELL
from mmapstate.findings import NOTE

__all__ = ["check", "repair"]


def check(options: Any) -> int:
    """Print what is odd about a file."""
    found = inspection.check(options.file)
    for finding in found:
        print(finding)
    if not found:
        print(f"{options.file}: all is well")
    return FAILED if any(finding.severity != NOTE for finding in found) else WELL


def repair(options: Any) -> int:
    """Make a broken file one that can be opened."""
    done = repairs.repair(options.file)
    for finding in done.findings:
        print(finding)
    if done.copy is None:
        print(f"{options.file}: there is nothing to repair")
    else:
        print(f"{options.file}: repaired; as it was before it is in {done.copy}")
    return LOST if done.lost_something else WELL
