// scale_pack_ue8m0 bit for bit: every kind of fp32 in every case, both source orders, groups, groups
// along k that only the device knows, tails, exact and rounded up.
#include <algorithm>
#include <numeric>
#include <vector>

#include "gemm/sm90_scale_pack_ue8m0.cuh"  // interface half: max_group_words()
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_input_ops_check.h"

namespace dgrt::test {
namespace {

struct PackCase {
  int64_t k_blocks = 0;
  std::vector<int64_t> m;
  dgrt_major src_major = DGRT_K_MAJOR;
  int64_t num_groups = 1;
  int64_t pad = 0;  // elements between rows of src and between groups; four times as many in dst
  uint32_t flags = 0;
  uint32_t gran_k = 0;
  std::vector<int32_t> ks = {};  // K-grouped only

  bool k_grouped() const { return (flags & DGRT_SCALE_K_GROUPED) != 0; }
  int64_t num_z() const { return k_grouped() ? 1 : num_groups; }
  int64_t num_words() const {
    return k_grouped() ? sm90::scale_pack_ue8m0::max_group_words(k_blocks, num_groups)
                       : (k_blocks + 3) / 4;
  }
  std::string name() const {
    return fmt::format("scale_pack_ue8m0 k_blocks={}{}{}{}{}{}{}", k_blocks,
                       src_major == DGRT_MN_MAJOR ? " mn-major" : "",
                       num_groups != 1 ? fmt::format(" groups={}", num_groups) : "",
                       k_grouped() ? fmt::format(" k-grouped by {}", gran_k) : "",
                       pad != 0 ? fmt::format(" pad={}", pad) : "",
                       (flags & DGRT_SCALE_CEIL) != 0 ? " ceil" : "",
                       (flags & DGRT_FLAG_PDL) != 0 ? " pdl" : "");
  }
  dgrt_scale_pack_ue8m0_desc desc() const {
    dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
    desc.k_blocks = std::max<int64_t>(k_blocks, 1), desc.max_m = 1 << 24, desc.flags = flags;
    desc.src_major = src_major, desc.num_groups = num_groups, desc.gran_k = gran_k;
    return desc;
  }
};

// K-grouped: groups of these sizes; src holds what they own.
PackCase k_grouped(std::vector<int32_t> ks, uint32_t gran_k, std::vector<int64_t> m,
                   uint32_t flags = 0) {
  int64_t k_blocks = 0;
  for (const int64_t k : ks) k_blocks += (k + gran_k - 1) / gran_k;
  return {k_blocks,
          std::move(m),
          DGRT_MN_MAJOR,
          static_cast<int64_t>(ks.size()),
          0,
          flags | DGRT_SCALE_K_GROUPED,
          gran_k,
          std::move(ks)};
}

// Three of four are powers of two that have a code, the rest any bits at all or one of the edges.
uint32_t pattern(size_t idx, uint32_t seed) {
  constexpr uint32_t edges[] = {0,          0x80000000, 0x00400000, 0x00400001, 0x003fffff,
                                0x00200000, 0x7f000000, 0x7f000001, 0x7f800000, 0x7fc00000};
  uint64_t bits = (idx + 1) * 0x9e3779b97f4a7c15ull + seed;
  bits ^= bits >> 29, bits *= 0xbf58476d1ce4e5b9ull, bits ^= bits >> 32;
  const uint32_t draw = static_cast<uint32_t>(bits);
  if (draw % 4 != 0) return (1 + (draw >> 8) % 254) << 23;
  return draw % 8 != 0 ? edges[(draw >> 8) % std::size(edges)] : static_cast<uint32_t>(bits >> 13);
}

// Operands of one call; src starts one element into its buffer.
class PackRun {
 public:
  static Result<PackRun> make(Gpu& gpu, const PackCase& test, int64_t m) {
    PackRun run;
    run.gpu_ = &gpu;
    run.ks_ = test.ks;
    const bool mn_major = test.src_major == DGRT_MN_MAJOR;
    dgrt_scale_pack_ue8m0_args& args = run.args_;
    args.m = m;
    args.ld_src = (mn_major ? m : test.k_blocks) + test.pad;
    args.ld_dst = dgrt_tma_aligned_rows(m, 4) + 4 * test.pad;
    args.group_stride_src = (mn_major ? test.k_blocks : m) * args.ld_src + test.pad;
    args.group_stride_dst = test.num_words() * args.ld_dst + 4 * test.pad;
    args.k_blocks = test.k_grouped() ? test.k_blocks : 0;
    run.src_.resize(test.num_z() * args.group_stride_src);
    DGRT_ASSIGN(run.src_dev_, lab::DeviceBuffer::make(*gpu.lab, (run.src_.size() + 1) * 4));
    DGRT_ASSIGN(run.dst_dev_,
                lab::DeviceBuffer::make(*gpu.lab, test.num_z() * args.group_stride_dst * 4));
    DGRT_ASSIGN(run.ks_dev_, lab::DeviceBuffer::make(*gpu.lab, run.ks_.size() * 4));
    args.src = run.src_dev_.as<float>() + 1;
    args.dst = run.dst_dev_.as<int32_t>();
    args.ks = test.k_grouped() ? run.ks_dev_.as<int32_t>() : nullptr;
    return run;
  }
  // New contents of src and ks, and dst as if fresh.
  Status refill(uint32_t seed, const std::vector<int32_t>& ks) {
    ks_ = ks;
    for (size_t i = 0; i < src_.size(); ++i) src_[i] = pattern(i, seed);
    DGRT_TRY(dst_dev_.poison());
    DGRT_TRY(ks_dev_.upload(ks_.data(), ks_.size() * 4));
    return src_dev_.upload(src_.data(), src_.size() * 4, 4);
  }
  Status check(const dgrt_scale_pack_ue8m0_desc& desc) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&src_dev_, &dst_dev_, &ks_dev_})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(const std::vector<uint32_t> dst, dst_dev_.download_all<uint32_t>());
    return lab::check_scale_pack(desc, args_, ks_, src_, dst);
  }
  const dgrt_args* args() const { return &args_.op; }

 private:
  Gpu* gpu_ = nullptr;
  dgrt_scale_pack_ue8m0_args args_ = DGRT_SCALE_PACK_UE8M0_ARGS;
  std::vector<int32_t> ks_;
  std::vector<uint32_t> src_;
  lab::DeviceBuffer src_dev_, dst_dev_, ks_dev_;
};

