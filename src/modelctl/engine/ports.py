"""Which port a server may have. Our own lock beside the system's answer: two vLLMs that still load both bind it."""

import contextlib
import errno
import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from modelctl import process
from modelctl.engine import servers
from modelctl.errors import BusyError, NotAllowedError, UsageError
from modelctl.store import changes, lock

_LISTENING = "0A"
# Where ports are chosen: above what services are known by, below what the system, and Kubernetes, give away.
_FIRST, _LAST = 20000, 29999
_TRIES = 100
_GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")


def choose(host: str) -> int:
    """A port that nobody has at the moment, and that nobody gets who asks the system for any.

    vLLM binds it half a minute later, and until then many connections are made.
    """
    last = min(_LAST, _first_given_away() - 1)
    for _ in range(_TRIES if last > _FIRST else 0):
        port = _FIRST + secrets.randbelow(last - _FIRST + 1)
        with contextlib.suppress(BusyError):
            check(host, port)
            return port
    with _bound(host, 0) as listener:
        return int(listener.getsockname()[1])


def _first_given_away() -> int:
    """The first of the ports that the system gives to connections, and to who asks for any."""
    try:
        return int(_GIVEN_AWAY.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _LAST + 1


def check(host: str, port: int) -> None:
    """Ask the system for the port: `BusyError` with the name of who has it, as far as it can be told."""
    with _bound(host, port):
        pass


@contextlib.contextmanager
def held(port: int, command: str, *, state_dir: Path | None = None) -> Iterator[None]:
    """Keep other `modelctl serve` of this user from the port: `BusyError` that names the one that has it."""
    path = (state_dir or servers.state_folder()) / "ports" / f"{port}.lock"
    changes.make_folder(path.parent, named_by=servers.NAMED_BY)
    try:
        # A link in its place would have something else emptied.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as exc:
        raise changes.translated(exc, doing="lock", named_by=servers.NAMED_BY) from exc
    try:
        try:
            lock.take(descriptor)
        except OSError as exc:
            if exc.errno not in {errno.EAGAIN, errno.EACCES}:
                raise changes.translated(exc, doing="lock", named_by=servers.NAMED_BY) from exc
            raise _busy(port, str(_owner(path) or "another `modelctl serve`")) from exc
        # The lock holds also where a full disk has no room for whose it is.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(process.to_json(process.this_process(command))).encode(), 0)
        yield
    finally:
        # Closing frees the lock; the file stays, since another process may be about to lock this very one.
        os.close(descriptor)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens as vLLM's will, closed again at the end."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, ValueError) as exc:
        # Not even asked for: a name with an empty part, one with a part of more than 63 letters, or with a zero byte.
        why = exc.strerror if isinstance(exc, socket.gaierror) else "no name is written so"
        raise UsageError(f"`{host}` is no host name: {why}", hint="`--host 127.0.0.1` is the default") from exc
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as listener:
        # As vLLM binds: connections that are only dying down are no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise _busy(port, _listener(port) or "another process") from exc
            if exc.errno in {errno.EACCES, errno.EPERM}:
                raise NotAllowedError(f"port {port} is not for ordinary users", hint="choose one above 1023") from exc
            raise UsageError(
                f"nothing can listen at `{host}`: {exc.strerror}", hint="name an address of this machine with `--host`"
            ) from exc
        yield listener


def is_foreign(url: str, own: Iterable[int]) -> bool:
    """Whether somebody listens at the port of `url`, and none of the processes `own`; false where nobody can tell."""
    sockets = {f"socket:[{inode}]" for inode in _listening(urlsplit(url).port or 0)}
    try:
        return bool(sockets) and not any(sockets & _opened(Path(f"/proc/{pid}/fd")) for pid in own)
    except PermissionError:
        return False


def _opened(folder: Path) -> set[str]:
    """What the descriptors of a process lead to; nothing where it has ended."""
    found = set()
    # It may close one of them, or end, while we look at it.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.add(str(path.readlink()))
    return found


def _busy(port: int, who: str) -> BusyError:
    return BusyError(
        f"port {port} is taken by {who}", hint="choose another with `--port`, or any free one with `--port 0`"
    )


def _owner(lock: Path) -> process.Owner | None:
    try:
        return process.from_json(json.loads(lock.read_bytes()))
    except (OSError, ValueError):
        return None


def _listener(port: int) -> str | None:
    """The process that listens at a port, by Linux' tables; only those of the same user can be named."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return None
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(str(path.readlink()) in sockets for path in folder.iterdir()):
                command = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"`{command}` (pid {folder.parent.name})"
    return None


def _listening(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen at a port."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
