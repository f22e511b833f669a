"""Kills the real command before any of its changes to the disk, and tells what is left.

    crashes = Crashes(run, roots=(hub,))
    for killed in crashes.each("rm", "acme/tiny", "--yes", prepare=..., count=5):
        ...             # the disk is as the kill left it; `killed.call` is the call that was not made
        assert run("rm", "acme/tiny", "--yes").code == 0

The command runs in a child that counts its changing calls below the roots (an audit hook, and wrappers where Python has
no audit event) and leaves by `os._exit` before the n-th, as `kill -9` would: no `finally`, no buffer written. Of a call
that writes bytes, half of them are written.
"""

import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.command import Command, Finished

KILLED = 137
# Audit events of calls that change something, and how many of their arguments are paths (or descriptors).
_EVENTS = {
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

Content = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Killed:
    """One killed run: before which of the calls, and the call itself."""

    number: int
    total: int
    call: str


@dataclass(frozen=True, slots=True)
class Crashes:
    """Runs the command of a test to one of its changes of what lies below `roots`."""

    run: "Command"
    roots: tuple[Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    # Where threads take turns, one run may make a call less than the one that was counted.
    may_vary: bool = False

    def calls(self, *argv: str | Path) -> list[str]:
        """Run the command through, which must succeed, and return its changing calls."""
        done, calls = self._run(argv, kill_before=0)
        assert done.code == 0, done
        return calls

    def kill_before(self, number: int, *argv: str | Path) -> str:
        """Run the command and kill it before its n-th changing call, counted from 1. Returns that call."""
        done, calls = self._run(argv, kill_before=number)
        if self.may_vary and done.code == 0:
            return "none, it ran through"
        assert done.code == KILLED, done
        assert len(calls) == number
        return calls[-1]

    def each(self, *argv: str | Path, prepare: Callable[[], object], count: int | None) -> Iterator[Killed]:
        """Kill the command at `count` points spread over its run, the first and the last among them; `None`: at all.

        `prepare` lays out the disk before each run.
        """
        prepare()
        total = len(self.calls(*argv))
        assert total
        for number in spread(total, count):
            prepare()
            yield Killed(number, total, self.kill_before(number, *argv))

    def _run(self, argv: tuple[str | Path, ...], *, kill_before: int) -> tuple["Finished", list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "calls"
            orders = {"roots": [str(root) for root in self.roots], "record": str(record), "kill_before": kill_before}
            done = self.run.program([sys.executable, __file__, json.dumps(orders), *argv], env=self.env)
            calls = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return done, calls


def spread(total: int, count: int | None) -> list[int]:
    """`count` numbers from 1 to `total`, both among them, as far apart as can be; all of them where that is less.

    One alone is the one in the middle.
    """
    if count is None or total <= count:
        return list(range(1, total + 1))
    if count == 1:
        return [(total + 1) // 2]
    return sorted({1 + round(at * (total - 1) / (count - 1)) for at in range(count)})


def held(*hubs: Path) -> set[Content]:
    """All content that can be reached in some hub folders: repository folder, revision, file, SHA-256."""
    found = set()
    for hub in hubs:
        for snapshot in hub.glob("models--*/snapshots/*"):
            for path in snapshot.rglob("*"):
                if path.is_file():
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    found.add((snapshot.parent.parent.name, snapshot.name, str(path.relative_to(snapshot)), digest))
    return found


class _Hook:
    """Counts, records, kills."""

    def __init__(self, *, roots: list[str], record: str, kill_before: int) -> None:
        self.roots = [os.path.realpath(root) for root in roots]
        self.kill_before = kill_before
        self.count = 0
        self.lock = threading.Lock()
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        # As it is before it is wrapped.
        self.write = os.write

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            # The only ones that Python's own library calls relative to a descriptor, when it deletes a tree.
            below = args[1] if event in {"os.remove", "os.rmdir"} and args[1] >= 0 else None
            self.called(event, args[: _EVENTS[event]], below)
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            self.called(event, args[:1], None)

    def called(
        self, call: str, paths: tuple[Any, ...], dir_fd: int | None, torn: Callable[[], object] | None = None
    ) -> None:
        if not any(self.is_ours(path, dir_fd) for path in paths):
            return
        with self.lock:
            self.count += 1
            self.write(self.record, f"{call} {' '.join(map(str, paths))}\n".encode(errors="surrogateescape"))
            if self.count == self.kill_before:
                if torn is not None:
                    torn()
                os._exit(KILLED)

    def is_ours(self, path: Any, dir_fd: int | None) -> bool:  # noqa: ANN401 - path or descriptor
        try:
            if isinstance(path, int):
                named = Path(f"/proc/self/fd/{path}").readlink()
            else:
                above = Path.cwd() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
                named = above / os.fsdecode(path)
        except OSError:
            return False
        # The last part is what is changed, be it a link.
        real = named.parent.resolve() / named.name
        return any(real.is_relative_to(root) for root in self.roots)


def _watch(hook: _Hook) -> None:
    """Hook the calls that raise audit events, and wrap those that raise none."""

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def wrapper(descriptor: int, *args: Any) -> Any:  # noqa: ANN401 - whatever the call takes and gives
            torn = None
            if args and name in {"write", "pwrite"}:
                half = memoryview(args[0])[: len(args[0]) // 2]
                torn = lambda: original(descriptor, half, *args[1:])  # noqa: E731
            hook.called(f"os.{name}", (descriptor,), None, torn)
            return original(descriptor, *args)

        setattr(os, name, wrapper)

    for name in ("write", "pwrite", "fsync", "fdatasync"):
        wrap(name)
    sys.addaudithook(hook.audit)


def _main() -> None:
    from modelctl.cli.app import main

    orders = json.loads(sys.argv[1])
    sys.argv[:2] = ["modelctl"]
    _watch(_Hook(**orders))
    main()


if __name__ == "__main__":
    _main()
