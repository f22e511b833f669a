"""One request to a server, and what is made of its answer."""

import json
import math
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from modelctl.engine import trial
from modelctl.errors import ModelctlError, UnreachableError

SENSELESS = "the server's answer is not what was asked for: "
NO_VECTORS = "the server's embeddings are no vectors that can be compared"


class Server(HTTPServer):
    """Answers every request alike, and keeps what it was sent."""

    status = 200
    text = ""
    path = ""
    body: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.path = self.path
        self.server.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the signature of its base
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def compared(server: Server, *vectors: object) -> tuple[float, ...]:
    server.text = json.dumps({"data": [{"embedding": vector} for vector in vectors]})
    found = trial.compare(server.url, "acme/tiny", sentence="a", others=("b", "c"))
    assert [(pair.one, pair.other) for pair in found] == [("a", "b"), ("a", "c")]
    return tuple(pair.cosine for pair in found)


def test_likeness_is_the_cosine_of_the_embeddings_whatever_their_length(server: Server) -> None:
    near, far = compared(server, [3, 4], [6, 8], [-4, 3])
    assert math.isclose(near, 1)
    assert math.isclose(far, 0, abs_tol=1e-9)
    assert (server.path, server.body) == ("/v1/embeddings", {"model": "acme/tiny", "input": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (([1], [1]), SENSELESS),
        (([], [], []), SENSELESS),
        (([1], ["1"], [1]), SENSELESS),
        (([1], None, [1]), SENSELESS),
        (([0, 0], [1, 0], [1, 0]), NO_VECTORS),
        (([1], [1, 0], [1]), NO_VECTORS),
        (([math.nan], [1], [1]), NO_VECTORS),
    ],
)
def test_embeddings_that_are_none(server: Server, vectors: tuple[object, ...], message: str) -> None:
    with pytest.raises(ModelctlError, match=message):
        compared(server, *vectors)


def test_a_reply_is_its_text_and_its_length(server: Server) -> None:
    server.text = json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": {"completion_tokens": 2}})
    assert trial.converse(server.url, "acme/tiny", prompt="a", max_tokens=4) == trial.Reply("hi", 2)
    message = {"role": "user", "content": "a"}
    assert (server.path, server.body) == (
        "/v1/chat/completions",
        {"model": "acme/tiny", "messages": [message], "max_tokens": 4},
    )


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (500, "x" * 300, f"answers with status 500: {'x' * 200}\\.\\.\\.$"),
        (200, "out of order", "answers with something else than JSON: out of order"),
        (200, '{"choices": []}', SENSELESS),
    ],
)
def test_an_answer_that_is_none(server: Server, status: int, text: str, message: str) -> None:
    server.status, server.text = status, text
    with pytest.raises(ModelctlError, match=message):
        trial.converse(server.url, "acme/tiny", prompt="a", max_tokens=4)


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="does not answer"):
            trial.converse(f"http://127.0.0.1:{taken.getsockname()[1]}", "acme/tiny", prompt="a", max_tokens=4)
