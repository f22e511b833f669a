"""Environments with the stand-in for vLLM in them, as pip and uv would have made them."""

import shutil
import sys
import venv
from pathlib import Path

_PACKAGE = Path(__file__).parent / "vllm"


def make_engine(folder: Path, *, version: str = "0.33.0+cpu", distribution: str = "vllm") -> Path:
    """Make an environment whose vLLM is the stand-in, and return its interpreter."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    shutil.copytree(_PACKAGE, site / "vllm", ignore=shutil.ignore_patterns("__pycache__"))
    metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8")
    if "+" not in version and distribution == "vllm":
        # What tells the build for CUDA, whose version has no local part.
        (site / "vllm" / "cumem_allocator.abi3.so").touch()
    return folder / "bin" / "python"
