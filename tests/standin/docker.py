"""A stand-in for docker: containers are processes that nobody who runs the command is the parent of.

The Python of its images is the stand-in engine's. Each call is a line of `calls` in the folder STANDIN_DOCKER, each
container a file there, with the pid of its first process. Switches: STANDIN_DOWN, STANDIN_HANGS (words of the command
that gets no answer), STANDIN_REFUSES (what the daemon says), STANDIN_KEEPS (containers cannot be removed).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["STANDIN_DOCKER"])  # noqa: TID251 - not our package
IMAGE = "acme/vllm:1"
# Options of `run` with a value.
VALUED = (
    *("--name", "--pull", "--network", "--log-driver", "--security-opt", "--shm-size", "--user", "--group-add"),
    *("--env", "--mount", "--workdir", "--entrypoint", "--gpus"),
)


def switch(name: str) -> str:
    return os.environ.get(f"STANDIN_{name}", "")  # noqa: TID251 - as above


def main() -> int:
    words = sys.argv[1:]
    with (FOLDER / "calls").open("a", encoding="utf-8") as calls:
        calls.write(json.dumps(words) + "\n")
    if switch("HANGS") and words[:1] == switch("HANGS").split():
        time.sleep(60)
    match words:
        case ["run", *rest]:
            return run(rest)
        case ["kill", name] | ["rm", "-f", name]:
            return end(name)
    return ask(words)


def ask(words: list[str]) -> int:
    match words:
        case ["info", *_]:
            return info()
        case ["image", "inspect", *_, image]:
            sys.stdout.write("sha256:" + "5" * 64 + "\n" if image == IMAGE else "\n")
            return image != IMAGE
        case ["ps", "--all", "--filter", found, *_]:
            names = [path.name for path in (FOLDER / "containers").iterdir() if path.name[0] != "."]
            sys.stdout.writelines(f"{name}\n" for name in names if found.removeprefix("name=") in name)
            return 0
        case ["container", "inspect", *_, name]:
            sys.stdout.write("6" * 64 + "\n")
            return not (FOLDER / "containers" / name).exists()
    return 1


def info() -> int:
    if switch("DOWN"):
        sys.stdout.write(json.dumps({"ServerErrors": [f"Cannot connect: {switch('DOWN')}"], "ClientInfo": {}}) + "\n")
        return 1
    sys.stdout.write(json.dumps({"ServerVersion": "28.2.2", "SecurityOptions": ["name=seccomp"]}) + "\n")
    return 0


def run(words: list[str]) -> int:
    """Start a container, and wait for its end as long as nobody kills us; signals are handed on to it."""
    options: dict[str, list[str]] = {}
    while words[0].startswith("--"):
        options.setdefault(words[0], []).append(words[1])
        words = words[2 if words[0] in VALUED else 1 :]
    if switch("REFUSES") and "--detach" not in options and "host" in options["--network"]:
        sys.stderr.write(f"docker: Error response from daemon: {switch('REFUSES')}\n\nRun 'docker run --help'\n")
        return 125
    record = FOLDER / "containers" / options["--name"][0]
    ended = record.with_name(f".{record.name}.ended")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            shim(record, ended, [*interpreter(), *inside(options, words[1:])], environment(options))
        os._exit(0)
    os.wait()
    signal.signal(signal.SIGTERM, lambda *_: tell(record, signal.SIGTERM))
    while not ended.exists():
        time.sleep(0.02)
    code = int(ended.read_text())
    ended.unlink()
    return code


def shim(record: Path, ended: Path, argv: list[str], environ: dict[str, str]) -> None:
    """The parent of a container's first process; with that all others of the container end."""
    first = subprocess.Popen(argv, env=environ, start_new_session=True)
    record.write_text(str(first.pid))
    code = first.wait()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == first.pid:
                os.kill(int(entry.name), signal.SIGKILL)
    if not switch("KEEPS"):
        record.unlink(missing_ok=True)
    whole = ended.with_suffix(".code")
    whole.write_text(str(code if code >= 0 else 128 - code))
    whole.rename(ended)
    os._exit(0)


def interpreter() -> list[str]:
    return [switch("IMAGE_PYTHON")] if switch("IMAGE_PYTHON") else ["/bin/false"]


def inside(options: dict[str, list[str]], words: list[str]) -> list[str]:
    """The words of a command, our scripts among them by where they are mounted from."""
    mounts = [dict(field.split("=") for field in mount.split(",") if "=" in field) for mount in options["--mount"]]
    sources = {mount["target"]: mount["source"] for mount in mounts}
    return [sources.get(words[0], words[0]), *words[1:]]


def environment(options: dict[str, list[str]]) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name.startswith(("STANDIN_", "PYTHON"))}  # noqa: TID251
    for word in options.get("--env", []):
        name, equals, value = word.partition("=")
        if equals or name in os.environ:  # noqa: TID251 - as above
            found[name] = value if equals else os.environ[name]  # noqa: TID251 - as above
    return found


def end(name: str) -> int:
    record = FOLDER / "containers" / name
    if not record.exists() or switch("KEEPS"):
        sys.stderr.write(f"Error response from daemon: cannot remove {name}\n")
        return 1
    tell(record, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while record.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    record.unlink(missing_ok=True)
    return 0


def tell(record: Path, number: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(record.read_text()), number)


if __name__ == "__main__":
    sys.exit(main())
