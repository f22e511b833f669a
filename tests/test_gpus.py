"""The memory of this machine: a stand-in plays NVIDIA's tool, and a folder the kernel's files."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelctl import project as projects
from modelctl.cli import fitting
from modelctl.engine import gpus, machine
from modelctl.engine.gpus import Gpu
from modelctl.store import scan
from tests.stores import StoreBuilder

MIB = 2**20
H100 = "NVIDIA H100 80GB HBM3"
# What `nvidia-smi -q -x` says of a card in two slices, as far as it is looked at.
REPORT = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <gpu id="00000000:07:00.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <mig_devices>
      <mig_device><index>0</index>
        <fb_memory_usage><total>40192 MiB</total><used>37 MiB</used><free>40155 MiB</free></fb_memory_usage>
      </mig_device>
      <mig_device><index>1</index>
        <fb_memory_usage><total>9728 MiB</total><used>12 MiB</used><free>9715 MiB</free></fb_memory_usage>
      </mig_device>
    </mig_devices>
    <uuid>GPU-0</uuid>
    <fb_memory_usage><total>81559 MiB</total><free>81000 MiB</free></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""
Play = Callable[..., dict[str, str]]


def row(at: int, *, name: str = H100, total: str = "81559", free: str = "81000", divided: str = "[N/A]") -> str:
    return f"{at}, GPU-{at}, {name}, {total}, {free}, {divided}"


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Put a `nvidia-smi` on PATH that prints `rows`, and with `-x` the `report`; `does` is what it does before."""

    def play(*rows: str, does: str = "", report: str = "", code: int = 0, **environ: str) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "rows").write_text("".join(f"{line}\n" for line in rows))
        (folder / "report").write_text(report)
        tool = folder / "nvidia-smi"
        show = f'case "$*" in *-x*) cat {folder}/report;; *) cat {folder}/rows;; esac'
        tool.write_text(f'#!/bin/sh\necho "$*" >> {folder}/asked\n{does}\n{show}\nexit {code}\n')
        tool.chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin", **environ}

    return play


def ask(environ: dict[str, str], *, patience: float = 10) -> tuple[Gpu, ...] | None:
    with gpus.Question(environ) as question:
        return question.answer(patience=patience)


def asked(tmp_path: Path) -> int:
    return len((tmp_path / "bin" / "asked").read_text().splitlines())


@pytest.mark.parametrize("count", [0, 1, 8])
def test_so_many_gpus_by_one_question(play: Play, tmp_path: Path, count: int) -> None:
    found = ask(play(*(row(at) for at in range(count))))
    assert found == tuple(Gpu(f"GPU-{at}", H100, 81559 * MIB, 81000 * MIB) for at in range(count))
    assert asked(tmp_path) == 1


def test_a_driver_without_a_gpu(play: Play) -> None:
    assert ask(play("No devices were found", code=6)) == ()


def test_a_divided_gpu_is_its_first_slice(play: Play, tmp_path: Path) -> None:
    environ = play(row(0, total="81559", free="[Insufficient Permissions]", divided="Enabled"), report=REPORT)
    assert ask(environ) == (Gpu("MIG-0", f"{H100} (slice)", 40192 * MIB, 40155 * MIB, is_slice=True),)
    assert asked(tmp_path) == 2


def test_a_divided_gpu_of_which_nothing_more_is_told(play: Play) -> None:
    assert ask(play(row(0, divided="Enabled"), report="<nvidia_smi_log>")) is None


def test_a_driver_from_before_gpus_were_divided(play: Play) -> None:
    refuse = (
        'case "$*" in *mig.mode*) echo "Field \\"mig.mode.current\\" is not a valid field to query."; exit 2;; esac'
    )
    assert ask(play("0, GPU-0, Tesla K80, 11441, 11000", does=refuse)) == (
        Gpu("GPU-0", "Tesla K80", 11441 * MIB, 11000 * MIB),
    )


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."], 9),
        (["something else"], 0),
        ([row(0, total="[N/A]", free="[N/A]")], 0),
    ],
)
def test_a_tool_that_cannot_tell(play: Play, rows: list[str], code: int) -> None:
    assert ask(play(*rows, code=code)) is None


def test_no_tool_at_all(tmp_path: Path) -> None:
    assert ask({"PATH": str(tmp_path)}) is None


@pytest.mark.parametrize("does", ["sleep 60", "trap '' TERM; sleep 60 & wait"])
def test_a_driver_that_hangs_holds_up_nobody(play: Play, does: str) -> None:
    environ = play(row(0), does=does)
    began = time.monotonic()
    assert ask(environ, patience=0.2) is None
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("", []),
        ("-1", []),
        ("1", ["GPU-1"]),
        ("2, 0", ["GPU-2", "GPU-0"]),
        ("GPU-1", ["GPU-1"]),
        ("0,9,1", ["GPU-0"]),
        ("nonsense", []),
    ],
)
def test_a_user_may_see_some_of_them(play: Play, named: str, seen: list[str]) -> None:
    found = ask(play(*map(row, range(3)), CUDA_VISIBLE_DEVICES=named))
    assert found is not None
    assert [gpu.uuid for gpu in found] == seen


