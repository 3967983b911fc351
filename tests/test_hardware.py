"""What a machine has, read from the files its kernel shows, and what a stage finds missing there."""

import platform
from pathlib import Path

import attrs
import pytest
import torch

from nanochat.hardware import (
    Hardware,
    Machine,
    bfloat16_instructions,
    capability_of,
    default_device,
    default_dtype,
    missing,
    probe_machine,
)

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


ON_CPU = 'run it elsewhere, or set device = "cpu"'


@pytest.mark.parametrize(
    "device, wanted, has, said",
    [
        ("cpu", 64, {}, ""),
        ("cuda", 1, {}, f"asks for one CUDA device; this machine has none: {ON_CPU}"),
        (
            "cuda",
            8,
            {"cuda_devices": 2},
            "asks for 8 CUDA devices; this machine has 2: run it elsewhere, or set nproc_per_node = 2",
        ),
        ("cuda", 2, {"cuda_devices": 2}, ""),
        ("xpu", 1, {}, f"asks for one Intel GPU; this machine has none: {ON_CPU}"),
        ("xpu", 1, {"xpu_devices": 1}, ""),
        ("mps", 1, {}, f"asks for one Apple GPU; this machine has none: {ON_CPU}"),
        ("mps", 1, {"mps": True}, ""),
    ],
)
def test_what_is_missing_is_said(device: str, wanted: int, has: dict[str, int], said: str) -> None:
    hardware = Hardware(device=device, nproc_per_node=wanted, dtype="float32")
    assert missing(hardware, attrs.evolve(BARE, **has)) == said


# NVIDIA's list of CUDA GPUs; within a family, the lowest of it.
@pytest.mark.parametrize(
    "model, capability",
    [
        ("NVIDIA B200", 10.0),
        ("NVIDIA H100 80GB HBM3", 9.0),
        ("NVIDIA GH200 480GB", 9.0),
        ("NVIDIA RTX 6000 Ada Generation", 8.9),
        ("NVIDIA L4", 8.9),
        ("NVIDIA A100-SXM4-40GB", 8.0),
        ("NVIDIA GeForce RTX 3090", 8.0),
        ("NVIDIA RTX A6000", 8.0),
        ("Quadro RTX 6000", 7.5),
        ("Tesla T4", 7.5),
        ("Tesla V100-SXM2-16GB", 7.0),
        ("NVIDIA GeForce GTX 1080 Ti", 6.0),
        ("NVIDIA X9000", None),
    ],
)
def test_a_gpus_name_tells_what_it_can_compute(model: str, capability: float | None) -> None:
    assert capability_of(model) == capability


def test_auto_dtype_is_bfloat16_only_where_every_gpu_has_it(tmp_path: Path) -> None:
    def with_gpus(*models: str) -> Machine:
        root = tmp_path / "-".join(models)
        return machine_with(
            root,
            {
                f"proc/driver/nvidia/gpus/{n}/information": f"Model: \t {model}\nIRQ: 7\n"
                for n, model in enumerate(models)
            },
        )

    assert with_gpus("NVIDIA H100 PCIe", "Tesla V100-PCIE-32GB").compute_capability == 7.0
    assert default_dtype("cuda", with_gpus("NVIDIA A100-SXM4-80GB")) == "bfloat16"
    assert default_dtype("cuda", with_gpus("NVIDIA X9000")) == "bfloat16"
    assert default_dtype("cuda", with_gpus("NVIDIA A100-SXM4-80GB", "Tesla T4")) == "float32"
    assert default_dtype("cpu", with_gpus("NVIDIA A100-SXM4-80GB")) == "float32"


@pytest.mark.parametrize(
    "asked, said",
    [
        (
            {"device": "cuda", "dtype": "bfloat16"},
            "asks for bfloat16, which this GPU does not compute (compute capability 7; 8 is needed): "
            'set dtype = "float32"',
        ),
        ({"device": "cuda", "dtype": "float32"}, ""),
        ({"device": "cuda", "dtype": "float32", "attention": "flash3"}, ""),
        (
            {"device": "cpu", "dtype": "bfloat16", "attention": "flash3"},
            'asks for attention = "flash3", which needs a CUDA device: set attention = "auto"',
        ),
        ({"device": "cpu", "dtype": "bfloat16", "attention": "dense"}, ""),
    ],
)
def test_what_the_device_cannot_do_is_said_with_the_setting_to_change(asked: dict[str, str], said: str) -> None:
    volta = attrs.evolve(BARE, cuda_devices=1, compute_capability=7.0)
    assert missing(Hardware(nproc_per_node=1, **asked), volta) == said


@pytest.mark.parametrize(
    "line, names",
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile amx_int8", ["amx_bf16", "avx512_bf16"]),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", []),
        ("Features\t: fp asimd bf16 sve svebf16", ["bf16", "svebf16"]),
        ("Features\t: fp asimd", []),
        ("model name\t: bf16", []),
    ],
)
def test_a_processor_tells_its_instructions_for_bfloat16(tmp_path: Path, line: str, names: list[str]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert bfloat16_instructions(tmp_path) == names
    assert bfloat16_instructions(tmp_path / "nowhere") == []


@pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() != "x86_64"
    or not hasattr(torch.cpu, "_is_avx512_bf16_supported"),
    reason="torch tells it of x86 alone",
)
def test_the_instructions_for_bfloat16_are_those_that_torch_finds() -> None:
    here = bfloat16_instructions()
    assert ("avx512_bf16" in here) == torch.cpu._is_avx512_bf16_supported()
    if hasattr(torch.cpu, "get_capabilities"):
        assert ("amx_bf16" in here) == torch.cpu.get_capabilities().get("amx_bf16", False)
