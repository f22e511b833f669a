"""The faults of the loopback Hub happen as they are called, seen with a bare HTTP client; and they are counted."""

import http.client
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.hub import faults
from tests.hub.loopback import Hub
from tests.serving import PATIENCE, await_true

SIZE = 3 << 20
CONTENT = bytes(range(256)) * (SIZE // 256)
PATH = "/acme/tiny/resolve/main/data.txt"


@pytest.fixture
def tiny(hub: Hub) -> Hub:
    hub.add("acme/tiny", files={"data.txt": CONTENT})
    return hub


@pytest.fixture
def connection(tiny: Hub) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(tiny.url).netloc, timeout=5)
    yield connection
    connection.close()


class Got:
    """What a client got of one answer, and how it ended."""

    def __init__(self, connection: http.client.HTTPConnection, headers: dict[str, str] | None = None) -> None:
        self.body, self.error, self.status = b"", None, 0
        try:
            connection.request("GET", PATH, headers=headers or {})
            response = connection.getresponse()
            self.status, self.headers = response.status, response.headers
            while piece := response.read(1 << 16):
                self.body += piece
            if len(self.body) != int(self.headers["content-length"]):
                self.error = "short"
        except (OSError, http.client.HTTPException) as exc:
            self.error = type(exc).__name__
        if self.error:
            connection.close()


Connection = http.client.HTTPConnection


class Impatient(http.client.HTTPConnection):
    """Gives up after half a second, which does not begin until the Hub is at work on what it was asked."""

    def __init__(self, hub: Hub, fault: faults.Fault) -> None:
        super().__init__(urlsplit(hub.url).netloc, timeout=PATIENCE)
        self.fault = fault

    def getresponse(self) -> http.client.HTTPResponse:
        await_true(lambda: self.fault.count)
        self.sock.settimeout(0.5)
        return super().getresponse()


def test_without_a_fault_all_is_well(connection: Connection, tiny: Hub) -> None:
    got = Got(connection)
    assert (got.status, got.body == CONTENT, got.error) == (200, True, None)
    (asked,) = tiny.asked
    assert (asked.method, asked.path, asked.status, asked.sent) == ("GET", PATH, 200, SIZE)


