// build_swa_token_ids, id by id: numbers and lengths of requests, windows, entries that do not exist, a capacity that
// is larger or smaller than needed.
#include <algorithm>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_sparse_check.h"

namespace dgrt::test {
namespace {

struct IdsCase {
  int64_t batch = 0, window = 128, longest = 1000, most_new = 300;
  int64_t capacity = 0;  // 0: what always suffices
  uint32_t flags = 0;

  std::string name() const {
    return fmt::format("build_swa_token_ids {} window={} longest={} new={} capacity={} flags={:#x}", batch, window,
                       longest, most_new, capacity, flags);
  }
};

class IdsRun {
 public:
  static Result<IdsRun> make(Gpu& gpu, const IdsCase& test) {
    IdsRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.window = test.window, run.desc_.max_batch = 1 << 20, run.desc_.max_capacity = 1 << 28;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    dgrt_build_swa_token_ids_args& x = run.args_;
    x.batch = test.batch, x.num_request_rows = 40, x.max_tokens = test.longest, x.num_full = 5000;
    x.capacity = test.capacity != 0 ? test.capacity : test.batch * (test.window - 1 + test.most_new);
    x.req_to_token_row_stride = test.longest + 3;
    const lab::Device& lab = *gpu.lab;
    const auto make = [&](lab::DeviceBuffer* buffer, int64_t bytes) -> Status {
      DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(lab, static_cast<size_t>(bytes)));
      return ok();
    };
    for (lab::DeviceBuffer* buffer :
         {&run.seq_lens_, &run.extend_lens_, &run.request_rows_, &run.first_, &run.gather_lens_})
      DGRT_TRY(make(buffer, test.batch * 4));
    DGRT_TRY(make(&run.req_to_token_, x.num_request_rows * x.req_to_token_row_stride * 4));
    DGRT_TRY(make(&run.full_to_swa_, x.num_full * 8));
    DGRT_TRY(make(&run.token_ids_, x.capacity * 4));
    DGRT_TRY(make(&run.offsets_, (test.batch + 1) * 4));
    x.seq_lens = run.seq_lens_.as<int32_t>(), x.extend_lens = run.extend_lens_.as<int32_t>();
    x.request_rows = run.request_rows_.as<int32_t>(), x.req_to_token = run.req_to_token_.as<int32_t>();
    x.full_to_swa = run.full_to_swa_.as<int64_t>(), x.token_ids = run.token_ids_.as<int32_t>();
    x.first = run.first_.as<int32_t>(), x.gather_lens = run.gather_lens_.as<int32_t>();
    x.offsets = run.offsets_.as<int32_t>();
    DGRT_TRY(run.fill(1));
    return run;
  }

  Status fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int64_t end) { return static_cast<int64_t>(random() % end); };
    images_ = {};
    for (int64_t b = 0; b < test_.batch; ++b) {
      const int64_t length = below(11) == 0 ? -below(3) : below(test_.longest + 20);
      images_.seq_lens.push_back(static_cast<int32_t>(length));
      images_.extend_lens.push_back(static_cast<int32_t>(below(9) == 0 ? -below(2) : below(test_.most_new + 1)));
      images_.request_rows.push_back(static_cast<int32_t>(below(42) - 1));
    }
    images_.req_to_token.resize(req_to_token_.bytes() / 4), images_.full_to_swa.resize(full_to_swa_.bytes() / 8);
    for (int32_t& token : images_.req_to_token) token = static_cast<int32_t>(below(5100) - 50);
    for (int64_t& id : images_.full_to_swa)
      id = below(50) == 0 ? (below(2) ? -1 : int64_t{1} << 31) : below(int64_t{1} << 31);
    DGRT_TRY(seq_lens_.upload(images_.seq_lens.data(), seq_lens_.bytes()));
    DGRT_TRY(extend_lens_.upload(images_.extend_lens.data(), extend_lens_.bytes()));
    DGRT_TRY(request_rows_.upload(images_.request_rows.data(), request_rows_.bytes()));
    DGRT_TRY(req_to_token_.upload(images_.req_to_token.data(), req_to_token_.bytes()));
    return full_to_swa_.upload(images_.full_to_swa.data(), full_to_swa_.bytes());
  }

  Status poison() const {
    for (const lab::DeviceBuffer* buffer : {&token_ids_, &first_, &gather_lens_, &offsets_})
      DGRT_TRY(buffer->poison());
    return ok();
  }
  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }

  Result<std::string> check() {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&token_ids_, &first_, &gather_lens_, &offsets_})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.token_ids, token_ids_.download_all<int32_t>());
    DGRT_ASSIGN(images_.first, first_.download_all<int32_t>());
    DGRT_ASSIGN(images_.gather_lens, gather_lens_.download_all<int32_t>());
    DGRT_ASSIGN(images_.offsets, offsets_.download_all<int32_t>());
    DGRT_TRY(lab::check_build_swa_token_ids(desc_, args_, images_));
    return plan_.kernel_name(&args_.op);
  }

 private:
  Gpu* gpu_ = nullptr;
  IdsCase test_;
  dgrt_build_swa_token_ids_desc desc_ = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  dgrt_build_swa_token_ids_args args_ = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  Plan plan_;
  lab::SwaIdsImages images_;
  lab::DeviceBuffer seq_lens_, extend_lens_, request_rows_, req_to_token_, full_to_swa_;
  lab::DeviceBuffer token_ids_, first_, gather_lens_, offsets_;
};

void run_ids(Gpu& gpu, const IdsCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(IdsRun run, IdsRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

}  // namespace

TEST_CASE("build_swa_token_ids: requests, windows, capacities", "[gpu]") {
  Gpu* gpu = gpu_for("build_swa_token_ids: requests, windows, capacities");
  if (!gpu) return;
  std::vector<IdsCase> cases;
  for (const int64_t batch : {0, 1, 7, 1024, 1025, 3000})
    for (const int64_t window : {1, 100, 128})
      cases.push_back({.batch = batch, .window = window, .flags = batch % 2 ? DGRT_FLAG_PDL : 0});
  cases.push_back({.batch = 0, .capacity = 3000});
  cases.push_back({.batch = 50, .capacity = 1500});
  cases.push_back({.batch = 3, .longest = 70000, .most_new = 32768});
  cases.push_back({.batch = 2500, .longest = 3, .most_new = 2});
  for (const IdsCase& test : cases) run_ids(*gpu, test);
}

TEST_CASE("build_swa_token_ids: graph replay with other requests", "[gpu]") {
  Gpu* gpu = gpu_for("build_swa_token_ids: graph replay with other requests");
  if (!gpu) return;
  run_case("graph replay", [&]() -> Result<std::string> {
    DGRT_ASSIGN(IdsRun run, IdsRun::make(*gpu, {.batch = 9, .flags = DGRT_FLAG_PDL}));
    return replay(*gpu, 5, &run);
  });
}

TEST_CASE("build_swa_token_ids: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("build_swa_token_ids: small sizes");
  if (!gpu) return;
  run_ids(*gpu, {.batch = 7, .window = 100, .most_new = 30});
}

}  // namespace dgrt::test
