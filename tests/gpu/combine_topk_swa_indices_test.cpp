// combine_topk_swa_indices, index by index: requests, windows, ratios, widths, positions given and derived, holes and
// positions that are not visible among the selected ones, bases at the end of int32.
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_sparse_check.h"

namespace dgrt::test {
namespace {

struct CombineCase {
  int64_t tokens = 0, batch = 1, window = 128, ratio = 4, top_k = 512;
  bool given_positions = false, all = false;  // all: topk_indices is NULL
  int64_t pad = 0, longest = 5000;
  uint32_t flags = 0;

  std::string name() const {
    return fmt::format("combine_topk_swa_indices {} batch={} window={} ratio={} k={} {}{}pad={} flags={:#x}", tokens,
                       batch, window, ratio, top_k, given_positions ? "positions " : "", all ? "all " : "", pad,
                       flags);
  }
};

class CombineRun {
 public:
  static Result<CombineRun> make(Gpu& gpu, const CombineCase& test) {
    CombineRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.window = test.window, run.desc_.ratio = test.ratio, run.desc_.max_tokens = 1 << 20;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    dgrt_combine_topk_swa_indices_args& x = run.args_;
    x.tokens = test.tokens, x.batch = test.batch, x.top_k = test.top_k;
    x.width = (test.top_k + test.window + 3) / 4 * 4 + 4 * test.pad;
    x.topk_row_stride = (test.top_k + 3) / 4 * 4 + 4 * test.pad;
    x.indices_row_stride = x.width + 8 * test.pad;
    const lab::Device& lab = *gpu.lab;
    const auto make = [&](lab::DeviceBuffer* buffer, int64_t words) -> Status {
      DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(lab, static_cast<size_t>(words) * 4));
      return ok();
    };
    DGRT_TRY(make(&run.topk_, test.all ? 0 : test.tokens * x.topk_row_stride));
    DGRT_TRY(make(&run.starts_, test.batch + 1));
    for (lab::DeviceBuffer* buffer :
         {&run.seq_lens_, &run.gather_lens_, &run.compressed_base_, &run.swa_base_})
      DGRT_TRY(make(buffer, test.batch));
    DGRT_TRY(make(&run.positions_, test.tokens));
    DGRT_TRY(make(&run.indices_, test.tokens * x.indices_row_stride));
    DGRT_TRY(make(&run.lengths_, test.tokens));
    x.query_start_loc = run.starts_.as<int32_t>(), x.seq_lens = run.seq_lens_.as<int32_t>();
    x.gather_lens = run.gather_lens_.as<int32_t>(), x.compressed_base = run.compressed_base_.as<int32_t>();
    x.swa_base = run.swa_base_.as<int32_t>(), x.indices = run.indices_.as<int32_t>();
    x.lengths = run.lengths_.as<int32_t>();
    if (!test.all) x.topk_indices = run.topk_.as<int32_t>();
    if (test.given_positions) x.query_pos = run.positions_.as<int32_t>();
    DGRT_TRY(run.fill(1));
    return run;
  }