@pytest.mark.parametrize("after", [1, 1000, SIZE // 2, SIZE - 1])
def test_drop(connection: Connection, tiny: Hub, after: int) -> None:
    fault = tiny.fault(faults.drop(after=after))
    got = Got(connection)
    assert (len(got.body), got.error, fault.count) == (after, "short", 1)
    assert got.body == CONTENT[:after]
    assert Got(connection).body == CONTENT


def test_drop_before_the_headers(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.drop())
    assert Got(connection).error == "RemoteDisconnected"
    assert Got(connection).body == CONTENT


@pytest.mark.parametrize("after", [0, 1000, SIZE // 2])
def test_reset(connection: Connection, tiny: Hub, after: int) -> None:
    fault = tiny.fault(faults.reset(after=after))
    got = Got(connection)
    assert (got.error, fault.count) == ("ConnectionResetError", 1)
    # A reset may overtake what was sent.
    assert CONTENT[:after].startswith(got.body)


def test_short(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.short(by=7))
    got = Got(connection)
    assert (got.headers["content-length"], got.body == CONTENT[:-7], got.error) == (str(SIZE), True, "short")


@pytest.mark.parametrize("by", [-9, 9])
def test_wrong_length(connection: Connection, tiny: Hub, by: int) -> None:
    tiny.fault(faults.wrong_length(by=by))
    got = Got(connection)
    assert (int(got.headers["content-length"]) - SIZE, got.error) == (by, "short" if by > 0 else None)
    assert got.body == CONTENT[: SIZE + by]


def test_longer(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.longer(by=5))
    got = Got(connection)
    assert (got.body == CONTENT + b"xxxxx", got.error) == (True, None)


def test_whole_for_range(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.whole_for_range())
    first, second = (Got(connection, {"Range": "bytes=5-9"}) for _ in range(2))
    assert (first.status, first.body == CONTENT) == (200, True)
    assert (second.status, second.body) == (206, CONTENT[5:10])


def test_stall(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.stall(seconds=0.3, after=100))
    began = time.monotonic()
    assert Got(connection).body == CONTENT
    assert 0.3 <= time.monotonic() - began < 10


def test_a_stall_ends_with_its_client(tiny: Hub) -> None:
    fault = tiny.fault(faults.stall(seconds=20, after=100))
    assert Got(Impatient(tiny, fault)).error == "TimeoutError"
    began = time.monotonic()
    tiny.stop()
    assert (fault.count, time.monotonic() - began < 10) == (1, True)


def test_silence(tiny: Hub) -> None:
    fault = tiny.fault(faults.silence())
    assert (Got(Impatient(tiny, fault)).error, tiny.asked[0].status) == ("TimeoutError", None)


def test_answers_in_the_hubs_place(connection: Connection, tiny: Hub) -> None:
    for act in (faults.portal(), faults.too_many(retry_after=2), faults.unavailable(), faults.expired()):
        tiny.fault(act, nth=1)
    portal, busy, broken, late = (Got(connection) for _ in range(4))
    assert (portal.status, portal.headers["content-type"]) == (200, "text/html")
    assert (busy.status, busy.headers["retry-after"]) == (429, "2")
    assert (broken.status, late.status) == (503, 403)
    assert [asked.status for asked in tiny.asked] == [200, 429, 503, 403]


@pytest.mark.parametrize("at", [0, 600_000, SIZE - 1])
@pytest.mark.parametrize("start", [0, 500_000])
def test_flip(connection: Connection, tiny: Hub, at: int, start: int) -> None:
    tiny.fault(faults.flip(at=at))
    got = Got(connection, {"Range": f"bytes={start}-"})
    wrong = [start + where for where, byte in enumerate(got.body) if byte != CONTENT[start + where]]
    assert wrong == ([at] if at >= start else [])


def test_headers(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.headers(etag='"other"', x_repo_commit=None))
    got = Got(connection)
    assert (got.headers["etag"], got.headers["x-repo-commit"], got.body == CONTENT) == ('"other"', None, True)


def test_slow(connection: Connection, tiny: Hub) -> None:
    tiny.fault(faults.slow(rate=6 * SIZE))
    began = time.monotonic()
    assert Got(connection).body == CONTENT
    assert 0.15 < time.monotonic() - began < 10


def test_kill_and_restart(connection: Connection, tiny: Hub) -> None:
    fault = tiny.fault(faults.kill(after=1000))
    assert (Got(connection).error is not None, fault.count) == (True, 1)
    assert Got(connection).error == "ConnectionRefusedError"
    tiny.restart()
    assert Got(connection).body == CONTENT


def test_which_requests_are_struck(connection: Connection, tiny: Hub) -> None:
    tiny.add("acme/other", files={"data.txt": "1"})
    second = tiny.fault(faults.unavailable(), path="*/data.txt", nth=2, times=2)
    head = tiny.fault(faults.unavailable(500), method="HEAD", times=None)
    assert [Got(connection).status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert (second.seen, second.count, head.seen, head.count) == (5, 2, 0, 0)


def test_two_connections_are_told_apart(tiny: Hub) -> None:
    tiny.fault(faults.stall(seconds=0.5, after=0), nth=1)
    tiny.fault(faults.drop(after=10), nth=2)
    connections = [Connection(urlsplit(tiny.url).netloc, timeout=5) for _ in range(2)]
    results: list[Got] = []
    thread = threading.Thread(target=lambda: results.append(Got(connections[0])))
    thread.start()
    while not tiny.asked:
        time.sleep(0.01)
    assert len(Got(connections[1]).body) == 10
    thread.join()
    assert results[0].body == CONTENT
    for each in connections:
        each.close()
