"""Ways in which a model in a store gets damaged, each done by hand: a name, what does it, what a verification says."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.stores import StoreBuilder

NAME = "acme/tiny"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Case:
    """One kind of damage to `file`: what a verification calls it, and whether a Hub mends it."""

    do: Callable[[StoreBuilder, str], None]
    kind: str
    file: str = WEIGHTS
    mends: bool = True
    # Another one that is damaged with it.
    file_too: str = ""
    # The right content is here too, under its hash.
    is_here: bool = False


def flip(path: Path, at: int) -> None:
    """Another byte in its place, and the times as they were, as a disk does it that fails."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 0x10
    # In place: no other file than that of the content.
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(at: float) -> Callable[[StoreBuilder, str], None]:
    def do(store: StoreBuilder, file: str) -> None:
        blob = store.blob(NAME, file)
        flip(blob, min(int(at * blob.stat().st_size), blob.stat().st_size - 1))

    return do


def resized(change: Callable[[int], int]) -> Callable[[StoreBuilder, str], None]:
    def do(store: StoreBuilder, file: str) -> None:
        blob = store.blob(NAME, file)
        os.truncate(blob, change(blob.stat().st_size))

    return do


def gone(store: StoreBuilder, file: str) -> None:
    store.blob(NAME, file).unlink()


def without_entry(store: StoreBuilder, file: str) -> None:
    entry(store, file).unlink()


def entry(store: StoreBuilder, file: str) -> Path:
    paths = store.paths(NAME)
    return paths.entry(paths.ref("main").read_text(), file)


def swapped(store: StoreBuilder, file: str) -> None:
    """The entry leads to the content of another one."""
    other = entry(store, "tokenizer.json").readlink()
    entry(store, file).unlink()
    entry(store, file).symlink_to(other)


def outside(store: StoreBuilder, file: str) -> None:
    entry(store, file).unlink()
    entry(store, file).symlink_to("/etc/hostname")


def nowhere(store: StoreBuilder, file: str) -> None:
    entry(store, file).unlink()
    entry(store, file).symlink_to("nowhere")


def circle(store: StoreBuilder, file: str) -> None:
    blob = store.blob(NAME, file)
    blob.unlink()
    blob.symlink_to(blob.name)


def pipe(store: StoreBuilder, file: str) -> None:
    blob = store.blob(NAME, file)
    blob.unlink()
    os.mkfifo(blob)


def pipe_for_entry(store: StoreBuilder, file: str) -> None:
    entry(store, file).unlink()
    os.mkfifo(entry(store, file))


def folder(store: StoreBuilder, file: str) -> None:
    blob = store.blob(NAME, file)
    blob.unlink()
    (blob / "inside").mkdir(parents=True)


def folder_for_entry(store: StoreBuilder, file: str) -> None:
    entry(store, file).unlink()
    entry(store, file).mkdir()


def renamed(store: StoreBuilder, file: str) -> None:
    """The blob has the name of another content: both names are wrong then."""
    blob, other = store.blob(NAME, file), store.blob(NAME, "tokenizer.json")
    spare = blob.with_name("spare")
    blob.replace(spare)
    other.replace(blob)
    spare.replace(other)


def shared(store: StoreBuilder, file: str) -> None:
    """A payload of the cache-wide store."""
    store.share_blobs(NAME)
    flip(store.blob(NAME, file), 1000)


def shared_and_gone(store: StoreBuilder, file: str) -> None:
    store.share_blobs(NAME)
    store.blob(NAME, file).unlink()


def copied(store: StoreBuilder, file: str) -> None:
    """A file of the snapshot itself, as without links."""
    content = store.blob(NAME, file)
    place = entry(store, file)
    place.unlink()
    shutil.move(content, place)
    flip(place, 5)


def otherwise_named(store: StoreBuilder, file: str) -> None:
    """A blob with the name that a mirror gave it."""
    blob = store.blob(NAME, file)
    other = blob.with_name("W-some-etag")
    blob.replace(other)
    flip(other, 7)
    entry(store, file).unlink()
    entry(store, file).symlink_to(f"../../blobs/{other.name}")


CASES: Mapping[str, Case] = {
    "first byte": Case(flipped(0), "content"),
    "middle byte": Case(flipped(0.5), "content"),
    "last byte": Case(flipped(1), "content"),
    "small file": Case(flipped(0.5), "content", "config.json"),
    "short": Case(resized(lambda size: size - 1), "size"),
    "long": Case(resized(lambda size: size + 1), "size"),
    "empty": Case(resized(lambda _: 0), "size"),
    "small and empty": Case(resized(lambda _: 0), "size", "tokenizer.json"),
    "gone": Case(gone, "dangling"),
    "without an entry": Case(without_entry, "missing", is_here=True),
    "swapped": Case(swapped, "swapped", is_here=True),
    "under the name of another": Case(renamed, "size", file_too="tokenizer.json"),
    "a link that leads out": Case(outside, "dangling", is_here=True),
    "a link that leads nowhere": Case(nowhere, "dangling", is_here=True),
    "a link to itself": Case(circle, "dangling"),
    "a pipe": Case(pipe, "odd"),
    "a pipe for an entry": Case(pipe_for_entry, "odd", is_here=True),
    "a folder": Case(folder, "folder", mends=False),
    "a folder for an entry": Case(folder_for_entry, "folder", mends=False, is_here=True),
    "shared": Case(shared, "content"),
    "shared and gone": Case(shared_and_gone, "dangling"),
    "no link": Case(copied, "content"),
    "named by a mirror": Case(otherwise_named, "content"),
}
