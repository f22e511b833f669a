"""The failures a user can meet: one base class, one subclass an exit code.

A user's mistake is always one of these and never a builtin exception: a builtin that reaches the top is a bug of ours
and keeps its traceback. `cli.app` alone turns them into exit codes.
"""

from typing import Any


class ModelctlError(Exception):
    """What failed and with what (`message`), and the next command to type (`hint`)."""

    exit_code = 1
    kind = "failed"

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:  # noqa: ANN401 - JSON values
        super().__init__(message)
        self.message = message
        self.hint = hint
        # Further keys of the error object under `--json`, such as `engine_exit`.
        self.details = details


class DeclinedError(ModelctlError):
    """The user answered no; nothing was done."""

    kind = "declined"


class InterruptedByUserError(ModelctlError):
    """Ctrl-C, SIGTERM or SIGHUP: stopped where it was, with what had arrived kept. The signal decides the exit code."""

    exit_code = 130
    kind = "interrupted"


class UsageError(ModelctlError):
    """The command line cannot mean anything."""

    exit_code = 2
    kind = "usage"


class NotFoundError(ModelctlError):
    """No such model, revision, file, server or engine."""

    exit_code = 3
    kind = "not_found"


class NotAllowedError(ModelctlError):
    """A token, a gate, a private repository or file permissions stand in the way."""

    exit_code = 4
    kind = "not_allowed"


class NoRoomError(ModelctlError):
    """Not enough disk or memory, or no usable GPU for a CUDA build."""

    exit_code = 5
    kind = "no_room"


class NotWholeError(ModelctlError):
    """Content does not match its hash, or a model is partial or broken where a whole one is needed."""

    exit_code = 6
    kind = "not_whole"


class UnreachableError(ModelctlError):
    """The Hub, or a server, cannot be reached or does not answer in time."""

    exit_code = 7
    kind = "unreachable"


class BusyError(ModelctlError):
    """Locked, being pulled or served, or the port is taken."""

    exit_code = 8
    kind = "busy"
