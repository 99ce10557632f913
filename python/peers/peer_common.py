"""What the programs that time dgrt beside its peers share: where they run, which peers there are, what the device
could reach at best, and how columns of times become one number."""

import datetime
import importlib
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))

import torch  # noqa: E402

import dgrt  # noqa: E402

# The rates that no kernel passed, as measured: a large copy, large products of cuBLASLt and cuBLAS.
RATES = {"NVIDIA H200": {"bytes": 4.268e6, "fp8": 1458e6, "bf16": 798e6},  # per us, 2026-11-20
         "NVIDIA H100 80GB HBM3": {"bytes": 3.027e6, "fp8": 1442e6, "bf16": 782e6}}  # 2026-11-26
EMPTY_US = 2.85  # what an empty kernel takes


_peers = {}  # of those that were found, module -> version


def optional(name):
    """A peer's module, or None where it is not installed or does not load."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # loading a library may raise anything
        print(f"{name} left out: {first_line(error)}", flush=True)
        return None
    _peers[name] = str(getattr(module, "__version__", "unknown")).partition("+")[0]
    return module


def first_line(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


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
            "date": datetime.date.today().isoformat(), "peers": dict(_peers)}


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def rounded(entry):
    return {key: round(x, 4) if isinstance(x, float) else x for key, x in entry.items()}


def floor_us(num_bytes, num_flops, dtype):
    device = torch.cuda.get_device_name(0)
    if device not in RATES:
        sys.exit(f"nobody measured the rates of {device} yet: add them to RATES in {__file__}")
    rates = RATES[device]
    return round(max(num_bytes / rates["bytes"], num_flops / rates[dtype]) + EMPTY_US, 2)
