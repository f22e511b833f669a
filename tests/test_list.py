"""`modelctl list`, as a person and as a program sees it."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.stores import Shape, fill
from modelctl.cli.output import size as shown_size
from tests.checkpoints import CONFIG, generator, sharded
from tests.command import Command, Finished
from tests.serving import await_true, is_held, is_running
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
        "hint: `modelctl verify --repair acme/broken`\n"
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


@pytest.mark.parametrize("option", [["--models-dir", "{}"], ["--models-dir={}"]])
def test_the_next_command_means_the_same_store(
    run: Command, store: StoreBuilder, tmp_path: Path, option: list[str]
) -> None:
    store.add("acme/broken", files=generator())
    os.truncate(store.blob("acme/broken", "model.safetensors"), 100)
    models = store.hub.parent.rename(store.hub.parent.with_name("other models"))
    words = [word.format(models) for word in option]
    mending = f"modelctl verify --models-dir '{models}' --repair acme/broken"
    done = run("list", *words, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == f"hint: `{mending}`"
    (model,) = run("list", "--json", *words, cwd=tmp_path).json["models"]
    assert [problem["fix"] for problem in model["problems"]] == [mending]
    done = run("verify", "acme/broken", *words, cwd=tmp_path)
    assert done.stderr.count("--models-dir") == 1, done.stderr
    done = run("show", "acme/brken", *words, "--json", cwd=tmp_path)
    assert f"`modelctl pull --models-dir '{models}' acme/brken` fetches it" in done.json["error"]["hint"]


def test_what_the_disk_does_not_hold_does_not_count(run: Command, store: StoreBuilder) -> None:
    """A file that was only made long, as writers do that know how much will come."""
    store.add("acme/holes", files=generator())
    os.truncate(store.blob("acme/holes", "model.safetensors"), 10**9)
    (model,) = run("list", "--json").json["models"]
    assert model["size"] > 10**9 > model["allocated"]
    held = shown_size(model["allocated"])
    head, line, total, *_ = run("list").stdout.splitlines()
    assert line.startswith(f"acme/holes  {held}"), (head, line)
    assert total == f"1 model, {held}"
    assert run("list", "-q", "--filter", "size>1MB").stdout == ""


def lay_out_sizes(store: StoreBuilder) -> None:
    for name, length in (("acme/small", 10), ("acme/large", 3000), ("beta/middle", 200)):
        store.add(name, files={**generator(), "notes.txt": "x" * length})


def test_filters_orders_and_a_limit(run: Command, store: StoreBuilder) -> None:
    lay_out_sizes(store)
    assert run("list", "-q", "--sort", "size").stdout == "acme/large\nbeta/middle\nacme/small\n"
    assert run("list", "-q", "--sort", "size:asc", "--limit", "1").stdout == "acme/small\n"
    assert run("list", "-q", "--limit", "2").stdout == "acme/large\nacme/small\n"
    assert run("list", "-q", "-f", "size>500", "-f", "size<1kB").stdout == "beta/middle\n"
    assert run("list", "-q", "acme", "-f", "size<1kB").stdout == "acme/small\n"
    assert [one["id"] for one in run("list", "--json", "-f", "size>1kB").json["models"]] == ["acme/large"]
    nothing = run("list", "--filter", "size>1TB")
    assert (nothing.code, nothing.stdout, nothing.stderr) == (0, "", "none of 3 models is asked for\n")
    nothing = run("list", "--limit", "0")
    assert (nothing.code, nothing.stdout, nothing.stderr) == (0, "", "none of 3 models is asked for\n")
    wrong = run("list", "--filter", "state=redy")
    assert (wrong.code, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: `state` is never `redy`\nhint: it is `ready`, `partial` or `broken`\n"


def test_a_revision_that_is_asked_for_is_not_overlooked(run: Command, store: StoreBuilder) -> None:
    store.add("acme/tiny", files=generator())
    done = run("list", "acme/tiny@v9")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: `acme/tiny@v9` names more than a model\nhint: `modelctl show acme/tiny@v9` shows a revision\n"
    )


def test_what_a_file_says_begins_no_line_of_its_own(run: Command, store: StoreBuilder) -> None:
    config = json.dumps(
        {**CONFIG, "architectures": ["A\nacme/fake\u202e"], "quantization_config": {"quant_method": "q\nx"}}
    )
    commit = store.add("acme/tiny", files=generator(config__json=config))
    store.paths("acme/tiny").entry(commit, "a\nhint: `x`.txt").write_text("x")
    (store.hub / "models--acme--a\nb").mkdir()
    shown = run("list").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["NAME", r"acme/a\x0ab", "acme/tiny", "2"]
    assert r"q\x0ax" in shown[2]
    assert run("list", "-q").stdout == "acme/a\\x0ab\nacme/tiny\n"
    facts = run("show", "acme/tiny").stdout.splitlines()
    assert [line.strip() for line in facts if "architecture" in line] == [r"architecture  A\x0aacme/fake\u202e"]
    assert [line.split("  ")[1] for line in facts if "hint" in line] == [r"a\x0ahint: `x`.txt"]
    assert all(line.startswith(("`", "hint: ")) for line in run("list").stderr.splitlines())


def test_a_line_for_each_revision(run: Command, store: StoreBuilder) -> None:
    old = store.add("acme/tiny", files={**generator(), "notes.txt": "old"}, revision="v1")
    new = store.add("acme/tiny", files=generator())
    for at, commit in enumerate((old, new)):
        os.utime(store.paths("acme/tiny").snapshot(commit), (at, at))
    done = run("list", "--revisions")
    head, *lines, total = done.stdout.splitlines()
    assert head.split() == ["NAME", "REVISION", "REFS", "FILES", "SIZE", "MODIFIED", "WHERE"]
    assert {tuple(line.split()[:4]) for line in lines} == {
        ("acme/tiny", old[:12], "v1", str(len(generator()) + 1)),
        ("acme/tiny", new[:12], "main", str(len(generator()))),
    }
    assert total == "2 revisions of 1 model, 369 B"
    assert set(run("list", "--revisions", "-q").stdout.split()) == {f"acme/tiny@{old}", f"acme/tiny@{new}"}


def test_what_does_not_go_with_outdated(run: Command, store: StoreBuilder) -> None:
    lay_out_sizes(store)
    done = run("list", "--outdated", "--sort", "size")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "error: `--outdated` and `--sort` do not go together\nhint: give one of them\n"


@pytest.mark.parametrize(
    ("columns", "headers"),
    [
        (120, "NAME SIZE PARAMS DTYPE CONTEXT STATE USED WHERE"),
        (33, "NAME SIZE PARAMS STATE"),
        (10, "NAME STATE"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(run: Command, store: StoreBuilder, columns: int, headers: str) -> None:
    store.add("acme/tiny", files=generator())
    shown = on_terminal(run, columns, "list")
    assert shown.splitlines()[0].split() == headers.split()
    assert shown.splitlines()[1].split()[0] == "acme/tiny"


def on_terminal(run: Command, columns: int, *argv: str) -> str:
    """What the command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with run.start(*argv, stdout=theirs, stderr=subprocess.DEVNULL):
        os.close(theirs)
        shown = b""
        # At its end the terminal tells of an error rather than of nothing.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                shown += chunk
    os.close(ours)
    return shown.decode()


