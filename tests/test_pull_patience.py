"""How patient a pull is: what it waits for, how long, and that it says so."""

import gzip
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from modelctl.hub import flow
from modelctl.hub.patience import retry_after
from tests.command import Command
from tests.hub import faults
from tests.hub.loopback import Hub
from tests.hub.wire import Answer, Call
from tests.stores import StoreBuilder
from tests.test_pull import MIB, NAME, big_model, blobs_are_true, content

SWEEP = pytest.mark.sweep
CDN = "/_cdn/*"
API = f"/api/models/{NAME}"
TREE = "*/tree/*"
FILES = {"config.json": b"{}", "model.safetensors": b"x" * 100}
UNFETCHED = "`model.safetensors` cannot be fetched: the server"
GOES_ON = "hint: run the same command again: it goes on where it stopped"


@pytest.mark.matrix(2)
@pytest.mark.parametrize("path", [API, TREE, "*/model.safetensors.index.json"], ids=["model", "listing", "index"])
@pytest.mark.parametrize(
    ("act", "why"),
    [
        pytest.param(faults.too_many(retry_after=1), "with status 429; trying again in 1.0 s", id="429"),
        pytest.param(faults.unavailable(500), "with status 500; trying again in 0.5 s", id="500"),
        pytest.param(faults.drop(after=5), "; trying again in 0.5 s", id="broken off"),
        pytest.param(faults.reset(), "; trying again in 0.5 s", id="reset"),
        pytest.param(faults.silence(), " in time; trying again in 0.5 s", id="silent"),
    ],
)
def test_what_passes_is_waited_for_and_said(run: Command, hub: Hub, path: str, act: faults.Act, why: str) -> None:
    index = b'{"weight_map": {"a": "model.safetensors"}}'
    hub.add(NAME, files={**FILES, "model.safetensors.index.json": index})
    fault = hub.fault(act, path=path, times=2 if why.startswith("with status") else 1)
    # So short a time is for who never answers; who answers may take longer on a busy machine.
    patience = ["--stall-after", "4"] if "in time" in why else []
    done = run("pull", NAME, "-q", *patience, env=hub.environ)
    assert (done.code, done.stdout) == (0, f"{NAME}\n"), done.stderr
    assert done.stderr.count("; trying again in ") == fault.count == fault.times
    assert why in done.stderr.splitlines()[0]


