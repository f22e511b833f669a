"""A pull through a proxy, which sees every request with its whole address and its own password."""

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.command import Command
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, big_model, content


class Proxy:
    """Passes on what asks by whole addresses; `seen` are the heads of the requests."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.enter_context(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream: socket.socket | None = None
        with client.makefile("rb") as asked:
            while line := asked.readline().decode():
                method, address, version = line.split()
                lines = list(iter(lambda: asked.readline().decode().strip(), ""))
                self.seen.append("\n".join([line.strip(), *lines]))
                parts = urlsplit(address)
                if upstream is None:
                    upstream = self._open.enter_context(socket.create_connection((parts.hostname, parts.port)))
                    threading.Thread(target=_pour, args=(upstream, client), daemon=True).start()
                path = parts._replace(scheme="", netloc="").geturl()
                upstream.sendall("\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode())


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


def test_everything_goes_through_the_proxy(run: Command, hub: Hub, store: StoreBuilder, proxy: Proxy) -> None:
    files = big_model(5 * MIB)
    hub.add(NAME, files=files)
    through = {"http_proxy": f"http://me:se%20cret@{proxy.address}", "no_proxy": ""}
    done = run("pull", NAME, "--token", hub.reader, env={**hub.environ, **through})
    assert done.code == 0, done.stderr
    assert content(store) == files
    assert len(proxy.seen) == len(hub.asked)
    password = base64.b64encode(b"me:se cret").decode()
    for head in proxy.seen:
        assert head.split()[1].startswith("http://"), head
        assert f"proxy-authorization: basic {password}".lower() in head.lower(), head
    assert all(asked.token is None for asked in hub.asked if asked.is_cdn)


@pytest.mark.sweep
def test_contents_are_not_asked_for_in_http_where_a_proxy_speaks_socks(run: Command, hub: Hub, proxy: Proxy) -> None:
    commit = hub.add(NAME, files=big_model(5 * MIB))
    assert run("pull", NAME, "--include", "config.json", env=hub.environ).code == 0
    # All that has to be asked of the Hub's API is here by now.
    through = {"http_proxy": f"socks5://{proxy.address}", "no_proxy": ""}
    done = run("pull", f"{NAME}@{commit}", env={**hub.environ, **through})
    assert (done.code, proxy.seen) == (7, [])
    assert "error: the environment names a SOCKS proxy, and modelctl speaks with HTTP proxies alone\n" in done.stderr
