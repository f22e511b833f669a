"""Commands typed one after the other in a project of their own: each is shown, and really run as a process."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl.cli import output as show
from modelctl.errors import ModelctlError

if TYPE_CHECKING:
    from modelctl.engine.servers import ServerRecord

# A server that still loads takes five seconds to end.
_GRACE = 10.0


class Session:
    """A folder, an environment, and who is shown what is typed there."""

    def __init__(self, out: show.Output, *, folder: Path, environ: Mapping[str, str]) -> None:
        self._out = out
        self._folder = folder
        self._environ = dict(environ)

    def type(self, *words: str) -> None:
        """Run `modelctl WORDS` to its end; `ModelctlError` where that is a failure."""
        with self._typed(words, heard=self._out.json) as process:
            _Heard(self._out, words).rest(process)
            code = process.wait()
        _check(words, code)

    @contextlib.contextmanager
    def server(self, *words: str) -> Iterator["ServerRecord"]:
        """Run `modelctl WORDS`, a `serve`, for as long as the context lasts: its record, once it is ready."""
        from modelctl.engine import servers

        with self._typed(words, heard=True) as process:
            heard = _Heard(self._out, words)
            if not heard.until_ready(process):
                raise _failure(words, process.wait())
            yield next(record for record in servers.running() if record.pid == process.pid)
            process.terminate()
            heard.rest(process)
            code = process.wait()
        _check(words, code)

    @contextlib.contextmanager
    def _typed(self, words: tuple[str, ...], *, heard: bool) -> Iterator[subprocess.Popen[str]]:
        """A running command; with `heard` its output comes through a pipe, else it goes where ours goes."""
        if self._out.json:
            self._out.event("stage", stage=" ".join(_command(words)), command=["modelctl", *words])
        else:
            self._out.line(f"\n$ {shlex.join(['modelctl', *words])}")
        at = words.index("--") if "--" in words else len(words)
        asked = [*words[:at], *(["--json"] if self._out.json else []), *words[at:]]
        process = subprocess.Popen(
            [sys.executable, "-m", "modelctl", *asked],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if heard else None,
            encoding="utf-8",
            errors="backslashreplace",
            # Ctrl-C reaches us alone, so that it is ended once and waited for.
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                _end(process)


class _Heard:
    """Passes on what a command prints: lines as they are, or each JSON value as an event."""

    def __init__(self, out: show.Output, words: tuple[str, ...]) -> None:
        self._out = out
        self._command = " ".join(_command(words))
        self._text = ""

    def until_ready(self, process: subprocess.Popen[str]) -> bool:
        """Listen until a server has said all that it says when it is ready; false where it ended before."""
        return any(self._line(line) for line in process.stdout or ())

    def rest(self, process: subprocess.Popen[str]) -> None:
        """Listen to the end."""
        for line in process.stdout or ():
            self._line(line)

    def _line(self, line: str) -> bool:
        if not self._out.json:
            self._out.line(line.rstrip("\n"))
            # The last thing that `serve` says then: a request to try.
            return line.startswith("curl ")
        self._text += line
        try:
            value = json.loads(self._text)
        except ValueError:
            return False  # an object over several lines
        self._text = ""
        self._out.event("output", command=self._command, output=value)
        return isinstance(value, dict) and value.get("stage") == "ready"


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    return words[: 2 if words[0] == "engine" else 1]


def _end(process: subprocess.Popen[str]) -> None:
    """End a command that still runs, without a word from it, and wait; what does not listen is killed."""
    if process.poll() is not None:
        return
    number = signal.SIGTERM
    while process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            number = signal.SIGKILL
        except KeyboardInterrupt:
            number = signal.SIGINT  # a server takes that for impatience
    _release_terminal()


def _release_terminal() -> None:
    """Give back what a command that was ended may hold: the cursor, and the line that it wrote to."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        console.show_cursor()
        console.line()


def _check(words: tuple[str, ...], code: int) -> None:
    if code:
        raise _failure(words, code)


def _failure(words: tuple[str, ...], code: int) -> ModelctlError:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    command = shlex.join(["modelctl", *words])
    return ModelctlError(f"`{command}` {how}", hint="what it said is above", command=["modelctl", *words], exit=code)
