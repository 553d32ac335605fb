"""The subcommands about files: info, check, repair."""

from __future__ import annotations

from typing import Any

from mmapstate.care.info import Info, Process
from mmapstate.care.info import info as look
from mmapstate.command import output
from mmapstate.command.outcome import FAILED, LOST, WELL


def info(options: Any) -> int:
    """Print sizes, and who uses the file."""
    found = look(options.file)
    if options.json:
        print(output.as_json(_for_json(found)))
        return WELL
    print(found.file)
    parts = f"snapshot {found.snapshot:,}, journal {found.journal:,}, slack {found.slack:,}"
    print(f"size        {found.size:,} bytes: {parts}")
    if found.generation is None:
        print("journal     none: the file is at rest")
    else:
        records = f"{found.records:,} record{'s' if found.records != 1 else ''}"
        print(f"journal     {records} since the last vacuum; generation {found.generation}")
    if found.users is None:
        print("used by     this system does not tell")
        return WELL
    print(f"lock        {f'held by {_named(found.holder)}' if found.holder else 'free'}")
    for number, user in enumerate(found.users):
        print(f"{'' if number else 'used by':10}  {_named(user)}")
    if not found.users:
        print("used by     nobody, or by programs that only read")
    return WELL


def _named(process: Process) -> str:
    if not process.pid:
        return "a process that cannot be seen from here"
    return f"{process.pid}  {output.printable(process.command)}".rstrip()


def _for_json(found: Info) -> dict[str, Any]:
    holder = found.holder and found.holder._asdict()
    users = None if found.users is None else [user._asdict() for user in found.users]
    return found._asdict() | {"at_rest": found.at_rest, "holder": holder, "users": users}


def check(options: Any) -> int:
    """Print what is odd about a file."""
    from mmapstate.care.check import check as look
    from mmapstate.care.findings import NOTE

    found = look(options.file)
    for finding in found:
        print(finding)
    if not found:
        print(f"{options.file}: all is well")
    return FAILED if any(finding.severity != NOTE for finding in found) else WELL


def repair(options: Any) -> int:
    """Make a broken file one that can be opened."""
    from mmapstate.care.repair import repair as mend

    done = mend(options.file)
    for finding in done.findings:
        print(finding)
    if done.copy is None:
        print(f"{options.file}: there is nothing to repair")
    else:
        print(f"{options.file}: repaired; as it was before it is in {done.copy}")
    return LOST if done.lost_something else WELL