Result<std::string> check(Gpu& gpu, const PackCase& test, const Plan& plan, int64_t m) {
  DGRT_ASSIGN(PackRun run, PackRun::make(gpu, test, m));
  DGRT_TRY(run.refill(1, test.ks));
  std::string kernel = "no kernel";
  if (m > 0 && test.k_blocks > 0) {
    DGRT_ASSIGN(kernel, plan.kernel_name(run.args()));
  }
  DGRT_TRY(plan.launch(run.args(), gpu.lab->stream()));
  const Status status = run.check(test.desc());
  if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
  return fmt::format("m={} {}", m, kernel);
}

void run_pack_cases(Gpu& gpu, const std::vector<PackCase>& cases) {
  for (const PackCase& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      const dgrt_scale_pack_ue8m0_desc desc = test.desc();
      DGRT_ASSIGN(const Plan plan, Plan::make(gpu, &desc.op));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, check(gpu, test, plan, m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
}

}  // namespace

TEST_CASE("scale_pack_ue8m0: sizes around the tiles, exact and rounded up", "[gpu]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: sizes around the tiles, exact and rounded up");
  if (!gpu) return;
  std::vector<PackCase> cases;
  for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR})
    for (const int64_t k_blocks : {1, 2, 3, 4, 5, 16, 31, 32, 33, 56})
      for (const int64_t pad : {0, 3})
        cases.push_back({k_blocks,
                         {0, 1, 2, 3, 4, 7, 31, 32, 33, 64, 65, 127, 128, 129, 1000},
                         major,
                         1,
                         pad,
                         pad != 0 ? DGRT_SCALE_CEIL : 0});
  run_pack_cases(*gpu, cases);
}

