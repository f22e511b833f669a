"""Raises the fence in every Python process that a test starts: this folder stands first on its PYTHONPATH."""

import os

import fence  # type: ignore[import-not-found]  # found by its folder, not as a part of `tests`

environ = os.environ  # noqa: TID251 - the only way into a child process

if fence.RECORD in environ:
    fence.raise_fence(folders=environ.get(fence.FENCED, "").split(os.pathsep), record=environ[fence.RECORD])
