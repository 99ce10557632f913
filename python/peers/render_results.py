#!/usr/bin/env python3
"""Writes the result tables of README.md and docs/results.md from the records in bench/results, so that no figure
there is typed by hand. Each table stands between <!-- results:NAME --> and <!-- /results -->.

    python3 python/peers/render_results.py           rewrites both
    python3 python/peers/render_results.py --check   exits 1 if one is not what the records say

Records: --json FILE of gemm_peers.py, family_peers.py, attention_peers.py, mla_peers.py and dgrt bench, dgrt_bench
--benchmark_out=FILE, and dgrt prewarm --json with kind, date and cpus added. The newest record with that op wins; of
dgrt_bench every record is shown."""

import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGES = {"README.md": "", "docs/results.md": "../"}  # page -> from there to the root
BLOCK = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.S)
COMPILE_BUDGETS_MS = {"attn": 900, "mla": 900, "mqa": 900, "paged": 900, "": 200}  # of an op's kernel on one idle core
NOTHING = "*No run of this version is recorded yet.*\n"


def load_records(folder, to_root=""):
    """Parsed records, newest first. to_root: from the page that links to them."""
    records = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        record["file"] = f"{to_root}bench/results/{path.name}"
        if "benchmarks" in record:  # Google Benchmark
            record["kind"] = "host"
            record["date"] = record["context"]["date"][:10]
        records.append(record)
    return sorted(records, key=lambda r: (r["date"], r["file"]), reverse=True)


