#!/usr/bin/env python3
"""dgrt's grouped, batched, segmented and hyper-connection products beside torch and, where importable, DeepGEMM:
correctness first, then time, in one process on one GPU.

    python3 python/peers/family_peers.py --json bench/results/family_h200_2026-01-31.json
    python3 python/peers/family_peers.py --quick --op gemm_grouped_masked,hc_prenorm

Needs torch with CUDA. Exit code 1 if any call of dgrt failed or any of its results is wrong. A peer whose call
fails, or whose result is not that of the product, gets no column. "floor" is max(bytes / copy rate, flops /
product rate) + an empty kernel, rates as peer_common has them for the device, counting rows that hold tokens only;
share = floor / time."""

import argparse
import pathlib
import sys

from family_work import MAKERS
from peer_report import Report, start


def parse_args(description, makers):
    def ops(text):
        chosen = text.split(",")
        unknown = set(chosen) - set(makers)
        if unknown:
            raise argparse.ArgumentTypeError(f"no op {', '.join(sorted(unknown))}; there are "
                                             f"{', '.join(makers)}")
        return chosen

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--op", type=ops, default=list(makers),
                        help=f"some of {','.join(makers)}; default: all")
    parser.add_argument("--quick", action="store_true", help="12 repeats instead of 40")
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured to this file, after each shape")
    parser.add_argument("--library", help="libdgrt.so to use; default: as dgrt.load_library()")
    return parser.parse_args()


def shape_text(row):
    known = ("op", "kernel", "flops", "floor_us", "impls", "left_out", "check")
    return " ".join(f"{key}={value}" for key, value in row.items() if key not in known)


def print_row(row):
    own = row["impls"]["dgrt"]
    others = "".join(
        f"  {name} {entry['us']:.1f} ({entry['us'] / own['us']:.2f}x)"
        for name, entry in row["impls"].items() if name != "dgrt")
    graph = f" graph {own['graph_us']:.1f}" if "graph_us" in own else ""
    print(f"{row['op']} {shape_text(row)}: {own['us']:.1f} us ({own['p10']:.1f}-{own['p90']:.1f})"
          f"{graph}, {row['flops'] / own['us'] / 1e6:.0f} TFLOPS, "
          f"{row['floor_us'] / own['us']:.2f} of floor {row['floor_us']:.1f}{others}  "
          f"{'ok' if row['check']['ok'] else 'WRONG'}  {row['kernel']}", flush=True)


def run(kind, description, makers):
    """The whole program, for any ops: {op: makers, see family_case.per_shape}. Returns the exit code."""
    options = parse_args(description, makers)
    if not start(kind, options):
        return 1
    with Report(kind, options, print_row) as report:
        for op in options.op:
            for maker in makers[op]:
                report.measure_all(op, maker)
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(run("family_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
