"""The programs that time attention beside its peers, as far as that needs no GPU: shapes, arguments, what they ask of
FlashMLA and FlashAttention-3, what they do about calls that fail. torch is stubbed where it is not installed."""

import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import types
import unittest
from unittest import mock

PEERS = str(pathlib.Path(__file__).resolve().parent.parent / "peers")
sys.path.insert(0, PEERS)

import mla_cases  # noqa: E402
from mla_cases import (DECODE, PAGE, POOL, SPARSE_DECODE, SPARSE_PREFILL, Shape, SparseDecode,  # noqa: E402
                       SparsePrefill)


@contextlib.contextmanager
def peers():
    """The programs, imported for the time of a test."""
    stubs = {}
    if importlib.util.find_spec("torch") is None:
        stubs = {name: mock.MagicMock() for name in ("torch", "torch.nn", "torch.nn.attention")}
    before = set(sys.modules)
    with mock.patch.dict(sys.modules, stubs):
        with contextlib.redirect_stdout(io.StringIO()):  # which peers there are
            import attention_paged
            import attention_peers
            import family_peers
            import mla_peers
            import mla_sparse_work
            import mla_work
            import peer_report
        yield types.SimpleNamespace(attention=attention_peers, paged=attention_paged, program=mla_peers, work=mla_work,
                                    sparse=mla_sparse_work, family=family_peers, report=peer_report)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(PEERS):
                del sys.modules[name]


class Shapes(unittest.TestCase):
    def test_work_is_that_of_visible_pairs(self):
        shape = Shape(batch=3, heads=16, tokens=2, keys=100)
        pairs = sum(1 for _ in range(3) for i in range(2) for j in range(100) if j <= 100 - 2 + i)
        self.assertEqual(shape.pairs(), pairs)
        self.assertEqual(shape.flops(), 2 * pairs * 16 * (576 + 512))
        self.assertEqual(shape.moved_bytes(), 2 * (300 * 576 + 3 * 2 * 16 * (576 + 512)))
        self.assertEqual(shape.max_pages(), 2)
        self.assertEqual(shape.lens(), [100] * 3)

    def test_lengths_that_vary(self):
        for batch in (2, 3, 7, 64, 132):
            lens = Shape(batch, 16, 1, 4096, varies=True).lens()
            self.assertEqual((min(lens), max(lens)), (round(4096 * 0.7), round(4096 * 1.3)))
            self.assertEqual(len(set(lens)), batch)
            if batch > 3:
                self.assertNotEqual(lens, sorted(lens))
                self.assertNotEqual(lens, sorted(lens, reverse=True))
        self.assertEqual(Shape(1, 16, 1, 4096, varies=True).lens(), [4096])

    def test_table(self):
        self.assertEqual(len(set(DECODE)), len(DECODE))
        for shape in DECODE:
            self.assertGreaterEqual(min(shape.lens()), shape.tokens)
            # The largest cache fits any device that has kernels.
            self.assertLess(shape.batch * shape.max_pages() * PAGE * mla_cases.ROW * 2, 4 << 30)
        self.assertEqual({shape.heads for shape in DECODE}, {16, 64, 128})

    def test_sparse_work(self):
        decode = SparseDecode(3, 64, 2, 512, 128, 256, 512)
        self.assertEqual(decode.flops(), 6 * 64 * 640 * 2 * (512 + 512))
        self.assertEqual(decode.moved_bytes(), 6 * (640 * (584 + 4) + 2 * 64 * (512 + 512)))
        prefill = SparsePrefill(576, 64, 10, 300, 128)
        self.assertEqual(prefill.flops(), 10 * 64 * 128 * 2 * (576 + 512))
        self.assertEqual(prefill.moved_bytes(), 2 * 300 * 576 + 10 * (4 * 128 + 2 * 64 * (576 + 512)))

    def test_sparse_tables(self):
        for table in (SPARSE_DECODE, SPARSE_PREFILL):
            self.assertEqual(len(set(table)), len(table))
        for shape in SPARSE_DECODE:  # what FlashMLA wants
            self.assertEqual((POOL % shape.page, shape.top_k % 64, shape.extra_top_k % 64), (0, 0, 0))
            self.assertTrue(shape.extra_top_k == 0 or shape.columns == 512)
        for shape in SPARSE_PREFILL:
            self.assertEqual(shape.top_k % 128, 0)
            self.assertLessEqual(shape.top_k, shape.rows)


