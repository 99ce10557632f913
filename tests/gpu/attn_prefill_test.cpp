// attn_prefill against a reference in fp64: head sizes, ratios of heads, masks, caps and sinks, ragged and
// empty sequences, layouts, what is not finite.
#include "tests/gpu/attn_case.h"

namespace dgrt::test {
namespace {

constexpr std::pair<int64_t, int64_t> head_sizes[] = {{64, 64},   {96, 96},   {128, 128},
                                                      {192, 128}, {256, 256}, {512, 512},
                                                      {80, 80},   {24, 40},   {160, 160}};

AttnCase sized(std::pair<int64_t, int64_t> head_size) {
  AttnCase test;
  test.head_dim_qk = head_size.first, test.head_dim_v = head_size.second;
  return test;
}

AttnCase with_lens(AttnCase test, std::vector<std::pair<int64_t, int64_t>> lens) {
  test.lens = std::move(lens);
  return test;
}

AttnCase with_window(AttnCase test, int64_t left, int64_t right) {
  test.window_left = left, test.window_right = right;
  return test;
}

}  // namespace

TEST_CASE("attn_prefill: head sizes, causal and full", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: head sizes, causal and full");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const dgrt_dtype dtype : {DGRT_BF16, DGRT_FP16})
      for (const int64_t right : {0, -1}) {
        AttnCase test = with_window(sized(head_size), -1, right);
        test.dtype = dtype, test.flags = few_kernels_unless(dtype == DGRT_BF16);
        run_attn(*gpu, with_lens(test, {{1, 1}, {300, 300}, {113, 203}, {0, 5}, {77, 77}}));
        run_attn(*gpu, with_lens(test, {{1023, 1024}}));
      }
}

TEST_CASE("attn_prefill: lengths, one sequence at a time", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: lengths, one sequence at a time");
  if (!gpu) return;
  constexpr std::pair<int64_t, int64_t> lens[] = {
      {1, 1},     {64, 128},    {128, 192},   {256, 256},   {239, 1},     {799, 3},    {113, 203},
      {113, 128}, {128, 217},   {113, 211},   {108, 256},   {256, 512},   {384, 256},  {640, 128},
      {512, 256}, {1024, 1024}, {1023, 1024}, {1024, 1023}, {4096, 4096}, {4224, 4224}};
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {256, 256}})
    for (const int64_t right : {0, -1})
      for (const auto& one : lens) {
        AttnCase test = with_window(with_lens(sized(head_size), {one}), -1, right);
        test.most_checked = 1500;
        run_attn(*gpu, test);
      }
}

// Enough tiles that the model takes 256 rows for 1000 queries, 192 for 600.
TEST_CASE("attn_prefill: tall tiles, whose slabs see different keys", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: tall tiles, whose slabs see different keys");
  if (!gpu) return;
  for (const int64_t longest : {600, 1000})
    for (const auto& [left, right] : {std::pair<int64_t, int64_t>{-1, 0}, {-1, -1}, {100, 0}, {30, 70}}) {
      AttnCase test = with_window(sized({64, 64}), left, right);
      test.num_q_heads = 16, test.num_kv_heads = 8;
      test.most_checked = 1500;
      run_attn(*gpu, with_lens(test, {{longest, 1024},
                                      {longest, longest},
                                      {300, 100},
                                      {77, 77},
                                      {0, 5},
                                      {513, 700},
                                      {longest, 400},
                                      {257, 257}}));
    }
}

TEST_CASE("attn_prefill: query heads per key head", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: query heads per key head");
  if (!gpu) return;
  for (const int64_t group : {1, 2, 3, 4, 5, 6, 7, 8, 16, 128})
    for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {64, 64}}) {
      AttnCase test = with_lens(sized(head_size), {{130, 130}, {65, 300}});
      test.num_kv_heads = group >= 16 ? 1 : 3;
      test.num_q_heads = group * test.num_kv_heads;
      run_attn(*gpu, test);
    }
}

TEST_CASE("attn_prefill: windows", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: windows");
  if (!gpu) return;
  for (const auto& head_size :
       {std::pair<int64_t, int64_t>{128, 128}, {64, 64}, {256, 256}, {512, 512}})
    for (const auto& [left, right] :
         std::initializer_list<std::pair<int64_t, int64_t>>{{0, 0},
                                                            {1, 0},
                                                            {33, 0},
                                                            {127, 0},
                                                            {1024, 0},
                                                            {1299, 0},
                                                            {int64_t{1} << 40, 0},
                                                            {0, 20},
                                                            {100, 20},
                                                            {-1, 20},
                                                            {-1, int64_t{1} << 40},
                                                            {64, -1},
                                                            {0, 1300}}) {
      AttnCase test = with_window(sized(head_size), left, right);
      run_attn(*gpu, with_lens(test, {{1300, 1300}, {100, 500}, {90, 40}}));
    }
}

