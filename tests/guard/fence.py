# Runs at each event of each process, where `Path` objects would cost too much.
# ruff: noqa: PTH100, PTH118, PTH119
"""What no test may do: talk to another machine, or touch the user's own models and settings.

Held by an audit hook, which sees what every Python library does in the end. Each trespass is written down too, since
code under test may swallow the exception.
"""

import os
import socket
import sys
from typing import Any

# Names of the environment that carry the fence into child processes.
FENCED = "MODELCTL_TEST_FENCED"
RECORD = "MODELCTL_TEST_TRESPASSES"

_PATH_EVENTS = {
    "open": 0,
    "os.listdir": 0,
    "os.scandir": 0,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.rename": 1,
    "os.link": 1,
    "os.symlink": 1,
    "os.truncate": 0,
    "os.chmod": 0,
}
_SOCKET_EVENTS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_NAME_EVENTS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"}


class TrespassError(BaseException):
    """A test, or what it started, left its yard. No `except Exception` takes it for a failed connection."""


def raise_fence(*, folders: list[str], record: str) -> None:
    """Forbid this process, for good, every address but loopback and everything below `folders`."""
    fenced = tuple(os.path.join(os.path.abspath(folder), "") for folder in folders if folder)
    own_name = socket.gethostname()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PATH_EVENTS:
            path = arguments[_PATH_EVENTS[event]]
            if isinstance(path, bytes):
                path = os.fsdecode(path)
            if isinstance(path, str) and os.path.join(os.path.abspath(path), "").startswith(fenced):
                _refuse(f"{event} of {path}", record)
        elif event in _SOCKET_EVENTS:
            address = arguments[1]
            # Naming a peer for datagrams sends nothing: it is how programs ask for this machine's own address.
            sends = event != "socket.connect" or arguments[0].type != socket.SOCK_DGRAM
            if sends and isinstance(address, tuple) and not _is_loopback(address[0], own_name):
                _refuse(f"{event} to {address}", record)
        elif event in _NAME_EVENTS and not _is_loopback(arguments[0], own_name):
            _refuse(f"{event} of {arguments[0]}", record)

    sys.addaudithook(watch)


def _is_loopback(host: object, own_name: str) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not isinstance(name, str):
        # No host at all means this machine; a netlink address is no address of a machine.
        return True
    return name in {"", "localhost", "::1", "::", "0.0.0.0", own_name} or name.startswith(("127.", "::ffff:127."))  # noqa: S104


def _refuse(what: str, record: str) -> None:
    line = f"{os.path.basename(sys.argv[0]) if sys.argv else '?'}: {what}\n"
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    raise TrespassError(f"a test may not do this: {what}")
