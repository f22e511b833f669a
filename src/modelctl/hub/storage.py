"""Xet storage as hf_xet speaks with it; its errors become ours here and nowhere else."""

import importlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from modelctl.errors import ModelctlError, UnreachableError
from modelctl.hub.grant import BY_HTTP, Grant

_LONGEST_REASON = 200
# A signed address is as good as a password while it is valid.
_SIGNATURE = re.compile(r"\?\S+")


class Storage:
    """One session with the Xet storage that a grant leads to.

    `stall` is after how many seconds without a byte hf_xet opens a connection anew.
    """

    def __init__(self, granted: Grant, *, stall: float) -> None:
        library = _library()
        config = library.XetConfig().with_config({"client.read_timeout": timedelta(seconds=stall)})
        self._content = library.XetFileInfo
        self._session = library.XetSession(config)
        try:
            self._group = self._session.new_file_download_group(
                endpoint=granted.storage,
                token=granted.token,
                token_expiry_unix_secs=granted.expires,
                token_refresh_url=granted.renewal,
                token_refresh_headers=granted.headers,
            )
        except (RuntimeError, OSError, ValueError) as exc:
            raise UnreachableError(f"Xet storage cannot be reached: {_reason(exc)}", hint=BY_HTTP) from exc

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes written into files and bytes received, of all files together."""
        counted = self._group.progress()
        return counted.total_bytes_completed, counted.total_transfer_bytes_completed

    def bring(self, name: str, xet_hash: str, size: int, path: Path) -> None:
        """Have a file's content written to a path, in order from its start; what lies there is lost."""
        try:
            self._group.start_download_file(self._content(xet_hash, size), str(path.absolute())).result()
        except (RuntimeError, OSError, ValueError) as exc:
            raise UnreachableError(
                f"`{name}` cannot be fetched from Xet storage: {_reason(exc)}", hint=BY_HTTP
            ) from exc

    def end(self) -> None:
        """End whatever is under way: hf_xet goes on with failing requests for minutes otherwise."""
        self._session.sigint_abort()


def _library() -> Any:  # noqa: ANN401 - a package without types
    try:
        return importlib.import_module("hf_xet")
    except ImportError as exc:
        raise ModelctlError(
            "`--transport xet` needs the package `hf_xet`, which cannot be loaded",
            hint="`pip install hf_xet` where modelctl is, or leave `--transport xet` out",
        ) from exc


def _reason(exc: Exception) -> str:
    """What hf_xet says, in one line and without signatures."""
    return _SIGNATURE.sub("", " ".join(str(exc).split()))[:_LONGEST_REASON] or type(exc).__name__