TEST_CASE("scale_pack_ue8m0: groups", "[gpu]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: groups");
  if (!gpu) return;
  std::vector<PackCase> cases;
  for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR}) {
    for (const int64_t k_blocks : {1, 56, 57, 4, 224, 228})  // k 128, 7168, 7296 by 128 and by 32
      for (const int64_t groups : {1, 2, 4})
        cases.push_back({k_blocks,
                         {4096, 4097, 8192},
                         major,
                         groups,
                         groups == 2,
                         groups == 4 ? DGRT_SCALE_CEIL : 0});
    cases.push_back({9, {0, 1, 33}, major, 70, 1});
    cases.push_back({1, {3}, major, 65535});
    cases.push_back({1, {8'400'001}, major});  // more rows than the grid has room for
  }
  run_pack_cases(*gpu, cases);
}

TEST_CASE("scale_pack_ue8m0: groups along k", "[gpu]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: groups along k");
  if (!gpu) return;
  std::vector<PackCase> cases;
  for (const uint32_t gran_k : {32u, 128u})
    for (const auto& [groups, k] :
         {std::pair{16, 2048}, std::pair{8, 4096}, std::pair{72, 384}, std::pair{128, 256}})
      cases.push_back(k_grouped(std::vector<int32_t>(groups, k), gran_k, {4096, 7168}));
  // Uneven, with empty groups and sizes that end within a block.
  std::vector<int32_t> uneven;
  for (int32_t i = 0; i < 128; ++i) uneven.push_back(i % 5 == 0 ? 0 : i * 37 % 1500);
  for (const uint32_t flags : {0u, DGRT_SCALE_CEIL, DGRT_FLAG_PDL})
    cases.push_back(k_grouped(uneven, 128, {0, 1, 33, 4097}, flags));
  cases.push_back(k_grouped(uneven, 32, {130}));
  cases.push_back(k_grouped({1}, 128, {5}));
  cases.push_back(k_grouped({0, 0, 640, 0}, 128, {36}));
  cases.push_back(k_grouped({0, 0}, 128, {36}));
  run_pack_cases(*gpu, cases);
}

TEST_CASE("scale_pack_ue8m0: sizes of groups that do not add up stay inside", "[gpu]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: sizes of groups that do not add up stay inside");
  if (!gpu) return;
  std::vector<PackCase> cases;
  for (std::vector<int32_t> ks : {std::vector<int32_t>{128, 256, 128},       // too few
                                  std::vector<int32_t>{1280, 1280, 1280},    // too many
                                  std::vector<int32_t>{-5, INT32_MAX, 128},  // nonsense
                                  std::vector<int32_t>(128, INT32_MAX)}) {
    PackCase test = k_grouped(std::move(ks), 128, {68});
    test.k_blocks = 17;
    cases.push_back(std::move(test));
  }
  run_pack_cases(*gpu, cases);
}

TEST_CASE("scale_pack_ue8m0: dependent launch, graph replay", "[gpu]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: dependent launch, graph replay");
  if (!gpu) return;
  run_pack_cases(*gpu, {{56, {1, 129, 4096}, DGRT_K_MAJOR, 1, 0, DGRT_FLAG_PDL}});
  // Between the replays the groups' sizes change, but not their sum.
  const PackCase test = k_grouped({384, 1024, 0, 640}, 128, {4100});
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    const dgrt_scale_pack_ue8m0_desc desc = test.desc();
    DGRT_ASSIGN(const Plan plan, Plan::make(*gpu, &desc.op));
    DGRT_ASSIGN(PackRun run, PackRun::make(*gpu, test, test.m.front()));
    DGRT_TRY(gpu->lab->synchronize());
    Graph graph(gpu->lab->driver());
    DGRT_TRY(capture(&graph, gpu->lab->stream(),
                     [&] { return plan.launch(run.args(), gpu->lab->stream()); }));
    for (const std::vector<int32_t>& ks : {test.ks, {0, 1920, 128, 0}}) {
      DGRT_TRY(run.refill(static_cast<uint32_t>(ks[0]), ks));
      DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, gpu->lab->stream()));
      DGRT_TRY(run.check(desc));
    }
    return std::string("two replays");
  });
}

TEST_CASE("scale_pack_ue8m0: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("scale_pack_ue8m0: small sizes");
  if (!gpu) return;
  run_pack_cases(*gpu, {{33, {0, 1, 65}, DGRT_K_MAJOR, 1, 3, DGRT_SCALE_CEIL},
                        {5, {33}, DGRT_MN_MAJOR, 3},
                        k_grouped({384, 0, 200}, 128, {36})});
}

}  // namespace dgrt::test
