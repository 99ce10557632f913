"""What the programs that time dgrt beside its peers do with a Case: check every call, time them all, say so, and
keep the record. What fails is one line, and the run goes on; the record is written after each shape."""

import faulthandler
import json
import sys

import torch

from peer_common import environment, first_line, geometric_mean, rounded

import dgrt  # peer_common says where it is
from clean_timer import CleanTimer, EmptyKernel, yardsticks

# A peer that is farther off than tf32 and bf16 rounding explain was called wrongly.
PEER_LIMIT = 1e-2
SHAPE_LIMIT_S = 120  # what takes longer hangs: compilers are asked for a few kernels at most


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


def check_own(case):
    """The worst of dgrt's calls."""
    checks = [check_call(case, call) for name, call in case.calls.items()
              if column_of(name) == "dgrt"]
    wrong = [check for check in checks if not check["ok"]]
    return wrong[0] if wrong else max(checks, key=lambda check: check["worst_tile"])


def reason_against(case, name, call):
    """Why a peer's call is left out, or None."""
    try:
        if column_of(name) in case.other_products:
            call()
            torch.cuda.synchronize()
            return None
        error = check_call(case, call)["global"]
    except Exception as error:  # whatever another project raises
        return first_line(error)
    return None if error < PEER_LIMIT else f"its result is off by {error:.2g}"


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


def measure(case, timer):
    """The row of one case. left_out: why calls of peers have no time."""
    check, calls, left_out = check_own(case), {}, {}
    for name, call in case.calls.items():
        reason = None if column_of(name) == "dgrt" else reason_against(case, name, call)
        if reason is None:
            calls[name] = call
        else:
            left_out[name] = reason
            print(f"  {case.op} {case.shape}: {name} left out: {reason}", flush=True)
    times = timer.interleaved(calls)
    for name, call in calls.items() if case.graph else ():
        try:
            times[name]["graph_us"] = timer.graph(call)
        except Exception as error:
            if column_of(name) == "dgrt":
                raise
            print(f"  {case.op} {case.shape}: {name} not captured into a graph: {first_line(error)}", flush=True)
    impls = fastest(times)
    own = "/".join(["dgrt", *filter(None, [impls["dgrt"].get("variant")])])
    return {"op": case.op, **case.shape, "kernel": case.kernels[own], "flops": case.flops,
            "floor_us": case.floor_us, "impls": impls, "left_out": left_out, "check": check}


def means_of(rows):
    """The share of the floor, and each peer's time over dgrt's (above 1: dgrt is faster)."""
    some = [row["impls"] for row in rows]
    entry = {"rows": len(rows), "floor_share": geometric_mean(
        [row["floor_us"] / row["impls"]["dgrt"]["us"] for row in rows])}
    for name in dict.fromkeys(name for impls in some for name in impls if name != "dgrt"):
        entry[name] = geometric_mean([impls[name]["us"] / impls["dgrt"]["us"] for impls in some
                                      if name in impls])
    return rounded(entry)


def means_by_op(rows):
    return [{"op": op, **means_of([row for row in rows if row["op"] == op])}
            for op in dict.fromkeys(row["op"] for row in rows)]


def start(kind, options):
    """Whether there is anything to measure with."""
    dgrt.load_library(options.library)
    if not torch.cuda.is_available():
        print(f"{kind}: torch sees no GPU here", file=sys.stderr)
        return False
    torch.set_float32_matmul_precision("highest")  # of the references
    return True


class DeviceLost(Exception):
    pass


class Report:
    """A record in the making. Use as a context manager: it holds a dgrt.Context for the makers, writes the record
    whatever happens and ends the run quietly, but not successfully, when the device answers no more. A shape that
    hangs ends the process with its stack on stderr; the record has those before it."""

    def __init__(self, kind, options, print_row, means=means_by_op):
        """means: of rows whose results are right."""
        self._path, self._print_row, self._means = options.json, print_row, means
        self._timer = CleanTimer(repeats=12 if options.quick else 40)
        self._record = {"kind": kind, "schema": 1, **environment(), "repeats": self._timer.repeats,
                        "empty_us": self._timer.interleaved({"empty": EmptyKernel()})["empty"],
                        "yardsticks": yardsticks(self._timer), "rows": [], "failures": []}
        torch.cuda.empty_cache()
        print({key: value for key, value in self._record.items() if key not in ("rows", "failures")}, flush=True)
        self.context = dgrt.Context(device=0)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        faulthandler.cancel_dump_traceback_later()
        self._record["stats"] = self.context.stats()
        self._write()
        self._print_means()
        self.context.close()
        return kind is DeviceLost

    def measure_all(self, op, maker):
        """All Cases of a maker."""
        try:
            faulthandler.dump_traceback_later(SHAPE_LIMIT_S, exit=True)
            for case in maker(self.context):
                self._measure(case)
                del case  # before the next one is drawn
                torch.cuda.empty_cache()
                faulthandler.dump_traceback_later(SHAPE_LIMIT_S, exit=True)
        except DeviceLost:
            raise
        except Exception as error:
            self._fail(op, str(maker.keywords["shape"]), error)

    def _measure(self, case):
        try:
            row = measure(case, self._timer)
        except Exception as error:
            self._fail(case.op, " ".join(f"{key}={value}" for key, value in case.shape.items()), error)
            return
        self._print_row(row)
        if not row["check"]["ok"]:
            print(f"  {row['check']}", flush=True)
        self._record["rows"].append(row)
        self._write()

    def _fail(self, op, shape, error):
        print(f"{op} {shape}: FAILED, {first_line(error)}", flush=True)
        self._record["failures"].append({"op": op, "shape": shape, "error": first_line(error)})
        self._write()
        try:
            torch.cuda.synchronize()
        except Exception as lost:
            print(f"the device answers no more: {first_line(lost)}", flush=True)
            raise DeviceLost from None

    def _write(self):
        right = [row for row in self._record["rows"] if row["check"]["ok"]]
        self._record["geometric_means"] = self._means(right)
        if self._path:
            self._path.write_text(json.dumps(self._record, indent=1) + "\n")

    def _print_means(self):
        print("geometric means (peer's time / dgrt's; above 1: dgrt is faster)")
        for entry in self._record["geometric_means"]:
            print("  " + "  ".join(f"{key} {value}" for key, value in entry.items()))

    def exit_code(self):
        wrong = [row for row in self._record["rows"] if not row["check"]["ok"]]
        for some, what in ((wrong, "WRONG"), (self._record["failures"], "FAILED")):
            if some:
                print(f"{len(some)} of {len(self._record['rows']) + len(self._record['failures'])} shapes {what}")
        return 1 if wrong or self._record["failures"] else 0
