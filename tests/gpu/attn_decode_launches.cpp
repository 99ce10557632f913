// What attn_decode and attn_extend must give bit for bit: repeats, sequences alone, replays of a graph.
#include "tests/gpu/attn_decode_case.h"
#include "tests/gpu/decode_launches.h"

namespace dgrt::test {

void run_repeats(Gpu& gpu, const DecodeCase& test, int rounds) { run_launch_repeats<DecodeRun>(gpu, test, rounds); }

void run_one_by_one(Gpu& gpu, const DecodeCase& test) {
  run_case("one by one: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const DecodeRun run, DecodeRun::make(gpu, test));
    DGRT_ASSIGN(const DecodeRun::Outputs want, run.outputs());
    DGRT_ASSIGN(const DecodeRun::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    DGRT_ASSIGN(const lab::DeviceBuffer indptr, lab::DeviceBuffer::make(*gpu.lab, 8));
    int64_t first = 0;
    for (size_t b = 0; b < test.lens.size(); ++b) {
      dgrt_attn_decode_args x = got.args;
      const int32_t ends[] = {0, static_cast<int32_t>(test.lens[b].first)};
      DGRT_TRY(indptr.upload(ends, sizeof(ends)));
      x.batch = 1, x.total_q = x.max_q_len = ends[1], x.max_kv_len = test.lens[b].second;
      x.q_indptr = indptr.as<int32_t>();
      x.seq_lens += b, x.page_table += static_cast<int64_t>(b) * x.page_table_stride;
      x.q = static_cast<const uint16_t*>(x.q) + first * x.q_token_stride;
      x.o = static_cast<uint16_t*>(x.o) + first * x.o_token_stride;
      x.lse += first * x.lse_token_stride;
      if (test.mask != MaskShape::none) x.mask_indptr += b;
      DGRT_TRY(run.plan().launch(&x.op, gpu.lab->stream()));
      DGRT_TRY(gpu.lab->synchronize());
      first += ends[1];
    }
    DGRT_TRY(check_equal(gpu, want, got));
    return run.check(want);
  });
}

void run_against_causal(Gpu& gpu, const DecodeCase& test) {
  run_case("against causal: " + test.name(), [&]() -> Result<std::string> {
    DecodeCase causal = test;
    causal.mask = MaskShape::none;
    causal.flags &= ~(DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX);
    DGRT_ASSIGN(const DecodeRun want_run, DecodeRun::make(gpu, causal));
    DGRT_ASSIGN(const DecodeRun run, DecodeRun::make(gpu, test));
    DGRT_ASSIGN(const DecodeRun::Outputs want, want_run.outputs());
    DGRT_ASSIGN(const DecodeRun::Outputs got, run.outputs());
    DGRT_TRY(want_run.launch(want));
    DGRT_TRY(run.launch(got));
    DGRT_TRY(check_equal(gpu, want, got));
    return run.check(got);
  });
}

void run_graph_replay(Gpu& gpu, const DecodeCase& test,
                      const std::vector<std::vector<int32_t>>& replays) {
  run_launch_replays<DecodeRun>(gpu, test, replays);
}

}  // namespace dgrt::test
