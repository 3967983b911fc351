"""What a machine has, read from the files its kernel shows, and what a stage finds missing there."""

from pathlib import Path

import attrs
import pytest

from nanochat.hardware import Hardware, Machine, default_device, missing, probe_machine

BARE = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**33, name="bare")


def machine_with(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return probe_machine(root)


@pytest.mark.parametrize(
    "files, devices",
    [
        ({}, 0),
        ({"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": ""}, 2),
        ({f"proc/driver/nvidia/gpus/0000:0{n}/information": "" for n in range(8)}, 8),
        ({"dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""}, 1),
        ({"dev/dxg": ""}, 0),
        ({f"sys/class/kfd/kfd/topology/nodes/{n}/gpu_id": text for n, text in enumerate(("0", "51803", "9"))}, 2),
    ],
)
def test_gpus_that_torch_calls_cuda_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], devices: int
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = machine_with(tmp_path, files)
    assert found.cuda_devices == devices
    assert default_device(found) == ("cuda" if devices else "mps" if found.mps else "cpu")


@pytest.mark.parametrize("visible, devices", [("", 0), ("-1", 0), ("0", 1), ("0,3", 2), ("0,1,2,3,4,5", 4)])
def test_cuda_visible_devices_hides_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, devices: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine_with(tmp_path, {f"dev/nvidia{n}": "" for n in range(4)}).cuda_devices == devices


def test_intels_gpus_are_counted_and_others_are_not(tmp_path: Path) -> None:
    files = {"sys/class/drm/renderD128/device/vendor": "0x8086\n", "sys/class/drm/renderD129/device/vendor": "0x10de\n"}
    assert machine_with(tmp_path, files).xpu_devices == 1


@pytest.mark.parametrize(
    "device, wanted, has, said",
    [
        ("cpu", 64, {}, ""),
        ("cuda", 1, {}, "asks for one CUDA device; this machine has none"),
        ("cuda", 8, {"cuda_devices": 2}, "asks for 8 CUDA devices; this machine has 2"),
        ("cuda", 2, {"cuda_devices": 2}, ""),
        ("xpu", 1, {}, "asks for one Intel GPU; this machine has none"),
        ("xpu", 1, {"xpu_devices": 1}, ""),
        ("mps", 1, {}, "asks for one Apple GPU; this machine has none"),
        ("mps", 1, {"mps": True}, ""),
    ],
)
def test_what_is_missing_is_said(device: str, wanted: int, has: dict[str, int], said: str) -> None:
    hardware = Hardware(device=device, nproc_per_node=wanted, dtype="float32")
    assert missing(hardware, attrs.evolve(BARE, **has)) == said
