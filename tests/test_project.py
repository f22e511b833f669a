"""Which models directory, what the environment says, what a child gets, the default model in `.env`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl import env_file, project
from modelctl.errors import NotAllowedError


def folder_with_models(folder: Path) -> Path:
    (folder / "models" / "hub").mkdir(parents=True)
    return folder


def test_the_flag_wins_then_the_variables_then_the_nearest_models_folder(tmp_path: Path) -> None:
    here = folder_with_models(tmp_path)
    environ = {"MODELCTL_MODELS_DIR": "/by/own", "MODELS_DIR": "/by/old", "HOME": "/nobody"}
    assert project.locate(Path("flag"), environ=environ, cwd=here).models_dir == here / "flag"
    assert project.locate(environ=environ, cwd=here).models_dir == Path("/by/own")
    del environ["MODELCTL_MODELS_DIR"]
    found = project.locate(environ=environ, cwd=here)
    assert (found.models_dir, found.reason) == (Path("/by/old"), "named by `MODELS_DIR`")
    del environ["MODELS_DIR"]
    assert project.locate(environ=environ, cwd=here).models_dir == here / "models"


def test_the_search_goes_up_but_not_past_the_git_top_level(tmp_path: Path) -> None:
    top = folder_with_models(tmp_path) / "repo"
    inside = top / "a" / "b"
    inside.mkdir(parents=True)
    environ = {"HOME": "/nobody"}
    assert project.locate(environ=environ, cwd=inside).models_dir == tmp_path / "models"
    (top / ".git").mkdir()
    found = project.locate(environ=environ, cwd=inside)
    assert found.models_dir == inside / "models"
    assert found.folder == inside
    (top / "models").mkdir()
    (top / "models" / ".gitkeep").touch()
    found = project.locate(environ=environ, cwd=inside)
    assert (found.models_dir, found.folder) == (top / "models", top)
    assert str(top) in found.reason


def test_the_search_stops_at_home(tmp_path: Path) -> None:
    home = folder_with_models(tmp_path) / "home"
    inside = home / "work"
    inside.mkdir(parents=True)
    assert project.locate(environ={"HOME": str(home)}, cwd=inside).models_dir == inside / "models"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/c"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
    ],
)
def test_the_user_cache_is_where_huggingface_hub_has_it(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    assert project.locate(environ=environ, cwd=tmp_path).user_cache == Path(expected)


def test_one_folder_under_two_names_is_one_store(tmp_path: Path) -> None:
    here = folder_with_models(tmp_path)
    (tmp_path / "link").symlink_to(here / "models")
    found = project.locate(environ={"HF_HOME": str(tmp_path / "link")}, cwd=here)
    assert found.is_one_store
    assert found.cache is None
    assert project.locate(environ={"HF_HOME": "/elsewhere"}, cwd=here).cache == Path("/elsewhere/hub")


def test_an_offline_child_gets_no_token_and_an_online_one_the_users_own_file(tmp_path: Path) -> None:
    environ = {
        "HF_TOKEN": "hf_secret",
        "HF_HOME": "/h",
        "TRANSFORMERS_CACHE": "/t",
        "VLLM_USE_MODELSCOPE": "1",
        "HF_HUB_CACHE": "/other",
    }
    found = project.locate(tmp_path / "models", environ=environ, cwd=tmp_path)
    offline = project.child_environment(found, offline=True)
    assert "hf_secret" not in offline.values()
    assert offline["HF_HUB_OFFLINE"] == "1"
    assert offline["HF_HOME"] == str(tmp_path / "models")
    assert offline["HF_HUB_CACHE"] == str(tmp_path / "models" / "hub")
    assert not {"TRANSFORMERS_CACHE", "VLLM_USE_MODELSCOPE", "HF_TOKEN_PATH"} & offline.keys()
    online = project.child_environment(found, offline=False)
    assert online["HF_TOKEN"] == "hf_secret"
    assert online["HF_TOKEN_PATH"] == "/h/token"
    assert "HF_HUB_OFFLINE" not in online


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MODELCTL_MODEL=acme/a\n", "acme/a"),
        ("export MODELCTL_MODEL='acme/a'  # mine\n", "acme/a"),
        ('MODELCTL_MODEL="acme/a"\r\nX=1\r\n', "acme/a"),
        ("MODELCTL_MODEL=acme/a # mine\n", "acme/a"),
        ("MODELCTL_MODEL=acme/a\nMODELCTL_MODEL=acme/b", "acme/b"),
        ("MODELCTL_MODEL=\nX=1\n", None),
        ("# MODELCTL_MODEL=acme/a\nOTHER_MODELCTL_MODEL=acme/b\n", None),
    ],
)
def test_the_default_model_is_read_as_shells_and_compose_read_it(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    found = project.locate(tmp_path / "models", environ={}, cwd=tmp_path)
    found.env_file.write_bytes(text.encode())
    default = project.default_model(found)
    assert (default and default[0]) == expected


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    found = project.locate(tmp_path / "models", environ={"MODELCTL_MODEL": "acme/x"}, cwd=tmp_path)
    found.env_file.write_text("MODELCTL_MODEL=acme/a\n")
    assert project.default_model(found) == ("acme/x", "the environment")


def test_a_file_that_cannot_be_read_is_no_missing_default(tmp_path: Path) -> None:
    found = project.locate(tmp_path / "models", environ={}, cwd=tmp_path)
    found.env_file.mkdir()
    with pytest.raises(NotAllowedError, match="cannot read"):
        project.default_model(found)


LINES = st.sampled_from(["A=1", "# note", "", "MODELCTL_MODEL=old/one", "export MODELCTL_MODEL=old/two", " B = 2 "])


@given(st.lists(LINES), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "end"]))
def test_writing_the_default_keeps_every_other_line(lines: list[str], newline: str, end: str) -> None:
    text = newline.join(lines) + (end and newline if lines else "")
    written = env_file.with_default_model(text, "acme/new")
    others = [line for line in text.splitlines() if "MODELCTL_MODEL" not in line]
    kept = [line for line in written.splitlines() if "MODELCTL_MODEL" not in line]
    assert kept[: len(others)] == others
    last = [line for line in written.splitlines() if "MODELCTL_MODEL" in line][-1]
    assert last.removeprefix("export ") == "MODELCTL_MODEL=acme/new"
    assert env_file.with_default_model(written, "acme/new") == written
