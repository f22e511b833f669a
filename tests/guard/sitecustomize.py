"""Raises the fence in every Python process that a test starts: this folder stands first on its PYTHONPATH.

Also lets a folder be of a file system without links, where the test asks for one.
"""

import os

import fence  # type: ignore[import-not-found]  # found by its folder, not as a part of `tests`
import linkless  # type: ignore[import-not-found]  # as above

environ = os.environ  # noqa: TID251 - the only way into a child process

if fence.RECORD in environ:
    fence.raise_fence(folders=environ.get(fence.FENCED, "").split(os.pathsep), record=environ[fence.RECORD])

if folder := environ.get(linkless.FOLDER):
    linkless.forbid_links(folder)
