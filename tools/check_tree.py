#!/usr/bin/env python3
"""Checks the rules of the source tree that no compiler checks.

  levels      a file includes its own folder or lower ones, never sideways, never up
  stems       each kernel stem has its five files
  names       file names are unique
  sizes       no file is over 600 lines (except *.gen.*)
  kernels     nothing that NVRTC cannot or should not read: no toolkit, host or library headers; inline
              PTX only in kernels/device

Usage: check_tree.py [--root DIR]. Prints one line per breach; exits 0 only if there is none.
"""
import argparse
import collections
import os
import re
import subprocess
import sys

MAX_LINES = 600
SOURCES = (".cpp", ".h", ".c", ".cuh", ".py", ".cmake", ".sh")
SKIPPED_DIRS = {".git", ".venv", "__pycache__"}
# Names that tools expect, and each program's entry.
COMMON_NAMES = {"__init__.py", "main.cpp"}

# Folder -> folders that its files may include besides themselves. include/dgrt and runtime/base are
# open to all; a folder that is not listed (tests, bench, tools) may include anything.
BASE = ["include", "runtime/base"]
RUNTIME_LEVELS = {
    "include": [],
    "runtime/base": ["include"],
    "cache": BASE,
    "heuristics": BASE,
    "runtime/compile": BASE,
    "runtime/driver": BASE + ["kernels"],  # TensorMap of the interface header
    "runtime/ops": BASE + ["cache", "heuristics", "runtime/compile", "runtime/driver", "kernels"],
    "runtime/engine": BASE + ["cache", "heuristics", "runtime/compile", "runtime/driver", "runtime/ops"],
    "runtime/api": BASE + ["cache", "heuristics", "runtime/compile", "runtime/driver", "runtime/ops",
                           "runtime/engine"],
}
DEVICE_LEVELS = ["common", "ptx", "mma pipeline", "sched epilogue", "main_loop"]
BANNED_IN_KERNELS = ("cuda/", "cute/", "cutlass/", "cooperative_groups", "cub/", "thrust/", "cuda_",
                     "std")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
INLINE_PTX = re.compile(r"\basm\b\s*(volatile\b)?\s*\(")
KERNEL_RUN = re.compile(r"\bvoid run\(const Params&")
DGRT_OP = re.compile(r"^DGRT_OP\(\w+, *(\w+)\)", re.MULTILINE)


def list_files(root):
    """Paths relative to root: what git tracks or would, else everything."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], check=True,
                             capture_output=True, text=True).stdout
        top = subprocess.run(["git", "-C", root, "rev-parse", "--show-toplevel"], check=True,
                             capture_output=True, text=True).stdout.strip()
        if os.path.realpath(top) == os.path.realpath(root):
            return sorted(f for f in set(out.splitlines()) if os.path.isfile(os.path.join(root, f)))
    except (OSError, subprocess.CalledProcessError):
        pass
    found = []
    for folder, dirs, names in os.walk(root):
        dirs[:] = [d for d in dirs if d not in SKIPPED_DIRS and not d.startswith("build")]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def includes(text):
    """(line number, opening quote, path) of each #include."""
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def resolve(quoted, files):
    """An include as a path in the tree, or None. Include roots: the project, include/, kernels/."""
    for prefix in ("", "include/", "kernels/"):
        if prefix + quoted in files:
            return prefix + quoted
    return None


def level_of(path):
    """The longest listed folder that holds the path."""
    folders = [f for f in list(RUNTIME_LEVELS) + ["kernels"] if path.startswith(f + "/")]
    return max(folders, key=len, default=None)


def check_levels(files, texts):
    for path, text in texts.items():
        folder = level_of(path)
        if folder not in RUNTIME_LEVELS:
            continue
        allowed = RUNTIME_LEVELS[folder] + [folder]
        for number, quote, name in includes(text):
            target = resolve(name, files) if quote == '"' else None
            if target is None:
                if quote == '"':
                    yield f"{path}:{number}: \"{name}\" is not in the tree: spell it from the project's root"
                continue
            if level_of(target) not in allowed:
                yield f"{path}:{number}: {folder} must not include {target}: only {', '.join(allowed)}"


