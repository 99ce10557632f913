#!/usr/bin/env python3
"""dgrt's grouped, batched, segmented and hyper-connection products beside torch and, where importable, DeepGEMM:
correctness first, then time, in one process on one GPU.

    python3 python/peers/family_peers.py --json bench/results/family_h200_2026-01-31.json
    python3 python/peers/family_peers.py --quick --op gemm_grouped_masked,hc_prenorm

Needs torch with CUDA. Exit code 1 if any result of dgrt is wrong. A peer whose call fails, or whose result
is not that of the product, gets no column. "floor" is max(bytes / copy rate, flops / product rate) + an
empty kernel, rates as peer_common has them for the device, counting rows that hold tokens only; share =
floor / time."""

import argparse
import json
import pathlib
import sys

import torch

from peer_common import environment, geometric_mean, rounded

import dgrt  # peer_common says where it is
from clean_timer import CleanTimer, EmptyKernel, yardsticks
from family_work import MAKERS

# A peer that is farther off than tf32 and bf16 rounding explain was called wrongly.
PEER_LIMIT = 1e-2


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
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured to this file")
    parser.add_argument("--library", help="libdgrt.so to use; default: as dgrt.load_library()")
    return parser.parse_args()


def column_of(name):
    return name.split("/")[0]


def check_call(case, call):
    """Errors of the second of two calls; outputs are overwritten in between."""
    out = call()
    first = [x.clone() for x in case.sample(out)]
    for tensor in (out,) if isinstance(out, torch.Tensor) else out:
        tensor.fill_(case.start)
    got = case.sample(call())
    result = case.errors(got)
    result["repeat_equal"] = all(torch.equal(a, b) for a, b in zip(first, got, strict=True))
    result["ok"] = result["ok"] and result["repeat_equal"]
    return result


class Peers:
    """Says once per op and column why a peer is left out."""

    def __init__(self):
        self._said = set()

    def leave_out(self, case, name, reason):
        key = (case.op, column_of(name))
        if key not in self._said:
            self._said.add(key)
            print(f"  {case.op} {case.shape}: {name} left out: {reason}", flush=True)

    def usable(self, case, name, call):
        try:
            result = check_call(case, call)
        except Exception as error:  # whatever another project raises
            lines = str(error).strip().splitlines() or [""]
            self.leave_out(case, name, f"{type(error).__name__}: {lines[0]}")
            return False
        if not result["global"] < PEER_LIMIT:
            self.leave_out(case, name, f"its result is off by {result['global']:.2g}")
            return False
        return True


def check_own(case):
    """The worst of dgrt's calls."""
    checks = [check_call(case, call) for name, call in case.calls.items()
              if column_of(name) == "dgrt"]
    wrong = [check for check in checks if not check["ok"]]
    return wrong[0] if wrong else max(checks, key=lambda check: check["worst_tile"])


def graph_times(case, timer, peers, calls):
    result = {}
    for name, call in calls.items():
        try:
            result[name] = timer.graph(call)
        except Exception as error:
            if column_of(name) == "dgrt":
                raise
            peers.leave_out(case, name, f"not captured into a graph: {type(error).__name__}")
    return result


def fastest(times):
    """{column: times of its fastest variant}."""
    result = {}
    for name, entry in times.items():
        column, _, variant = name.partition("/")
        if variant:
            entry = {**entry, "variant": variant}
        if column not in result or entry["us"] < result[column]["us"]:
            result[column] = entry
    return result


def measure(case, timer, peers):
    """The row of one case."""
    check = check_own(case)
    calls = {name: call for name, call in case.calls.items()
             if column_of(name) == "dgrt" or peers.usable(case, name, call)}
    times = timer.interleaved(calls)
    if case.graph:
        for name, us in graph_times(case, timer, peers, calls).items():
            times[name]["graph_us"] = us
    impls = fastest(times)
    own = "/".join(["dgrt", *filter(None, [impls["dgrt"].get("variant")])])
    return {"op": case.op, **case.shape, "kernel": case.kernels[own], "flops": case.flops,
            "floor_us": case.floor_us, "impls": impls, "check": check}


def shape_text(row):
    known = ("op", "kernel", "flops", "floor_us", "impls", "check")
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
    if not row["check"]["ok"]:
        print(f"  {row['check']}", flush=True)


def geometric_means(rows):
    """Per op: share of the floor, and each peer's time over dgrt's (above 1: dgrt is faster)."""
    result = []
    for op in dict.fromkeys(row["op"] for row in rows):
        some = [row["impls"] for row in rows if row["op"] == op]
        entry = {"op": op, "rows": len(some), "floor_share": geometric_mean(
            [row["floor_us"] / row["impls"]["dgrt"]["us"] for row in rows if row["op"] == op])}
        for name in dict.fromkeys(name for impls in some for name in impls if name != "dgrt"):
            entry[name] = geometric_mean([impls[name]["us"] / impls["dgrt"]["us"] for impls in some
                                          if name in impls])
        result.append(rounded(entry))
    return result


def run(kind, description, makers):
    """The whole program, for any ops: {op: generator of Cases}. Returns the exit code."""
    options = parse_args(description, makers)
    dgrt.load_library(options.library)
    if not torch.cuda.is_available():
        print(f"{kind}: torch sees no GPU here", file=sys.stderr)
        return 1
    torch.set_float32_matmul_precision("highest")  # of the references
    timer, peers = CleanTimer(repeats=12 if options.quick else 40), Peers()
    report = {"kind": kind, "schema": 1, **environment(), "repeats": timer.repeats,
              "empty_us": timer.interleaved({"empty": EmptyKernel()})["empty"],
              "yardsticks": yardsticks(timer), "rows": []}
    torch.cuda.empty_cache()
    print({key: value for key, value in report.items() if key != "rows"})
    with dgrt.Context(device=0) as context:
        for op in options.op:
            for case in makers[op](context):
                report["rows"].append(measure(case, timer, peers))
                print_row(report["rows"][-1])
                del case  # before the next one is drawn
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
    sys.exit(run("family_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
