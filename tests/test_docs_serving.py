"""The refusals that docs/serving.md shows beside its session are what is said, with the GPU that they tell of."""

from pathlib import Path

import pytest

from modelctl.engine import settings_file
from modelctl.errors import ModelctlError, UsageError
from modelctl.project import Project
from tests.test_preflight import NAME, gpus, judged, told
from tests.test_profile import here  # noqa: F401 - a fixture

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")


def assert_shown(error: ModelctlError, name: str, *, as_: str) -> None:
    """The page tells the error, with another name in the place of one of the test's own."""
    assert f"error: {error.message}\nhint: {error.hint}\n".replace(name, as_) in PAGE


def test_a_model_that_does_not_fit() -> None:
    error = told(judged(machine=gpus(1, 24), max_model_len="64K"))
    assert_shown(error, NAME, as_="acme/llama-8b")


def test_settings_that_make_no_sense(here: Project) -> None:  # noqa: F811
    here.settings_file.write_text('[serve]\nport = "8001"\n')
    with pytest.raises(UsageError) as caught:
        settings_file.read(here)
    assert_shown(caught.value, str(here.folder), as_="/home/ada/shop")
