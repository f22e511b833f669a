"""Other systems read what `export-config` writes for them, by their own loaders where a package index has these."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.command import Command
from tests.hub.loopback import Hub
from tests.stores import StoreBuilder, tiny_model
from tests.test_engine_config import EXPECTED, PROFILE, printed
from tests.test_serve_settings import TINY, add_adapter

pytestmark = pytest.mark.engine


@pytest.fixture
def systems() -> str:
    """The folder with the packages of Ray and KServe."""
    if folder := os.environ.get("MODELCTL_TEST_SYSTEMS"):  # noqa: TID251 - the tests' own
        return folder
    pytest.fail("there are no other systems to test with: install them as `.ci/run` does, set MODELCTL_TEST_SYSTEMS")


def written(run: Command, project: Path, kind: str) -> Path:
    """The file for one system, as a user keeps it."""
    file = project / f"{kind}.yaml"
    file.write_text(run("export-config", "--format", kind, TINY).stdout)
    return file


def test_ray_serve(run: Command, store: StoreBuilder, project: Path, vllm: Path, systems: str) -> None:
    commit = store.add(TINY)
    add_adapter(store)
    (project / "modelctl.toml").write_text(PROFILE)

    (told,) = printed(run, vllm, "ray_judge.py", systems, str(written(run, project, "ray-serve")))

    assert (told["import_path"], told["model_id"]) == ("ray.serve.llm:build_openai_app", "tiny")
    assert told["model"] == str(store.paths(TINY).snapshot(commit))
    assert told["unknown"] == []
    assert told["frontend_kwargs"] == {
        "tool_call_parser": "hermes",
        "enable_auto_tool_choice": True,
        "middleware": ["one.Two", "three.Four"],
    }
    assert told["engine_kwargs"]["max_model_len"] == 1000
    assert told["engine_kwargs"]["hf_overrides"] == EXPECTED["hf_overrides"]


def test_kserve(
    run: Command, store: StoreBuilder, hub: Hub, project: Path, vllm: Path, systems: str, tmp_path: Path
) -> None:
    files = tiny_model()
    # The same files are the same commit.
    assert store.add(TINY, files=files) == hub.add(TINY, files=files)
    add_adapter(store)
    (project / "modelctl.toml").write_text(PROFILE)
    file = written(run, project, "kserve")
    fetched = tmp_path / "mnt"

    (told,) = printed(run, vllm, "kserve_judge.py", systems, str(file), str(fetched), env=hub.environ)

    # The client names every container, by nothing where it has no name.
    assert told["spec"]["predictor"]["model"].pop("name") == ""
    assert told == yaml.safe_load(file.read_text())
    # What the pod would find is the model that is here.
    assert {path.name: path.read_bytes() for path in fetched.iterdir() if path.is_file()} == {
        name: content if isinstance(content, bytes) else content.encode() for name, content in files.items()
    }


def test_compose(run: Command, store: StoreBuilder, project: Path) -> None:
    store.add(TINY)
    add_adapter(store)
    (project / "modelctl.toml").write_text(PROFILE.replace("[serve]", '[serve]\napi-key-file = "key"', 1))
    key = project / "key"
    key.write_text("secret")
    key.chmod(0o600)
    file = written(run, project, "compose")

    version = run.program(["docker-compose", "--version"]).stdout if shutil.which("docker-compose") else "no"
    if "version 1.29" not in version:
        pytest.fail(
            f"there is {version} docker-compose; how 1.29 shows what it reads is known: `apt install docker-compose`"
        )

    without = run.program(["docker-compose", "-f", file, "config"])
    assert without.code == 1
    assert "the key that requests have to bring" in without.stderr
    read = run.program(["docker-compose", "-f", file, "config"], env={"VLLM_API_KEY": "secret"})

    assert read.code == 0, read.stderr
    told: dict[str, Any] = yaml.safe_load(read.stdout)
    expected = yaml.safe_load(file.read_text())
    (service,) = expected["services"].values()
    service["environment"]["VLLM_API_KEY"] = "secret"
    service["ports"] = [f"{port}/tcp" for port in service["ports"]]
    for mount in service["volumes"]:
        if mount["type"] == "bind":
            mount["source"] = str(project / mount["source"])
    assert told["services"] == expected["services"]
    assert told["volumes"] == expected["volumes"]