  // Some requests are empty, some have more tokens than they are long; the last tokens belong to none.
  Status fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int64_t end) { return static_cast<int64_t>(random() % end); };
    images_ = {};
    std::vector<int64_t> cuts;
    for (int64_t b = 0; b <= test_.batch; ++b) cuts.push_back(below(test_.tokens + 1));
    std::sort(cuts.begin(), cuts.end());
    cuts.front() = 0;
    for (const int64_t cut : cuts) images_.query_start_loc.push_back(static_cast<int32_t>(1000 + cut));
    for (int64_t b = 0; b < test_.batch; ++b) {
      const int64_t length = below(6) == 0 ? below(3) : below(test_.longest);
      images_.seq_lens.push_back(static_cast<int32_t>(length));
      const int64_t enough = std::min(length, cuts[b + 1] - cuts[b] + test_.window - 1);
      images_.gather_lens.push_back(static_cast<int32_t>(below(5) == 0 ? below(enough + 1) : enough));
      images_.compressed_base.push_back(static_cast<int32_t>(b % 4 == 3 ? INT32_MAX - below(3000) : below(1 << 30)));
      images_.swa_base.push_back(static_cast<int32_t>(b % 5 == 3 ? INT32_MAX - below(300) : below(1 << 30)));
    }
    images_.topk_indices.resize(topk_.bytes() / 4);
    for (int32_t& index : images_.topk_indices)
      index = static_cast<int32_t>(below(17) == 0 ? (below(2) ? -1 : INT32_MAX) : below(test_.longest / test_.ratio + 1));
    if (test_.given_positions)
      for (int64_t t = 0; t < test_.tokens; ++t)
        images_.query_pos.push_back(static_cast<int32_t>(below(test_.longest) - 2));
    DGRT_TRY(topk_.upload(images_.topk_indices.data(), topk_.bytes()));
    DGRT_TRY(starts_.upload(images_.query_start_loc.data(), starts_.bytes()));
    DGRT_TRY(seq_lens_.upload(images_.seq_lens.data(), seq_lens_.bytes()));
    DGRT_TRY(gather_lens_.upload(images_.gather_lens.data(), gather_lens_.bytes()));
    DGRT_TRY(compressed_base_.upload(images_.compressed_base.data(), compressed_base_.bytes()));
    DGRT_TRY(swa_base_.upload(images_.swa_base.data(), swa_base_.bytes()));
    return positions_.upload(images_.query_pos.data(), images_.query_pos.size() * 4);
  }

  Status poison() const {
    DGRT_TRY(indices_.poison());
    return lengths_.poison();
  }
  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }

  Result<std::string> check() {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&topk_, &indices_, &lengths_}) DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.indices, indices_.download_all<int32_t>());
    DGRT_ASSIGN(images_.lengths, lengths_.download_all<int32_t>());
    DGRT_TRY(lab::check_combine_topk_swa_indices(desc_, args_, images_));
    if (test_.tokens == 0) return std::string("nothing to do");
    return plan_.kernel_name(&args_.op);
  }

 private:
  Gpu* gpu_ = nullptr;
  CombineCase test_;
  dgrt_combine_topk_swa_indices_desc desc_ = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  dgrt_combine_topk_swa_indices_args args_ = DGRT_COMBINE_TOPK_SWA_INDICES_ARGS;
  Plan plan_;
  lab::CombineImages images_;
  lab::DeviceBuffer topk_, starts_, seq_lens_, gather_lens_, compressed_base_, swa_base_, positions_;
  lab::DeviceBuffer indices_, lengths_;
};

void run_combine(Gpu& gpu, const CombineCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(CombineRun run, CombineRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

}  // namespace

TEST_CASE("combine_topk_swa_indices: requests, windows, ratios, widths", "[gpu]") {
  Gpu* gpu = gpu_for("combine_topk_swa_indices: requests, windows, ratios, widths");
  if (!gpu) return;
  std::vector<CombineCase> cases;
  for (const int64_t tokens : {0, 1, 9, 500})
    for (const int64_t batch : {0, 1, 5, 33, 1100})
      cases.push_back({.tokens = tokens, .batch = batch, .given_positions = batch == 33, .flags = DGRT_FLAG_PDL});
  for (const int64_t window : {1, 100, 128, 129})
    for (const int64_t top_k : {0, 1, 63, 1024})
      cases.push_back({.tokens = 300, .batch = 4, .window = window, .top_k = top_k, .pad = window % 2});
  cases.push_back({.tokens = 300, .batch = 3, .ratio = 128, .top_k = 500, .all = true, .longest = 60000});
  cases.push_back({.tokens = 300, .batch = 3, .ratio = 1, .top_k = 200, .given_positions = true, .pad = 1});
  for (const CombineCase& test : cases) run_combine(*gpu, test);
}

TEST_CASE("combine_topk_swa_indices: graph replay with other requests", "[gpu]") {
  Gpu* gpu = gpu_for("combine_topk_swa_indices: graph replay with other requests");
  if (!gpu) return;
  run_case("graph replay", [&]() -> Result<std::string> {
    DGRT_ASSIGN(CombineRun run, CombineRun::make(*gpu, {.tokens = 400, .batch = 9, .flags = DGRT_FLAG_PDL}));
    return replay(*gpu, 5, &run);
  });
}

TEST_CASE("combine_topk_swa_indices: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("combine_topk_swa_indices: small sizes");
  if (!gpu) return;
  run_combine(*gpu, {.tokens = 37, .batch = 4, .window = 100, .top_k = 63, .pad = 1});
}

}  // namespace dgrt::test