class Program(unittest.TestCase):
    def parse(self, program, *arguments):
        with mock.patch.object(sys, "argv", ["mla_peers.py", *arguments]):
            return program.family.parse_args("text", program.program.MAKERS)

    def test_ops(self):
        with peers() as p:
            self.assertEqual(list(p.program.MAKERS), ["mla_decode", "mla_sparse_decode", "mla_sparse_prefill",
                                                      "mqa_logits", "paged_mqa_logits"])
            self.assertEqual(list(p.attention.MAKERS), ["attn_prefill", "attn_decode", "attn_extend", "attn_cases"])
            self.assertEqual(len(p.program.MAKERS["mla_decode"]), len(DECODE))
            self.assertFalse(set(p.program.MAKERS) & set(p.family.MAKERS))

    def test_arguments(self):
        with peers() as p:
            self.assertEqual(self.parse(p).op, list(p.program.MAKERS))
            options = self.parse(p, "--op", "mqa_logits,mla_decode", "--quick", "--json", "x.json")
            self.assertEqual(options.op, ["mqa_logits", "mla_decode"])
            self.assertTrue(options.quick)
            self.assertEqual(options.json, pathlib.Path("x.json"))
            said = io.StringIO()
            with contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
                self.parse(p, "--op", "mla_decode,gemm")
            self.assertIn("no op gemm", said.getvalue())

    def test_flash_mla_is_called_as_it_wants(self):
        with peers() as p:
            flash = mock.MagicMock()
            flash.get_mla_metadata.return_value = ("schedule", "splits")
            flash.flash_mla_with_kvcache.return_value = ("o", "lse")
            q = types.SimpleNamespace(shape=(4, 2, 16, 576))
            with mock.patch.object(p.work, "flash_mla", flash):
                call = p.work.flash_call(q, "cache", "table", "lens")
                self.assertEqual([call(), call()], ["o", "o"])
            flash.get_mla_metadata.assert_called_once_with("lens", 32, 1)
            flash.flash_mla_with_kvcache.assert_called_with(q, "cache", "table", "lens", 512, "schedule", "splits",
                                                            softmax_scale=mla_cases.SCALE, causal=True)

    def test_flash_mla_is_called_for_lists_as_it_wants(self):
        with peers() as p:
            flash = mock.MagicMock()
            flash.get_mla_metadata.return_value = ("schedule", None)
            flash.flash_mla_with_kvcache.return_value = ("o", "lse")
            with mock.patch.object(p.sparse, "flash_mla", flash):
                self.assertEqual(p.sparse.flash_decode_call("q", "pages", "slots", {"extra_k_cache": "more"})(), "o")
            flash.flash_mla_with_kvcache.assert_called_once_with(
                "q", "pages", None, None, 512, "schedule", None, softmax_scale=mla_cases.SCALE, causal=False,
                is_fp8_kvcache=True, indices="slots", extra_k_cache="more")

    def test_flash_attention_3_is_called_as_it_wants(self):
        with peers() as p:
            flash = mock.MagicMock(spec=["flash_attn_with_kvcache", "get_scheduler_metadata"])
            flash.flash_attn_with_kvcache.side_effect = ["o", ("o", "lse")]
            flash.get_scheduler_metadata.return_value = "schedule"
            q = types.SimpleNamespace(shape=(4, 2, 32, 128), dtype="bf16")
            k = types.SimpleNamespace(shape=(9, 16, 8, 128))
            table = types.SimpleNamespace(shape=(4, 5))
            with mock.patch.object(p.paged, "flash3", flash):
                calls = p.paged.flash3_calls(q, k, "v", table, "lens", 127)
                self.assertEqual([calls["flash3/plain"](), calls["flash3/planned"]()], ["o", "o"])
            mask = {"causal": True, "window_size": (127, 0)}
            flash.flash_attn_with_kvcache.assert_called_with(q, k, "v", cache_seqlens="lens", page_table=table,
                                                             scheduler_metadata="schedule", **mask)
            flash.get_scheduler_metadata.assert_called_once_with(4, 2, 80, 32, 8, 128, "lens", qkv_dtype="bf16",
                                                                 page_size=16, **mask)
            old = mock.MagicMock(spec=["flash_attn_with_kvcache"])
            with mock.patch.object(p.paged, "flash3", old):
                self.assertEqual(list(p.paged.flash3_calls(q, k, "v", table, "lens", -1)), ["flash3/plain"])


