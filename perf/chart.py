"""The chart of a run as an SVG: for some cases a bar for each contender, on a scale where each step is ten times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["SHOWN", "chart"]

SHOWN = ("count", "read", "workers-4-one", "workers-8-one", "open-killed-as-is")
_WIDTH, _LABELS, _BAR, _STEP, _TITLE = 760, 210, 14, 20, 44
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:13px}"
    ".ours{fill:#c2410c}.other{fill:#64748b}.floor{fill:#cbd5e1}"
)


def chart(results: Mapping[str, Any], shown: Sequence[str] = SHOWN) -> str:
    """Return the text of the SVG. A contender with a wrong total has no bar, but its name and the word."""
    parts: list[str] = []
    y = 10
    for case in results["cases"]:
        if case["name"] in shown and case["contenders"][0]["median"]:
            y = _panel(parts, case, y)
    machine = escape(f"{results['machine']['python']}, {results['machine']['processor']}")
    parts.append(f'<text x="10" y="{y + 12}">{machine}; times on a logarithmic scale, shorter is better</text>')
    size = f'width="{_WIDTH}" height="{y + 24}" viewBox="0 0 {_WIDTH} {y + 24}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>mmapstate beside others</title>'
        f"<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(parts: list[str], case: Mapping[str, Any], y: int) -> int:
    """Draw one case from `y` on; return where the next begins."""
    lines = sorted(case["contenders"], key=lambda line: (bool(line["failed"]), line["median"] or math.inf))
    known = [line["median"] for line in lines if line["median"] and not line["failed"]]
    lowest = math.log10(min(known)) - 0.3
    wide = (_WIDTH - _LABELS - 110) / (math.log10(max(known)) - lowest)
    parts.append(f'<text class="title" x="10" y="{y + 18}">{escape(case["title"])} ({case["unit"]})</text>')
    for number, line in enumerate(lines):
        top = y + _TITLE - 16 + number * _STEP
        parts.append(f'<text x="{_LABELS - 8}" y="{top + 11}" text-anchor="end">{escape(line["name"])}</text>')
        if line["failed"] or not line["median"]:
            parts.append(f'<text x="{_LABELS}" y="{top + 11}">wrong</text>')
            continue
        length = (math.log10(line["median"]) - lowest) * wide
        ours = line["name"] == case["contenders"][0]["name"]
        kind = "ours" if ours else "floor" if "floor" in line["name"] or "no locks" in line["name"] else "other"
        parts.append(f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{length:.0f}" height="{_BAR}"/>')
        parts.append(f'<text x="{_LABELS + length + 6:.0f}" y="{top + 11}">{line["median"]:,.3g}</text>')
    return y + _TITLE + len(lines) * _STEP
