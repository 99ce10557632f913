#!/usr/bin/env python3
"""dgrt's GEMMs beside cuBLASLt FP8, torch bf16 and, where importable, DeepGEMM: correctness first, then
time, in one process on one GPU.

    python3 python/peers/gemm_peers.py --json bench/results/gemm_peers_h200_2026-01-31.json
    python3 python/peers/gemm_peers.py --quick --dtype fp8 --m 1,64 --nk 7168x2048

Shapes are those of DeepSeek-V3 in bench/shapes. Needs torch with CUDA. Exit code 1 if any result of dgrt is
wrong. "floor" is max(bytes / copy rate, flops / product rate) + an empty kernel, rates as peer_common has
them for the device; share = floor / time."""

import argparse
import json
import pathlib
import sys

import torch

from peer_common import ROOT, environment, geometric_mean, numbers, rounded

import dgrt  # peer_common says where it is
from clean_timer import CleanTimer, EmptyKernel, yardsticks
from gemm_work import Work

MODEL = "DeepSeek-V3"


def shape_list(text):
    return [tuple(int(x) for x in pair.split("x")) for pair in text.split(",")]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--m", type=numbers, help="e.g. 1,16,4096; default: those of bench/shapes")
    parser.add_argument("--nk", type=shape_list, help="e.g. 7168x2048,4096x7168; default: all")
    parser.add_argument("--dtype", choices=("fp8", "bf16", "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="12 repeats instead of 40")
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured to this file")
    parser.add_argument("--library", help="libdgrt.so to use; default: as dgrt.load_library()")
    return parser.parse_args()


def shapes_of(dtype, options):
    """([(n, k)], [m]) from bench/shapes, narrowed by the options."""
    text = (ROOT / "bench" / "shapes" / f"gemm_{dtype}.json").read_text()
    shapes = json.loads(text)
    layers = next(x for x in shapes["models"] if x["model"] == MODEL)["layers"]
    known = [(layer["n"], layer["k"]) for layer in layers]
    return options.nk or known, options.m or shapes["m"]


def measure(context, timer, dtype, n, k, m_list):
    """Yields one row per m."""
    max_m = max(16, -(-max(m_list) // 16) * 16)
    work = Work(context, dtype, n, k, max_m, seed=n * 31 + k)
    try:
        for m in m_list:
            calls, check, kernel = work.at(m)
            impls = timer.interleaved(calls)
            for name, call in calls.items():
                impls[name]["graph_us"] = timer.graph(call)
            yield {"op": f"gemm_{dtype}", "m": m, "n": n, "k": k, "kernel": kernel,
                   "floor_us": work.floor_us(m), "impls": impls, "check": check}
    finally:
        work.close()


def time_of(row, name):
    """Microseconds of a column, or None."""
    return row["impls"][name]["us"] if name in row["impls"] else None


COLUMNS = (("cublaslt_fp8", "cuBLASLt8"), ("torch_bf16", "torch16"), ("deep_gemm", "DeepGEMM"))


def print_header():
    print(f"{'op':9}{'m':>5}{'n':>6}{'k':>6} {'dgrt us':>8} {'p10-p90':>13} {'graph':>7} {'TFLOPS':>6} "
          f"{'floor':>6} {'share':>5}" + "".join(f" {title:>10}" for _, title in COLUMNS)
          + "  check  kernel")


def print_row(row):
    own = row["impls"]["dgrt"]
    tflops = 2 * row["m"] * row["n"] * row["k"] / own["us"] / 1e6
    others = (time_of(row, name) for name, _ in COLUMNS)
    text = "".join(f" {'-' if t is None else f'{t:.1f}':>10}" for t in others)
    verdict = "ok" if row["check"]["ok"] else "WRONG"
    spread = f"{own['p10']:.1f}-{own['p90']:.1f}"
    print(f"{row['op']:9}{row['m']:>5}{row['n']:>6}{row['k']:>6} {own['us']:>8.1f} {spread:>13} "
          f"{own['graph_us']:>7.1f} {tflops:>6.0f} {row['floor_us']:>6.1f} "
          f"{row['floor_us'] / own['us']:>5.2f}{text}  {verdict:5}  {row['kernel']}", flush=True)
    if not row["check"]["ok"]:
        print(f"  {row['check']}", flush=True)


def geometric_means(rows):
    """Per op and range of m: share of the floor, and each peer's time over dgrt's (above 1: dgrt is
    faster)."""
    result = []
    for op in sorted({row["op"] for row in rows}):
        for label, chosen in (("m <= 128", lambda m: m <= 128), ("m > 128", lambda m: m > 128)):
            some = [row for row in rows if row["op"] == op and chosen(row["m"])]
            if not some:
                continue
            entry = {"op": op, "range": label, "rows": len(some), "floor_share": geometric_mean(
                [row["floor_us"] / row["impls"]["dgrt"]["us"] for row in some])}
            for name, _ in COLUMNS:
                entry[name] = geometric_mean(
                    [time_of(row, name) / row["impls"]["dgrt"]["us"] for row in some
                     if time_of(row, name) is not None])
            result.append(rounded(entry))
    return result


def main():
    options = parse_args()
    dgrt.load_library(options.library)
    if not torch.cuda.is_available():
        print("gemm_peers: torch sees no GPU here", file=sys.stderr)
        return 1
    timer = CleanTimer(repeats=12 if options.quick else 40)
    report = {"kind": "gemm_peers", "schema": 1, **environment(), "repeats": timer.repeats,
              "empty_us": timer.interleaved({"empty": EmptyKernel()})["empty"],
              "yardsticks": yardsticks(timer), "rows": []}
    torch.cuda.empty_cache()
    print({key: value for key, value in report.items() if key != "rows"})
    print_header()
    with dgrt.Context(device=0) as context:
        for dtype in ("fp8", "bf16") if options.dtype == "all" else (options.dtype,):
            nk_list, m_list = shapes_of(dtype, options)
            for n, k in nk_list:
                for row in measure(context, timer, dtype, n, k, m_list):
                    report["rows"].append(row)
                    print_row(row)
                torch.cuda.empty_cache()
        report["stats"] = context.stats()
    report["geometric_means"] = geometric_means(report["rows"])
    print("geometric means (peer's time / dgrt's; above 1: dgrt is faster)")
    for entry in report["geometric_means"]:
        print("  " + "  ".join(f"{key} {value}" for key, value in entry.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    wrong = [row for row in report["rows"] if not row["check"]["ok"]]
    if wrong:
        print(f"{len(wrong)} of {len(report['rows'])} rows are WRONG")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
