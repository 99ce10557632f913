"""Python's calls against the real library, without a GPU: a compile-only context, enumeration, prepare
into a temporary cache, and the errors of bad input. Plans need a libnvrtc; without one those tests skip."""

import pathlib
import tempfile
import unittest

import dgrt

ARCH, SMS = "sm_90a", 132


def compile_only(cache_dir, **options):
    return dgrt.Context(dgrt.DEVICE_NONE, arch=ARCH, sm_count=SMS, cache_dir=cache_dir,
                        log_level=dgrt.LOG_OFF, **options)


def layout_desc(**changes):
    """The smallest op: one or few kernels, quick to compile."""
    return dgrt.scale_layout_desc(**{"k_blocks": 56, "max_m": 64, **changes})


def make_plan(test, context, desc):
    try:
        return context.plan(desc)
    except dgrt.Error as error:
        if error.status == dgrt.NO_COMPILER:
            test.skipTest(f"no libnvrtc here: {error.message}")
        raise


class Enumerate(unittest.TestCase):
    def test_keys_are_64_hex_digits_and_repeat(self):
        desc = dgrt.gemm_desc(n=4096, k=7168, max_m=4096, dtype_ab=dgrt.E4M3)
        keys = dgrt.enumerate(desc, arch=ARCH, sm_count=SMS)
        self.assertGreaterEqual(len(keys), 1)
        self.assertLessEqual(len(keys), 16)
        for key in keys:
            self.assertRegex(key.key, "^[0-9a-f]{64}$")
            self.assertTrue(key.kernel.startswith("sm90_gemm_fp8"), key.kernel)
            self.assertIn("=", key.config)
        self.assertEqual(len({key.key for key in keys}), len(keys))
        self.assertEqual(keys, dgrt.enumerate(desc, arch=ARCH, sm_count=SMS))

    def test_unknown_arch_is_refused(self):
        with self.assertRaises(dgrt.Error) as caught:
            dgrt.enumerate(layout_desc(), arch="sm_1", sm_count=SMS)
        self.assertIn(caught.exception.status, (dgrt.INVALID_ARGUMENT, dgrt.UNSUPPORTED))
        self.assertIn("sm_1", caught.exception.message)

    def test_bad_desc_names_the_field(self):
        with self.assertRaises(dgrt.Error) as caught:
            dgrt.enumerate(layout_desc(k_blocks=-3), arch=ARCH, sm_count=SMS)
        self.assertEqual(caught.exception.status, dgrt.INVALID_ARGUMENT)
        self.assertIn("k_blocks", caught.exception.message)
        self.assertIn("INVALID_ARGUMENT", str(caught.exception))


class ContextErrors(unittest.TestCase):
    def test_compile_only_needs_an_arch(self):
        with self.assertRaises(dgrt.Error) as caught:
            dgrt.Context(dgrt.DEVICE_NONE, sm_count=SMS, cache_dir="")
        self.assertEqual(caught.exception.status, dgrt.INVALID_ARGUMENT)
        self.assertIn("arch", caught.exception.message)

    def test_a_pinned_bundle_must_be_there(self):
        with self.assertRaises(dgrt.Error) as caught:
            compile_only("", bundle_path="/nonexistent.dgb", bundle_digest="0" * 64)
        self.assertEqual(caught.exception.status, dgrt.IO_ERROR)
        self.assertIn("/nonexistent.dgb", caught.exception.message)
        compile_only("", bundle_path="/nonexistent.dgb").close()  # without a digest: left out

    def test_a_read_only_directory_is_looked_into(self):
        with tempfile.TemporaryDirectory() as directory:
            cache = str(pathlib.Path(directory) / "cache")
            with compile_only(cache) as context:
                num_kernels = len(make_plan(self, context, layout_desc()).info.kernels)
            with compile_only("", cache_ro_path=cache, miss_policy=dgrt.MISS_ERROR) as context:
                context.plan(layout_desc())
                self.assertEqual(context.stats()["disk_hits"], num_kernels)

    def test_closed_context_and_plan_are_refused(self):
        context = compile_only("")
        context.close()
        context.close()
        with self.assertRaises(ValueError):
            context.stats()

    def test_error_policy_turns_a_miss_into_a_status(self):
        with compile_only("", miss_policy=dgrt.MISS_ERROR) as context:
            with self.assertRaises(dgrt.Error) as caught:
                context.plan(layout_desc())
        self.assertEqual(caught.exception.status, dgrt.MISS)


