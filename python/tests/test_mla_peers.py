"""The program that times latent attention beside its peers, as far as that needs no GPU: its shapes, its arguments,
what it asks of FlashMLA. torch is stubbed where it is not installed."""

import contextlib
import importlib.util
import io
import pathlib
import sys
import types
import unittest
from unittest import mock

PEERS = str(pathlib.Path(__file__).resolve().parent.parent / "peers")
sys.path.insert(0, PEERS)

import mla_cases  # noqa: E402
from mla_cases import DECODE, PAGE, Shape  # noqa: E402


@contextlib.contextmanager
def peers():
    """The programs, imported for the time of a test."""
    stubs = {}
    if importlib.util.find_spec("torch") is None:
        stubs = {name: mock.MagicMock() for name in ("torch", "torch.nn", "torch.nn.attention")}
    before = set(sys.modules)
    with mock.patch.dict(sys.modules, stubs):
        import family_peers
        import mla_peers
        import mla_work
        yield types.SimpleNamespace(program=mla_peers, work=mla_work, family=family_peers)
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


class Program(unittest.TestCase):
    def parse(self, program, *arguments):
        with mock.patch.object(sys, "argv", ["mla_peers.py", *arguments]):
            return program.family.parse_args("text", program.program.MAKERS)

    def test_ops(self):
        with peers() as p:
            self.assertEqual(list(p.program.MAKERS), ["mla_decode", "mqa_logits", "paged_mqa_logits"])
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


if __name__ == "__main__":
    unittest.main()
