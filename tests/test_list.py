"""`modelctl list`, as a person and as a program sees it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.checkpoints import generator, sharded
from tests.command import Command
from tests.stores import StoreBuilder

SIZE = sum(len(content) for content in generator().values())


@pytest.fixture
def used(project: Path) -> str:
    """What the column says of a model that was just made: nothing, where the mount keeps no access times."""
    return "-   " if os.statvfs(project).f_flag & os.ST_NOATIME else "just now"


def lay_out_all_conditions(store: StoreBuilder, cache: StoreBuilder) -> None:
    store.add("acme/broken", files=generator())
    os.truncate(store.blob("acme/broken", "model.safetensors"), 100)
    cache.add("acme/broken", files=generator())
    cache.add("acme/cached", files=generator())
    commit = store.add("acme/half", files=sharded())
    for name in ("model-00001-of-00002.safetensors", "tokenizer.json"):
        store.blob("acme/half", name).unlink()
        store.paths("acme/half").entry(commit, name).unlink()
    store.add("acme/whole", files=generator())


def test_a_table_of_both_locations_and_what_is_wrong_under_it(
    run: Command, store: StoreBuilder, cache: StoreBuilder, used: str
) -> None:
    lay_out_all_conditions(store, cache)
    done = run("list")
    head = "USED".ljust(len(used))
    assert done.stdout == (
        f"NAME          SIZE  PARAMS  DTYPE  CONTEXT  STATE         {head}  WHERE\n"
        f"acme/broken  222 B       -  BF16        4K  broken        {used}  project+cache\n"
        f"acme/cached  366 B      42  BF16        4K  ready         {used}  cache\n"
        f"acme/half    451 B       -  BF16        4K  partial 72 %  {used}  project\n"
        f"acme/whole   366 B      42  BF16        4K  ready         {used}  project\n"
        "4 models, 1.4 kB\n"
    )
    assert done.stderr == (
        "`acme/broken` is broken: `model.safetensors` has 100 bytes instead of 244\n"
        "hint: `modelctl pull acme/broken --force`\n"
        "`acme/half` is partial: 2 of 6 files are missing\n"
        "hint: `modelctl pull acme/half`\n"
    )
    assert done.code == 0


def test_ids_alone(run: Command, store: StoreBuilder, cache: StoreBuilder) -> None:
    lay_out_all_conditions(store, cache)
    done = run("list", "-q")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == "acme/broken\nacme/cached\nacme/half\nacme/whole\n"
    assert run("ls", "--quiet") == done


def test_a_part_of_a_name_or_a_glob_narrows_it(run: Command, store: StoreBuilder) -> None:
    for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B-AWQ", "acme/tiny"):
        store.add(name, files=generator())
    assert run("list", "-q", "qwen").stdout == "Qwen/Qwen3-8B\nQwen/Qwen3-8B-AWQ\n"
    assert run("list", "-q", "*8b").stdout == "Qwen/Qwen3-8B\n"
    assert run("list", "-q", "TINY", "awq").stdout == "Qwen/Qwen3-8B-AWQ\nacme/tiny\n"
    assert [model["id"] for model in run("list", "tiny", "--json").json["models"]] == ["acme/tiny"]


def test_a_part_of_no_name_is_no_success(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files=generator())
    done = run("list", "tony")
    assert (done.code, done.stdout) == (3, "")
    assert done.stderr == "error: no model `tony` here\nhint: did you mean `acme/tiny`\n"
    done = run("list", "tony", "--json")
    assert (done.code, done.stderr) == (3, "")
    error = {"kind": "not_found", "message": "no model `tony` here", "hint": "did you mean `acme/tiny`"}
    assert done.json == {"schema": 1, "error": error}


def test_json_says_all_that_is_known(run: Command, store: StoreBuilder, cache: StoreBuilder, project: Path) -> None:
    commit = store.add("acme/tiny", files=generator())
    cache.add("acme/tiny", files=generator())
    store.paths("acme/tiny").ref("v1").write_text("0" * 40)
    moment = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    folder = store.paths("acme/tiny").folder
    for path in folder.rglob("*"):
        os.utime(path, (moment.timestamp() - 60, moment.timestamp()), follow_symlinks=False)
    done = run("list", "--json")
    assert (done.code, done.stderr) == (0, "")
    keeps_count = not os.statvfs(project).f_flag & os.ST_NOATIME
    allocated = sum(path.lstat().st_blocks * 512 for path in (folder / "blobs").iterdir())
    problem = {
        "kind": "ref",
        "message": "`v1` names commit 000000000000, which is not here",
        "fix": "modelctl pull acme/tiny@v1",
    }
    assert done.json == {
        "schema": 1,
        "models_dir": str(project / "models"),
        "models": [
            {
                "id": "acme/tiny",
                "location": "project",
                "path": str(folder),
                "state": "ready",
                "servable": True,
                "size": SIZE,
                "allocated": allocated,
                "done": SIZE,
                "total": SIZE,
                "revisions": [
                    {"commit": commit, "refs": ["main"], "size": SIZE, "files": 4, "modified": "2026-05-04T03:02:01Z"}
                ],
                "modified": "2026-05-04T03:02:01Z",
                "used": "2026-05-04T03:01:01Z" if keeps_count else None,
                "format": "safetensors",
                "task": "generate",
                "architecture": "LlamaForCausalLM",
                "parameters": 42,
                "dtype": "BF16",
                "quantization": None,
                "context_length": 4096,
                "license": "mit",
                "fits": None,
                "fits_context": None,
                "other_copies": [str(cache.paths("acme/tiny").folder)],
                "problems": [problem],
            }
        ],
    }


def test_the_keys_come_in_the_order_of_the_contract(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files=generator())
    document = run("list", "--json").json
    assert list(document) == ["schema", "models_dir", "models"]
    assert list(document["models"][0])[:8] == [
        *("id", "location", "path", "state", "servable", "size", "allocated", "done"),
    ]


def test_nothing_here_yet_says_what_to_type(run: Command, project: Path) -> None:
    done = run("list")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == (
        f"no models in `{project}/models` yet\nhint: `modelctl pull Qwen/Qwen3-0.6B` fetches a small one\n"
    )
    assert run("list", "--json").json == {"schema": 1, "models_dir": f"{project}/models", "models": []}
    done = run("list", "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_a_file_where_the_models_directory_should_be(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = run("list", "--models-dir", tmp_path / "mine")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: `{tmp_path}/mine` is a file where a folder should be\n"
        "hint: move it away, or name another folder with `--models-dir`\n"
    )


def test_one_folder_for_project_and_cache_is_listed_once(run: Command, store: StoreBuilder, project: Path) -> None:
    store.add("acme/tiny", files=generator())
    (model,) = run("list", "--json", env={"HF_HOME": str(project / "models")}).json["models"]
    assert (model["location"], model["other_copies"]) == ("project", [])


def test_a_name_that_is_no_unicode_is_shown_all_the_same(run: Command, store: StoreBuilder) -> None:
    os.makedirs(os.fsencode(store.hub) + b"/models--acme--\xff")  # noqa: PTH103 - a name of bytes
    done = run("list", "-q")
    assert (done.code, done.stdout) == (0, "acme/\\udcff\n")
    assert run("list", "--json").json["models"][0]["id"] == "acme/\udcff"


def test_how_long_ago_a_model_was_used(run: Command, store: StoreBuilder, used: str) -> None:
    store.add("acme/tiny", files=generator())
    weights = store.blob("acme/tiny", "model.safetensors")
    three_days_ago = (datetime.now(UTC) - timedelta(days=3, minutes=1)).timestamp()
    os.utime(weights, (three_days_ago, three_days_ago))
    line = run("list").stdout.splitlines()[1]
    assert ("3 days ago" in line) == (used == "just now")
