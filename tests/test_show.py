"""`modelctl show`, as a person and as a program sees it."""

import os
import re
from pathlib import Path

import pytest

from tests.checkpoints import generator, weights
from tests.command import Command
from tests.stores import Files, StoreBuilder


@pytest.fixture
def used(project: Path) -> str:
    """The line on when it was used; none, where the mount keeps no access times."""
    return "" if os.statvfs(project).f_flag & os.ST_NOATIME else "  used          just now\n"


def test_everything_of_one_model(run: Command, store: StoreBuilder, used: str) -> None:
    commit = store.add("acme/tiny", files=generator())
    done = run("show", "tiny")
    folder = store.paths("acme/tiny").folder
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (
        "acme/tiny\n"
        "  state         ready, vLLM can serve it\n"
        f"  project       {folder}\n"
        "  size          366 B (16.4 kB on disk)\n"
        "  format        safetensors\n"
        "  task          generate\n"
        "  architecture  LlamaForCausalLM\n"
        "  parameters    42\n"
        "  dtype         BF16\n"
        "  context       4,096 tokens\n"
        "  license       mit\n"
        "  modified      just now\n"
        f"{used}"
        "\n"
        f"revision {commit} (main): 4 files, 366 B, just now\n"
        "  FILE                SIZE\n"
        "  README.md           21 B\n"
        "  config.json         99 B\n"
        "  model.safetensors  244 B\n"
        "  tokenizer.json       2 B\n"
    )


def test_a_damaged_model_with_a_copy_elsewhere(run: Command, store: StoreBuilder, cache: StoreBuilder) -> None:
    commit = store.add("acme/tiny", files=generator())
    cache.add("acme/tiny", files=generator())
    store.blob("acme/tiny", "model.safetensors").unlink()
    done = run("show", "acme/tiny")
    lines = done.stdout.splitlines()
    assert done.code == 0
    assert lines[:5] == [
        "acme/tiny",
        "  state          broken",
        f"  project        {store.paths('acme/tiny').folder}",
        f"  also in cache  {cache.paths('acme/tiny').folder} (ready, 366 B)",
        "  size           122 B (12.3 kB on disk)",
    ]
    assert "  arrived        122 B of 366 B" in lines
    assert f"revision {commit} (main): 4 files, 122 B, just now" in lines
    assert "  model.safetensors     -" in lines
    assert done.stderr == (
        "problem: `model.safetensors` leads to no content in this store\nhint: `modelctl pull acme/tiny`\n"
    )


def test_json_has_the_keys_of_list_and_the_files(run: Command, store: StoreBuilder) -> None:
    commit = store.add("acme/tiny", files=generator())
    done = run("show", "acme/tiny", "--json")
    assert (done.code, done.stderr) == (0, "")
    (listed,) = run("list", "--json").json["models"]
    document = done.json
    model = document["model"]
    paths = store.paths("acme/tiny")
    (revision,) = model.pop("revisions")
    (counted,) = listed.pop("revisions")
    assert document.pop("engine") == {"version": None, "device": None, "knows": None, "note": None}
    assert document.pop("memory")["why"] == "its configuration does not tell how large its KV cache is"
    assert document == {"schema": 1, "model": listed}
    files = revision.pop("files")
    assert revision == {**{key: counted[key] for key in counted if key != "files"}, "path": str(paths.snapshot(commit))}
    assert [file["name"] for file in files] == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert files[0] == {
        "name": "README.md",
        "size": 21,
        "path": str(paths.entry(commit, "README.md")),
        "blob": str(store.blob("acme/tiny", "README.md")),
    }


def test_one_revision_of_several(run: Command, store: StoreBuilder) -> None:
    old = store.add("acme/tiny", files=generator(tokenizer__json='{"old": 1}'), revision="v1")
    new = store.add("acme/tiny", files=generator())
    assert {one["commit"] for one in run("show", "tiny", "--json").json["model"]["revisions"]} == {old, new}
    for name in ("v1", old, old[:9]):
        (revision,) = run("show", f"tiny@{name}", "--json").json["model"]["revisions"]
        assert revision["commit"] == old


def test_the_reasoning(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny")
    done = run("show", "tiny", "--memory")
    assert (done.code, done.stderr) == (0, "")
    size = r"[\d.]+ [MG]B"
    assert re.fullmatch(
        rf"acme/tiny on the CPU, with {size} of {size} RAM free\n"
        r" +BYTES  HOW\n"
        r"  weights        988\.4 kB  494\.2K parameters, as vLLM loads them\n"
        r"  runtime          1\.9 GB  Python, torch and vLLM; an estimate\n"
        r"  activations      5\.8 MB  what one step computes; an estimate\n"
        r"  sampler        405\.5 kB  as many requests at a time as vLLM allows; an estimate\n"
        r"  one request      2\.2 MB  KV cache of 2,048 tokens, 1,024 bytes for each\n"
        r"  needed           1\.9 GB  for one request of full length\n"
        rf"  usable +{size}  what is free of {size} RAM\n"
        rf"  for the cache +{size}  usable without all but the request\n"
        r"\n"
        r"fits: yes, with its whole context of 2,048 tokens\n"
        r"room for [\d,]+ tokens in all requests together\n",
        done.stdout,
    )
    told = run("show", "tiny", "--json").json
    (listed,) = run("list", "--json").json["models"]
    assert (listed["fits"], listed["fits_context"]) == (True, 2048)
    assert (told["memory"]["fits"], told["memory"]["device"], told["memory"]["gpus"]) == (True, "cpu", 0)
    assert told["memory"]["request"] == 17 * 128 * 1024


def test_a_revision_is_shown_with_what_it_is(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files=generator(model__safetensors=weights({"a": (3,)})), revision="v1")
    store.add("acme/tiny", files=generator())
    shown = [run("show", f"tiny@{name}", "--json").json["model"]["parameters"] for name in ("v1", "main")]
    assert shown == [3, 42]


def test_names_that_mean_nothing_or_too_much(run: Command, store: StoreBuilder) -> None:
    commit = store.add("acme/tiny", files=generator())
    store.add("acme/tiny-chat", files=generator())
    done = run("show", "acme/")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == ("error: `acme/` fits 2 models\nhint: give more of the name: `acme/tiny`, `acme/tiny-chat`\n")
    done = run("show", "other/huge")
    assert (done.code, done.stdout) == (3, "")
    assert done.stderr == "error: no model `other/huge` here\nhint: `modelctl pull other/huge` fetches it\n"
    done = run("show", "tiny-chat@v7", "--json")
    assert (done.code, done.stderr) == (3, "")
    assert done.json["error"] == {
        "kind": "not_found",
        "message": "`acme/tiny-chat` has no revision `v7` here",
        "hint": f"here are main, {commit[:12]}",
    }
    for name in ("../../etc", "a@", "@b"):
        assert run("show", name).code in {2, 3}


def test_a_model_that_vllm_cannot_serve_says_why(run: Command, store: StoreBuilder) -> None:
    files: Files = {"adapter_config.json": "{}", "adapter_model.safetensors": weights({"a": (4,)})}
    store.add("acme/adapter", files=files)
    done = run("show", "adapter")
    assert done.code == 0
    assert "  state       ready, vLLM cannot serve it" in done.stdout
    assert done.stderr == ("problem: it is a LoRA adapter, which vLLM serves together with the model it was made for\n")
