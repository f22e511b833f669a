"""What every write to a store keeps: all or nothing, mode and owner, a full disk, no right."""

import errno
import os
import stat
from pathlib import Path

import pytest

from modelctl.errors import ModelctlError, NoRoomError, NotAllowedError
from modelctl.store import changes, deletion, layout
from modelctl.store.layout import RepoPaths
from tests.command import NOBODY
from tests.disks import disk_use, small_disk


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriteFile:
    def test_replaces_content_and_keeps_the_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "folder" / "file"
        path.parent.mkdir()
        path.write_text("old")
        path.chmod(0o640)
        changes.write_file(path, "new\r\n")
        assert path.read_bytes() == b"new\r\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert names_in(path.parent) == ["file"]

    def test_a_new_file_gets_what_the_umask_leaves(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            changes.write_file(tmp_path / "deep" / "file", "x")
            changes.write_file(tmp_path / "secret", "x", mode=0o600)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_keeps_the_owner(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        os.chown(tmp_path / "file", NOBODY, NOBODY)
        changes.write_file(tmp_path / "file", "x")
        assert ((tmp_path / "file").stat().st_uid, (tmp_path / "file").stat().st_gid) == (NOBODY, NOBODY)

    def test_the_temporary_file_lies_where_it_is_told_to(self, tmp_path: Path) -> None:
        (tmp_path / "refs").mkdir()
        (tmp_path / "refs").chmod(0o755)
        changes.write_file(tmp_path / "refs" / "main", "x", via=tmp_path / "private")
        assert names_in(tmp_path / "refs") == ["main"]
        assert names_in(tmp_path / "private") == []

    def test_a_full_disk_leaves_what_was_there(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", 64 * 1024) as disk:
            (disk / "file").write_text("old")
            with pytest.raises(NoRoomError) as caught:
                changes.write_file(disk / "file", "x" * 100_000)
            assert (disk / "file").read_text() == "old"
            assert names_in(disk) == ["file"]
        assert (caught.value.exit_code, caught.value.hint is not None) == (5, True)

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ModelctlError, match=rf"`{tmp_path}/file` is a file where a folder should be"):
            changes.write_file(tmp_path / "file" / "below" / "x", "x")


class TestHub:
    def test_is_tagged_once(self, tmp_path: Path) -> None:
        changes.make_hub(tmp_path / "hub")
        tag = tmp_path / "hub" / layout.CACHE_TAG
        assert tag.read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
        tag.write_text("mine")
        changes.make_hub(tmp_path / "hub")
        assert tag.read_text() == "mine"


class TestEntry:
    def test_is_a_relative_link_that_replaces_another(self, tmp_path: Path) -> None:
        paths = RepoPaths(tmp_path, "acme/tiny")
        commit, digest = "a" * 40, "b" * 40
        paths.blobs.mkdir(parents=True)
        paths.blob(digest).write_text("content")
        for _ in range(2):
            changes.publish_entry(paths, commit, "deep/down/file.txt", digest)
        entry = paths.entry(commit, "deep/down/file.txt")
        assert str(entry.readlink()) == f"../../../../blobs/{digest}"
        assert entry.read_text() == "content"
        paths.blob("c" * 40).write_text("other")
        changes.publish_entry(paths, commit, "deep/down/file.txt", "c" * 40)
        assert entry.read_text() == "other"
        assert names_in(entry.parent) == ["file.txt"]


class TestFree:
    def test_counts_what_the_disk_gets_back(self, tmp_path: Path) -> None:
        folder = tmp_path / "trash" / "x"
        (folder / "below").mkdir(parents=True)
        (folder / "one").write_bytes(b"1" * 10_000)
        os.link(folder / "one", folder / "below" / "same")
        (folder / "two").write_bytes(b"2" * 5_000)
        os.link(folder / "two", tmp_path / "kept")
        expected = disk_use(folder) - (tmp_path / "kept").stat().st_blocks * 512
        assert deletion.weigh([folder]) == (15_000, expected)
        assert changes.free([folder, tmp_path / "trash" / "nothing"]) == expected
        assert not (tmp_path / "trash").exists()
        assert (tmp_path / "kept").exists()

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "file").touch()
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "link").symlink_to(tmp_path / "outside")
        assert changes.free([tmp_path / "x"]) == 0
        (tmp_path / "link").symlink_to(tmp_path / "outside")
        changes.free([tmp_path / "link"])
        assert (tmp_path / "outside" / "file").exists()


@pytest.mark.parametrize(
    ("number", "kind"), [(28, NoRoomError), (122, NoRoomError), (13, NotAllowedError), (30, NotAllowedError)]
)
def test_failures_become_ours(number: int, kind: type[ModelctlError]) -> None:
    error = changes.translated(OSError(number, os.strerror(number), "/some/path"), doing="write")
    assert type(error) is kind
    assert error.message == f"cannot write `/some/path`: {os.strerror(number)}"
    assert error.hint


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EROFS])
def test_what_may_name_another_folder_is_named(number: int) -> None:
    error = changes.translated(OSError(number, "no"), doing="write", named_by="TMPDIR")
    assert error.hint is not None
    assert error.hint.endswith("name another folder with `TMPDIR`")
