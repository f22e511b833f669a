"""How far an installation is, by what the tool says and by what lies in the environment."""

import csv
from pathlib import Path

from modelctl.engine import packages
from modelctl.progress import Progress


class Watch:
    """Turns a tool's output into phases and bytes. All of it is for show: nothing is decided by it."""

    def __init__(self, progress: Progress, *, folder: Path, download: int, size: int) -> None:
        self._progress = progress
        self._folder = folder
        self._totals: dict[str, int | None] = {"downloading": download, "installing": size}
        self._phase = ""
        self._coming: dict[str, int] = {}
        self._fetched = 0
        self._installed: dict[str, int] = {}

    def line(self, text: str) -> None:
        """Take a line of output."""
        told = packages.read(text)
        if told is None:
            return
        if told.kind == "phase":
            self._begin(told.name)
        elif told.kind == "begun":
            self._begin("downloading")
            self._coming[told.name] = told.size or 0
        else:
            self._begin("downloading")
            size = told.size or self._coming.get(told.name, 0)
            self._fetched += size
            self._progress.file(told.name, size=size, source=told.kind)
            self._advance(self._fetched)

    def tick(self) -> None:
        """Look how much is installed."""
        if self._phase == "installing":
            self._advance(self._bytes_installed())

    def _begin(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._progress.begin(phase, total=self._totals.get(phase))

    def _advance(self, done: int) -> None:
        self._progress.advance(min(done, self._totals.get(self._phase) or done))

    def _bytes_installed(self) -> int:
        """Sizes by the lists that packages bring: a walk over sixty thousand files would slow down what it watches."""
        for listing in self._folder.glob("lib/python*/site-packages/*.dist-info/RECORD"):
            if listing.parent.name not in self._installed:
                self._installed[listing.parent.name] = _bytes_listed(listing)
        return sum(self._installed.values())


def _bytes_listed(listing: Path) -> int:
    try:
        with listing.open(encoding="utf-8", errors="replace", newline="") as file:
            return sum(int(row[2]) for row in csv.reader(file) if len(row) > 2 and row[2].isdigit())
    except (OSError, csv.Error):
        return 0
