"""A value as text: YAML as in the file, JSON for other programs, a scalar alone for a shell."""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from datetime import date
from typing import Any

from mmapstate.command.outcome import Failure
from mmapstate.text import writer


def flush() -> None:
    """Flush stdout; raise BrokenPipeError if nobody reads it any more, even when there is nothing new."""
    sys.stdout.flush()
    if sys.platform == "win32":  # tells that to who writes alone
        return
    import select

    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except io.UnsupportedOperation:  # a stream in memory
        return
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        raise BrokenPipeError("nobody reads stdout any more")


def printable(text: str) -> str:
    """Return a text from elsewhere, such as a file name, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def as_yaml(value: Any) -> str:
    """Return plain data as YAML, with its line end."""
    if isinstance(value, dict | list):
        return writer.dump(value).decode()
    return writer.dump([value]).decode().removeprefix("- ")  # a scalar is dumped in no other way


def as_scalar(value: Any) -> str:
    """Return a scalar as text without quotes or line end: dates as in ISO 8601, bytes in base64."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date):
        return value.isoformat()
    return as_yaml(value).removesuffix("\n")


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Return plain data as JSON; with `indent` over several lines. What JSON lacks is text, NaN and infinity are null.

    Raises `Failure` where two keys of a mapping would be the same.
    """
    return json.dumps(_for_json(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        found = {as_scalar(key): _for_json(item) for key, item in value.items()}
        if len(found) != len(value):
            raise Failure("two keys of a mapping are the same in JSON, a number and its text: look at it as YAML")
        return found
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return as_scalar(value) if isinstance(value, date | bytes) else value
