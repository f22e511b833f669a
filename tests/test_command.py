"""vLLM's command line and environment, without starting anything."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import command, configured, example, flags, machine, memory
from modelctl.engine.command import Settings
from modelctl.errors import UsageError
from modelctl.ref import ModelRef

PYTHON, SNAPSHOT = Path("/venv/bin/python"), Path("/hub/models--acme--tiny/snapshots/abc")
PLAIN = Settings(served_names=("acme/tiny",))
START = (str(PYTHON), str(command.LAUNCHER), "serve", str(SNAPSHOT), "--served-model-name", "acme/tiny")
GIB = 2**30


def test_the_plain_command_line() -> None:
    assert command.serve(PYTHON, SNAPSHOT, PLAIN) == (
        *START,
        *("--host", "127.0.0.1", "--port", "8000", "--shutdown-timeout", "30"),
    )


def test_every_setting_and_what_follows_the_dashes() -> None:
    settings = Settings(
        host="::",
        port=1,
        served_names=("a", "b"),
        max_model_len="8k",
        gpu_memory_utilization=0.5,
        tensor_parallel_size=2,
        kv_cache=7,
        extra=("--shutdown_timeout=5", "--dtype", "auto"),
    )
    assert command.serve(PYTHON, SNAPSHOT, settings)[5:] == (
        *("a", "b", "--host", "::", "--port", "1", "--max-model-len", "8k", "--gpu-memory-utilization", "0.5"),
        *("--tensor-parallel-size", "2", "--kv-cache-memory-bytes", "7", "--shutdown_timeout=5", "--dtype", "auto"),
    )
    assert settings.drain == 5.0
    assert PLAIN.drain == 30.0


@pytest.mark.parametrize(
    ("version", "known"),
    [("0.17.1", False), ("0.18.0", True), ("0.33.0+cpu", True), ("1.0", True), ("unknown", True), ("0.9.2", False)],
)
def test_an_old_vllm_gets_no_flag_that_it_does_not_know(version: str, *, known: bool) -> None:
    assert ("--shutdown-timeout" in command.serve(PYTHON, SNAPSHOT, PLAIN, version=version)) is known


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [
        (["--port", "1"], "--port", "1"),
        (["--port=1"], "--port", "1"),
        (["--por", "1"], "--port", "1"),
        (["--served_model_name", "x"], "--served-model-name", "x"),
        (["--port", "1", "--port", "2"], "--port", "2"),
        (["-tp", "2"], "--tensor-parallel-size", "2"),
        (["--enforce-eager", "--dtype", "auto"], "--enforce-eager", ""),
        (["--enforce-eager"], "--enforce-eager", ""),
        (["--portion", "1"], "--port", None),
        (["-qawq"], "--quantization", "awq"),
        (["-n2"], "--nnodes", "2"),
        (["-tp2"], "--tensor-parallel-size", None),
        (["--max-model-len", "-1"], "--max-model-len", "-1"),
        (["--seed", "--port"], "--seed", ""),
        (["--model-impl", "auto"], "--model", None),
        (["port"], "--port", None),
        ([], "--port", None),
    ],
)
def test_finds_a_flag_as_vllms_parser_does(words: list[str], flag: str, value: str | None) -> None:
    assert flags.given(words, flag) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8", 8),
        ("0", 0),
        ("1" + "0" * 17, 10**17),
        ("9" * 19, None),
        ("9" * 5000, None),
        ("-1", None),
        ("8k", None),
        ("", None),
    ],
)
def test_a_number_has_an_end(text: str, number: int | None) -> None:
    assert flags.whole(text) == number
    assert memory.context_length(text) == (8000 if text == "8k" else number or None)
    assert Settings(extra=("--shutdown-timeout", text)).drain == (command.DRAIN_SECONDS if number is None else number)


@pytest.mark.parametrize(
    ("word", "is_there"),
    [
        ("--hf-overrides.rope_theta=1e6", True),
        ("--hf_overrides.rope_theta", True),
        ("--hf-over", True),
        ("-sc.model", False),
        ("-1.5", False),
        ("rope.hf-overrides", False),
    ],
)
def test_a_part_of_a_flag_mentions_it(word: str, *, is_there: bool) -> None:
    assert flags.mentions([word, "1"], ["--dtype", "--hf-overrides"]) is is_there
    assert flags.mentions(["-sc.model", "x"], ["--speculative-config"])


NONSENSE: list[dict[str, Any]] = [
    *({"max_model_len": text} for text in ("foo", "", "0", "-5", "nan", "inf", "1e3", "1.5K", "8kb", "8192.0")),
    *({"extra": words} for words in (("--max-model-len",), ("--max-model-len=x",), ("--max-model", "x"))),
    {"gpu_memory_utilization": float("nan")},
    {"served_names": ("a", "-b")},
    {"served_names": ("",)},
    {"host": "--uds=/tmp/x"},
]


@pytest.mark.parametrize("wanted", NONSENSE)
def test_refuses_values_that_vllm_cannot_read(wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        command.check(Settings(**wanted))


@pytest.mark.parametrize("text", ["8192", "8k", "1.5k", "8K", "8t", "auto", "AUTO", "-1", "1_000"])
def test_takes_lengths_as_vllm_does(text: str) -> None:
    command.check(Settings(max_model_len=text))
    command.check(Settings(extra=("--max-model-len", text)))


def test_a_machine_that_only_computes_may_be_said_after_the_dashes() -> None:
    settings = dataclasses.replace(PLAIN, extra=("--headless", "-dp", "2"))
    assert settings.is_headless
    assert command.serve(PYTHON, SNAPSHOT, settings).count("--headless") == 1


@pytest.mark.parametrize("flag", ["--model", "--host", "--port", "--served-model-name", "--uds", "--api-key"])
def test_refuses_after_the_dashes_what_it_has_to_know_itself(flag: str) -> None:
    with pytest.raises(UsageError, match=f"`{flag}` cannot stand after `--`"):
        command.check(Settings(extra=(flag, "x")))


A_LOT = tuple(f"--a{at}" for at in range(41))
TLS = ("--ssl-certfile", "x.pem")


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("--grpc",), True),
        (("--grpc-port", "1"), False),
        (("--api-server-count", "0"), True),
        (("-asc", "0"), True),
        (("--api-server-count=-1",), True),
        (("-asc", "0", "--api_server_count", "2"), False),
        (("-asc", "0", "--headless"), False),
        ((*TLS, "--ssl-cert-reqs", "2"), True),
        ((*TLS, "--ssl-cert-reqs", "1"), False),
        (("--ssl-cert-reqs", "2"), False),
    ],
)
def test_refuses_what_would_never_be_seen_to_be_ready(words: tuple[str, ...], *, refused: bool) -> None:
    for settings in (Settings(extra=words), Settings(configured=words)):
        with pytest.raises(UsageError) if refused else contextlib.nullcontext():
            command.check(settings)


def test_refuses_a_flag_that_is_given_twice() -> None:
    with pytest.raises(UsageError, match="`--max-model-len` is given twice"):
        command.check(Settings(max_model_len="8k", extra=("--max-model-len", "4k")))
    command.check(Settings(max_model_len="8k", extra=("--dtype", "auto")))


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("acme/tiny", ("acme/tiny",)),
        ("tiny", ("acme/tiny", "tiny")),
        ("acme/tiny@v1", ("acme/tiny", "acme/tiny@v1")),
        ("hf://acme/tiny", ("acme/tiny",)),
    ],
)
def test_the_model_answers_to_its_id_and_to_what_was_typed(typed: str, names: tuple[str, ...]) -> None:
    ref = ModelRef("acme/tiny")
    assert command.served_names(ref.id, command.typed_name(ref, typed)) == names


def test_wanted_names_are_the_only_ones() -> None:
    assert command.served_names("acme/tiny", "tiny", ["chat", "chat"]) == ("chat",)


def test_the_environment() -> None:
    inherited = {"HOME": "/home/me", "VLLM_CPU_KVCACHE_SPACE": ""}
    assert command.environment(inherited) == {"HOME": "/home/me", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    wanted = {"VLLM_NO_USAGE_STATS": "0"}
    assert command.environment(wanted) == wanted
    assert command.environment({"VLLM_CPU_KVCACHE_SPACE": "2", "DO_NOT_TRACK": "0"})["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert command.private(Path("/t/x"), supervisor=7, inherited={}) == {
        "TMPDIR": "/t/x",
        "VLLM_RPC_BASE_PATH": "/t/x",
        "MODELCTL_DIE_WITH_PARENT": "1",
        "MODELCTL_SUPERVISOR": "7",
    }
    assert (
        command.private(Path("/t/x"), supervisor=7, inherited={"VLLM_RPC_BASE_PATH": "/s"})["VLLM_RPC_BASE_PATH"]
        == "/s"
    )


def test_the_difference_holds_no_inherited_secret() -> None:
    new, gone = command.difference({"A": "1", "KEY": "secret", "B": "2"}, {"KEY": "secret", "B": "1", "HF_TOKEN": "t"})
    assert (new, gone) == ({"A": "1", "B": "2"}, ("HF_TOKEN",))


def test_secret_values_are_hidden() -> None:
    words = ["--dtype", "auto", "--hf-token", "s1", "--hf_token=s2", "--api-key=s3"]
    assert flags.shown(words) == ("--dtype", "auto", "--hf-token", "***", "--hf_token=***", "--api-key=***")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - a name, no bind
        ("::", "http://[::1]:80"),
        ("fd00::1", "http://[fd00::1]:80"),
        ("gpu.example", "http://gpu.example:80"),
    ],
)
def test_where_this_machine_reaches_the_server(host: str, url: str) -> None:
    assert command.base_url(host, 80) == url
    assert command.base_url(host, 80, is_tls=True) == url.replace("http:", "https:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: 1\nheadless: true\nenforce-eager: false\n", ("--port", "1", "--headless")),
        ("kv_cache_memory_bytes: 1G\n", ("--kv_cache_memory_bytes", "1G")),
        ("hf-overrides: {a: 1}\nmiddleware: [a, b]\nseed:\n", ("--hf-overrides", "--middleware")),
        ("middleware: []\napi-key: ['', '']\nlora-modules: ['', x]\n", ("--lora-modules",)),
        ("seed: 1\nport: 1\nseed: 2\nport: ''\n", ("--seed", "2")),
        ("ssl-certfile: null\nuds: ''\nssl-keyfile: None\nseed: 1\n", ("--seed", "1")),
        ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", ("--a", "--b", "--c")),
        ("1: 2\nx: 0x" + "f" * 9999, ("--1", "2", "--x", "0x" + "f" * 9999)),
        # Each line doubles the one before it, where it is made a value.
        ("a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(40)), A_LOT),
        *((text, ()) for text in ("", "- a\n", "a: [\n", "[" * 9999, "\0", "a: *none\n", "#" * 70_000)),
    ],
)
def test_reads_the_file_of_flags_as_vllm_does(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert configured.words(("--dtype", "auto", "--config", str(path))) == words
    odd = [("--config",), (f"--config={path}",), ("--conf", str(path)), ("--config", str(tmp_path / "none.yaml"))]
    assert [configured.words(given) for given in odd] == [()] * 4


def test_the_file_of_flags_counts_and_the_command_line_stands_over_it() -> None:
    of_file = ("--shutdown-timeout", "5", "--ssl-certfile", "x", "--headless", "--kv-cache-memory-bytes", "1G")
    settings = dataclasses.replace(PLAIN, configured=of_file)
    assert (settings.is_tls, settings.is_headless, settings.drain) == (True, True, 5.0)
    assert command.sizes_kv_cache(settings, {})
    assert command.serve(PYTHON, SNAPSHOT, settings) == (*START, "--host", "127.0.0.1", "--port", "8000")
    assert dataclasses.replace(settings, extra=("--shutdown-timeout", "6")).drain == 6.0
    with pytest.raises(UsageError, match="`uds` cannot stand in the file of `--config`"):
        command.check(Settings(configured=("--uds", "/x")))


def test_a_certificate_makes_it_https() -> None:
    assert Settings(extra=("--ssl-certfile", "x.pem", "--ssl-keyfile", "x.key")).is_tls
    assert not PLAIN.is_tls


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],  # noqa: S104
)
def test_whom_the_host_lets_in(host: str, *, loopback: bool) -> None:
    assert command.is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("changed", "environ", "sized"),
    [
        ({}, {}, False),
        ({"extra": ("--kv-cache-memory-bytes", "1")}, {}, True),
        ({"extra": ("--gpu-memory-utilization=0.5",)}, {}, True),
        ({"gpu_memory_utilization": 0.5}, {}, True),
        ({}, {"VLLM_CPU_KVCACHE_SPACE": "4"}, True),
        ({}, {"VLLM_CPU_KVCACHE_SPACE": ""}, False),
    ],
)
def test_leaves_the_kv_cache_to_a_user_who_sized_it(
    changed: dict[str, Any], environ: dict[str, str], *, sized: bool
) -> None:
    assert command.sizes_kv_cache(dataclasses.replace(PLAIN, **changed), environ) is sized


class TestKvCacheOnCpu:
    # Of the dimensions that a real vLLM was asked about: 8192 bytes a token.
    LLAMA: Mapping[str, object] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
    }

    def test_a_quarter_of_what_is_available_between_64_mib_and_4_gib(self) -> None:
        sizes = [memory.kv_cache_on_cpu({}, context=None, available=n * GIB) for n in (0, 8, 64)]
        assert sizes == [GIB // 16, 2 * GIB, 4 * GIB]

    def test_room_for_one_request_of_full_length(self) -> None:
        # One block beyond, which vLLM gives to nobody.
        expected = (131072 + 128) * 8192
        assert memory.kv_cache_on_cpu(self.LLAMA, context=131072, available=0) == expected

    def test_no_more_than_the_requests_at_a_time_fill(self) -> None:
        assert memory.kv_cache_on_cpu(self.LLAMA, context=2048, available=64 * GIB) == 128 * (2048 + 128) * 8192

    @pytest.mark.parametrize(
        ("text", "tokens"), [("8192", 8192), ("8k", 8000), ("8K", 8192), ("1.5k", 1500), ("auto", None), ("-1", None)]
    )
    def test_the_context_asked_for(self, text: str, tokens: int | None) -> None:
        assert memory.context_length(text) == tokens


def test_available_memory_is_the_least_of_kernel_and_control_group(tmp_path: Path) -> None:
    assert machine.available_memory(tmp_path) > GIB // 16
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:    4096 kB\n")
    assert machine.available_memory(tmp_path) == 4096 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert machine.available_memory(tmp_path) == 4096 * 1024
    (group / "memory.max").write_text("5000\n")
    assert machine.available_memory(tmp_path) == 4000


def test_the_kernels_count_of_killed_processes(tmp_path: Path) -> None:
    assert machine.killed_for_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    assert machine.killed_for_memory(tmp_path) == 3


@pytest.mark.parametrize(
    ("tasks", "chats", "path"),
    [
        (["generate"], True, "/v1/chat/completions"),
        (["generate"], False, "/v1/completions"),
        (["token_embed", "embed"], False, "/v1/embeddings"),
        (["classify"], False, "/classify"),
        (["rerank"], False, "/score"),
        (["reward"], False, "/pooling"),
    ],
)
def test_the_request_to_try(tasks: list[str], path: str, *, chats: bool) -> None:
    line = example.curl("http://127.0.0.1:1", "it's", tasks, chats=chats, key="$VLLM_API_KEY")
    assert line.startswith(f'curl -s http://127.0.0.1:1{path} -H "Authorization: Bearer $VLLM_API_KEY" -H ')


def test_an_unknown_task_gets_the_list_of_models() -> None:
    assert example.curl("http://h:1", "x", ["transcription"], chats=False) == "curl -s http://h:1/v1/models"


class TestLauncher:
    """The script itself, run as vLLM's interpreter runs it."""

    def _run(self, code: str, *options: str, env: dict[str, str] | None = None) -> str:
        script = f"import runpy, sys; runpy.run_path({str(command.LAUNCHER)!r}, run_name='__mp_main__'); {code}"
        done = subprocess.run(
            [sys.executable, *options, "-c", script], env=env or {}, capture_output=True, encoding="utf-8", check=False
        )
        return done.stdout.strip() or str(done.returncode)

    def test_loads_the_standard_library_alone(self) -> None:
        code = "import json; print(json.dumps(list(sys.modules)))"
        loaded = {name.split(".")[0] for name in json.loads(self._run(code, "-S"))}
        assert loaded - sys.stdlib_module_names == {"__main__"}

    def test_does_not_outlive_a_supervisor_that_is_gone(self) -> None:
        gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
        gone.wait()
        alone = {"MODELCTL_DIE_WITH_PARENT": "1", "MODELCTL_SUPERVISOR": str(gone.pid)}
        assert self._run("print('alive')", env=alone) == "1"
        assert self._run("print('alive')", env={"MODELCTL_SUPERVISOR": str(gone.pid)}) == "alive"
