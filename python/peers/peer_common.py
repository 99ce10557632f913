"""What the programs that time dgrt beside its peers share: where they run, what the device could reach at
best, and how columns of times become one number."""

import datetime
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))

import torch  # noqa: E402

import dgrt  # noqa: E402

# As measured on an H200: the rates no kernel passed, and what an empty kernel takes.
BYTES_PER_US = 4.268e6
FLOPS_PER_US = {"fp8": 1458e6, "bf16": 798e6}
EMPTY_US = 2.85


def numbers(text):
    return [int(x) for x in text.split(",")]


def output_of(*command):
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment():
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {"device": torch.cuda.get_device_name(0), "driver": driver.split("\n")[0],
            "cuda": torch.version.cuda, "torch": torch.__version__,
            "dgrt": ".".join(map(str, dgrt.version())),
            "commit": output_of("git", "rev-parse", "--short=12", "HEAD"),
            "date": datetime.date.today().isoformat()}


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def rounded(entry):
    return {key: round(x, 4) if isinstance(x, float) else x for key, x in entry.items()}


def floor_us(num_bytes, num_flops, dtype):
    return round(max(num_bytes / BYTES_PER_US, num_flops / FLOPS_PER_US[dtype]) + EMPTY_US, 2)
