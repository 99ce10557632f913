// attn_prefill bit for bit against itself: repeats, dependent launches, other batches, graphs.
#include <algorithm>

#include "tests/gpu/attn_case.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {
namespace {

Status check_equal(const Gpu& gpu, const AttnRun::Outputs& want, const AttnRun::Outputs& got,
                   const std::string& what) {
  DGRT_TRY(gpu.lab->synchronize());
  DGRT_ASSIGN(const int64_t o,
              lab::first_difference(*gpu.lab, want.o.data(), got.o.data(), want.o.bytes()));
  DGRT_ASSIGN(const int64_t lse,
              lab::first_difference(*gpu.lab, want.lse.data(), got.lse.data(), want.lse.bytes()));
  if (o < 0 && lse < 0) return ok();
  return error(DGRT_INTERNAL, "{}: byte {} of o, {} of lse differs (-1: none)", what, o, lse);
}

AttnCase ragged_case(int64_t head_dim) {
  AttnCase test;
  test.head_dim_qk = test.head_dim_v = head_dim;
  for (int64_t i = 0; i < 40; ++i)
    test.lens.push_back({1 + i * 53 % 400, 1 + i * 53 % 400 + i % 3 * 200});
  return test;
}

}  // namespace

TEST_CASE("attn_prefill: 100 repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: 100 repeats, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const uint32_t flags : {0u, DGRT_FLAG_PDL}) {
      AttnCase test = ragged_case(head_dim);
      test.flags = flags;
      run_case("100 repeats: " + test.name(), [&]() -> Result<std::string> {
        DGRT_ASSIGN(const AttnRun run, AttnRun::make(*gpu, test));
        constexpr size_t num_slots = 10, num_rounds = 10;
        DGRT_ASSIGN(const AttnRun::Outputs want, run.outputs());
        std::vector<AttnRun::Outputs> slots(num_slots);
        for (AttnRun::Outputs& slot : slots) {
          DGRT_ASSIGN(slot, run.outputs());
        }
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_TRY(run.launch(want));
        for (size_t round = 0; round < num_rounds; ++round) {
          for (const AttnRun::Outputs& slot : slots) DGRT_TRY(run.poison(slot));
          for (const AttnRun::Outputs& slot : slots) DGRT_TRY(run.launch(slot));  // back to back
          for (size_t i = 0; i < num_slots; ++i)
            DGRT_TRY(
                check_equal(*gpu, want, slots[i], fmt::format("repeat {}", round * num_slots + i)));
        }
        return run.check(want);
      });
    }
}

TEST_CASE("attn_prefill: batch-invariant, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: batch-invariant, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 96, 128, 256, 512}) {
    AttnCase test = ragged_case(head_dim);
    test.flags = DGRT_FLAG_BATCH_INVARIANT;
    test.hint_factor = 8;
    run_case("one by one: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const AttnRun run, AttnRun::make(*gpu, test));
      DGRT_ASSIGN(const AttnRun::Outputs want, run.outputs());
      DGRT_ASSIGN(const AttnRun::Outputs got, run.outputs());
      DGRT_TRY(gpu->lab->synchronize());
      DGRT_TRY(run.launch(want));
      std::vector<std::string> kernels;
      DGRT_ASSIGN(const lab::DeviceBuffer indptr, lab::DeviceBuffer::make(*gpu->lab, 16));
      int64_t first_q = 0, first_kv = 0;
      for (const auto& [num_q, num_kv] : test.lens) {
        dgrt_attn_prefill_args x = got.args;
        const int32_t ends[] = {0, static_cast<int32_t>(num_q), 0, static_cast<int32_t>(num_kv)};
        DGRT_TRY(indptr.upload(ends, sizeof(ends)));
        x.batch = 1, x.total_q = x.max_q_len = num_q, x.total_kv = x.max_kv_len = num_kv;
        x.q_indptr = indptr.as<int32_t>(), x.kv_indptr = x.q_indptr + 2;
        x.q = static_cast<const uint16_t*>(x.q) + first_q * x.q_token_stride;
        x.k = static_cast<const uint16_t*>(x.k) + first_kv * x.k_token_stride;
        x.v = static_cast<const uint16_t*>(x.v) + first_kv * x.v_token_stride;
        x.o = static_cast<uint16_t*>(x.o) + first_q * x.o_token_stride;
        x.lse += first_q * x.lse_token_stride;
        DGRT_ASSIGN(const std::string kernel, run.plan().kernel_name(&x.op));
        if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end())
          kernels.push_back(kernel);
        DGRT_TRY(run.plan().launch(&x.op, gpu->lab->stream()));
        DGRT_TRY(gpu->lab->synchronize());
        first_q += num_q, first_kv += num_kv;
      }
      DGRT_TRY(check_equal(*gpu, want, got, "one by one"));
      DGRT_ASSIGN(const std::string found, run.check(want));
      return fmt::format("{}; {}", fmt::join(kernels, ", "), found);
    });
  }
}

TEST_CASE("attn_prefill: graph replay with other inputs and other sequences", "[gpu]") {
  Gpu* gpu = gpu_for("attn_prefill: graph replay with other inputs and other sequences");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_FLAG_PDL})
    for (const int64_t head_dim : {128, 512}) {
      AttnCase test;
      test.head_dim_qk = test.head_dim_v = head_dim;
      test.flags = flags, test.sinks = true, test.window_left = 150;
      test.lens = {{500, 500}, {20, 300}, {130, 130}};
      run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
        DGRT_ASSIGN(const AttnRun run, AttnRun::make(*gpu, test));
        DGRT_ASSIGN(const AttnRun::Outputs first, run.outputs());
        DGRT_ASSIGN(const AttnRun::Outputs second, run.outputs());
        DGRT_TRY(gpu->lab->synchronize());
        Graph graph(gpu->lab->driver());
        const CUstream stream = gpu->lab->stream();
        DGRT_TRY(capture(&graph, stream, [&]() -> Status {
          DGRT_TRY(run.launch(first));
          return run.launch(second);
        }));
        std::string details;
        uint64_t seed = 11;
        for (const auto& lens : std::initializer_list<std::vector<std::pair<int64_t, int64_t>>>{
                 {{500, 500}, {20, 300}, {130, 130}},
                 {{1, 1}, {500, 500}, {0, 0}},
                 {{0, 400}, {0, 3}, {77, 500}},
                 {{64, 500}, {64, 0}, {64, 64}}}) {
          DGRT_TRY(run.set_lens(lens));
          DGRT_TRY(run.fill(seed++));
          for (const AttnRun::Outputs* out : {&first, &second}) DGRT_TRY(run.poison(*out));
          DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
          DGRT_TRY(check_equal(*gpu, first, second, "within a replay"));
          for (const AttnRun::Outputs* out : {&first, &second}) {
            DGRT_ASSIGN(const std::string detail, run.check(*out));
            details += (details.empty() ? "" : "; ") + detail;
          }
        }
        return details;
      });
    }
}

}  // namespace dgrt::test
