"""`modelctl use`, and what it does to a `.env`."""

import os
import stat
from pathlib import Path

import pytest

from tests.command import NOBODY, Command, Finished
from tests.stores import StoreBuilder


@pytest.fixture(autouse=True)
def _models(store: StoreBuilder) -> None:
    store.add("acme/tiny", files={"config.json": "{}"})


def test_chooses_a_model_and_shows_it(run: Command, project: Path) -> None:
    assert run("use", "tiny") == Finished(
        0, "acme/tiny\n", f"it is the default model now, written to `{project}/.env`\n"
    )
    assert (project / ".env").read_text() == "MODELCTL_MODEL=acme/tiny\n"
    assert run("use") == Finished(0, "acme/tiny\n", "")


def test_none_is_chosen_yet(run: Command, project: Path) -> None:
    assert run("use") == Finished(
        0,
        "",
        f"`{project}/.env` names no default model\nhint: `modelctl use ORG/NAME` chooses one of `modelctl list`\n",
    )
    assert run("use", "--json").json == {
        "schema": 1,
        "default_model": None,
        "source": None,
        "env_file": str(project / ".env"),
    }


def test_json(run: Command, project: Path) -> None:
    done = run("use", "acme/tiny@main", "--json")
    assert done.json == {
        "schema": 1,
        "default_model": "acme/tiny@main",
        "source": str(project / ".env"),
        "env_file": str(project / ".env"),
    }
    assert done.stderr == ""


def test_a_model_of_the_cache(run: Command, cache: StoreBuilder) -> None:
    cache.add("acme/cached", files={"config.json": "{}"})
    assert run("use", "cached").stdout == "acme/cached\n"


@pytest.mark.parametrize("name", ["acme/none", "acme/tiny@v9"])
def test_what_is_not_here(run: Command, project: Path, name: str) -> None:
    done = run("use", name)
    assert (done.code, done.stdout) == (3, "")
    assert "hint: " in done.stderr
    assert not (project / ".env").exists()


def test_an_unknown_model_names_the_command_that_fetches_it(run: Command) -> None:
    done = run("use", "other/model")
    assert done == Finished(3, "", "error: no model `other/model` here\nhint: `modelctl pull other/model` fetches it\n")


def test_the_environment_counts_first(run: Command, project: Path) -> None:
    done = run("use", "acme/tiny", env={"MODELCTL_MODEL": "acme/other"})
    assert done.stderr.endswith(
        f"note: `MODELCTL_MODEL` in the environment is `acme/other`, and counts before `{project}/.env`\n"
    )
    assert (project / ".env").read_text() == "MODELCTL_MODEL=acme/tiny\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A=1\nB=2", b"A=1\nB=2\nMODELCTL_MODEL=acme/tiny\n"),
        (b"A=1\r\nB=2\r\n", b"A=1\r\nB=2\r\nMODELCTL_MODEL=acme/tiny\r\n"),
        (b"A=1\r\nMODELCTL_MODEL=old/one\r\nB=2\r\n", b"A=1\r\nMODELCTL_MODEL=acme/tiny\r\nB=2\r\n"),
        (b"MODELCTL_MODEL=old/one", b"MODELCTL_MODEL=acme/tiny"),
        (
            b"# MODELCTL_MODEL=x\nexport MODELCTL_MODEL='old'\n",
            b"# MODELCTL_MODEL=x\nexport MODELCTL_MODEL=acme/tiny\n",
        ),
        (b"MODELCTL_MODEL=a\nMODELCTL_MODEL=b\n", b"MODELCTL_MODEL=a\nMODELCTL_MODEL=acme/tiny\n"),
        (b"NAME=caf\xe9 \xff\n\n\n# end", b"NAME=caf\xe9 \xff\n\n\n# end\nMODELCTL_MODEL=acme/tiny\n"),
        (b"MY_MODELCTL_MODEL=x\n", b"MY_MODELCTL_MODEL=x\nMODELCTL_MODEL=acme/tiny\n"),
        (b"", b"MODELCTL_MODEL=acme/tiny\n"),
    ],
)
def test_every_other_line_stays(run: Command, project: Path, before: bytes, after: bytes) -> None:
    (project / ".env").write_bytes(before)
    assert run("use", "acme/tiny").code == 0
    assert (project / ".env").read_bytes() == after
    assert run("use").stdout == "acme/tiny\n"


def test_mode_and_owner_stay(run: Command, project: Path) -> None:
    env = project / ".env"
    env.write_text("SECRET=1\n")
    env.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(env, NOBODY, NOBODY)
    before = env.stat()
    assert run("use", "acme/tiny").code == 0
    after = env.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o600, before.st_uid, before.st_gid)


def test_a_link_stays_a_link(run: Command, project: Path, tmp_path: Path) -> None:
    (tmp_path / "shared.env").write_text("A=1\n")
    (project / ".env").symlink_to("../shared.env")
    done = run("use", "acme/tiny")
    assert done.stderr == f"it is the default model now, written to `{tmp_path}/shared.env`\n"
    assert (project / ".env").is_symlink()
    assert (tmp_path / "shared.env").read_text() == "A=1\nMODELCTL_MODEL=acme/tiny\n"


def test_a_folder_in_its_place(run: Command, project: Path) -> None:
    (project / ".env").mkdir()
    done = run("use", "acme/tiny")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot read `{project}/.env`: Is a directory\n")


def test_a_project_that_cannot_be_written(run: Command, project: Path) -> None:
    done = run("use", "acme/tiny", user=NOBODY)
    assert (done.code, done.stdout) == (4, "")
    assert "Permission denied" in done.stderr
    assert not (project / ".env").exists()
