"""Answers of HTTP/1.1 as servers, mirrors and proxies give them, byte by byte."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.hub.answer import Answer, BrokenResponseError, Wire

ASK = b"GET / HTTP/1.1\r\n\r\n"


class Server:
    """The other end of a wire: what it says is there before it is asked."""

    def __init__(self) -> None:
        self.end, ours = socket.socketpair()
        ours.settimeout(5)
        self.ours = ours
        self.wire = Wire(ours)

    def say(self, data: bytes, *, last: bool = False) -> None:
        self.end.sendall(data)
        if last:
            self.end.shutdown(socket.SHUT_WR)

    def answer(self, data: bytes, *, method: str = "GET", last: bool = False) -> Answer:
        self.say(data, last=last)
        return self.wire.ask(ASK, method=method)

    def close(self) -> None:
        self.end.close()
        self.ours.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


FRAMES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length:5\n\nhello",
    "after an interim answer": b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n003\r\nllo\r\n0\r\nA: b\r\n\r\n",
    "old and kept": b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
}
LAST_FRAMES = {
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "said to close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_a_body_is_read_to_its_end_and_another_request_follows(server: Server, data: bytes) -> None:
    for _ in range(2):
        answer = server.answer(data)
        assert (answer.status, answer.read(100), answer.can_follow) == (200, b"hello", True)


@pytest.mark.parametrize("data", LAST_FRAMES.values(), ids=LAST_FRAMES)
def test_after_some_answers_no_other_request_follows(server: Server, data: bytes) -> None:
    answer = server.answer(data, last=True)
    assert (answer.read(100), answer.can_follow) == (b"hello", False)


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET"),
    ],
)
def test_some_answers_have_no_body(server: Server, data: bytes, method: str) -> None:
    answer = server.answer(data, method=method)
    assert (answer.read(100), answer.can_follow) == (b"", True)


def test_headers_have_lowercase_names_and_the_first_of_a_name_counts(server: Server) -> None:
    answer = server.answer(b"HTTP/1.1 302 Found\r\nLocation:  /a b\r\nLOCATION: /c\r\nX-\xe9: \xfc\r\n\r\n", last=True)
    assert answer.headers == {"location": "/a b", "x-\xe9": "\xfc"}


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
    ],
    ids=["length", "chunks"],
)
def test_a_body_that_ends_early_is_not_over(server: Server, data: bytes) -> None:
    answer = server.answer(data, last=True)
    assert (answer.read(100), answer.can_follow) == (b"hello", False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
    ],
)
def test_what_is_no_answer_is_a_broken_one(server: Server, data: bytes) -> None:
    with pytest.raises(BrokenResponseError):
        server.answer(data, last=True).read(100)


def test_a_connection_that_was_closed_meanwhile_is_told_from_a_broken_answer(server: Server) -> None:
    with pytest.raises(ConnectionResetError, match="hung up"):
        server.answer(b"", last=True)


def test_more_than_was_asked_for_is_no_answer_to_the_next_request(server: Server) -> None:
    assert server.answer(FRAMES["length"] + FRAMES["length"]).read(100) == b"hello"
    with pytest.raises(ConnectionResetError):
        server.answer(FRAMES["length"])


def test_a_limit_leaves_the_rest(server: Server) -> None:
    answer = server.answer(FRAMES["length"])
    assert (answer.read(2), answer.can_follow) == (b"he", False)


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8), step=st.integers(1, 500))
def test_chunks_of_any_size_are_read_in_steps_of_any_size(pieces: list[bytes], step: int) -> None:
    server = Server()
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    answer = server.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + body + b"0\r\n\r\n")
    view, read = memoryview(bytearray(step)), b""
    while count := answer.read_into(view):
        read += view[:count]
    server.close()
    assert (read, answer.can_follow) == (b"".join(pieces), True)