class Prepare(unittest.TestCase):
    def test_cold_then_warm(self):
        desc = layout_desc()
        keys = {key.key for key in dgrt.enumerate(desc, arch=ARCH, sm_count=SMS)}
        with tempfile.TemporaryDirectory() as folder:
            with compile_only(folder) as context:
                make_plan(self, context, desc).close()
                stats = context.stats()
                self.assertEqual(stats["compiles"], len(keys))
                self.assertGreater(stats["compile_ms"], 0)
            self.assertTrue(any(path.is_file() for path in pathlib.Path(folder).rglob("*")))

            seen = []
            with compile_only(folder) as context:
                context.prepare([desc, desc], seen.append)
                self.assertEqual(context.stats()["compiles"], 0)
                self.assertEqual(context.stats()["disk_hits"], len(keys))
                plan = context.plan(desc)
                self.assertEqual({kernel.key for kernel in plan.info.kernels}, keys)
                for kernel in plan.info.kernels:
                    self.assertEqual(kernel.source, dgrt.SOURCE_MEMORY)
            self.assertEqual(sorted(p.done for p in seen), list(range(1, len(keys) + 1)))
            for progress in seen:
                self.assertEqual(progress.status, dgrt.OK)
                self.assertEqual(progress.source, dgrt.SOURCE_DISK)
                self.assertEqual(progress.total, len(keys))

    def test_an_exception_in_progress_reaches_the_caller(self):
        def fail(_):
            raise KeyError("from progress")

        with compile_only("") as context:
            make_plan(self, context, layout_desc()).close()
            with self.assertRaises(KeyError):
                context.prepare([layout_desc()], fail)


class Plans(unittest.TestCase):
    def setUp(self):
        self.context = compile_only("")
        self.addCleanup(self.context.close)
        self.plan = make_plan(self, self.context, layout_desc())

    def test_plan_info(self):
        info = self.plan.info
        self.assertEqual(len(info.kernels), 1)
        self.assertTrue(info.kernels[0].name.startswith("sm90_scale_layout"), info.kernels[0].name)
        self.assertEqual(info.kernels[0].source, dgrt.SOURCE_COMPILED)
        self.assertGreater(info.kernels[0].num_registers, 0)
        self.assertEqual((info.workspace_bytes, info.state_bytes), (0, 0))

    def test_query_of_a_good_call_needs_a_device(self):
        with self.assertRaises(dgrt.Error) as caught:
            self.plan.query(self.plan.args(src=0x1000, dst=0x2000, m=64))
        self.assertEqual(caught.exception.status, dgrt.NO_DEVICE)

    def test_query_refuses_what_launch_would_refuse(self):
        for fields, word in (({"m": 65}, "m"), ({"m": -1}, "m"), ({"dst": 0x2001}, "dst"),
                             ({"src": None}, "src"), ({"ld_src": 55}, "ld_src"),
                             ({"ld_dst": 66}, "ld_dst")):
            args = self.plan.args(**{"src": 0x1000, "dst": 0x2000, "m": 64, **fields})
            with self.subTest(fields), self.assertRaises(dgrt.Error) as caught:
                self.plan.query(args)
            self.assertEqual(caught.exception.status, dgrt.INVALID_ARGUMENT)
            self.assertIn(word, caught.exception.message)

    def test_launch_without_a_device(self):
        with self.assertRaises(dgrt.Error) as caught:
            self.plan.launch(src=0x1000, dst=0x2000, m=64)
        self.assertEqual(caught.exception.status, dgrt.NO_DEVICE)

    def test_args_of_another_op_are_refused(self):
        other = dgrt.quant_fp8_desc(k=128, max_m=64)
        args = dgrt.quant_fp8_args(other, x=0x1000, q=0x2000, scale=0x3000, m=1)
        with self.assertRaises(dgrt.Error) as caught:
            self.plan.query(args)
        self.assertEqual(caught.exception.status, dgrt.INVALID_ARGUMENT)

    def test_closing_the_context_closes_its_plans(self):
        self.context.close()
        with self.assertRaises(ValueError):
            self.plan.query(self.plan.args(src=0x1000, dst=0x2000, m=1))


if __name__ == "__main__":
    unittest.main()
