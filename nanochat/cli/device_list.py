"""`--devices`: the CUDA devices of one process, as the driver's CUDA_VISIBLE_DEVICES takes them.

In: numbers, ranges of numbers and UUIDs between commas: 0,1 · 0-3 · GPU-8932f937. Out: the same without ranges, which
the driver does not know. Whether the machine has such devices is not asked: it hides what is not there.
"""

import re

from nanochat.errors import wrong_input

HELP = "numbers, ranges or UUIDs (nvidia-smi -L): --devices 0,1 or --devices 0-3 or --devices GPU-8932f937"
MOST = 4096
"""Of a machine's devices: no range goes further."""
_NUMBERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_UUID = re.compile(r"GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+", re.ASCII)
"""A GPU's, or a MIG instance's, also in the older form MIG-GPU-UUID/INSTANCE/INSTANCE; an unambiguous beginning will do
(CUDA C++ Programming Guide, environment variables)."""


def visible_devices(text: str) -> str:
    """For CUDA_VISIBLE_DEVICES. InputError E407 where it names no devices, or one twice: the driver then sees none."""
    found = [device for part in text.split(",") for device in _devices(part.strip(), text)]
    twice = [device for device in dict.fromkeys(found) if found.count(device) > 1]
    if twice:
        raise wrong_input("E407", f"--devices {text}: {twice[0]} is there twice", help="name each device once")
    return ",".join(found)


def _devices(part: str, text: str) -> list[str]:
    if _UUID.fullmatch(part):
        return [part]
    numbers = _NUMBERS.fullmatch(part)
    first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (1, 0)
    if not first <= last < MOST:
        raise wrong_input("E407", f"--devices {text}: `{part}` is no device", help=HELP)
    return [str(number) for number in range(first, last + 1)]