@pytest.mark.sweep
def test_under_json_a_wait_is_a_note_and_beside_a_plan_it_is_talk(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    hub.fault(faults.unavailable(503), path=API, times=1)
    done = run("pull", NAME, "--json", env=hub.environ)
    said = f"the Hub at `{hub.url}` answers with status 503; trying again in 0.5 s"
    assert (done.code, done.stderr) == (0, "")
    assert done.events[0] == {"schema": 1, "event": "note", "message": said}
    hub.fault(faults.unavailable(503), path=API, times=1)
    done = run("pull", NAME, "--dry-run", "--json", env=hub.environ)
    assert (done.json["schema"], done.stderr) == (1, f"{said}\n")


@pytest.mark.parametrize("path", [API, pytest.param(TREE, marks=SWEEP)], ids=["model", "listing"])
@pytest.mark.parametrize(
    ("act", "why"),
    [
        pytest.param(faults.unavailable(503), "answers with status 503", id="503", marks=SWEEP),
        pytest.param(faults.silence(), "does not answer in time", id="silent"),
        pytest.param(faults.drop(), "breaks off", id="broken off", marks=SWEEP),
    ],
)
def test_patience_has_a_bound(run: Command, hub: Hub, path: str, act: faults.Act, why: str) -> None:
    hub.add(NAME, files=FILES)
    hub.fault(act, path=path, times=None)
    began = time.monotonic()
    patience = ["--stall-after", "0.4"] if "in time" in why else []
    done = run("pull", NAME, "--retry-for", "1", *patience, env=hub.environ)
    # Without it, two minutes.
    assert time.monotonic() - began < 30
    assert (done.code, done.stdout) == (7, "")
    assert done.stderr.splitlines()[-2].startswith(f"error: the Hub at `{hub.url}` {why}")
    assert done.stderr.splitlines()[-1] == GOES_ON
    assert not (run.project / "models" / "hub").exists()


async def in_an_hour(call: Call) -> None:
    """429 with a moment to wait for."""
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    await call.answer(429, headers={"retry-after": moment})


@pytest.mark.parametrize(
    ("act", "path", "why"),
    [
        pytest.param(faults.too_many(retry_after=3600), API, "the Hub at `HUB`", id="model"),
        pytest.param(faults.too_many(retry_after=3600), TREE, "the Hub at `HUB`", id="listing", marks=SWEEP),
        pytest.param(faults.too_many(retry_after=3600), CDN, UNFETCHED, id="file", marks=SWEEP),
        pytest.param(in_an_hour, CDN, UNFETCHED, id="moment"),
    ],
)
def test_a_wait_beyond_patience_ends_it_at_once_with_the_number(
    run: Command, hub: Hub, act: faults.Act, path: str, why: str
) -> None:
    hub.add(NAME, files=big_model(5 * MIB))
    hub.fault(act, path=path, times=None)
    began = time.monotonic()
    done = run("pull", NAME, env=hub.environ)
    assert time.monotonic() - began < 30
    assert done.code == 7
    said, hint = re.sub(r"wait 3(60[01]|59\d) s", "wait AN HOUR", done.stderr.replace(hub.url, "HUB")).splitlines()[-2:]
    longer = "answers with status 429 and asks to wait AN HOUR, more than the 120 s of `--retry-for`"
    assert (said, hint) == (f"error: {why} {longer}", GOES_ON)


@pytest.mark.parametrize(
    ("asked", "now", "seconds"),
    [
        ("17", None, 17),
        (" 8 ", None, 8),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:30 -0000", "Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT", None),
        # By our own clock where the server does not tell its time.
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "yesterday", None),
        ("0", None, None),
        ("soon", None, None),
        ("-5", None, None),
        ("1.5", None, None),
        ("\xb2", None, None),
        ("Wed, 99 Oct 99999 07:28:00 GMT", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_what_a_server_asks_to_wait(asked: str | None, now: str | None, seconds: float | None) -> None:
    assert retry_after(asked, now=now) == seconds


@pytest.mark.parametrize(
    "act",
    [faults.silence(), pytest.param(faults.stall(seconds=30), marks=SWEEP)],
    ids=["no answer", "no body"],
)
def test_a_silent_hub_is_not_waited_for_where_the_model_is_here(run: Command, hub: Hub, act: faults.Act) -> None:
    commit = hub.add(NAME)
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.fault(act, path="/api/*", times=None)
    done = run("pull", NAME, "--stall-after", "0.5", "--retry-for", "1", env=hub.environ)
    assert done.code == 7
    assert done.stderr.splitlines()[-2:] == [
        f"error: the Hub at `{hub.url}` does not answer in time",
        f"hint: what is already here can be served: `modelctl serve {NAME}`",
    ]
    # Which commit it is needs no Hub.
    assert run("pull", f"{NAME}@{commit}", env=hub.environ).code == 0


@pytest.mark.sweep
def test_ten_seconds_of_silence_are_enough_where_the_model_is_here(run: Command, hub: Hub) -> None:
    hub.add(NAME)
    assert run("pull", NAME, env=hub.environ).code == 0
    hub.fault(faults.silence(), path="/api/*", times=None)
    began = time.monotonic()
    assert run("pull", NAME, env=hub.environ).code == 7
    # Those of a connection alone would be twenty.
    assert 10 < time.monotonic() - began < 18


def drip(*, after: int) -> faults.Act:
    """After so many bytes of the body only one at a time, one in a tenth of a second, for as long as anybody reads."""

    class Drip(Answer):
        async def piece(self, body: bytes, *, more: bool) -> None:
            quick = max(0, after - self.sent)
            await self.write(body[:quick], more=more or quick < len(body))
            for at in range(quick, len(body)):
                if await self.call.gone(seconds=0.1):
                    await self.call.hang_up()
                await self.write(body[at : at + 1], more=more or at + 1 < len(body))

    return faults._through(Drip)


@pytest.mark.sweep
@pytest.mark.parametrize("path", [CDN, "*/config.json", TREE], ids=["large", "small", "listing"])
def test_a_connection_that_drips_is_opened_anew(run: Command, hub: Hub, store: StoreBuilder, path: str) -> None:
    model = {**big_model(9 * MIB), "config.json": b"{}" + b" " * 200}
    hub.add(NAME, files=model)
    fault = hub.fault(drip(after=3 * MIB if path == CDN else 10), path=path)
    # Three times as long is looked on; silence for as long would be another reason.
    done = run("pull", NAME, "--stall-after", "3", env=hub.environ)
    assert (done.code, fault.count) == (0, 1), done.stderr
    assert re.search(r"bytes came in \d+ s; trying again in 0\.5 s", done.stderr)
    assert content(store) == model
    assert hub.bodies() < 9 * MIB + 4 * MIB


def test_a_slow_line_is_no_drip() -> None:
    steady = flow.Flow(0.001)
    deadline = time.monotonic() + 0.05
    while time.monotonic() < deadline:
        steady.count(1000)


def compressed(call: Call) -> Answer:
    """The app's answer as a proxy sends it that compresses whatever passes."""

    class Compressed(Answer):
        def head(self, headers: dict[str, str]) -> dict[str, str]:
            del headers["content-length"]
            return headers | {"content-encoding": "gzip", "transfer-encoding": "chunked"}

        async def piece(self, body: bytes, *, more: bool) -> None:
            await self.write(gzip.compress(body), more=more)

    return Compressed(call)


@pytest.mark.parametrize("path", [pytest.param("*/config.json", marks=SWEEP), CDN], ids=["small", "large"])
def test_a_body_that_comes_compressed_unasked_is_refused_at_once(run: Command, hub: Hub, path: str) -> None:
    async def act(call: Call) -> None:
        await call.app(call.scope, call.receive, compressed(call))

    hub.add(NAME, files=big_model(5 * MIB))
    fault = hub.fault(act, path=path, times=None)
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, fault.count <= 2) == (7, True)
    assert "sends `gzip` where the plain bytes were asked for\n" in done.stderr
    assert done.stderr.endswith("go round it with `no_proxy`, or use another `HF_ENDPOINT`\n")


@pytest.mark.sweep
def test_patience_is_a_time_and_no_number_of_tries(run: Command, hub: Hub) -> None:
    hub.add(NAME, files=FILES)
    hub.fault(faults.too_many(retry_after=1), path="*/model.safetensors", times=14)
    done = run("pull", NAME, env=hub.environ)
    assert (done.code, done.stderr.count("; trying again in 1.0 s")) == (0, 14), done.stderr


@pytest.mark.sweep
def test_patience_outlasts_what_others_sleep_through(run: Command, hub: Hub, store: StoreBuilder) -> None:
    """What huggingface_hub would ask again by itself, unseen and without a bound, is ours to ask."""
    hub.add(NAME, files=FILES)
    hub.fault(faults.unavailable(502), path=TREE, times=3)
    done = run("pull", NAME, env=hub.environ)
    assert done.code == 0
    assert [line for line in done.stderr.splitlines() if "502" in line] == [
        f"the Hub at `{hub.url}` answers with status 502; trying again in {pause} s" for pause in ("0.5", "1.0", "2.0")
    ]
    assert blobs_are_true(store)
