#!/usr/bin/env python3
"""The symbols that libdgrt exports are a promise: exactly these, at this version, and nothing of the
libraries inside it. Usage: check_symbols.py libdgrt.so"""
import os
import subprocess
import sys
import tempfile

VERSION = "DGRT_0"
SYMBOLS = {
    "dgrt_context_create",
    "dgrt_context_destroy",
    "dgrt_context_get_stats",
    "dgrt_enumerate",
    "dgrt_last_error",
    "dgrt_launch",
    "dgrt_plan_create",
    "dgrt_plan_destroy",
    "dgrt_plan_get_info",
    "dgrt_plan_query",
    "dgrt_prepare",
    "dgrt_status_string",
    "dgrt_symm_create",
    "dgrt_symm_destroy",
    "dgrt_version",
}
# What the library may need at load time: the C and C++ run-time libraries. CUDA's are opened later.
LIBRARIES = ("libc.", "libm.", "libstdc++.", "libgcc_s.", "libdl.", "libpthread.", "ld-linux")
MAX_BYTES = 4 << 20  # docs/architecture.md: budgets
SANITIZERS = ("libasan.", "libubsan.", "libtsan.")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(library):
    """{(name, version)} of the defined dynamic symbols."""
    symbols = set()
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the version's own name
            base, _, version = name.partition("@@")
            symbols.add((base, version))
    return symbols


def needed(library):
    for line in run("readelf", "-d", library).splitlines():
        if "(NEEDED)" in line:
            yield line[line.index("[") + 1 : line.index("]")]


def stripped_bytes(library):
    with tempfile.TemporaryDirectory() as folder:
        run("strip", "-s", "-o", f"{folder}/library.so", library)
        return os.path.getsize(f"{folder}/library.so")


def main():
    library = sys.argv[1]
    expected = {(name, VERSION) for name in SYMBOLS}
    found = exported(library)
    problems = [f"missing: {name}@@{version}" for name, version in sorted(expected - found)]
    problems += [f"not in the list: {name}@@{version}" for name, version in sorted(found - expected)]
    problems += [
        f"needs {name} at load time" for name in needed(library) if not name.startswith(LIBRARIES + SANITIZERS)
    ]
    size = stripped_bytes(library)
    if size > MAX_BYTES and not any(name.startswith(SANITIZERS) for name in needed(library)):
        problems.append(f"{size} bytes when stripped, the budget is {MAX_BYTES}")
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(found)} symbols, all of {VERSION}; {size} bytes when stripped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
