"""A Hub on loopback around a store built by the test, with a log of what was asked and faults on demand."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelctl.share import app
from modelctl.share.policy import Policy
from modelctl.share.server import Server, address, listen, running
from tests.hub.cas import Cas
from tests.hub.faults import Act, Fault
from tests.hub.wire import Call, HungUp, decoded
from tests.stores import Files, StoreBuilder

# Tokens of the two users: one who is let in everywhere, one who is known and let in nowhere.
READER, STRANGER = "hf_reader", "hf_stranger"


@dataclass
class Asked:
    """One request as it came, and what was answered. `sent` are the bytes of body handed to the connection."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int | None = None
    sent: int = 0

    @property
    def range(self) -> str | None:
        """The `Range` asked for."""
        return self.headers.get("range")

    @property
    def token(self) -> str | None:
        """The token that came along."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    @property
    def is_cdn(self) -> bool:
        """Whether the other origin was asked, to which no token may go."""
        return self.headers.get("host", "").startswith("localhost")


@dataclass
class Hub:
    """A running Hub: `url`, what lies on it (`store`), what was asked (`asked`), what goes wrong (`fault`)."""

    store: StoreBuilder
    lifetime: int = 3600
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    url: str = ""
    reader: str = READER
    stranger: str = STRANGER
    xet_backed: set[str] = field(default_factory=set)
    xet_versions: set[str] = field(default_factory=lambda: {"1", "2"})
    _private: dict[str, set[str]] = field(default_factory=dict)
    _gated: dict[str, set[str]] = field(default_factory=dict)
    _servers: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _server: Server | None = None

    def add(
        self,
        model_id: str,
        *,
        files: Files | None = None,
        lfs: Files | None = None,
        revision: str | None = "main",
        private: bool = False,
        gated: bool = False,
        xet: bool = False,
    ) -> str:
        """Offer a commit and return its id; see `StoreBuilder.add`.

        `private` and `gated` models are for `hub.reader` alone; `hub.stranger` is a token without a right to them.
        With `xet` its LFS files lie in Xet storage too.
        """
        if xet:
            self.xet_backed.add(model_id)
        if private:
            self._private[model_id] = {"reader"}
        if gated:
            self._gated[model_id] = {"reader"}
        return self.store.add(model_id, files=files, lfs=lfs, revision=revision)

    def fault(
        self, act: Act, *, path: str = "*", method: str | None = None, nth: int = 1, times: int | None = 1
    ) -> Fault:
        """Let something go wrong with the requests that match; see `tests.hub.faults`."""
        fault = Fault(act, path=path, method=method, nth=nth, times=times)
        self.faults.append(fault)
        return fault

    def bodies(self, name: str = "*") -> int:
        """The bytes of body sent so far for files called `name`."""
        return sum(each.sent for each in self.asked if name == "*" or each.path.endswith(f"/{name}"))

    @property
    def environ(self) -> dict[str, str]:
        """The variables that send a Hugging Face tool here."""
        return {"HF_ENDPOINT": self.url}

    def start(self, port: int = 0) -> None:
        """Listen and serve."""
        users = {READER: "reader", STRANGER: "stranger"}
        rules = Policy(users=users, private=self._private, gated=self._gated)
        served = app.build([self.store.hub], rules=rules, cdn_host="localhost", lifetime=self.lifetime)
        listener = self._servers.enter_context(listen(port=port))
        self.url = address(listener)
        storage = Cas(served, self.store, self.xet_backed, self.xet_versions)
        self._server = Server(_Gate(self, storage))
        self._servers.enter_context(running(self._server, listener))

    def stop(self) -> None:
        """Cut every connection and close the port; nothing is left running."""
        self._servers.close()

    def restart(self) -> None:
        """Serve again on the same port."""
        self.stop()
        self.start(int(self.url.rpartition(":")[2]))

    def kill(self) -> None:
        """Let the server die where it stands; also from inside a request."""
        if self._server:
            self._server.stop(force=True)

    def call(self, served: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Call:
        """A request with the connection that it came on."""
        assert self._server
        connections = self._server.server_state.connections
        transport = next(
            each.transport for each in connections if getattr(each, "client", None) == tuple(scope["client"])
        )
        return Call(served, scope, receive, send, transport, self.kill)


@dataclass(frozen=True)
class _Gate:
    """Logs each request, then lets the first fault whose turn it is answer, else the app."""

    hub: Hub
    served: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = unquote(scope["raw_path"].decode("latin-1"))
        asked = Asked(scope["method"], path, scope["query_string"].decode("latin-1"), decoded(scope["headers"]))
        self.hub.asked.append(asked)

        async def logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = message["status"]
            elif asked.method != "HEAD":
                asked.sent += len(message.get("body", b""))
            await send(message)

        # All are asked: each counts the requests that it has seen.
        due = [fault for fault in self.hub.faults if fault.is_due(asked.method, path)]
        with contextlib.suppress(HungUp):
            if due:
                due[0].count += 1
                await due[0].act(self.hub.call(self.served, scope, receive, logged))
            else:
                await self.served(scope, receive, logged)


@contextlib.contextmanager
def make_hub_in(folder: Path) -> Iterator[Callable[..., Hub]]:
    """A maker of Hubs whose stores lie below `folder`; at the end all of them have stopped."""
    with contextlib.ExitStack() as hubs:

        def make(*, lifetime: int = 3600) -> Hub:
            store = StoreBuilder(Path(tempfile.mkdtemp(prefix="hub-", dir=folder)) / "hub")
            hub = Hub(store, lifetime=lifetime)
            hub.start()
            hubs.callback(hub.stop)
            return hub

        yield make
