"""The tables of README and docs/results.md: filled from records, and in step with bench/results."""

import json
import pathlib
import sys
import tempfile
import unittest

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
sys.path.insert(0, str(PEERS))

import render_results  # noqa: E402

NAMES = ("gemm_fp8", "gemm_bf16", "family", "attention", "attn_cases", "attn_paged", "attn_decode", "attn_extend",
         "attn_memory", "mla_peers", "mla_decode", "indexer", "sparse", "input_ops", "host", "headline")
BLOCKS = "".join(f"<!-- results:{name} -->\nold\n<!-- /results -->\n" for name in NAMES)


def peers_record(date, us):
    row = {"op": "gemm_fp8", "m": 64, "n": 4096, "k": 7168, "kernel": "x", "floor_us": 10.0,
           "check": {"ok": True},
           "impls": {"dgrt": {"us": us, "p10": us - 1, "p90": us + 1, "graph_us": us},
                     "cublaslt_fp8": {"us": 12.8, "p10": 12, "p90": 13, "graph_us": 9}}}
    return {"kind": "gemm_peers", "device": "GPU", "driver": "1", "cuda": "13", "torch": "2",
            "date": date, "commit": "abc", "repeats": 40, "empty_us": {"us": 2.8}, "rows": [row],
            "geometric_means": [{"op": "gemm_fp8", "range": "m <= 128", "rows": 1,
                                 "floor_share": 0.5, "cublaslt_fp8": 1.28, "deep_gemm": 1.32}]}


def family_record(date, op, us, **changes):
    row = {"op": op, "groups": 4, "n": 4096, "kernel": "x", "flops": 1, "floor_us": 10.0,
           "check": {"ok": True}, "impls": {"dgrt": {"us": us, "p10": us - 1, "p90": us + 1},
                                            "deep_gemm": {"us": 30.0, "p10": 29, "p90": 31},
                                            "torch_a": {"us": 50.0, "p10": 49, "p90": 51},
                                            "torch_b": {"us": 45.0, "p10": 44, "p90": 46}}}
    return {"kind": "family_peers", "device": "GPU", "driver": "1", "cuda": "13", "torch": "2",
            "date": date, "commit": "abc", "repeats": 40, "empty_us": {"us": 2.8},
            "rows": [{**row, **changes}]}


HOST_RECORD = {
    "context": {"date": "2026-01-02T03:04:05+00:00", "num_cpus": 2, "processors_used": "1",
                "processor": "CPU"},
    "benchmarks": [
        {"name": "launch/gemm_fp8/iterations:100/manual_time", "run_type": "iteration",
         "real_time": 3.7, "time_unit": "us", "bare_us": 3.2, "dgrt_us": 3.7, "over_us": 0.5},
        {"name": "launch/gemm_bf16/iterations:100/manual_time", "run_type": "iteration",
         "error_occurred": True, "error_message": "no GPU"},
        {"name": "compile/gemm_fp8/a/iterations:3", "run_type": "iteration", "real_time": 150.0,
         "cpu_time": 120.0, "time_unit": "ms", "front_ms": 20, "nvvm_ms": 60, "ptxas_ms": 40},
        {"name": "compile/gemm_fp8/b/iterations:3", "run_type": "iteration", "real_time": 250.0,
         "cpu_time": 240.0, "time_unit": "ms", "front_ms": 30, "nvvm_ms": 120, "ptxas_ms": 80}]}