class Runs(unittest.TestCase):
    """A run over made-up cases, whose calls return numbers and whose error is that number."""

    def run_program(self, p, makers, arguments=()):
        def case(op, **calls):
            return types.SimpleNamespace(
                op=op, shape={"batch": 1}, flops=1, floor_us=5.0, calls=calls, kernels={"dgrt": "k"}, graph=False,
                other_products=frozenset(), limit=1e-3)

        def check(case, call):
            error = call()
            return {"global": error, "worst_tile": error, "ok": error < case.limit}

        class Timer:
            def __init__(self, repeats):
                self.repeats = repeats

            def interleaved(self, calls):
                return {name: {"us": 10.0 * (i + 1), "p10": 9.0, "p90": 11.0} for i, name in enumerate(calls)}

        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            path = pathlib.Path(folder) / "record.json"
            made = {"environment": lambda: {"device": "GPU", "driver": "1", "cuda": "13", "torch": "2",
                                            "date": "2026-01-02", "commit": "abc"},
                    "CleanTimer": Timer, "EmptyKernel": lambda: None, "yardsticks": lambda timer: {},
                    "check_call": check, "dgrt": mock.MagicMock(), "torch": mock.MagicMock()}
            made["dgrt"].Context().stats.return_value = {}
            made["torch"].cuda.synchronize.side_effect = lambda: self.synchronize()
            for name, value in made.items():
                stack.enter_context(mock.patch.object(p.report, name, value))
            said = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(mock.patch.object(sys, "argv", ["x", "--json", str(path), *arguments]))
            code = p.family.run("mla_peers", "text", {op: [self.maker(case, op, calls) for calls in shapes]
                                                      for op, shapes in makers.items()})
            return code, json.loads(path.read_text()), said.getvalue()

    def synchronize(self):
        pass

    @staticmethod
    def maker(case, op, calls):
        def make(context):
            if isinstance(calls, Exception):
                raise calls
            yield case(op, **calls)

        make.keywords = {"shape": (1, 2)}  # as a functools.partial has them
        return make

    def test_what_fails_is_said_and_the_run_goes_on(self):
        def fails():
            raise RuntimeError("no such head size\nmore")

        with peers() as p:
            code, record, said = self.run_program(p, {
                "mla_decode": [RuntimeError("UNSUPPORTED: no kernel"),
                               {"dgrt": lambda: 1e-4, "flash_mla": fails},
                               {"dgrt": fails, "flash_mla": lambda: 1e-4},
                               {"dgrt": lambda: 1e-4, "flash_mla": lambda: float("nan")}],
                "mqa_logits": [{"dgrt": lambda: 1e-4, "deep_gemm": lambda: 1e-4}]})
        self.assertEqual(code, 1)
        self.assertEqual([row["op"] for row in record["rows"]], ["mla_decode", "mla_decode", "mqa_logits"])
        self.assertEqual([row["left_out"] for row in record["rows"]], [
            {"flash_mla": "RuntimeError: no such head size"}, {"flash_mla": "its result is off by nan"}, {}])
        self.assertEqual([x["error"] for x in record["failures"]],
                         ["RuntimeError: UNSUPPORTED: no kernel", "RuntimeError: no such head size"])
        self.assertEqual(record["geometric_means"],
                         [{"op": "mla_decode", "rows": 2, "floor_share": 0.5},
                          {"op": "mqa_logits", "rows": 1, "floor_share": 0.5, "deep_gemm": 2.0}])
        self.assertIn("2 of 5 shapes FAILED", said)

    def test_wrong_results_count_for_nothing(self):
        with peers() as p:
            code, record, said = self.run_program(p, {"mla_decode": [
                {"dgrt": lambda: 0.5, "flash_mla": lambda: 0.0}, {"dgrt": lambda: 0.0}]})
        self.assertEqual((code, len(record["rows"])), (1, 2))
        self.assertEqual(record["geometric_means"], [{"op": "mla_decode", "rows": 1, "floor_share": 0.5}])
        self.assertIn("1 of 2 shapes WRONG", said)

    def test_a_device_that_is_lost_ends_the_run_and_leaves_the_record(self):
        def fails():
            self.synchronize = lambda: (_ for _ in ()).throw(RuntimeError("an illegal memory access"))
            raise RuntimeError("launch failed")

        with peers() as p:
            code, record, said = self.run_program(p, {"mla_decode": [
                {"dgrt": lambda: 0.0}, {"dgrt": fails}, {"dgrt": lambda: 0.0}]})
        self.assertEqual((code, len(record["rows"]), len(record["failures"])), (1, 1, 1))
        self.assertIn("the device answers no more: RuntimeError: an illegal memory access", said)

    def test_all_right(self):
        with peers() as p:
            code, record, _ = self.run_program(p, {"mla_decode": [{"dgrt": lambda: 0.0, "flash_mla": lambda: 0.0}]})
        self.assertEqual((code, record["failures"]), (0, []))
        self.assertEqual(record["rows"][0]["impls"]["flash_mla"]["us"], 20.0)


if __name__ == "__main__":
    unittest.main()
