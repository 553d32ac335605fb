"""Feeds state files that a coverage-guided fuzzer makes up to the reader of files: each is read or refused, and soon.

    pip install atheris
    python tools/fuzz.py --minutes 30

What makes it fail is kept by the fuzzer in a file ``crash-...``; ``python tools/fuzz.py crash-...`` reads it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / part) for part in ("tests", "tests/chaos", ".")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="how long (default: %(default)g)")
    parser.add_argument("files", nargs="*", help="files to read, instead of making some up")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed here; python tools/torture.py fuzz does without it", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["mmapstate"]):
        from support.state_bytes import FILES
        from test_fuzz import survives
    with tempfile.TemporaryDirectory() as corpus:
        for name, data in FILES.items():
            Path(corpus, name.replace(" ", "-")).write_bytes(data)
        amount = options.files or [corpus, f"-max_total_time={options.minutes * 60:.0f}", "-max_len=4000"]
        atheris.Setup([sys.argv[0], *amount], survives)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