def device_level(path):
    """From 0 for kernels/device, above it for kernels, None for the rest."""
    match = re.match(r"kernels/device/(\w+)/", path)
    if match:
        for level, folders in enumerate(DEVICE_LEVELS):
            if match.group(1) in folders.split():
                return level
        return None
    return len(DEVICE_LEVELS) if path.startswith("kernels/") else None


def check_kernels(files, texts):
    for path, text in texts.items():
        if not path.startswith("kernels/"):
            continue
        level = device_level(path)
        if level is None:
            yield f"{path}: kernels/device holds {', '.join(' '.join(DEVICE_LEVELS).split())} only"
            continue
        host_half = False  # of an #if on __CUDACC_RTC__: only the host compiler reads it
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*#\s*(if|endif)", line):
                rtc_if = bool(re.match(r"\s*#\s*ifdef\s+__CUDACC_RTC__", line))
                host_half = bool(re.match(r"\s*#\s*ifndef\s+__CUDACC_RTC__", line))
            elif re.match(r"\s*#\s*else\b", line):
                host_half = rtc_if
            if INLINE_PTX.search(line) and not path.startswith("kernels/device/"):
                yield f"{path}:{number}: inline PTX belongs in kernels/device"
            match = INCLUDE.match(line)
            if not match or host_half:
                continue
            quote, name = match.groups()
            if quote == "<" or name.startswith(BANNED_IN_KERNELS):
                yield f"{path}:{number}: {name}: kernels include files of kernels/ only"
                continue
            target = "kernels/" + name
            if target not in files:
                yield f"{path}:{number}: \"{name}\" is not in the tree: spell it from kernels/"
                continue
            other = device_level(target)
            same_folder = os.path.dirname(path) == os.path.dirname(target)
            if other is not None and other >= level and not same_folder:
                yield f"{path}:{number}: must not include {name}: only lower levels or its own folder"


def check_stems(files, texts):
    stems = {}
    for path, text in texts.items():
        if path.startswith("runtime/ops/"):
            for stem in DGRT_OP.findall(text):
                stems[stem] = path
    for path in files:
        match = re.match(r"kernels/(?!device/)\w+/sm\d+_(\w+)\.cuh$", path)
        if match and KERNEL_RUN.search(texts[path]):
            stems.setdefault(match.group(1), path)
    for stem, origin in sorted(stems.items()):
        wanted = [f"runtime/ops/{stem}.cpp", f"heuristics/tables/{stem}.json",
                  f"tests/gpu/{stem}_test.cpp", f"bench/shapes/{stem}.json"]
        for name in wanted:
            if name not in files:
                yield f"{origin}: stem {stem} lacks {name}"
        if not any(re.match(rf"kernels/\w+/sm\d+_{stem}\.cuh$", f) for f in files):
            yield f"{origin}: stem {stem} lacks kernels/<family>/<arch>_{stem}.cuh"


def check_names(files):
    """Sources only: a stem's table and its shapes share their name on purpose. Python has packages."""
    places = collections.defaultdict(list)
    for path in files:
        if path.endswith(SOURCES) and not path.startswith("python/"):
            places[os.path.basename(path)].append(path)
    for name, paths in sorted(places.items()):
        if len(paths) > 1 and name not in COMMON_NAMES:
            yield f"{name}: two files of one name: {', '.join(paths)}"


def check_sizes(texts):
    for path, text in texts.items():
        lines = text.count("\n")
        if lines > MAX_LINES and ".gen." not in os.path.basename(path):
            yield f"{path}: {lines} lines, the limit is {MAX_LINES}: a building block is missing"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    root = parser.parse_args().root
    names = list_files(root)
    files = set(names)
    texts = {name: read(root, name) for name in names if name.endswith(SOURCES)}
    breaches = [*check_levels(files, texts), *check_kernels(files, texts), *check_stems(files, texts),
                *check_names(names), *check_sizes(texts)]
    for breach in breaches:
        print(breach)
    print(f"check_tree: {len(names)} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
