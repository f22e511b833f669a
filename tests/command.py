"""The command as a user runs it: a process with an environment of its own."""

import atexit
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nobody listens there: what asks for it fails at once and is seen.
NOWHERE = "http://127.0.0.1:9"
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process left: its exit code and all it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """stdout as one JSON value."""
        return json.loads(self.stdout)

    @property
    def events(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass(frozen=True, slots=True)
class Command:
    """Runs `modelctl`, or any other program, in the yard of one test."""

    project: Path
    home: Path
    guard: Path

    def __call__(
        self,
        *argv: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 60,
        user: int | None = None,
    ) -> Finished:
        """Run `modelctl ARGV` to its end.

        `env` adds to the clean environment, `None` takes a name away. `user` runs it under another uid, which may
        then pass through the folders above the project; what it may do inside is the test's to say.
        """
        return self.program(
            [sys.executable, "-m", "modelctl", *argv], env=env, cwd=cwd, stdin=stdin, timeout=timeout, user=user
        )

    def program(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 60,
        user: int | None = None,
    ) -> Finished:
        """Run any program to its end, as `__call__` runs `modelctl`."""
        rights: dict[str, Any] = {}
        if user is not None:
            self.let_pass(user)
            rights = {"user": user, "group": user, "extra_groups": []}
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=cwd or self.project,
            env=self.environment(env),
            timeout=timeout,
            encoding="utf-8",
            errors="backslashreplace",
            **rights,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(
        self,
        *argv: str | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        first: str = "",
        **options: Any,  # noqa: ANN401 - those of Popen
    ) -> subprocess.Popen[str]:
        """Start `modelctl ARGV` in a session of its own, pipes open: for tests that send signals or look on.

        `first` is code that its process runs before: to make the machine slow, or otherwise, for it alone.
        """
        how = ["-c", f"{first}\nfrom modelctl.cli.app import main\nmain()"] if first else ["-m", "modelctl"]
        return subprocess.Popen(
            [sys.executable, *how, *(str(word) for word in argv)],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "encoding": "utf-8",
                "start_new_session": True,
                "cwd": cwd or self.project,
                "env": self.environment(env),
                **options,
            },
        )

    def environment(self, env: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The clean environment of this test, with `env` over it."""
        clean = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb", "COLUMNS": "120"}  # noqa: TID251
        clean |= clean_environment(home=self.home, guard=self.guard)
        clean |= {name: value for name, value in os.environ.items() if name.startswith("MODELCTL_TEST_")}  # noqa: TID251
        changed = {**clean, **(env or {})}
        return {name: value for name, value in changed.items() if value is not None}

    def let_pass(self, user: int) -> None:
        """Let another uid reach the project and the interpreter, and give it the home folder.

        pytest's own folders are private, and so may be the home in which the interpreter lies; that is opened for
        passing through alone, until the tests end.
        """
        for folder in (self.project, *self.project.parents):
            if folder.stat().st_mode & 0o005 != 0o005:
                folder.chmod(folder.stat().st_mode | 0o055)
        for folder in (*Path(sys.prefix).parents, *Path(sys.executable).resolve().parents):
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & 0o001:
                folder.chmod(mode | 0o001)
                atexit.register(folder.chmod, mode)
        os.chown(self.home, user, user)


def clean_environment(*, home: Path, guard: Path) -> dict[str, str]:
    """A home of its own, a Hub and proxies that lead nowhere, and the fence for Python children."""
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "HF_ENDPOINT": NOWHERE,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "http_proxy": NOWHERE,
        "https_proxy": NOWHERE,
        "all_proxy": NOWHERE,
        "no_proxy": "127.0.0.1,localhost,::1",
        "PYTHONPATH": str(guard),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