def test_a_listing_asks_only_where_a_driver_is(play: Play, tmp_path: Path, store: StoreBuilder) -> None:
    store.add("acme/tiny")
    (model,) = scan.scan_hub(store.hub, "project")
    project = projects.locate(environ=play(row(0, total="2048", free="2000")), cwd=store.hub.parent.parent)
    with fitting.asked(project, root=tmp_path / "root") as here:
        assert here.machine.gpus == ()
        assert here.fit(model).fits is True
    assert not (tmp_path / "bin" / "asked").exists()
    driver = tmp_path / "root" / "dev" / "nvidiactl"
    driver.parent.mkdir(parents=True)
    driver.touch()
    with fitting.asked(project, root=tmp_path / "root") as here:
        found = here.fit(model)
        here.fit(model)
    assert found.estimate is not None
    assert found.estimate.device.total == 2048 * MIB
    assert asked(tmp_path) == 1


def test_a_driver_that_hangs_leaves_it_open_whether_a_model_fits(
    play: Play, tmp_path: Path, store: StoreBuilder
) -> None:
    store.add("acme/tiny")
    (model,) = scan.scan_hub(store.hub, "project")
    project = projects.locate(environ=play(row(0), does="sleep 60"), cwd=store.hub.parent.parent)
    driver = tmp_path / "root" / "dev" / "nvidiactl"
    driver.parent.mkdir(parents=True)
    driver.touch()
    with fitting.asked(project, root=tmp_path / "root", patience=0.2) as here:
        assert here.fit(model).fits is None


def test_the_tools_of_amd_are_not_asked(tmp_path: Path, store: StoreBuilder) -> None:
    (tmp_path / "root" / "dev").mkdir(parents=True)
    (tmp_path / "root" / "dev" / "kfd").touch()
    project = projects.locate(environ={}, cwd=store.hub.parent.parent)
    with fitting.asked(project, root=tmp_path / "root") as here:
        assert here.machine.gpus is None


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8192 kB\nMemAvailable:    4096 kB\n")
    return tmp_path


def limit(folder: Path, *, most: str, used: int, files: int = 0, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    for name, value in zip(names, (most, str(used)), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{'total_' if old else ''}inactive_file {files}\n")


def test_a_container_has_what_its_group_leaves(kernel: Path) -> None:
    group = kernel / "sys" / "fs" / "cgroup"
    limit(group, most="max", used=1000)
    assert (machine.total_memory(kernel), machine.available_memory(kernel)) == (8192 * 1024, 4096 * 1024)
    limit(group, most="5000", used=1000)
    assert (machine.total_memory(kernel), machine.available_memory(kernel)) == (5000, 4000)
    # Files that were read and can go at any time.
    limit(group, most="5000", used=4500, files=4000)
    assert machine.available_memory(kernel) == 4500


def node(root: Path, at: int, *, total: int, free: int, files: int) -> None:
    folder = root / "sys" / "devices" / "system" / "node" / f"node{at}"
    folder.mkdir(parents=True)
    rows = {"MemTotal": total, "MemFree": free, "Active(file)": files, "Inactive(file)": 0, "HugePages_Total": 0}
    (folder / "meminfo").write_text("".join(f"Node {at} {key}: {value} kB\n" for key, value in rows.items()))


def test_of_several_nodes_one_counts(kernel: Path) -> None:
    node(kernel, 0, total=4096, free=100, files=50)
    # The only node is all there is, and the kernel's own estimate is the better one.
    assert machine.available_memory(kernel) == 4096 * 1024
    node(kernel, 1, total=4000, free=900, files=0)
    assert (machine.total_memory(kernel), machine.available_memory(kernel)) == (4096 * 1024, 900 * 1024)


def test_every_group_above_counts(kernel: Path) -> None:
    (kernel / "proc" / "self" / "cgroup").write_text("0::/user.slice/job\n")
    group = kernel / "sys" / "fs" / "cgroup"
    limit(group / "user.slice" / "job", most="9000", used=1000)
    limit(group / "user.slice", most="7000", used=2000)
    assert machine.available_memory(kernel) == 5000


def test_groups_of_the_old_kind(kernel: Path) -> None:
    (kernel / "proc" / "self" / "cgroup").write_text("5:cpu:/else\n3:memory:/docker/abc\n")
    folder = kernel / "sys" / "fs" / "cgroup" / "memory"
    limit(folder, most=str(2**63 - 4096), used=1, old=True)
    assert machine.available_memory(kernel) == 4096 * 1024
    limit(folder / "docker" / "abc", most="6000", used=3000, files=500, old=True)
    assert machine.available_memory(kernel) == 3500


class TestMemoryOfProcesses:
    def test_by_pid_over_all_gpus(self, play: Play, tmp_path: Path) -> None:
        environ = play("12, 100", "12, 200", "13, [N/A]", "", "7, 1")
        assert gpus.memory_of_processes(environ) == {12: 300 * MIB, 13: 0, 7: MIB}
        asked = (tmp_path / "bin" / "asked").read_text()
        assert asked == "--query-compute-apps=pid,used_memory --format=csv,noheader,nounits\n"

    def test_nobody_tells(self, play: Play) -> None:
        assert gpus.memory_of_processes(play("12, 100", code=9)) is None
        assert gpus.memory_of_processes({"PATH": "/nowhere"}) is None

    def test_a_driver_without_a_gpu(self, play: Play) -> None:
        assert gpus.memory_of_processes(play("No devices were found", code=6)) == {}

    def test_a_driver_that_hangs(self, play: Play) -> None:
        assert gpus.memory_of_processes(play("12, 100", does="sleep 60"), patience=0.2) is None
