#!/usr/bin/env python3
"""The symbols that libdgrt exports are a promise: exactly these, at this version, and nothing of the
libraries inside it. Usage: check_symbols.py libdgrt.so"""
import subprocess
import sys

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


def main():
    library = sys.argv[1]
    expected = {(name, VERSION) for name in SYMBOLS}
    found = exported(library)
    problems = [f"missing: {name}@@{version}" for name, version in sorted(expected - found)]
    problems += [f"not in the list: {name}@@{version}" for name, version in sorted(found - expected)]
    problems += [
        f"needs {name} at load time" for name in needed(library) if not name.startswith(LIBRARIES + SANITIZERS)
    ]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(found)} symbols, all of {VERSION}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