TEST_CASE("attn_prefill: softcap, sinks and the forms of lse", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: softcap, sinks and the forms of lse");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const float cap : {0.0f, 1.0f, 15.0f, 30.0f, 50.0f}) {
      AttnCase test = with_lens(sized(head_size), {{300, 300}, {10, 0}, {70, 500}, {90, 40}});
      test.softcap = cap, test.sinks = true;
      test.flags = few_kernels_unless(cap == 0 || head_size.first == 128);
      test.sigma = cap > 0 ? 20.0f : 1.0f;  // logits that the cap bends
      run_attn(*gpu, test);
    }
  AttnCase test = with_lens({}, {{300, 300}, {10, 0}, {70, 500}, {90, 40}});
  for (const bool sinks : {false, true})
    for (const uint32_t flags : {0u, DGRT_ATTN_LSE_BASE2, DGRT_ATTN_LSE_WITH_SINK,
                                 DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK}) {
      test.sinks = sinks, test.flags = flags;
      run_attn(*gpu, test);
    }
  test.lse = false;
  run_attn(*gpu, test);
}

TEST_CASE("attn_prefill: nothing to do, nothing to see", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: nothing to do, nothing to see");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {512, 512}}) {
    run_attn(*gpu, with_lens(sized(head_size), {}));
    run_attn(*gpu, with_lens(sized(head_size), {{0, 100}, {0, 0}}));
    run_attn(*gpu, with_lens(sized(head_size), {{100, 0}, {7, 0}}));  // no key anywhere
    run_attn(*gpu,
             with_lens(sized(head_size), {{0, 3}, {5, 0}, {0, 0}, {200, 10}, {1, 1}, {0, 9}}));
    run_attn(*gpu, with_window(with_lens(sized(head_size), {{500, 100}}), 10, 0));
  }
}

TEST_CASE("attn_prefill: uneven batches", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: uneven batches");
  if (!gpu) return;
  AttnCase uneven, many, chunks;
  for (int64_t i = 0; i < 256; ++i) uneven.lens.push_back({1 + i % 37, 1 + i % 37 + i % 5 * 10});
  uneven.lens[100] = {32768, 32768};
  uneven.most_checked = 12000;
  run_attn(*gpu, uneven);
  for (int64_t i = 0; i < 2000; ++i) many.lens.push_back({i % 71, i % 71 + i % 13 * 7});
  run_attn(*gpu, many);
  run_attn(*gpu, with_window(many, 20, -1));
  for (int64_t i = 0; i < 70000; ++i) chunks.lens.push_back({i % 3, 2});
  chunks.most_checked = 5000;
  run_attn(*gpu, chunks);
}

TEST_CASE("attn_prefill: layouts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: layouts");
  if (!gpu) return;
  for (const auto& head_size : head_sizes)
    for (const AttnLayout layout :
         {AttnLayout::padded, AttnLayout::head_major, AttnLayout::fused}) {
      AttnCase test = sized(head_size);
      test.layout = layout, test.sinks = true;
      if (layout == AttnLayout::fused) {
        if (head_size.first != head_size.second) continue;
        run_attn(*gpu, with_lens(test, {{200, 200}, {1, 1}, {77, 77}}));
        continue;
      }
      test.spare_tokens = 40, test.hint_factor = 3;
      run_attn(*gpu, with_lens(test, {{200, 200}, {1, 70}, {77, 50}}));
    }
}

TEST_CASE("attn_prefill: NaN where nobody may look", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: NaN where nobody may look");
  if (!gpu) return;
  for (const auto& head_size : head_sizes) {
    AttnCase test = sized(head_size);
    test.spare_tokens = 300;
    // The keys of every other sequence; those before and behind the window of a short one.
    test.nan_keys = {{100, 300}, {340, 1000}};
    run_attn(*gpu, with_lens(test, {{100, 100}, {0, 200}, {1, 40}, {0, 660}, {130, 130}}));
    AttnCase windowed = with_window(sized(head_size), 33, 0);
    windowed.nan_keys = {{0, 466}, {500, 800}};
    run_attn(*gpu, with_lens(windowed, {{1, 500}, {0, 300}, {64, 64}}));
  }
}

TEST_CASE("attn_prefill: large logits", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: large logits");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{128, 128}, {64, 64}, {256, 256}})
    for (const float sigma : {10.0f, 1000.0f, 30000.0f}) {
      AttnCase test = with_lens(sized(head_size), {{300, 300}, {50, 200}});
      test.sigma = sigma;
      test.dtype = sigma > 10000 ? DGRT_BF16 : DGRT_FP16;
      run_attn(*gpu, test);
    }
}

TEST_CASE("attn_prefill: more than 2^31 elements", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: more than 2^31 elements");
  if (!gpu) return;
  AttnCase test;
  test.num_q_heads = test.num_kv_heads = 64;
  test.lens.assign(2056, {128, 128});
  test.most_checked = 3000;
  run_attn(*gpu, test);
  test.layout = AttnLayout::head_major;
  run_attn(*gpu, test);
}

TEST_CASE("attn_prefill: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_prefill: small sizes");
  if (!gpu) return;
  run_attn(*gpu, with_lens(sized({64, 64}), {{1, 1}, {70, 133}, {0, 5}, {30, 0}}));
  AttnCase test = with_window(with_lens(sized({192, 128}), {{77, 140}}), 33, 0);
  test.softcap = 15, test.sinks = true, test.dtype = DGRT_FP16;
  run_attn(*gpu, test);
}

}  // namespace dgrt::test
