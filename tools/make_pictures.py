"""Make the pictures of the README: ``mmapstate watch`` and ``mmapstate edit``, as they are in a real terminal.

    python -m pip install -e .[pictures]
    python tools/make_pictures.py [FOLDER]

The command runs in a pty, `pyte` is the terminal, and what stands on its screen becomes an SVG of text. Programs write
to the state meanwhile; the editor is the one that is named below, or a terminal that types. No fonts are brought along.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyte

ROOT = Path(__file__).resolve().parent.parent

STATE = """\
# Settings of the mill. Ask the miller first!
limit: 5  # sacks a day
hosts:
  brook: {port: 8080}
# Written by programs
ground: 0
sold: 0
price: 1.25
queue: []
"""

# What programs do meanwhile: a worker that grinds, one that sells.
PROGRAM = """
import random, sys, time
import mmapstate

with mmapstate.open(sys.argv[1]) as state:
    while True:
        with state.transaction():
            if sys.argv[2] == "ground":
                state["queue"].append({"sack": state.increment("ground")})
            elif state["queue"]:
                state["queue"].pop(0)
                state["sold"] += 1
                state["price"] = round(random.uniform(1, 2), 2)
        time.sleep(random.expovariate(220 if sys.argv[2] == "ground" else 180))
"""

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
WIDTH, HEIGHT = 8.4, 18  # pixels of a character, at 14 pixels
BACKGROUND, FOREGROUND = "#1e1e2e", "#d8dee9"
COLORS = {
    "default": FOREGROUND, "black": "#45475a", "red": "#f38ba8", "green": "#a6e3a1", "brown": "#f9e2af",
    "blue": "#89b4fa", "magenta": "#cba6f7", "cyan": "#94e2d5", "white": "#cdd6f4",
}  # fmt: skip


class Session:
    """A command in a terminal."""

    def __init__(self, folder: Path, command: list[str], columns: int, lines: int, **variables: str) -> None:
        self.screen: Any = pyte.Screen(columns, lines)
        self.stream: Any = pyte.ByteStream(self.screen)
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            environment = {**os.environ, "TERM": "linux", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
            os.execvpe(command[0], command, environment | variables)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def until(self, found: Callable[[str], bool], seconds: float = 30) -> None:
        """Let it draw until its screen is as is waited for, and nothing more comes for a moment."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self.descriptor], [], [], 0.2)
            if ready:
                try:
                    self.stream.feed(os.read(self.descriptor, 65536))
                except OSError:  # so Linux tells the end
                    break
            if found("\n".join(self.screen.display)) and not ready:
                return
        raise TimeoutError("\n".join(self.screen.display))

    def end(self) -> None:
        self.type("\x03")
        os.close(self.descriptor)
        os.waitpid(self.pid, 0)


def svg(screen: Any, title: str) -> str:
    """Return the screen of a terminal as a picture: a window with its title, and a text for each run of one style."""
    rows = [[screen.buffer[line][column] for column in range(screen.columns)] for line in range(screen.lines)]
    while rows and not "".join(character.data for character in rows[-1]).strip():
        rows.pop()
    width, height = screen.columns * WIDTH + 32, len(rows) * HEIGHT + 64
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        *(
            f'<circle cx="{20 + 18 * i}" cy="18" r="5.5" fill="{c}"/>'
            for i, c in enumerate(("#f38ba8", "#f9e2af", "#a6e3a1"))
        ),
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" font-family="{FONT}" font-size="13" fill="#7f849c">'
        f"{escape(title)}</text>",
        f'<g font-family="{FONT}" font-size="14" xml:space="preserve">',
    ]
    for number, row in enumerate(rows):
        out += [line(run, start, number) for start, run in runs(row)]
    return "\n".join([*filter(None, out), "</g>", "</svg>", ""])


def runs(row: list[Any]) -> list[tuple[int, list[Any]]]:
    """Return the runs of characters of one style in a row, each with its column."""
    found: list[tuple[int, list[Any]]] = []
    for column, character in enumerate(row):
        style = character._replace(data="")
        if found and found[-1][1][0]._replace(data="") == style:
            found[-1][1].append(character)
        else:
            found.append((column, [character]))
    return found


def line(run: list[Any], column: int, number: int) -> str:
    """Return a run of characters as a text, with its background where that is not the window's."""
    text = "".join(character.data for character in run)
    style = run[0]
    front, back = color(style.fg, FOREGROUND), color(style.bg, BACKGROUND) if style.bg != "default" else BACKGROUND
    if style.reverse:
        front, back = back, front
    x, y = 16 + column * WIDTH, 52 + number * HEIGHT
    box = ""
    if back != BACKGROUND:
        box = f'<rect x="{x:g}" y="{y - 13}" width="{len(run) * WIDTH:g}" height="{HEIGHT}" fill="{back}"/>\n'
    if not text.strip():
        return box.rstrip()
    weight = ' font-weight="bold"' if style.bold else ""
    length = f' textLength="{len(text.rstrip()) * WIDTH:g}"'
    return f'{box}<text x="{x:g}" y="{y}"{length}{weight} fill="{front}">{escape(text.rstrip())}</text>'


def color(name: str, default: str) -> str:
    return default if name == "default" else COLORS.get(name, f"#{name}" if len(name) == 6 else default)


def watch(folder: Path) -> str:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "mill.state", name], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for name in ("ground", "sold")
    ]
    try:
        session = Session(folder, [sys.executable, "-m", "mmapstate", "watch", "mill.state", "-n", "0.5"], 64, 12)
        time.sleep(4)  # rates are those of the last seconds
        session.until(lambda shown: "/s" in shown)
        picture = svg(session.screen, "mmapstate watch mill.state")
        session.end()
        return picture
    finally:
        for program in programs:
            program.kill()
            program.wait()


def edit(folder: Path) -> str:
    """Change the limit, as a program does at the same time: the editor opens again, with both values."""
    settings = "syntax on|set background=dark|set laststatus=0|set noruler|set noswapfile|hi Comment ctermfg=2"
    editor = f"vim --clean -c '{settings}'"
    session = Session(folder, [sys.executable, "-m", "mmapstate", "edit", "mill.state"], 84, 15, VISUAL=editor)
    session.until(lambda shown: "limit: 5" in shown)
    subprocess.run(
        [sys.executable, "-m", "mmapstate", "set", "mill.state", "limit", "6"],
        cwd=folder,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    session.type("/limit\r$F5r7:wq\r")
    session.until(lambda shown: "theirs" in shown and "yours" in shown)
    picture = svg(session.screen, "mmapstate edit mill.state")
    session.type(":q!\r")
    session.until(lambda shown: "[e]dit again" in shown)
    session.end()
    return picture


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tools" / "pictures"
    target.mkdir(exist_ok=True)
    for name, make in (("watch", watch), ("edit", edit)):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "mill.state").write_text(STATE)
            picture = make(Path(folder))
        (target / f"{name}.svg").write_text(picture, encoding="utf-8")
        print(target / f"{name}.svg")


if __name__ == "__main__":
    main()