class TestCompletion:
    """What a shell gets when it asks, by the variables that it asks with."""

    @pytest.fixture(autouse=True)
    def _models(self, store: StoreBuilder, cache: StoreBuilder) -> None:
        for name in ("acme/tiny", "acme/two", "beta/other"):
            store.add(name, files=generator())
        cache.add("acme/three", files=generator())

    def complete(self, run: Command, line: str) -> list[str]:
        env = {"_MODELCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = run(env=env)
        assert (done.code, done.stderr) == (0, "")
        return done.stdout.split()

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("modelctl sho", ["show"]),
            ("modelctl show acme/t", ["acme/three", "acme/tiny", "acme/two"]),
            ("modelctl serve beta/", ["beta/other"]),
            ("modelctl rm acme/t", ["acme/tiny", "acme/two"]),
            ("modelctl rm --cache acme/t", ["acme/three"]),
            ("modelctl list --sort si", ["size"]),
            ("modelctl show nothing", []),
            ("modelctl --vers", ["--version"]),
        ],
    )
    def test_words(self, run: Command, line: str, expected: list[str]) -> None:
        assert self.complete(run, line) == expected

    @pytest.mark.parametrize(
        ("shell", "env"),
        [
            ("zsh", {}),
            ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
        ],
    )
    def test_other_shells(self, run: Command, shell: str, env: dict[str, str]) -> None:
        asked = {"_MODELCTL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "modelctl show acme/ti"}
        done = run(env=asked | env)
        assert (done.code, done.stderr) == (0, "")
        assert "acme/tiny" in done.stdout
        assert "acme/two" not in done.stdout

    def test_a_store_that_cannot_be_read(self, run: Command, project: Path) -> None:
        (project / "models" / "hub").rename(project / "moved")
        (project / "models" / "hub").write_text("a file")
        assert self.complete(run, "modelctl show acme/ti") == []


ON_ONE_PROCESSOR = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
WITHOUT_PROCESSES = (
    "import multiprocessing.context as c; "
    "c.ForkProcess._Popen = staticmethod(lambda _: (_ for _ in ()).throw(BlockingIOError()))"
)


KILLED = (
    "import os, signal; from modelctl.store import survey; "
    "survey._send = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
)


def run_under(run: Command, circumstance: str, *argv: str) -> Finished:
    """Run the command in an interpreter to which something was done before."""
    main = "import runpy, sys; sys.argv[0] = 'modelctl'; runpy.run_module('modelctl', run_name='__main__')"
    code = f"{circumstance}; {main}"
    return run.program([sys.executable, "-c", code, *argv])


@pytest.mark.sweep
def test_of_many_models_several_processes_see_what_one_sees(run: Command, store: StoreBuilder) -> None:
    fill(store.hub, 700, Shape(tensors=2))
    store.add("acme/whole", files=generator())
    store.add("acme/broken", files=generator())
    os.truncate(store.blob("acme/broken", "model.safetensors"), 100)
    for argv in (["list"], ["list", "--json"], ["list", "-q", "--sort", "size", "--filter", "state=ready"]):
        alone = run_under(run, ON_ONE_PROCESSOR, *argv)
        assert alone.code == 0
        assert len(alone.stdout.splitlines()) > 700
        assert run(*argv) == alone
        assert run_under(run, WITHOUT_PROCESSES, *argv) == alone
        assert run_under(run, KILLED, *argv) == alone

    # Ctrl-C ends them all, without a word.
    process, left = in_company(run)
    os.killpg(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, ("", ""))
    await_true(lambda: not any(map(is_running, left)))
    # Nor does anybody stay behind who would tell what he found to one that was killed.
    process, left = in_company(run)
    process.kill()
    process.communicate(timeout=60)
    await_true(lambda: not any(map(is_running, left)))


def in_company(run: Command) -> tuple["subprocess.Popen[str]", list[int]]:
    """A listing that is held while it has processes beside it, and those."""
    for _ in range(20):
        # Of all that it says there is room in a pipe.
        process = run.start("list", "-q", "--sort", "size", env={"PYTHONUNBUFFERED": "1"})
        while is_held(process):
            if left := children(process.pid):
                return process, left
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.002)
        process.communicate(timeout=60)
    raise AssertionError("it is never held in time")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]
