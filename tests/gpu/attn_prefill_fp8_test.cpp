// attn_prefill over keys and values of e4m3: every code, and what attn_prefill_test.cpp asks of 16 bits.
#include "tests/gpu/attn_case.h"
#include "tests/gpu/attn_fp8_case.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128}, {192, 128},
                                                      {256, 256}, {512, 512}, {80, 80},   {16, 48}};

AttnCase sized_e4m3(std::pair<int64_t, int64_t> head_size, Lens lens) {
  AttnCase test;
  test.head_dim_qk = head_size.first, test.head_dim_v = head_size.second;
  test.lens = std::move(lens), test.dtype_kv = DGRT_E4M3;
  test.most_checked = 1000;
  return test;
}

Result<std::string> run_values(Gpu& gpu, dgrt_dtype dtype) {
  AttnCase test = sized_e4m3({128, 128}, {{1, 1}});
  test.num_q_heads = 2, test.dtype = dtype;
  DGRT_ASSIGN(const AttnRun run, AttnRun::make(gpu, test));
  DGRT_TRY(run.set_values(all_codes()));  // of one key and two heads
  DGRT_ASSIGN(AttnRun::Outputs out, run.outputs());
  out.args.v_scale = nullptr;
  DGRT_TRY(run.launch(out));
  DGRT_TRY(gpu.lab->synchronize());
  DGRT_ASSIGN(const std::vector<uint16_t> o, out.o.download_all<uint16_t>());
  DGRT_TRY(check_codes(o, all_codes(), dtype));
  return std::string("256 codes");
}

}  // namespace

TEST_CASE("attn_prefill: every e4m3 code", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: every e4m3 code");
  if (!gpu) return;
  run_case("bf16", [&] { return run_values(*gpu, DGRT_BF16); });
  run_case("fp16", [&] { return run_values(*gpu, DGRT_FP16); });
}

TEST_CASE("attn_prefill e4m3: head sizes, lengths, layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill e4m3: head sizes, lengths, layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes) {
    for (const int64_t right : {0, -1}) {
      AttnCase test = sized_e4m3(head_size, {{1, 1}, {300, 300}, {113, 203}, {0, 5}, {77, 77}, {1023, 1024}});
      test.window_right = right, test.scale_per_head = right == 0;
      test.dtype = right == 0 ? DGRT_BF16 : DGRT_FP16;
      test.flags = few_kernels_unless(right == 0);
      run_attn(*gpu, test);
    }
    for (const AttnLayout layout : {AttnLayout::padded, AttnLayout::head_major}) {
      AttnCase test = sized_e4m3(head_size, {{200, 200}, {1, 70}, {77, 50}});
      test.layout = layout, test.spare_tokens = 40;
      run_attn(*gpu, test);
    }
  }
  for (const int64_t head_dim : {64, 128, 256})
    for (const auto& one : Lens{{239, 1}, {640, 128}, {512, 256}, {1023, 1024}, {4224, 4224}})
      run_attn(*gpu, sized_e4m3({head_dim, head_dim}, {one}));
}

TEST_CASE("attn_prefill e4m3: windows, and NaN where nobody may look", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill e4m3: windows, and NaN where nobody may look");
  if (!gpu) return;
  for (const auto& head_size : head_sizes) {
    AttnCase test = sized_e4m3(head_size, {{100, 100}, {0, 200}, {1, 40}, {0, 660}, {130, 130}});
    test.spare_tokens = 300, test.nan_keys = {{100, 300}, {340, 1000}};
    run_attn(*gpu, test);
    AttnCase windowed = sized_e4m3(head_size, {{1, 500}, {0, 300}, {64, 64}});
    windowed.window_left = 33, windowed.nan_keys = {{0, 466}, {500, 800}};
    run_attn(*gpu, windowed);
  }
  for (const auto& [left, right] : Lens{{0, 0}, {127, 0}, {1024, 0}, {100, 20}, {64, -1}}) {
    AttnCase test = sized_e4m3({128, 128}, {{1300, 1300}, {100, 500}, {90, 40}});
    test.window_left = left, test.window_right = right;
    run_attn(*gpu, test);
  }
}

TEST_CASE("attn_prefill e4m3: query heads per key head, softcap, sinks, large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill e4m3: query heads per key head, softcap, sinks, large logits");
  if (!gpu) return;
  for (const int64_t group : {1, 5, 7, 128}) {
    AttnCase test = sized_e4m3({128, 128}, {{130, 130}, {65, 300}});
    test.num_kv_heads = group >= 16 ? 1 : 3;
    test.num_q_heads = group * test.num_kv_heads;
    run_attn(*gpu, test);
  }
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {192, 128}, {256, 256}, {16, 48}})
    for (const float cap : {0.0f, 30.0f}) {
      AttnCase test = sized_e4m3(head_size, {{300, 300}, {10, 0}, {70, 500}, {90, 40}});
      test.softcap = cap, test.sinks = true, test.sigma = cap > 0 ? 20.0f : 1.0f;
      test.flags = cap > 0 ? DGRT_ATTN_LSE_BASE2 : DGRT_ATTN_LSE_WITH_SINK;
      test.flags |= few_kernels_unless(cap == 0 || head_size.first == 192);
      run_attn(*gpu, test);
    }
  AttnCase large = sized_e4m3({128, 128}, {{300, 300}, {50, 200}});
  large.sigma = 1000.0f;
  run_attn(*gpu, large);
}

TEST_CASE("attn_prefill e4m3: repeats and graph replay, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill e4m3: repeats and graph replay, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512}) {
    const AttnCase test = sized_e4m3({head_dim, head_dim}, {{700, 4000}, {30, 77}, {0, 5}, {1500, 1500}, {2, 300}});
    run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const AttnRun run, AttnRun::make(*gpu, test));
      DGRT_ASSIGN(const AttnRun::Outputs want, run.outputs());
      DGRT_ASSIGN(const AttnRun::Outputs got, run.outputs());
      Graph graph(gpu->lab->driver());
      const CUstream stream = gpu->lab->stream();
      DGRT_TRY(capture(&graph, stream, [&] { return run.launch(got); }));
      DGRT_TRY(run.launch(want));
      for (int round = 0; round < 10; ++round) {
        for (int i = 0; i < 3; ++i) DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_ASSIGN(const int64_t differs, lab::first_difference(*gpu->lab, want.o.data(), got.o.data(), want.o.bytes()));
        if (differs >= 0) return error(DGRT_INTERNAL, "byte {} of o differs", differs);
        DGRT_TRY(run.poison(got));
      }
      return run.check(want);
    });
  }
}

TEST_CASE("attn_prefill e4m3: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_prefill e4m3: small sizes");
  if (!gpu) return;
  run_attn(*gpu, sized_e4m3({128, 128}, {{1, 1}, {70, 133}, {0, 5}}));
}

}  // namespace dgrt::test
