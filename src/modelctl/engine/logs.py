"""The logs of servers: which one is meant, and the lines of it, from a point in time on or as they come."""

import contextlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

_LAST = 4 * 2**20
# More of a line is not read for what it means: what a model brings can stand in it, of any length.
LONGEST = 8192
_CHUNK = 1 << 20
_END = re.compile(rb"[\r\n]")
# "ORG--NAME.20261122T235700Z.002fe3f8.log"
_NAME = re.compile(r"(?P<model>.+)\.(?P<time>\d{8}T\d{6}Z)\.(?P<id>[0-9a-f]{8})\.log")
# "(EngineCore pid=9240) INFO 11-22 21:52:21 [core.py:1510]": local time, without a year.
_READY = re.compile(rb"^\(modelctl pid=\d+\) INFO \S+ \S+ \[serve\] ready after (\d{1,7}\.\d) s$", re.MULTILINE)
_STAMP = re.compile(r"^(?:\(\w+(?:[^\w)][^)]*)?\)\s+)?[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) \[")


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """The log of one server that runs or ran: of which model, since when."""

    id: str
    model: str
    since: datetime
    path: Path


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log, and when it was written: as late as the one before where it does not tell."""

    time: datetime | None
    text: str


class LogReader:
    """The lines that a log gains. Progress bars end a line with a carriage return."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = ""

    def lines(self) -> list[str]:
        """The whole lines that came since the last call, long ones cut; none of a log that somebody has taken away."""
        new = b""
        with contextlib.suppress(OSError), self._path.open("rb") as log:
            log.seek(self._at)
            new = log.read()
        self._at += len(new)
        text = self._rest + new.decode("utf-8", "replace")
        *whole, self._rest = _cut(text)
        return whole


def kept(folder: Path) -> tuple[Log, ...]:
    """The logs that lie in a folder, the newest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            # Another command may take it away while we look.
            with contextlib.suppress(OSError, ValueError):
                if match := _NAME.fullmatch(path.name):
                    since = datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                    log = Log(id=match["id"], model=match["model"].replace("--", "/", 1), since=since, path=path)
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        found.append((log.since, status.st_mtime, log))
    return tuple(log for *_, log in sorted(found, key=lambda each: each[:2], reverse=True))


def newest(found: Iterable[Log], text: str) -> Log | None:
    """The newest log that a word means: by the server's id, or its model or a part of that."""
    logs = tuple(found)
    wanted = text.casefold()
    for fits in (
        [log for log in logs if log.id == text],
        [log for log in logs if log.model == text],
        [log for log in logs if log.model.rsplit("/", 1)[-1].casefold() == wanted],
        [log for log in logs if wanted in log.model.casefold()],
    ):
        if fits:
            return fits[0]
    return None


def last_lines(path: Path) -> list[str]:
    """The last lines of a log, where a failure tells of itself, long ones cut; none where there is none any more."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST))
            return _cut(file.read().decode("utf-8", "replace"))
    except OSError:
        return []


def lines(
    log: Log, *, since: datetime | None = None, last: int | None = None, pause: Callable[[], bool] | None = None
) -> Iterator[Line]:
    """The lines of a log, from the first that was written `since`, or only the `last` of them.

    With `pause` also those that come: it is called when there are none, and says whether to look again.
    """
    reader = _Reader(log, at=_start_of_last(log.path, last) if last is not None and since is None else 0)
    there = _from(chain(reader.new(), () if pause else reader.rest()), since)
    yield from there if last is None else deque(there, maxlen=last)
    if pause is not None:
        while pause():
            yield from _from(reader.new(), since)
        yield from _from(reader.rest(), since)


def note_ready(path: Path, seconds: float) -> None:
    """Write into a log, as its server would, that this one became ready."""
    now = datetime.now().astimezone()
    line = f"(modelctl pid={os.getpid()}) INFO {now:%m-%d %H:%M:%S} [serve] ready after {seconds:.1f} s"
    # A full disk is no reason to give up a server that is ready.
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def last_start(folder: Path, model: str) -> float | None:
    """The seconds that the last start of a model took until it was ready, of those whose logs are there."""
    for log in kept(folder):
        if log.model == model:
            with contextlib.suppress(OSError), log.path.open("rb") as file:
                if match := _READY.search(file.read(_LAST)):
                    return float(match[1])
    return None


class _Reader:
    """Reads a log from the byte `at`, which begins a line."""

    def __init__(self, log: Log, *, at: int = 0) -> None:
        self._path, self._at = log.path, at
        # The pieces of a line that has no end yet: joined once, since it may be as long as the file.
        self._open: list[bytes] = []
        # Local time, as vLLM writes it.
        self._year = log.since.astimezone().year
        self._time: datetime | None = None
        self._latest: datetime | None = None
        if at:
            # What stands near the end is hardly older than the last that was written.
            self._latest = datetime.fromtimestamp(log.path.stat().st_mtime).astimezone() + timedelta(days=1)
            self._year = self._latest.year

    def new(self) -> Iterator[Line]:
        """The whole lines that came since the last call, a piece of the file at a time."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            while chunk := file.read(_CHUNK):
                self._at += len(chunk)
                first, *others = chunk.replace(b"\r", b"\n").split(b"\n")
                self._open.append(first)
                if others:
                    yield self._line(b"".join(self._open))
                    yield from (self._line(raw) for raw in others[:-1])
                    self._open = others[-1:]

    def rest(self) -> Iterator[Line]:
        """What stands at the end without being a whole line."""
        if line := b"".join(self._open):
            yield self._line(line)

    def _line(self, raw: bytes) -> Line:
        text = raw.decode("utf-8", "replace")
        if match := _STAMP.match(text):
            self._time = self._dated([int(word) for word in match.groups()]) or self._time
        return Line(self._time, text)

    def _dated(self, numbers: list[int]) -> datetime | None:
        try:
            found = datetime(self._year, *numbers).astimezone()  # type: ignore[arg-type]
            if self._time is None and self._latest is not None and found > self._latest:
                self._year -= 1
                found = datetime(self._year, *numbers).astimezone()  # type: ignore[arg-type]
            # A server that runs past the end of a year.
            if self._time is not None and found < self._time - timedelta(days=180):
                self._year += 1
                found = datetime(self._year, *numbers).astimezone()  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            return None
        return found.astimezone(UTC)


def _start_of_last(path: Path, count: int) -> int:
    """Where a line begins after which come at least `count` more: logs of weeks are long, their end is asked for."""
    with path.open("rb") as file:
        at, ends = file.seek(0, os.SEEK_END), 0
        while at and ends <= count:
            at = max(0, at - _CHUNK)
            file.seek(at)
            piece = file.read(_CHUNK)
            ends += piece.count(b"\n") + piece.count(b"\r")
        # From a little before, since a line tells its time by the one before it.
        at = max(0, at - _CHUNK)
        file.seek(at)
        end = _END.search(file.read(2 * _CHUNK)) if at else None
        return at + end.end() if end else 0


def _from(found: Iterable[Line], since: datetime | None) -> Iterator[Line]:
    return (line for line in found if since is None or (line.time is not None and line.time >= since))


def _cut(text: str) -> list[str]:
    """The lines of a text, for all who read a meaning into them; one that is cut ends in `...`."""
    lines = text.replace("\r", "\n").split("\n")
    return [line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in lines]
