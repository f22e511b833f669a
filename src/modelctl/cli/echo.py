"""The log of a server on the screen, while the command watches it: `serve --verbose`."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.servers import ServerRecord

_STEP = 0.2


@contextlib.contextmanager
def of(record: "ServerRecord", out: show.Output) -> Iterator[None]:
    """Show what the log gains, to the last line that it has at the end. No signal is taken from who waits."""
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(record, out, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(record: "ServerRecord", out: show.Output, ended: threading.Event) -> None:
    from modelctl.engine import logs

    log = logs.Log(id=record.id, model=record.model, since=record.since, path=record.log)
    was_over = False

    def again() -> bool:
        nonlocal was_over
        # Looked at once more after the end: what it said last.
        before, was_over = was_over, ended.wait(_STEP)
        return not before

    # Somebody may take it away: the server goes on.
    with contextlib.suppress(OSError):
        for line in logs.lines(log, pause=again):
            out.say(line.text)
