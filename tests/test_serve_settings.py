"""What `serve` is asked for, by flags and by `modelctl.toml`: adapters, keys, machines; and what it refuses."""

import json
import shlex
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelctl.engine import api_key
from tests.command import NOBODY, Command, Finished
from tests.serving import serving
from tests.standin.engines import make_engine
from tests.stores import StoreBuilder, tiny_model
from tests.test_architectures import write

TINY, SQL = "acme/tiny", "acme/tiny-sql"
ADAPTER: dict[str, Any] = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": TINY}
# More than any machine has room for.
LONG = json.dumps({**json.loads(tiny_model()["config.json"]), "max_position_embeddings": 1 << 36})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the stand-in for vLLM."""
    return make_engine(tmp_path_factory.mktemp("engine") / "venv")


@pytest.fixture
def env(engine: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as temporary:
        yield {"MODELCTL_VLLM_PYTHON": str(engine), "TMPDIR": temporary}


def add_adapter(store: StoreBuilder, name: str = SQL, **changed: Any) -> Path:  # noqa: ANN401
    config = json.dumps({**ADAPTER, **changed})
    files: dict[str, bytes | str] = {
        "adapter_config.json": config,
        "adapter_model.safetensors": b"\x08\0\0\0\0\0\0\0{}      ",
    }
    commit = store.add(name, files=files)
    return store.paths(name).snapshot(commit)


def flags(argv: list[str]) -> dict[str, list[str]]:
    """The flags of a command line with their values."""
    found: dict[str, list[str]] = {}
    for word in argv[argv.index("--served-model-name") :]:
        if word.startswith("--"):
            values = found.setdefault(word, [])
        else:
            values.append(word)
    return found


def test_the_file_and_the_flags_over_it(run: Command, store: StoreBuilder, env: dict[str, str], project: Path) -> None:
    store.add(TINY)
    snapshot = add_adapter(store, r=64)
    (project / "key").write_text("secret\n")
    (project / "modelctl.toml").write_text(
        "[serve]\nport = 8003\nmax-num-seqs = 4\n"
        f'[serve.models."{TINY}"]\nmax-model-len = "1k"\napi-key-file = "key"\nlora = {{sql = "{SQL}"}}\n'
    )
    shown = run("serve", TINY, "--max-model-len", "512", "--dry-run", "--json", "--", "--max-num-seqs=2", env=env)
    value = shown.json
    assert value["url"] == "http://127.0.0.1:8003"
    assert value["loras"] == [
        {"name": "sql", "id": SQL, "commit": snapshot.name, "path": str(snapshot)},
    ]
    given = flags(value["argv"])
    assert given["--max-model-len"] == ["512"]
    assert "--max-num-seqs" not in given
    assert value["argv"][-1] == "--max-num-seqs=2"
    assert (given["--enable-lora"], given["--max-lora-rank"]) == ([], ["64"])
    assert json.loads(*given["--lora-modules"]) == {"name": "sql", "path": str(snapshot)}
    assert value["environment"]["set"]["VLLM_API_KEY"] == "***"
    assert "secret" not in shown.stdout
    text = run("serve", TINY, "--dry-run", env=env).stdout
    assert f'  VLLM_API_KEY="$(cat {project / "key"})" \\\n' in text
    assert "secret" not in text


def test_a_server_with_an_adapter_and_a_key(
    run: Command, store: StoreBuilder, env: dict[str, str], project: Path, tmp_path: Path
) -> None:
    store.add(TINY)
    (project / "tune").mkdir()
    (project / "tune" / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (project / "tune" / "adapter_model.safetensors").touch()
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    record = tmp_path / "record.json"
    told = env | {"STANDIN_KEY": "secret", "STANDIN_RECORD": str(record)}
    words = (TINY, "--port", "0", "--host", "0.0.0.0", "--lora", "tune=./tune", "--api-key-file", key)  # noqa: S104
    with serving(run, *words, env=told) as server:
        server.until_ready()
        assert "secret" not in server.curl
        assert server.try_curl()["model"] == TINY
        done = server.send(signal.SIGTERM).finish()
    given = json.loads(record.read_text())
    assert given["environ"]["VLLM_API_KEY"] == "secret"
    assert "secret" not in str(given["arguments"])
    assert "warning" not in done.stderr


def test_what_is_served_beside_the_model_stays(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    add_adapter(store)
    store.add("acme/draft")
    beside = ("--lora", f"sql={SQL}", "--", "-sc", '{"model": "acme/draft"}')
    with serving(run, TINY, "--port", "0", *beside, env=env) as server:
        server.until_ready()
        assert [run("rm", "--yes", name).code for name in (TINY, SQL, "acme/draft")] == [8, 8, 8]
        server.send(signal.SIGTERM).finish()
    assert run("rm", "--yes", SQL).code == 0


def test_a_key_that_others_can_read(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    folder = Path(env["TMPDIR"])
    folder.chmod(0o755)
    key = folder / "key"
    key.write_text("secret\n")
    key.chmod(0o604)
    with serving(run, TINY, "--port", "0", "--api-key-file", key, env=env | {"STANDIN_KEY": "secret"}) as server:
        done = server.until_ready().send(signal.SIGTERM).finish()
    warning = f"warning: every user of this machine can read the key; `chmod 600 {key}` keeps it to you"
    assert warning in done.stderr.splitlines()
    folder.chmod(0o750)
    assert not api_key.is_public(key)


class TestRefusals:
    def test_a_model_that_cannot_fit(self, run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
        store.add("acme/long", files=tiny_model(**{"config.json": LONG}))
        done = run("serve", "acme/long", "--max-model-len", str(1 << 36), env=env)
        assert (done.code, done.stdout) == (5, "")
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: `acme/long` does not fit: it takes ")
        assert hint.startswith("hint: `--max-model-len ")
        assert hint.endswith(
            "makes it fit; `modelctl show acme/long --memory` has the reasoning; `--force` starts it anyway"
        )
        # Left open, the context is what fits, and that is said.
        shown = run("serve", "acme/long", "--dry-run", env=env)
        assert "  --max-model-len auto \\\n" in shown.stdout
        assert shown.stderr.startswith(
            "its whole context of 68,719,476,736 tokens does not fit: `--max-model-len auto` "
        )
        forced = run("serve", "acme/long", "--max-model-len", str(1 << 36), "--force", "--dry-run", "--json", env=env)
        assert (forced.code, forced.json["refusal"]) == (0, None)
        dry = run("serve", "acme/long", "--max-model-len", str(1 << 36), "--dry-run", "--json", env=env)
        assert (dry.code, dry.json["refusal"]["kind"]) == (0, "no_room")

    def test_an_architecture_that_is_not_known(self, run: Command, store: StoreBuilder, tmp_path: Path) -> None:
        store.add(TINY)
        python = make_engine(tmp_path / "venv")
        write(next((tmp_path / "venv").glob("lib/python*/site-packages")), "_MODELS = {'Other': ('other', 'Other')}")
        assert run("serve", TINY, "--python", python) == Finished(
            1,
            "",
            f"error: `{TINY}` cannot be served: vLLM 0.33.0+cpu does not know `LlamaForCausalLM`\n"
            "hint: another vLLM may know it: `--python` names one; `--force` starts it anyway\n",
        )

    def test_a_wrong_file(self, run: Command, project: Path) -> None:
        (project / "modelctl.toml").write_text('[serve]\nport = "8000"\n')
        assert run("serve") == Finished(
            2,
            "",
            f"error: `{project}/modelctl.toml`, line 2: `serve.port` is not a number from 0 to 65535\n"
            'hint: it is `"8000"`\n',
        )

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--lora sql", "`--lora sql` names no adapter"),
            ("--lora a=x --lora a=y", "two adapters are called `a`"),
            ("--lora a=x -- --lora-modules b=y", "`--lora` and `--lora-modules` contradict each other"),
            ("--dtype half", "no such option: `--dtype`"),
            ("--max-model-len 8kb", "`--max-model-len` is no number of tokens: `8kb`"),
        ],
    )
    def test_words_that_cannot_mean_anything(self, run: Command, words: str, message: str) -> None:
        done = run("serve", *shlex.split(words))
        assert (done.code, done.stderr.splitlines()[0]) == (2, f"error: {message}")
        assert ("flags of vLLM stand after `--`" in done.stderr) is ("no such option" in message)


def test_the_file_of_flags_is_looked_at(run: Command, store: StoreBuilder, env: dict[str, str], project: Path) -> None:
    store.add(TINY)
    file = project / "vllm.yaml"
    file.write_text("kv-cache-memory-bytes: 64M\nshutdown-timeout: 5\nssl-certfile: x.pem\n")
    shown = run("serve", TINY, "--dry-run", "--json", "--", "--config", "vllm.yaml", env=env).json
    assert shown["url"] == "https://127.0.0.1:8000"
    assert not {"--kv-cache-memory-bytes", "--shutdown-timeout"} & {*shown["argv"]}
    open_to_all = ("serve", TINY, "--host", "0.0.0.0", "--dry-run", "--", "--config", "vllm.yaml")  # noqa: S104
    for none in ("seed: 1", "api-key: []", 'api-key: [""]', 'api-key: x\napi-key: ""'):
        file.write_text(none)
        for form in ((), ("--json",)):
            done = run(*open_to_all[:-3], *form, *open_to_all[-3:], env=env)
            assert done.stderr.startswith("warning: everyone who reaches this machine can use the model"), none
    assert done.json["refusal"] is None
    file.write_text("api-key: [sesame, secret]\n")
    done = run(*open_to_all, env=env)
    assert (done.code, "everyone" in done.stderr, "sesame" in done.stdout) == (0, False, False)
    with serving(run, TINY, "--port", "0", "--", "--config", "vllm.yaml", env=env | {"VLLM_API_KEY": "mine"}) as server:
        # The file's stands over that of the environment.
        assert '-H "Authorization: Bearer KEY"' in server.until_ready().curl
    file.write_text("grpc: true\n")
    (project / "modelctl.toml").write_text('[serve]\nconfig = "vllm.yaml"\n')
    assert run("serve", TINY, env=env) == Finished(
        2, "", "error: with `--grpc` vLLM answers no HTTP request\nhint: leave it away, or run vLLM itself\n"
    )


HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("words", "more", "code"),
    [
        (("--", "--max-lora-rank", HUGE), {}, 0),
        (("--", "--kv-cache-memory-bytes", "9" * 400), {}, 0),
        (
            ("--", "--shutdown-timeout", HUGE, "--gpu-memory-utilization", HUGE, "-tp", HUGE, "--max-num-seqs", HUGE),
            {},
            0,
        ),
        (("--", "--max-model-len", HUGE), {}, 2),
        (("--tensor-parallel-size", "9" * 400), {}, 0),
        ((), {"VLLM_CPU_KVCACHE_SPACE": HUGE}, 0),
    ],
)
def test_a_number_that_no_machine_holds(
    run: Command,
    store: StoreBuilder,
    env: dict[str, str],
    words: tuple[str, ...],
    more: dict[str, str],
    code: int,
) -> None:
    store.add(TINY)
    add_adapter(store)
    done = run("serve", TINY, "--lora", f"sql={SQL}", "--dry-run", *words, env=env | more)
    assert (done.code, "Traceback" in done.stderr) == (code, False), done.stderr


WRONG_NODES = [
    ("--ray --nnodes 2", "`--ray` and `--nnodes` contradict each other"),
    (
        "--ray -- --distributed-executor-backend mp",
        "`--ray` and `--distributed-executor-backend mp` contradict each other",
    ),
    ("--node-rank 1", "`--node-rank` and `--master-addr` need `--nnodes`"),
    ("--nnodes 2", "`--nnodes 2` needs `--node-rank` and `--master-addr`"),
    ("--nnodes 2 --node-rank 2 --master-addr a", "there is no rank 2 among 2 machines"),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("words", "message"), WRONG_NODES)
def test_machines_that_make_no_sense(
    run: Command, store: StoreBuilder, env: dict[str, str], words: str, message: str
) -> None:
    store.add(TINY)
    done = run("serve", TINY, "--dry-run", *words.split(), env=env)
    assert (done.code, done.stderr.splitlines()[0]) == (2, f"error: {message}")


@pytest.mark.sweep
def test_several_machines(run: Command, store: StoreBuilder, env: dict[str, str], project: Path) -> None:
    store.add(TINY)
    (project / "modelctl.toml").write_text('[serve]\nnnodes = 2\nmaster-addr = "10.0.0.1"\ntensor-parallel-size = 4\n')
    first = flags(run("serve", TINY, "--node-rank", "0", "--dry-run", "--json", env=env).json["argv"])
    assert (first["--nnodes"], first["--node-rank"], first["--master-addr"]) == (["2"], ["0"], ["10.0.0.1"])
    assert "--headless" not in first
    second = flags(run("serve", TINY, "--node-rank", "1", "--dry-run", "--json", env=env).json["argv"])
    assert (second["--node-rank"], second["--headless"]) == (["1"], [])
    # It takes no port, so that it is not in the way of the one that answers.
    assert second["--port"] != ["8000"]
    ray = flags(run("serve", TINY, "--ray", "--dry-run", "--json", env=env).json["argv"])
    assert ray["--distributed-executor-backend"] == ["ray"]
    # What is typed stands over the file, also where it is called otherwise.
    (project / "modelctl.toml").write_text("[serve]\nray = true\n")
    words = ("--dry-run", "--json", "--", "--distributed-executor-backend", "mp")
    assert flags(run("serve", TINY, *words, env=env).json["argv"])["--distributed-executor-backend"] == ["mp"]
    assert "--nnodes" not in ray


ADAPTERS = [
    ({"use_dora": True}, SQL, 1, f"vLLM cannot serve the adapter `{SQL}`: it is a DoRA adapter"),
    ({"bias": "all"}, SQL, 1, f"vLLM cannot serve the adapter `{SQL}`: it changes biases"),
    ({"peft_type": "IA3"}, SQL, 1, f"vLLM cannot serve the adapter `{SQL}`: it is of the kind IA3"),
    ({"r": 1024}, SQL, 1, "the adapter `a` has rank 1024, and vLLM takes at most 512"),
    ({}, TINY, 1, f"`{TINY}` is no LoRA adapter: it has no `adapter_config.json`"),
    ({}, "acme/none", 3, "no model `acme/none` here (the adapter `a`)"),
    ({}, f"{SQL}@v9", 3, f"`{SQL}` has no revision `v9` here"),
    ({}, "./none", 3, "the adapter `a` is not at `{}/none`"),
    ({}, "~nobody-of-this-name/a", 3, "the adapter `a` is not at `{}/~nobody-of-this-name/a`"),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("config", "named", "code", "message"), ADAPTERS)
def test_adapters_that_cannot_be_served(
    run: Command,
    store: StoreBuilder,
    env: dict[str, str],
    config: dict[str, Any],
    named: str,
    code: int,
    message: str,
) -> None:
    store.add(TINY)
    add_adapter(store, **config)
    done = run("serve", TINY, "--lora", f"a={named}", env=env)
    assert (done.code, done.stderr.splitlines()[0]) == (code, f"error: {message.format(run.project)}")


@pytest.mark.sweep
def test_adapters_after_the_dashes_stand_over_those_of_the_file(
    run: Command, store: StoreBuilder, env: dict[str, str], project: Path
) -> None:
    store.add(TINY)
    add_adapter(store)
    (project / "modelctl.toml").write_text(f'[serve]\nlora = {{sql = "{SQL}"}}\n')
    shown = run("serve", TINY, "--dry-run", "--json", "--", "--enable-lora", "--lora-modules", "x=/x", env=env).json
    assert (shown["loras"], shown["argv"].count("--lora-modules")) == ([], 1)


@pytest.mark.sweep
def test_an_adapter_with_the_models_own_name(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    add_adapter(store)
    done = run("serve", TINY, "--lora", f"{TINY}={SQL}", env=env)
    assert done == Finished(
        2,
        "",
        f"error: an adapter cannot be called `{TINY}`\nhint: that is the name of the model itself\n",
    )


@pytest.mark.sweep
def test_an_adapter_that_is_not_whole(run: Command, store: StoreBuilder, env: dict[str, str]) -> None:
    store.add(TINY)
    (add_adapter(store) / "adapter_model.safetensors").unlink()
    done = run("serve", TINY, "--lora", f"a={SQL}", env=env)
    assert done.code == 6
    assert done.stderr.startswith(f"error: the adapter `{SQL}` is partial: ")
    assert done.stderr.endswith(f"hint: `modelctl pull {SQL}` mends it\n")


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "there is no file `{}`"),
        (b"\n", 2, "the key file `{}` is empty"),
        (b"one two\n", 2, "the key file `{}` holds more than one word"),
        ("schlüssel".encode(), 2, "the key in `{}` cannot stand in a request"),
        (b"\xff", 4, "cannot read `{}`: it is no text"),
        (b"a" * 200_000, 2, "the key file `{}` holds more than a key"),
    ],
)
def test_key_files_that_hold_none(
    run: Command, store: StoreBuilder, env: dict[str, str], content: bytes | None, code: int, message: str
) -> None:
    store.add(TINY)
    path = run.project / "key"
    if content is not None:
        path.write_bytes(content)
    done = run("serve", TINY, "--api-key-file", path, env=env)
    assert (done.code, done.stderr.splitlines()[0]) == (code, f"error: {message.format(path)}")


@pytest.mark.sweep
def test_files_that_may_not_be_read(run: Command, store: StoreBuilder, engine: Path) -> None:
    store.add(TINY)
    path = run.project / "modelctl.toml"
    path.write_text("[serve]\n")
    path.chmod(0)
    done = run("serve", TINY, env={"MODELCTL_VLLM_PYTHON": str(engine)}, user=NOBODY)
    assert (done.code, done.stderr.splitlines()[0]) == (4, f"error: cannot read `{path}`: Permission denied")


@pytest.mark.sweep
def test_an_interpreter_that_may_not_be_looked_at(run: Command, store: StoreBuilder) -> None:
    store.add(TINY)
    python = run.project / "closed" / "python"
    python.parent.mkdir(mode=0o700)
    done = run("serve", TINY, "--python", python, user=NOBODY)
    assert (done.code, done.stderr) == (4, f"error: `{python}` may not be run\nhint: see `ls -l {python}`\n")


def test_a_tokenizer_that_the_file_names(run: Command, store: StoreBuilder, env: dict[str, str], project: Path) -> None:
    store.add(TINY, files={name: content for name, content in tiny_model().items() if "token" not in name})
    (project / "modelctl.toml").write_text('[serve]\ntokenizer = "/tokenizer"\n')
    assert run("serve", TINY, "--dry-run", env=env).stdout.endswith("--tokenizer /tokenizer\n")
    assert run("export-config", "--format", "vllm", TINY).code == 0
