"""The real podman, as a machine needs it that is a container itself: the settings are its own, not modelctl's.

Its images get the machine's libraries, and the environment TEST_PODMAN_ENGINE for their Python, whose own interpreter
lies in TEST_PODMAN_BASE, as if built in; what else of the machine they see was mounted for them. TEST_PODMAN_URL is a
service to be asked, as by a user who may not run containers himself.
"""

import os
import sys
from pathlib import Path

REAL = "/usr/bin/podman"
# This machine's control groups and limits.
SETTINGS = ("--runtime", "runc", "--cgroup-manager=cgroupfs")
LIMITS = ("--cgroupns", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
INSIDE = "/engine-to-test"


def variable(name: str) -> str:
    return os.environ.get(f"TEST_PODMAN_{name}", "")  # noqa: TID251 - not our package


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["run"]:
        words[1:1] = (
            [*LIMITS, *built_in(Path(variable("ENGINE")), Path(variable("BASE")))] if variable("ENGINE") else LIMITS
        )
    url = variable("URL")
    os.execv(REAL, [REAL, *(["--remote", "--url", url] if url else SETTINGS), *words])  # noqa: S606 - what this is for


def built_in(engine: Path, base: Path) -> list[str]:
    folders = {Path(INSIDE): engine, base: base}
    folders |= {Path("/", name): Path("/", name) for name in ("usr", "lib", "lib64", "bin") if Path("/", name).exists()}
    found = ["--env", f"PATH={INSIDE}/bin:/usr/bin:/bin"]
    for target, source in folders.items():
        if target == Path("/usr") or Path("/usr") not in target.parents:
            found += ["--mount", f"type=bind,source={source},target={target},readonly"]
    for name in os.environ:  # noqa: TID251 - not our package
        found += ["--env", name] if name.startswith("STANDIN_") else []
    return found


if __name__ == "__main__":
    main()
