"""`modelctl.toml`: what it gives vLLM, and how a wrong one is told."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelctl import project as projects
from modelctl.engine import profile, settings_file
from modelctl.errors import UsageError
from modelctl.project import Project

NAME = "acme/tiny"
WHOLE = """
[serve]
port = 8001
max-num-seqs = 64
enforce_eager = true
seed = -1

[serve.models."acme/tiny"]
host = "0.0.0.0"
served-model-name = "tiny"
max-model-len = "8k"
enforce-eager = false
api-key-file = "keys/tiny"
lora = {sql = "acme/sql", "my tune" = "./tune"}
hf-overrides = {rope_parameters = {factor = 4.0}}
allowed-local-media-path = "/data"
limit-mm-per-prompt.image = 2
middleware = ["one.Two", "three.Four"]
allowed-origins = ["*"]
cudagraph-capture-sizes = [1, 2]
disable-log-stats = false
"""


@pytest.fixture
def here(tmp_path: Path) -> Project:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".gitkeep").touch()
    return projects.locate(cwd=tmp_path, environ={})


def read(here: Project, text: str) -> profile.Profiles:
    here.settings_file.write_text(text, encoding="utf-8")
    return settings_file.read(here)


def test_a_part_of_a_flag_keeps_its_name(here: Project) -> None:
    found = read(here, "[serve]\nhf_overrides.rope_theta = 1.5\n").of(NAME)
    assert found.words() == ("--hf-overrides", '{"rope_theta": 1.5}')


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('chat-template = "./templates/x.jinja"', "{}/templates/x.jinja"),
        ('chat_template = "templates/x.jinja"', "{}/templates/x.jinja"),
        ('tokenizer = "./none"', "{}/none"),
        ('ssl-keyfile = "~nobody-of-this-name/key"', "~nobody-of-this-name/key"),
        # On the Hub, a word of vLLM's own, a template as it is, a flag that takes none, one that is absolute.
        ('tokenizer = "acme/tiny"', "acme/tiny"),
        ('generation-config = "vllm"', "vllm"),
        (f'chat-template = "{"x" * 9999}"', "x" * 9999),
        ('dtype = "templates"', "templates"),
        ('config = "/etc/vllm.yaml"', "/etc/vllm.yaml"),
    ],
)
def test_a_relative_path_is_meant_from_the_folder_of_the_file(here: Project, written: str, meant: str) -> None:
    for path in (here.folder / "vllm", here.folder / "templates"):
        path.mkdir()
    (here.folder / "templates" / "x.jinja").touch()
    assert read(here, f"[serve]\n{written}\n").of(NAME).words()[1] == meant.format(here.folder)


def test_none_is_no_setting(here: Project) -> None:
    assert settings_file.read(here).of(NAME) == profile.Profile(folder=here.folder)


def test_a_models_table_stands_over_the_defaults(here: Project) -> None:
    found = read(here, WHOLE).of(NAME)
    assert (found.host, found.port, found.served_names) == ("0.0.0.0", 8001, ("tiny",))  # noqa: S104 - not a bind
    assert found.api_key_file == here.folder / "keys" / "tiny"
    assert found.loras == {"sql": "acme/sql", "my tune": "./tune"}
    assert found.words() == (
        *("--max-num-seqs", "64", "--no-enforce-eager", "--seed=-1", "--max-model-len", "8k"),
        *("--hf-overrides", '{"rope_parameters": {"factor": 4.0}}', "--allowed-local-media-path", "/data"),
        *("--limit-mm-per-prompt", '{"image": 2}', "--middleware", "one.Two", "--middleware", "three.Four"),
        *("--allowed-origins", '["*"]', "--cudagraph-capture-sizes", "1", "2"),
    )
    other = read(here, WHOLE).of("acme/other")
    assert (other.port, other.host, other.words()) == (
        8001,
        None,
        ("--max-num-seqs", "64", "--enforce-eager", "--seed=-1"),
    )


@pytest.mark.parametrize(
    ("over", "gone"),
    [
        (["--max-model-len", "1"], "--max-model-len"),
        (["--max_model_len=1"], "--max-model-len"),
        (["--no-enforce-eager"], "--enforce-eager"),
        (["-tp", "2"], "--tensor-parallel-size"),
        (["--hf-overrides.b=2"], "--hf-overrides"),
        (["--hf-overrides", "{}"], "--hf-overrides"),
    ],
)
def test_a_flag_stands_over_the_file(here: Project, over: list[str], gone: str) -> None:
    text = "[serve]\nmax-model-len = 2\nenforce-eager = true\ntensor-parallel-size = 4\nkv-cache-dtype-skip = 1\n"
    text += "hf-overrides.a = 1\n"
    words = read(here, text).of(NAME).words(over=[*over, "--kv-cache-dtype", "fp8"])
    flags = {"--max-model-len", "--enforce-eager", "--tensor-parallel-size", "--kv-cache-dtype-skip", "--hf-overrides"}
    assert {word for word in words if word.startswith("--")} == flags - {gone}


WRONG = [
    ("\n[server]\nport = 1\n", "line 2: `server` is no table that modelctl knows"),
    ("serve = 3\n", "line 1: `serve` is no table"),
    ('[serve]\nport = "8000"\n', "line 2: `serve.port` is not a number from 0 to 65535"),
    ("[serve]\nport = 65536\n", "line 2: `serve.port` is not a number from 0 to 65535"),
    ("[serve]\n\nhost = ''\n", 'line 3: `serve.host` is not an address, as in `host = "0.0.0.0"`'),
    ("[serve]\nlora = 'a=b'\n", 'line 2: `serve.lora` is not a table, as in `lora = {sql = "acme/sql-lora"}`'),
    ("[serve]\nserved-model-name = []\n", "line 2: `serve.served-model-name` is not a name or a list of names"),
    ("[serve]\ndtype = 1979-05-27\n", "line 2: `serve.dtype` has a value that no flag can have"),
    ("[serve]\nx = [\n 1,\n [2],\n]\n", "line 2: `serve.x` has a value that no flag can have"),
    ("[serve]\nx = nan\n", "line 2: `serve.x` has a value that no flag can have"),
    ("[serve]\n'--dtype' = 1\n", "line 2: `serve.--dtype` is no name of a flag"),
    ("[serve]\nmax-model-len = 1\nmax_model_len = 1\n", "line 3: `serve.max_model_len` is there twice"),
    ("[serve]\n# a secret\napi_key = 'x'\n", "line 3: `serve.api_key` cannot stand in this file"),
    # vLLM's parser takes a flag also shortened, and what is behind a dot for a part of it.
    *(
        (f"[serve]\n{key} = 'secret'\n", f"line 2: `serve.{key}` cannot stand in this file")
        for key in (
            "api-ke",
            "api_k",
            "api-key",
            "API-KEY",
            "hf-tok",
            "hf-token",
            "hf_token",
            "mod",
            "help",
            "lora-mod",
        )
    ),
    ("[serve]\npor = 8001\n", "line 2: `serve.por` is no name of a flag"),
    ("[serve]\napi-key-fil = 'x'\n", "line 2: `serve.api-key-fil` is no name of a flag"),
    ("[serve]\n'api-key.x' = 'secret'\n", 'line 2: `serve."api-key.x"` is no name of a flag'),
    ("[serve]\n'hf_overrides.rope_theta' = 1.5\n", 'line 2: `serve."hf_overrides.rope_theta"` is no name of a flag'),
    ("[serve]\nmodel = 'x'\n", "line 2: `serve.model` cannot stand in this file"),
    ("[serve]\nnode-rank = 1\n", "line 2: `serve.node-rank` cannot stand in this file"),
    ("[serve.models.tiny--x]\nport = 1\n", "line 1: `serve.models.tiny--x` is no model"),
    ("[serve]\nmodels.'a/b'.port = ''\n", 'line 2: `serve.models."a/b".port` is not a number from 0 to 65535'),
    ("[serve.models]\n'a/b' = 1\n", 'line 2: `serve.models."a/b"` is no table'),
    (
        '[serve]\nseed = 1\n[serve.models."acme/tiny"]\nseed = 1\nray = 1\n',
        'line 5: `serve.models."acme/tiny".ray` is not `true` or `false`',
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_file_is_told_with_line_and_key(here: Project, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(here, text)
    assert caught.value.message == f"`{here.settings_file}`, {message}"
    assert caught.value.hint
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "place"),
    [("[serve\n", "(at line 1, column 7)"), ("[serve]\na = 1\na = 2\n", "(at line 3, column 6)")],
)
def test_what_is_no_toml_is_told_with_its_place(here: Project, text: str, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(here, text)
    # The words are the library's, and differ with its version.
    assert caught.value.message.startswith(f"`{here.settings_file}` is no TOML: ")
    assert caught.value.message.endswith(place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nx = " + "[" * 9999, " is nested too deeply"),
        ("[serve]\nx" + ".x" * 9999 + " = 1", " has a line with more than 500 points"),
        ("[serve]\nseed = " + "9" * 5000, " is no TOML: "),
        ("[serve]\nseed = 0x" + "f" * 5000, ", line 2: `serve.seed` has a value that no flag can have"),
        ('[serve]\ndtype = "a\\u0000b"', ", line 2: `serve.dtype` has a value that no flag can have"),
        ('[serve]\nhost = "a\\u0000"', ", line 2: `serve.host` is not an address"),
        ("#" * 70_000, " is larger than any settings are"),
        # One key of many parts, many such keys, and a mistake beside much that has to be read again for its line.
        ("[serve]\nx" + ".x" * 32_000 + " = 1", " has a line with more than 500 points"),
        ("[serve]\n" + "".join(f"k{at}{'.x' * 490} = 1\n" for at in range(60)), " is nested too deeply"),
        ("[serve]\nport = ''\nx = [\n" + "1,\n" * 20_000 + "]", ": `serve.port` is not a number"),
        # Any of a thousand lines is found at once; one behind a list of thousands is not looked for.
        ("[serve]\n" + "".join(f"x{at} = 1\n" for at in range(1000)) + "port = ''", ", line 1002: `serve.port` is not"),
        ("[serve]\nx = [\n" + "1,\n" * 20_000 + "]\nport = ''", ": `serve.port` is not a number from 0 to 65535"),
        ("[serve]\r\nx = '\u2028'\r\nport = ''\r\n", ", line 3: `serve.port` is not"),
    ],
)
def test_a_hostile_file_is_told_soon(here: Project, text: str, message: str) -> None:
    begun = time.thread_time()
    with pytest.raises(UsageError) as caught:
        read(here, text)
    assert time.thread_time() - begun < 3, "the promise is a second, on a machine that is not at work"
    assert caught.value.message.startswith(f"`{here.settings_file}`{message}")


def test_what_is_no_file_is_not_waited_for(here: Project) -> None:
    os.mkfifo(here.settings_file)
    with pytest.raises(UsageError, match="is no file"):
        settings_file.read(here)


def test_a_home_that_nobody_has(here: Project) -> None:
    found = read(here, '[serve]\napi-key-file = "~nobody-of-this-name/key"\n').of(NAME)
    assert found.api_key_file == here.folder / "~nobody-of-this-name" / "key"


def test_a_file_that_is_no_text(here: Project) -> None:
    here.settings_file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        settings_file.read(here)


KEYS = st.sampled_from(["serve", "models", "acme/tiny", "port", "host", "lora", "ray", "x", "--y", ""])
SCALARS = st.integers() | st.booleans() | st.text(max_size=5) | st.floats()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=40)
@given(document=st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_document_is_settings_or_an_error_of_ours(document: dict[str, object]) -> None:
    wrong: settings_file._WrongError | None = None
    found = None
    try:
        found = settings_file._checked(Path("/nowhere"), {"serve": document})
    except settings_file._WrongError as caught:
        wrong = caught
    assert (wrong is None) != (found is None)
    assert wrong is None or wrong.keys[0] == "serve"
    assert found is None or all(isinstance(word, str) for word in found.of(NAME).words())
