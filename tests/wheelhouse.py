"""A package index of tiny wheels made by hand: what is installed from it is real, and fast."""

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TORCH = {
    "torch/__init__.py": b"from . import version",
    "torch/version.py": b"__version__ = '2.13.0+cpu'\ncuda = None\n",
}
TORCH_CUDA = {
    "torch/__init__.py": b"from . import version",
    "torch/version.py": b"__version__ = '2.14.0'\ncuda = '13'\n",
}
VLLM_CPU = {"vllm/__init__.py": b"", "vllm/_C_AVX2.abi3.so": b"\x7fELF"}
VLLM_CUDA = {"vllm/__init__.py": b"", "vllm/cumem_allocator.abi3.so": b"\x7fELF"}


def add_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, bytes], *, requires: Sequence[str] = ()
) -> Path:
    """Write a wheel that any Python takes, and its metadata beside it, as indexes offer them."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    content = {
        **files,
        f"{stem}.dist-info/METADATA": metadata.encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items()]
    content[f"{stem}.dist-info/RECORD"] = "".join([*rows, f"{stem}.dist-info/RECORD,,\n"]).encode()
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    wheel.with_name(f"{wheel.name}.metadata").write_bytes(metadata.encode())
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_index(folder: Path, wheels: Sequence[Path]) -> str:
    """Lay wheels out as an index in files, a page of links for each name, and return its address."""
    for wheel in wheels:
        page = folder / wheel.name.partition("-")[0].replace("_", "-") / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a") as file:
            file.write(f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n')
    return folder.as_uri()


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of wheels, served over HTTP as a page of links. Paths that end with one of `held` wait for `release`."""

    folder: Path
    url: str
    held: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Hold nothing back any more."""
        self.held.clear()
        self.released.set()

    def page(self) -> bytes:
        """The links, each with the word that metadata can be had by themselves."""
        return "".join(
            f'<a href="{self.url}/{path.name.replace("+", "%2B")}" data-dist-info-metadata="true" '
            f'data-core-metadata="true">{path.name}</a><br>\n'
            for path in sorted(self.folder.glob("*.whl"))
        ).encode()


@contextmanager
def served(folder: Path) -> Iterator[Wheelhouse]:
    """Serve a folder of wheels on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.replace("%2B", "+")
            house.asked.append(path)
            if any(path.endswith(end) for end in house.held):
                house.released.wait(60)
            file = house.folder / path.rpartition("/")[2]
            body = house.page() if path == "/" else file.read_bytes() if file.is_file() else None
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html" if path == "/" else "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    house = Wheelhouse(folder, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield house
    finally:
        house.release()
        server.shutdown()
        server.server_close()
        thread.join()