class Render(unittest.TestCase):
    def load(self, *records):
        with tempfile.TemporaryDirectory() as folder:
            for i, record in enumerate(records):
                (pathlib.Path(folder) / f"{i}.json").write_text(json.dumps(record))
            return render_results.load_records(pathlib.Path(folder))

    def render(self, *records):
        return render_results.render(BLOCKS, self.load(*records))

    def test_without_records_it_says_so(self):
        text = self.render()
        self.assertEqual(text.count(render_results.NOTHING), len(NAMES))
        self.assertNotIn("old", text)

    def test_the_newest_record_is_shown(self):
        text = self.render(peers_record("2026-01-03", 20.0), peers_record("2026-01-02", 40.0))
        self.assertIn("**20.0**", text)
        self.assertNotIn("**40.0**", text)
        self.assertIn("| 0.50 |", text)           # floor 10 / 20
        self.assertIn("1.28 × cuBLASLt FP8", text)
        self.assertIn("1.32 × DeepGEMM", text)
        self.assertEqual(text.count(render_results.NOTHING), len(NAMES) - 2)  # not it and the headline

    def test_a_wrong_result_shows_no_time(self):
        record = peers_record("2026-01-03", 20.0)
        record["rows"][0]["check"]["ok"] = False
        text = self.render(record)
        self.assertIn("wrong result", text)
        self.assertNotIn("**20.0**", text)

    def test_families_show_the_newest_record_of_every_op(self):
        text = self.render(family_record("2026-01-04", "gemm_batched", 20.0),
                           family_record("2026-01-03", "gemm_batched", 40.0),
                           family_record("2026-01-02", "hc_prenorm", 25.0))
        self.assertIn("| gemm_batched | groups 4, n 4096 | **20.0** | 19.0–21.0 | 0.50 | 30.0 | 1.50 "
                      "| 45.0 | 2.25 |", text)
        self.assertIn("| hc_prenorm | groups 4, n 4096 | **25.0** |", text)
        self.assertNotIn("**40.0**", text)
        self.assertIn("- gemm_batched, 1 shapes: 0.50 of the floor, 1.50 × DeepGEMM (1 shapes), "
                      "2.25 × the fastest way of torch (1 shapes)", text)

    def test_families_show_no_time_of_a_wrong_result_or_an_absent_peer(self):
        wrong = family_record("2026-01-04", "gemm_batched", 20.0, check={"ok": False})
        alone = family_record("2026-01-04", "hc_prenorm", 25.0,
                              impls={"dgrt": {"us": 25.0, "p10": 24, "p90": 26}})
        text = self.render(wrong, alone)
        self.assertIn("| gemm_batched | groups 4, n 4096 | wrong result |", text)
        self.assertNotIn("**20.0**", text)
        self.assertIn("| 0.40 | – | – | – | – |", text)

    def test_attention_shows_the_peers_that_took_part(self):
        row = {"op": "attn_prefill", "batch": 4, "m": 1000, "heads": "8/4", "head_dim": "256",
               "mask": "causal", "kernel": "k", "flops": 20_000_000, "floor_us": 15.0,
               "impls": {"dgrt": {"us": 20.0, "p10": 19.0, "p90": 21.0},
                         "cudnn": {"us": 30.0, "p10": 29.0, "p90": 31.0},
                         "flash3": {"us": 26.0, "p10": 25.0, "p90": 27.0}}, "check": {"ok": True}}
        alone = dict(row, m=2000, impls={"dgrt": row["impls"]["dgrt"]})
        wrong = dict(row, m=3000, check={"ok": False})
        record = dict(family_record("2026-01-04", "attn_prefill", 20.0), kind="attention_peers",
                      rows=[row, alone, wrong])
        text = self.render(record)
        self.assertIn("| 4 × 1000 | 8/4 | 256 | causal | **20.0** | 19.0–21.0 | 1 | 0.75 | 30.0 | 1.50 "
                      "| 26.0 | 1.30 |", text)
        self.assertIn("| 4 × 2000 | 8/4 | 256 | causal | **20.0** | 19.0–21.0 | 1 | 0.75 | – | – | – | – |", text)
        self.assertIn("| 4 × 3000 | 8/4 | 256 | causal | wrong result |", text)
        self.assertIn("1.50 × cuDNN (1 shapes), 1.30 × FlashAttention-3 (1 shapes)", text)
        self.assertNotIn("FlashAttention-2", text)

    def test_latent_attention_shows_each_op_and_what_failed(self):
        def record(date, op, us, **more):
            row = {"op": op, "batch": 128, "heads": 64, "kernel": "k", "flops": 1, "floor_us": 10.0, "left_out": {},
                   "check": {"ok": True}, "impls": {"dgrt": {"us": us, "p10": us - 1, "p90": us + 1},
                                                    "flash_mla": {"us": 30.0, "p10": 29, "p90": 31}}}
            return {**family_record(date, op, us), "kind": "mla_peers", "rows": [row], **more}

        failure = {"op": "mla_sparse_prefill", "shape": "tokens=8", "error": "Error: UNSUPPORTED"}
        text = self.render(record("2026-01-04", "mla_decode", 20.0, peers={"flash_mla": "1.0.0"}),
                           record("2026-01-03", "mla_decode", 40.0, failures=[failure]),
                           record("2026-01-02", "mqa_logits", 25.0))
        self.assertIn("| mla_decode | batch 128, heads 64 | **20.0** | 19.0–21.0 | 0.50 | 30.0 | 1.50 | – | – |", text)
        self.assertIn("| mqa_logits | batch 128, heads 64 | **25.0** |", text)
        self.assertIn("| mla_sparse_prefill | tokens=8 | failed: Error: UNSUPPORTED | – | – | – | – | – | – |", text)
        self.assertNotIn("**40.0**", text)
        self.assertIn("torch 2, flash_mla 1.0.0, 2026-01-04", text)
        self.assertIn("- mla_decode, 1 shapes: 0.50 of the floor, 1.50 × FlashMLA (1 shapes)\n", text)

    def test_pages_are_shown_beside_flash_attention_3(self):
        row = {"op": "attn_decode", "batch": 64, "m": 1, "page": 16, "kernel": "k", "flops": 1, "floor_us": 15.0,
               "check": {"ok": True}, "impls": {"dgrt": {"us": 20.0, "p10": 19.0, "p90": 21.0},
                                                "flash3": {"us": 26.0, "p10": 25.0, "p90": 27.0, "variant": "planned"}}}
        text = self.render(dict(family_record("2026-01-04", "attn_decode", 20.0), kind="attention_peers", rows=[row]))
        self.assertIn("| attn_decode | batch 64, m 1, page 16 | **20.0** | 19.0–21.0 | 0.75 | 26.0 | 1.30 |", text)
        self.assertEqual(text.count(render_results.NOTHING), len(NAMES) - 1)

    def test_cases_show_the_fastest_tile_of_triton(self):
        row = {"op": "attn_cases", "case": "G", "batch": 32, "m": 4, "prefix": 1000, "window_left": 1024,
               "kernel": "k", "flops": 1, "floor_us": 15.0, "check": {"ok": True},
               "impls": {"dgrt": {"us": 20.0, "p10": 19.0, "p90": 21.0},
                         "triton": {"us": 50.0, "p10": 49.0, "p90": 51.0, "variant": "16x64 w4 s2"}}}
        alone = dict(row, case="A", window_left=-1, impls={"dgrt": row["impls"]["dgrt"]})
        wrong = dict(row, case="B", check={"ok": False})
        record = dict(family_record("2026-01-04", "attn_cases", 20.0), kind="attention_peers",
                      rows=[row, alone, wrong])
        text = self.render(record)
        self.assertIn("| G | 32 × 4 | 1000 | 1024 | **20.0** | 19.0–21.0 | 0.75 | 50.0 | 16x64 w4 s2 | 2.50 |", text)
        self.assertIn("| A | 32 × 4 | 1000 |  | **20.0** | 19.0–21.0 | 0.75 | not measured | – | – |", text)
        self.assertIn("| B | 32 × 4 | 1000 | 1024 | wrong result |", text)
        self.assertIn("speed against Triton: 2.50 ×", text)
        self.assertEqual(text.count(render_results.NOTHING), len(NAMES) - 1)  # also of prefill's

    def test_a_paged_cache_shows_what_was_checked(self):
        attn = {"batch": 32, "num_q_heads": 8, "num_kv_heads": 4, "head_dim_qk": 192, "head_dim_v": 128,
                "prefix": 1000, "window_left": 127, "full": False, "page_size": 16}
        row = {"op": "attn_decode", "model": "Gemma tp=2", "layer": "verify", "m": 4, "attn": attn,
               "check": {"ok": True}, "gb_per_s": 2378.2, "floor_share": 0.86,
               "cold": {"us": 55.8, "p10": 54.9, "p90": 56.9}, "graph": {"us": 52.9}}
        full = dict(row, op="attn_extend", tflops=700.4, attn=dict(attn, window_left=-1, head_dim_v=192))
        append = dict(row, op="kv_append", n=8, k=128)
        record = {"kind": "dgrt_bench", "device": "GPU", "cuda_driver": "13", "date": "2026-01-02",
                  "empty_us": {"us": 2.8},
                  "rows": [row, dict(row, m=8, check={"ok": False}), full, append,
                           dict(append, m=5, check={"ok": False})]}
        text = self.render(record)
        self.assertIn("| Gemma, verify | 32 × 4 | 1000 | 8/4 | 192/128 | 16 | 127 | **55.8** | 52.9 | 2378 | 0.86 |",
                      text)
        self.assertIn("| 32 × 8 | 1000 | 8/4 | 192/128 | 16 | 127 | wrong result |", text)
        self.assertIn("| 32 × 4 | 1000 | 8/4 | 192 | 16 |  | **55.8** | 52.9 | 700 | 0.86 |", text)
        self.assertIn("| `kv_append` | verify | 4 | 8 × 128 | **55.8** | 52.9 | 2378 | 0.86 |", text)
        self.assertIn("| `kv_append` | verify | 5 | 8 × 128 | wrong result |", text)
        self.assertEqual(text.count(render_results.NOTHING), len(NAMES) - 4)  # nor the headline

    def test_indexer_and_helpers_show_what_was_checked(self):
        row = {"op": "mqa_logits", "model": "V3.2", "layer": "8K", "m": 2048, "n": 64, "k": 128,
               "indexer": {"keys": 8192}, "check": {"ok": True}, "tflops": 1166.4, "gb_per_s": 374.2,
               "floor_share": 0.83, "cold": {"us": 206.3}, "graph": {"us": 204.3}}
        wrong = {key: row[key] for key in ("op", "model", "layer", "n", "k", "indexer")}
        topk = dict(row, op="topk_transform", layer="C4", m=1024, n=2048, k=512)
        record = {"kind": "dgrt_bench", "device": "GPU", "cuda_driver": "13", "date": "2026-01-02",
                  "empty_us": {"us": 2.8},
                  "rows": [row, dict(wrong, m=1, check={"ok": False}), topk, dict(topk, m=1000)]}
        text = self.render(record)
        self.assertIn("| `mqa_logits` | V3.2, 8K | 2048 | 8192 | 64 | – | **206.3** | 204.3 | 1166 | 374 | 0.83 |", text)
        self.assertIn("| `mqa_logits` | V3.2, 8K | 1 | 8192 | 64 | – | wrong result | – | – | – | – |", text)
        self.assertIn("| `topk_transform` | C4 | 1024 | 2048 | 512 | **206.3** | 204.3 | 374 | 0.83 |", text)
        self.assertNotIn("| `topk_transform` | C4 | 1000 |", text)

    def test_input_ops_show_what_was_checked(self):
        row = {"op": "quant_fp8", "m": 128, "k": 7168, "check": {"ok": True}, "gb_per_s": 517.0,
               "floor_share": 0.79, "cold": {"us": 5.4, "p10": 5.1, "p90": 5.8}}
        record = {"kind": "dgrt_bench", "device": "GPU", "cuda_driver": "13", "date": "2026-01-02",
                  "rows": [row, dict(row, m=1, check={"ok": False})]}
        text = self.render(record)
        self.assertIn("| quant_fp8 | 128 | 7168 | **5.4** | 5.1–5.8 | 517 | 0.79 |", text)
        self.assertIn("| quant_fp8 | 1 | 7168 | wrong result |", text)

    def test_host_costs_leave_out_what_was_skipped(self):
        text = self.render(HOST_RECORD)
        self.assertIn("0.50 us (3.70 against 3.20)", text)
        self.assertNotIn("gemm_bf16, over bare", text)
        self.assertIn("Google Benchmark, 1 of 2 CPUs (CPU), 2026-01-02", text)
        self.assertIn("| gemm_fp8 | 2 | 1 (200 ms) | 180 | 240 | 25 + 90 + 60 |", text)

    def test_boots_and_prewarms(self):
        boot = {"run_type": "iteration", "real_time": 250.0, "time_unit": "ms", "kernels": 201,
                "plans": 59, "kernels_ms": 69.5, "first_mib": 44.0}
        host = {"context": HOST_RECORD["context"], "benchmarks": [
            dict(boot, name="boot/bundle/loaded/iterations:10/manual_time"),
            dict(boot, name="boot/bundle/not_loaded/iterations:10/manual_time", kernels_ms=3.3)]}
        prewarm = {"kind": "prewarm", "date": "2026-01-03", "cpus": 2, "model_type": "m", "engine": "e",
                   "tp": 8, "ep": 1, "compiled": 118, "failed": 0, "seconds": 15.2}
        text = self.render(host, prewarm)
        self.assertIn("201 kernels onto the GPU, one thread | 69.5 ms, 3.3 of it reading", text)
        self.assertIn("| m, e, tp 8, ep 1 | 118 | 2 | 15.2 s |", text)
        self.assertNotIn("| m, e", self.render(host, dict(prewarm, failed=1)))

    def test_headline_has_the_newest_means_of_each_op(self):
        bench = {"kind": "dgrt_bench", "device": "GPU", "cuda_driver": "13", "date": "2026-01-01", "empty_us": {"us": 3},
                 "rows": [{"op": "mla_decode", "floor_share": share, "check": {"ok": ok}}
                          for share, ok in ((0.4, True), (0.9, True), (0.1, False))]}
        newer = peers_record("2026-01-03", 20.0)
        newer["geometric_means"][0]["deep_gemm"] = 1.5
        text = render_results.render("<!-- results:headline -->\n<!-- /results -->", self.load(
            peers_record("2026-01-02", 10.0), newer, bench))
        self.assertIn("| `gemm_fp8` | m <= 128 | 1 | 0.50 | 1.28 × cuBLASLt FP8, 1.50 × DeepGEMM | [2026-01-03]", text)
        self.assertIn("| `mla_decode` |  | 2 | 0.60 |  | [2026-01-01]", text)
        self.assertEqual(text.count("gemm_fp8"), 1)

    def test_pages_are_in_step_with_the_records(self):
        names = []
        for page, to_root in render_results.PAGES.items():
            text = (render_results.ROOT / page).read_text()
            records = render_results.load_records(render_results.ROOT / "bench" / "results", to_root)
            names += [m.group(2) for m in render_results.BLOCK.finditer(text)]
            self.assertEqual(text, render_results.render(text, records), "run python/peers/render_results.py")
        self.assertEqual(sorted(names), sorted(NAMES))


if __name__ == "__main__":
    unittest.main()
