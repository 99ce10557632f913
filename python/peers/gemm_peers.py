#!/usr/bin/env python3
"""dgrt's GEMMs beside cuBLASLt FP8, torch bf16 and, where importable, DeepGEMM: correctness first, then
time, in one process on one GPU.

    python3 python/peers/gemm_peers.py --json bench/results/gemm_peers_h200_2026-01-31.json
    python3 python/peers/gemm_peers.py --quick --dtype fp8 --m 1,64 --nk 7168x2048

Shapes are those of DeepSeek-V3 in bench/shapes. Needs torch with CUDA. Exit code 1 if any call of dgrt failed or
any of its results is wrong; a peer whose call fails or whose result is wrong gets no time. "floor" is max(bytes /
copy rate, flops / product rate) + an empty kernel, rates as peer_common has them for the device; share = floor /
time."""

import argparse
import functools
import json
import pathlib
import sys

from peer_common import ROOT, numbers

from family_case import Case, bf16_out, dgrt_call, per_shape
from gemm_work import Work
from peer_report import Report, means_of, start

MODEL = "DeepSeek-V3"


def shape_list(text):
    return [tuple(int(x) for x in pair.split("x")) for pair in text.split(",")]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--m", type=numbers, help="e.g. 1,16,4096; default: those of bench/shapes")
    parser.add_argument("--nk", type=shape_list, help="e.g. 7168x2048,4096x7168; default: all")
    parser.add_argument("--dtype", choices=("fp8", "bf16", "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="12 repeats instead of 40")
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured to this file, after each shape")
    parser.add_argument("--library", help="libdgrt.so to use; default: as dgrt.load_library()")
    return parser.parse_args()


def shapes_of(dtype, options):
    """([(n, k)], [m]) from bench/shapes, narrowed by the options."""
    text = (ROOT / "bench" / "shapes" / f"gemm_{dtype}.json").read_text()
    shapes = json.loads(text)
    layers = next(x for x in shapes["models"] if x["model"] == MODEL)["layers"]
    known = [(layer["n"], layer["k"]) for layer in layers]
    return options.nk or known, options.m or shapes["m"]


def case_of(work, m):
    """cuBLASLt applies no block scales, and torch multiplies what was not rounded to FP8."""
    a, a_scale = work.operands(m)
    d = bf16_out(m, work.n)
    launch, kernel = dgrt_call(work.plan, d, a=a, b=work.b, d=d, a_scale=a_scale, b_scale=work.b_scale, m=m)
    other_products = {"torch_bf16", "cublaslt_fp8"} if work.dtype == "fp8" else set()
    return Case(f"gemm_{work.dtype}", {"m": m, "n": work.n, "k": work.k}, 2 * m * work.n * work.k, work.floor_us(m),
                {"dgrt": launch, **work.peers(m, a, a_scale)}, {"dgrt": kernel}, lambda out: [out], [work.want[:m]],
                graph=True, other_products=frozenset(other_products))


def gemm_cases(context, index, shape, *, dtype, m_list):
    n, k = shape
    work = Work(context, dtype, n, k, max(16, -(-max(m_list) // 16) * 16), seed=n * 31 + k)
    try:
        for m in m_list:
            yield case_of(work, m)
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


def means(rows):
    """Per op and range of m."""
    result = []
    for op in sorted({row["op"] for row in rows}):
        for label, chosen in (("m <= 128", lambda m: m <= 128), ("m > 128", lambda m: m > 128)):
            some = [row for row in rows if row["op"] == op and chosen(row["m"])]
            if some:
                result.append({"op": op, "range": label, **means_of(some)})
    return result


def main():
    options = parse_args()
    if not start("gemm_peers", options):
        return 1
    with Report("gemm_peers", options, print_row, means) as report:
        print_header()
        for dtype in ("fp8", "bf16") if options.dtype == "all" else (options.dtype,):
            nk_list, m_list = shapes_of(dtype, options)
            makers = per_shape(functools.partial(gemm_cases, dtype=dtype, m_list=m_list), nk_list)
            for maker in makers:
                report.measure_all(f"gemm_{dtype}", maker)
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
