"""Changes real YAML files at random places, and tells how much of them changed that need not have, and what was lost.

    python -m tools.real_files FOLDER                   # whose files, in all its folders, are taken; none is changed
    python -m tools.real_files FOLDER --beside          # and the same by ruamel.yaml, if that is installed (slow)
    python -m tools.real_files FOLDER --show delete     # what was not as it should be, as diffs

Taken are files that are one document with a mapping at its top, without anchors and tags. Each is changed by each kind
of edit at up to `--edits` places. An edit is *as it should be* if its result holds the wanted state, no comment is lost
and no line is needless. A comment is *lost* if it is no longer there, and was none of what was removed: in its lines,
directly above it (but for a block of comments that begins the file), or directly below it and deeper than it. A line is
*needless* if it is none of the lines that make the edit, judged by places that PyYAML tells, not by this library's:

- set, several, rename: the text with nothing but those scalars replaced, in the quotes that they had, is the only right
  one; each line that differs from it is needless.
- text (of several lines): one line has another word, is gone, or is there twice. The only right one is that line edited
  by hand.
- delete, drop (an item): the lines of the entry go, and of the comments and blank lines around it those that are its
  own; what is behind the dash in the line of a first key is followed by the next one. Where it stood no more blank
  lines follow each other than above or below it before, and some if there were some on both sides. In flow style
  nothing but the entry, a comma and blanks go.
- add, append: one line comes, behind the last entry, in its column, with its distance from dash or colon, in the quotes
  that all others have which need none (without any if no other one has any). In flow style nothing else comes.
- record (an item that is a copy of the last one, with another text), nested (a mapping with a list and a mapping in
  it): the new lines come together and nothing else changes. A record has each line where the last one has it, indented
  and quoted as that is, without its comments. In a nested one keys are indented as mappings are in that file, lists as
  lists are (most of them), or in flow style if some are; it is in flow style itself if all of its siblings are.
- clear: the lines of what was in it go, `[]` or `{}` comes, with the comment that stood behind the key; blank lines as
  above.
"""

from __future__ import annotations

import argparse
import difflib
import random
import sys
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from mmapstate import StateFileError
from mmapstate.text import snapshot
from mmapstate.text.patch import CannotPatch
from mmapstate.values import same
from tools.edits.files import Edit, File, comments_of
from tools.edits.kinds import KINDS, Kinds


def by_patch(file: File, edit: Edit) -> str | None:
    try:
        return snapshot.patch(file.data, edit.wanted).decode()
    except CannotPatch:
        return None


def by_ruamel(file: File, edit: Edit) -> str | None:
    from ruamel.yaml import YAML, util

    try:
        _, indent, offset = util.load_yaml_guess_indent(file.text)
        tool = YAML()
        tool.preserve_quotes = True
        tool.width = 100_000
        if indent is not None:
            steps, _ = file.indentations()
            tool.indent(mapping=steps[0], sequence=indent, offset=offset)
        tool.explicit_start = any(line.split("#")[0].strip() == "---" for line in file.lines)
        data = tool.load(file.text)
        edit.apply(data)
        out = StringIO()
        tool.dump(data, out)
    except Exception:  # whatever it raises: it did not do it
        return None
    return out.getvalue()


class Row:
    def __init__(self) -> None:
        self.edits = self.right = self.needless = self.lost = self.failed = 0

    def judge(self, file: File, edit: Edit, text: str | None) -> bool:
        """Count an edit's result; return whether it is as it should be."""
        self.edits += 1
        if text is None or not held(text, edit.wanted):
            self.failed += 1
            return False
        needless = edit.judge(text.splitlines())
        there = Counter(comment for _, comment in comments_of(text))
        wanted = Counter(text for line, text in file.comments if not edit.may_go[0] <= line < edit.may_go[1])
        lost = sum((wanted - there).values())
        self.needless, self.lost = self.needless + needless, self.lost + lost
        self.right += not needless and not lost
        return not needless and not lost

    def __str__(self) -> str:
        share = 100 * self.right / self.edits if self.edits else 100
        return f"{share:8.2f} % {self.needless:9,} {self.lost:6,} {self.failed:6,}"


def held(text: str, wanted: Any) -> bool:
    try:
        return same(snapshot.parse(text.encode(), ""), wanted)
    except StateFileError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--edits", type=int, default=2, metavar="N", help="of each kind and file (default: %(default)d)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", action="store_true", help="let ruamel.yaml do the same")
    parser.add_argument("--show", choices=KINDS, help="print what is not as it should be")
    options = parser.parse_args()
    tools = {"mmapstate": by_patch} | ({"ruamel.yaml": by_ruamel} if options.beside else {})
    rows = {(name, kind): Row() for name in tools for kind in (*KINDS, "all")}
    count = 0
    for path in sorted(each for each in options.folder.rglob("*") if each.is_file()):
        try:
            file = File(path)
        except (StateFileError, ValueError, yaml.YAMLError):
            continue
        count += 1
        for kind in KINDS:
            kinds = Kinds(file, random.Random(f"{options.seed} {path.name} {kind}"))
            for edit in [getattr(kinds, kind)() for _ in range(options.edits)]:
                for name, tool in tools.items():
                    if edit is None:
                        continue
                    text = tool(file, edit)
                    fine = rows[name, kind].judge(file, edit, text)
                    rows[name, "all"].judge(file, edit, text)
                    if not fine and kind == options.show:
                        show(path, file, text, name)
    print(f"{count} files of {options.folder.name}; as it should be, needless lines, comments lost, failed")
    for name in tools:
        print(f"{name:16}")
        for kind in (*KINDS, "all"):
            print(f"  {kind:10}{rows[name, kind].edits:7,} {rows[name, kind]}")
    return 0


def show(path: Path, file: File, text: str | None, name: str) -> None:
    after = ["it could not"] if text is None else text.splitlines()
    print(f"=== {path.name} by {name}", *difflib.unified_diff(file.lines, after, lineterm="", n=2), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