def cell(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def gemm_table(records, op):
    record = next((r for r in records if r["kind"] == "gemm_peers" and
                   any(row["op"] == op for row in r["rows"])), None)
    if record is None:
        return NOTHING
    rows = [row for row in record["rows"] if row["op"] == op]

    def time_of(row, name):
        return row["impls"].get(name, {}).get("us")

    columns = [("cublaslt_fp8", "cuBLASLt FP8"), ("torch_bf16", "torch bf16"),
               ("deep_gemm", "DeepGEMM")]
    columns = [c for c in columns if any(time_of(row, c[0]) is not None for row in rows)]
    header = ["m", "n", "k", "dgrt us", "p10–p90", "TFLOPS", "share of floor"]
    header += [f"{title} us" for _, title in columns]
    body = []
    for row in rows:
        own = row["impls"]["dgrt"]
        tflops = 2 * row["m"] * row["n"] * row["k"] / own["us"] / 1e6
        line = [str(row["m"]), str(row["n"]), str(row["k"]), f"**{own['us']:.1f}**",
                f"{own['p10']:.1f}–{own['p90']:.1f}", cell(tflops, 0),
                cell(row["floor_us"] / own["us"], 2)]
        line += [cell(time_of(row, name)) for name, _ in columns]
        body.append(line if row["check"]["ok"] else line[:3] + ["wrong result"] +
                    ["–"] * (len(line) - 4))
    return (caption(record) + "\n" + table(header, body) + "\n" + means(record, op))


def caption(record):
    empty = record["empty_us"]["us"]
    peers = "".join(f", {name} {version}" for name, version in record.get("peers", {}).items())
    return (f"{record['device']}, driver {record['driver']}, CUDA {record['cuda']}, torch "
            f"{record['torch']}{peers}, {record['date']}, commit `{record['commit']}`; median of "
            f"{record['repeats']} repeats with a cold L2; an empty kernel takes {empty:.2f} us "
            f"([record]({record['file']})).\n")


def means(record, op):
    names = {"cublaslt_fp8": "cuBLASLt FP8", "torch_bf16": "torch bf16", "deep_gemm": "DeepGEMM"}
    lines = []
    for entry in record["geometric_means"]:
        if entry["op"] != op:
            continue
        ratios = [f"{entry[key]:.2f} × {title}" for key, title in names.items()
                  if entry.get(key) is not None]
        lines.append(f"- {entry['range']}, {entry['rows']} shapes: {entry['floor_share']:.2f} of the "
                     f"floor; speed against peers: {', '.join(ratios)}\n")
    return "Geometric means:\n" + "".join(lines)


FAMILY_OPS = ("gemm_grouped_masked", "gemm_grouped_contiguous", "gemm_grouped_k", "gemm_batched",
              "gemm_fused_linear", "hc_prenorm")
MLA_OPS = ("mla_decode", "mla_sparse_decode", "mla_sparse_prefill", "mqa_logits", "paged_mqa_logits")
# A column is of all peers whose names start so, the fastest of them.
FAMILY_PEERS = (("deep_gemm", "DeepGEMM"), ("torch", "torch"))
MLA_PEERS = (("flash_mla", "FlashMLA"), ("deep_gemm", "DeepGEMM"))
PAGED_PEERS = (("flash3", "FlashAttention-3"),)
NOT_SHAPE = ("op", "kernel", "flops", "floor_us", "impls", "left_out", "check")


def shapes_table(records, kind, ops, peers):
    """A line per shape of the newest record of each op, and per shape that failed."""
    found = {op: next((r for r in records if r["kind"] == kind and
                       any(x["op"] == op for x in r["rows"] + r.get("failures", []))), None) for op in ops}
    sources = list({r["file"]: r for r in found.values() if r}.values())
    if not sources:
        return NOTHING
    header = ["op", "shape", "dgrt us", "p10–p90", "share of floor"]
    for _, title in peers:
        header += [f"{title} us", "over dgrt"]
    rows, ratios = [], []
    for op, record in found.items():
        if record is None:
            continue
        rows += [shape_line(row, peers) for row in record["rows"] if row["op"] == op]
        rows += [[op, x["shape"], f"failed: {x['error']}"] + ["–"] * (2 + 2 * len(peers))
                 for x in record.get("failures", []) if x["op"] == op]
        ratios.append(shape_means(op, record, peers))
    return ("\n".join(map(caption, sources)) + "\n" + table(header, rows) +
            "\nGeometric means:\n" + "".join(ratios))


def peer_us(row, prefix):
    return min((x["us"] for name, x in row["impls"].items() if name.startswith(prefix)), default=None)


def shape_line(row, peers):
    shape = ", ".join(f"{key} {value}" for key, value in row.items() if key not in NOT_SHAPE)
    line = [row["op"], shape]
    if not row["check"]["ok"]:
        return line + ["wrong result"] + ["–"] * (2 + 2 * len(peers))
    dgrt = row["impls"]["dgrt"]
    line += [f"**{dgrt['us']:.1f}**", f"{dgrt['p10']:.1f}–{dgrt['p90']:.1f}",
             cell(row["floor_us"] / dgrt["us"], 2)]
    for prefix, _ in peers:
        us = peer_us(row, prefix)
        line += [cell(us), cell(None if us is None else us / dgrt["us"], 2)]
    return line


def shape_means(op, record, peers):
    rows = [row for row in record["rows"] if row["op"] == op and row["check"]["ok"]]
    if not rows:
        return ""
    share = statistics.geometric_mean(row["floor_us"] / row["impls"]["dgrt"]["us"] for row in rows)
    parts = [f"{share:.2f} of the floor"]
    for prefix, title in peers:
        ratios = [peer_us(row, prefix) / row["impls"]["dgrt"]["us"] for row in rows if peer_us(row, prefix) is not None]
        if ratios:
            of_torch = "the fastest way of " if title == "torch" else ""
            parts.append(f"{statistics.geometric_mean(ratios):.2f} × {of_torch}{title} ({len(ratios)} shapes)")
    return f"- {op}, {len(rows)} shapes: {', '.join(parts)}\n"


def attention_record(records, op):
    """(the newest record of attention_peers.py with rows of this op, those rows), or (None, [])."""
    for record in records:
        rows = [row for row in record["rows"] if row["op"] == op] if record["kind"] == "attention_peers" else []
        if rows:
            return record, rows
    return None, []


def attention_table(records):
    record, measured = attention_record(records, "attn_prefill")
    if record is None:
        return NOTHING
    columns = [(name, PEER_TITLES[name]) for name in ("cudnn", "flash", "flash3")
               if any(name in row["impls"] for row in measured)]
    header = ["batch × queries", "heads", "head size", "mask", "dgrt us", "p10–p90", "TFLOPS",
              "share of floor"]
    for _, title in columns:
        header += [f"{title} us", "over dgrt"]
    rows = [attention_line(row, columns) for row in measured]
    good = [row for row in measured if row["check"]["ok"]]
    parts = []
    for name, title in columns:
        ratios = [row["impls"][name]["us"] / row["impls"]["dgrt"]["us"] for row in good
                  if name in row["impls"]]
        if ratios:
            parts.append(f"{statistics.geometric_mean(ratios):.2f} × {title} ({len(ratios)} shapes)")
    text = caption(record) + "\n" + table(header, rows)
    return text + (f"\nGeometric mean of the speed against peers: {', '.join(parts)}.\n" if parts else "")


def attention_line(row, columns):
    line = [f"{row['batch']} × {row['m']}", row["heads"], row["head_dim"], row["mask"]]
    own = row["impls"]["dgrt"]
    if not row["check"]["ok"]:
        return line + ["wrong result"] + ["–"] * (3 + 2 * len(columns))
    line += [f"**{own['us']:.1f}**", f"{own['p10']:.1f}–{own['p90']:.1f}",
             cell(row["flops"] / own["us"] / 1e6, 0), cell(row["floor_us"] / own["us"], 2)]
    for name, _ in columns:
        us = row["impls"].get(name, {}).get("us")
        line += [cell(us), cell(None if us is None else us / own["us"], 2)]
    return line


def cases_table(records):
    """The case table of attention, beside Triton."""
    record, measured = attention_record(records, "attn_cases")
    if record is None:
        return NOTHING
    header = ["case", "sequences × tokens", "earlier keys", "window", "dgrt us", "p10–p90", "share of floor",
              "Triton us", "tile", "over dgrt"]
    rows, ratios = [], []
    for row in measured:
        window = "" if row["window_left"] < 0 else str(row["window_left"])
        line = [row["case"], f"{row['batch']} × {row['m']}", str(row["prefix"]), window]
        own, peer = row["impls"]["dgrt"], row["impls"].get("triton")
        if not row["check"]["ok"]:
            rows.append(line + ["wrong result"] + ["–"] * 5)
            continue
        line += [f"**{own['us']:.1f}**", f"{own['p10']:.1f}–{own['p90']:.1f}",
                 cell(row["floor_us"] / own["us"], 2)]
        if peer is None:
            rows.append(line + ["not measured", "–", "–"])
            continue
        ratios.append(peer["us"] / own["us"])
        rows.append(line + [cell(peer["us"]), peer["variant"], cell(ratios[-1], 2)])
    text = caption(record) + "\n" + table(header, rows)
    if ratios:
        text += f"\nGeometric mean of the speed against Triton: {statistics.geometric_mean(ratios):.2f} ×.\n"
    return text


def bench_record(records, op):
    """The newest record of `dgrt bench` with rows of this op, or None."""
    return next((r for r in records if r["kind"] == "dgrt_bench" and
                 any(row["op"] == op for row in r["rows"])), None)


def bench_source(record):
    return f"{record['device']}, CUDA {record['cuda_driver']}, {record['date']} ([record]({record['file']}))"


def bench_times(row, *rates):
    """Cells of a row of `dgrt bench`: us, by graph, the rates, share of the floor."""
    if not row["check"]["ok"]:
        return ["wrong result"] + ["–"] * (len(rates) + 2)
    return ([f"**{row['cold']['us']:.1f}**", f"{row['graph']['us']:.1f}"] +
            [cell(row.get(rate), 0) for rate in rates] + [cell(row["floor_share"], 2)])


def bench_table(records, ops, header, rates, line_of):
    """Rows of `dgrt bench` for these ops, in the order of bench/shapes; line_of(row): the first cells, or None."""
    rows, sources = [], []
    for op in ops:
        record = bench_record(records, op)
        if record is None:
            continue
        source = f"{bench_source(record)}; an empty kernel takes {record['empty_us']['us']:.1f} us"
        if source not in sources:
            sources.append(source)
        for row in record["rows"]:
            line = line_of(row) if row["op"] == op else None
            if line is not None:
                rows.append(line + bench_times(row, *rates.values()))
    if not rows:
        return NOTHING
    return ". ".join(sources) + ".\n\n" + table(header + ["us", "by graph", *rates, "share of floor"], rows)


def paged_table(records, op, rates):
    """Attention over a paged cache."""
    def line_of(row):
        attn = row["attn"]
        size, size_v = str(attn["head_dim_qk"]), str(attn["head_dim_v"])
        window = "" if attn["window_left"] < 0 else str(attn["window_left"])
        return [f"{row['model'].split(' ')[0]}, {row['layer']}", f"{attn['batch']} × {row['m']}",
                str(attn["prefix"]), f"{attn['num_q_heads']}/{attn['num_kv_heads']}",
                size if size == size_v else f"{size}/{size_v}", str(attn["page_size"]), window]

    return bench_table(records, [op], ["layer", "sequences × tokens", "earlier keys", "heads", "head size", "page",
                                       "window"], rates, line_of)


def memory_table(records):
    """attn_merge and kv_append."""
    return bench_table(records, ["attn_merge", "kv_append"], ["op", "layer", "tokens", "heads × head size"],
                       {"GB/s": "gb_per_s"},
                       lambda row: [f"`{row['op']}`", row["layer"], str(row["m"]), f"{row['n']} × {row['k']}"])


def indexer_table(records):
    """mqa_logits, whose rows are tokens, and paged_mqa_logits, whose rows are sequences."""
    def line_of(row):
        page = row["indexer"].get("page_size")
        return [f"`{row['op']}`", f"{row['model']}, {row['layer']}", str(row["m"]), str(row["indexer"]["keys"]),
                str(row["n"]), "–" if page is None else str(page)]

    return bench_table(records, ["mqa_logits", "paged_mqa_logits"], ["op", "layer", "tokens or sequences", "keys",
                                                                     "heads", "page"],
                       {"TFLOPS": "tflops", "GB/s": "gb_per_s"}, line_of)


SPARSE_OPS = ["topk_transform", "mla_kv_append", "kv_dequant_paged", "build_swa_token_ids",
              "combine_topk_swa_indices"]
SPARSE_ROWS = (1, 64, 1024, 8192, 32768)  # of each layer, so many rows; the record has more


def sparse_table(records):
    """What surrounds sparse attention."""
    def line_of(row):
        if row["m"] not in SPARSE_ROWS:
            return None
        return [f"`{row['op']}`", row["layer"], str(row["m"]), str(row.get("n", "–")), str(row["k"])]

    return bench_table(records, SPARSE_OPS, ["op", "layer", "rows", "n", "k"], {"GB/s": "gb_per_s"}, line_of)


def input_ops_table(records):
    rows, sources = [], []
    for op in ("quant_fp8", "scale_layout"):
        record = bench_record(records, op)
        if record is None:
            continue
        sources.append(bench_source(record))
        for row in record["rows"]:
            if row["op"] != op or row["k"] not in (7168, 16384) or row["m"] not in (1, 128, 4096, 16384):
                continue
            own = row["cold"]
            body = [op, str(row["m"]), str(row["k"])]
            rows.append(body + ([f"**{own['us']:.1f}**", f"{own['p10']:.1f}–{own['p90']:.1f}",
                                 cell(row["gb_per_s"], 0), cell(row["floor_share"], 2)]
                                if row["check"]["ok"] else ["wrong result", "–", "–", "–"]))
    if not rows:
        return NOTHING
    header = ["op", "m", "k", "dgrt us", "p10–p90", "GB/s", "share of floor"]
    return "; ".join(sources) + ".\n\n" + table(header, rows)


def host_table(records):
    """One table per record of dgrt_bench: launches and boots come from a machine with a GPU, compiles
    from any. Then the newest prewarm of each model."""
    tables = [one_host_table(r) for r in reversed(records) if r["kind"] == "host"]
    prewarms = {r["model_type"]: r for r in reversed(records) if r["kind"] == "prewarm"}
    if prewarms:
        tables.append(prewarm_table(prewarms.values()))
    return "\n".join(tables) if tables else NOTHING


def prewarm_table(records):
    rows = [[f"{r['model_type']}, {r['engine']}, tp {r['tp']}, ep {r['ep']}", str(r["compiled"]),
             str(r["cpus"]), f"{r['seconds']:.1f} s", f"{r['date']} ([record]({r['file']}))"]
            for r in records if not r["failed"]]
    return table(["`dgrt prewarm` into an empty cache, no GPU used", "kernels", "processors", "time",
                  "measured"], rows)


def one_host_table(record):
    good = [b for b in record["benchmarks"]
            if not b.get("error_occurred") and b.get("run_type", "iteration") == "iteration"]
    found = {b["name"].split("/iterations")[0]: b for b in good}
    rows = launch_rows(found) + boot_rows(found)
    b = found.get("kernel/find_in_memory")
    if b:
        rows.append(["finding a kernel that the context has",
                     f"{b['real_time']:.0f} {b['time_unit']}"])
    text = (f"Google Benchmark, {processors(record['context'])}, {record['date']} "
            f"([record]({record['file']})).\n\n")
    if rows:
        text += table(["what", "cost"], rows)
    return text + compile_table(found)


def processors(context):
    """How many a process was bound to, of how many, of which make; as far as the record says."""
    text = f"{context['num_cpus']} CPUs"
    if "processors_used" in context:
        text = f"{context['processors_used']} of {text}"
    return text + (f" ({context['processor']})" if context.get("processor") else "")


def launch_rows(found):
    rows = []
    for name in ("gemm_fp8", "gemm_bf16", "quant_fp8"):
        b = found.get(f"launch/{name}")
        if b:
            bind = f", {b['bind_us']:.2f} of it tensor maps and parameters" if "bind_us" in b else ""
            rows.append([f"`dgrt_launch` of {name}, over bare cuLaunchKernelEx",
                         f"{b['over_us']:.2f} us ({b['dgrt_us']:.2f} against {b['bare_us']:.2f})"
                         + bind])
    return rows


def boot_rows(found):
    rows = []
    for name, what in (("not_loaded", "not loaded"), ("loaded", "loaded onto the GPU")):
        b = found.get(f"plan_warm/{name}")
        if b:
            rows.append([f"plan of {b['kernels']:.0f} kernels from a warm cache, {what}",
                         f"{b['real_time']:.2f} {b['time_unit']}"])
    for source in ("bundle", "directory"):
        b = found.get(f"boot/{source}/loaded")
        if b:
            read = found[f"boot/{source}/not_loaded"]["kernels_ms"]
            rows.append([f"boot from a {source}: {b['kernels']:.0f} kernels onto the GPU, one thread",
                         f"{b['kernels_ms']:.1f} ms, {read:.1f} of it reading and checking"])
            rows.append([f"the same, a new context and {b['plans']:.0f} plans with it",
                         f"{b['real_time']:.0f} ms"])
    b = found.get("boot/bundle/loaded")
    if b:  # the process's first boot
        rows.append([f"memory of the process that {b['kernels']:.0f} kernels and {b['plans']:.0f} plans "
                     "add", f"{b['first_mib']:.0f} MiB"])
    return rows


def compile_table(found):
    stems = {}
    for name, b in found.items():
        if name.startswith("compile/"):
            stems.setdefault(name.split("/")[1], []).append(b)
    if not stems:
        return ""
    rows = []
    for stem, of_stem in stems.items():
        times = [b["cpu_time"] for b in of_stem]
        phases = [statistics.median(b[p] for b in of_stem) for p in ("front_ms", "nvvm_ms", "ptxas_ms")]
        budget = next(ms for front, ms in COMPILE_BUDGETS_MS.items() if stem.startswith(front))
        rows.append([stem, str(len(of_stem)), f"{sum(t <= budget for t in times)} ({budget} ms)",
                     f"{statistics.median(times):.0f}", f"{max(times):.0f}",
                     " + ".join(f"{phase:.0f}" for phase in phases)])
    return table(["cold compile on one core", "kernels", "within the budget", "median ms", "slowest ms",
                  "front end + NVVM + ptxas (medians)"], rows)


PEER_TITLES = {"cublaslt_fp8": "cuBLASLt FP8", "cudnn": "cuDNN", "flash": "FlashAttention-2",
               "flash3": "FlashAttention-3", "flash_mla": "FlashMLA", "triton": "Triton", "deep_gemm": "DeepGEMM",
               "torch_bf16": "torch BF16", "torch": "torch"}
BENCH_OPS = ["attn_decode", "attn_extend", "attn_merge", "kv_append", "mla_decode", "mqa_logits", "paged_mqa_logits",
             *SPARSE_OPS]


def headline_table(records):
    """A line per op: geometric means over the rows of its newest record; of an op that dgrt bench also times, the share
    is of those rows, which are more."""
    lines = {}
    for record in records:
        for entry in record.get("geometric_means", []):
            key = (entry["op"], entry.get("range") or "")
            if key in lines:
                continue
            peers = [f"{entry[name]:.2f} × {title}" for name, title in PEER_TITLES.items()
                     if entry.get(name) is not None]
            lines[key] = [str(entry["rows"]), cell(entry["floor_share"], 2), ", ".join(peers), link_to(record)]
    for op in BENCH_OPS:
        record = bench_record(records, op)
        shares = [row["floor_share"] for row in record["rows"]
                  if row["op"] == op and row["check"]["ok"]] if record else []
        if shares:
            _, _, peers, link = lines.get((op, ""), ("", "", "", ""))
            links = f"{link_to(record)}, {link}" if peers else link_to(record)
            lines[op, ""] = [str(len(shares)), cell(statistics.geometric_mean(shares), 2), peers, links]
    if not lines:
        return NOTHING
    return table(["op", "range", "shapes", "share of floor", "speed beside", "record"],
                 [[f"`{op}`", span, *line] for (op, span), line in sorted(lines.items())])


def link_to(record):
    return f"[{record['date']}]({record['file']})"


def render(text, records):
    """A page's text with every block filled anew."""
    makers = {"headline": lambda: headline_table(records),
              "gemm_fp8": lambda: gemm_table(records, "gemm_fp8"),
              "gemm_bf16": lambda: gemm_table(records, "gemm_bf16"),
              "family": lambda: shapes_table(records, "family_peers", FAMILY_OPS, FAMILY_PEERS),
              "mla_peers": lambda: shapes_table(records, "mla_peers", MLA_OPS, MLA_PEERS),
              "attn_paged": lambda: shapes_table(records, "attention_peers", ("attn_decode", "attn_extend"),
                                                 PAGED_PEERS),
              "attention": lambda: attention_table(records),
              "attn_cases": lambda: cases_table(records),
              "attn_decode": lambda: paged_table(records, "attn_decode", {"GB/s": "gb_per_s"}),
              "attn_extend": lambda: paged_table(records, "attn_extend", {"TFLOPS": "tflops"}),
              "attn_memory": lambda: memory_table(records),
              "mla_decode": lambda: paged_table(records, "mla_decode", {"TFLOPS": "tflops", "GB/s": "gb_per_s"}),
              "indexer": lambda: indexer_table(records),
              "sparse": lambda: sparse_table(records),
              "input_ops": lambda: input_ops_table(records),
              "host": lambda: host_table(records)}
    return BLOCK.sub(lambda m: m.group(1) + makers[m.group(2)]() + m.group(3), text)


def main():
    differs = False
    for name, to_root in PAGES.items():
        before = (ROOT / name).read_text()
        after = render(before, load_records(ROOT / "bench" / "results", to_root))
        if before == after:
            continue
        differs = True
        if "--check" in sys.argv[1:]:
            print(f"{name} differs from bench/results: run python/peers/render_results.py")
        else:
            (ROOT / name).write_text(after)
    return int(differs and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
