// Two ops for tests of the engine, whose every answer is known. fake_big makes sizes of a desc's
// choosing of everything: selector variables, kernels, workspace. fake_small shares its op id and
// takes another type. Their kernel is real CUDA C++ and tiny; fake_kernels() is its template.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/ops/op.h"

namespace dgrt::test {

constexpr uint32_t fake_op_id = 9001;
constexpr int64_t fake_max_size = 1 << 20;

struct FakeDesc {
  dgrt_op op = {fake_op_id, sizeof(FakeDesc)};
  uint32_t type = 1;      // 1: fake_big, 2: fake_small
  uint32_t num_vars = 1;  // selector variables: m, len, batch
  int64_t max_m = 1000, max_len = 1000, max_batch = 1000;
  int64_t shape_n = 64;          // table rules may test it as n
  uint32_t num_blocks = 8;       // the model can prefer this many different kernels
  uint32_t workspace_per_m = 0;  // bytes
  uint32_t flags = 0;
  uint32_t reserved = 0;
};

struct FakeArgs {
  dgrt_op op = {fake_op_id, sizeof(FakeArgs)};
  int* out = nullptr;
  int64_t m = 0, len = 0, batch = 0;
};

struct FakeParams {
  int* out;
  int64_t size;
  int64_t split;
};

inline constexpr const char* fake_header = "fake/fake_op.cuh";
inline constexpr const char* fake_template =
    "#pragma once\n"
    "namespace dgrt::fake {\n"
    "struct Params { int* out; long size; long split; };\n"
    "template <class Cfg> __device__ void run(const Params& p) {\n"
    "  if (threadIdx.x < p.size) p.out[threadIdx.x] = Cfg::block * p.split;\n"
    "}\n"
    "}\n";

// The variables' cells end at multiples of 20 up to 400, then anywhere far off.
inline std::vector<int64_t> fake_breaks() {
  std::vector<int64_t> breaks;
  for (int64_t end = 20; end <= 400; end += 20) breaks.push_back(end);
  breaks.push_back(5000);
  breaks.push_back(fake_max_size);
  return breaks;
}

template <uint32_t type>
struct FakeOp {
  using Desc = FakeDesc;
  using Args = FakeArgs;
  static constexpr uint32_t op_id = fake_op_id;
  static constexpr const char* op = "fake";
  static constexpr const char* stem = type == 1 ? "fake_big" : "fake_small";

  static bool matches(const Desc& d) { return d.type == type; }

  static Status check_desc(const Desc& d) {
    if (d.type != type) return invalid("type={}: must be {}", d.type, type);
    if (d.max_m < 0 || d.max_m > fake_max_size)
      return invalid("max_m={}: must be 0 to {}", d.max_m, fake_max_size);
    if (d.reserved != 0) return invalid("reserved={}: must be 0", d.reserved);
    return ok();
  }

  static std::vector<SelectorVar> selector(const Desc& d) {
    std::vector<SelectorVar> vars = {{"m", d.max_m, fake_breaks()},
                                     {"len", d.max_len, fake_breaks()},
                                     {"batch", d.max_batch, fake_breaks()}};
    vars.resize(d.num_vars);
    return vars;
  }

  static Config shape(const Desc& d) { return {{"n", d.shape_n}}; }

  static std::vector<Config> candidates(const Desc& d, const Target& target, const Point&) {
    std::vector<Config> configs;
    if (target.arch != "sm_90a") return configs;
    for (int64_t block = 1; block <= d.num_blocks; ++block)
      for (const int64_t split : {1, 2, 4}) configs.push_back({{"block", block}, {"split", split}});
    return configs;
  }

  static Status check_config(const Desc&, const Target&, const Config& config) {
    if (config["block"] < 1 || config["block"] > 99)
      return invalid("block={}: must be 1 to 99", config["block"]);
    return ok();
  }

  // Wants block = sum / 20, spread evenly over num_blocks, and split 1, 2 and 4 for small, middle
  // and large sums.
  static int64_t cost_ps(const Desc& d, const Target& target, const Point& point,
                         const Config& config) {
    const int64_t sum = point[0] + 2 * point[1] + 3 * point[2];
    const int64_t block = std::clamp<int64_t>(sum / 20, 1, d.num_blocks);
    const int64_t split = sum < 100 ? 1 : sum < 200 ? 2 : 4;
    return 1000 * sum + target.sm_count + 5000 * std::abs(block - config["block"]) +
           2000 * std::abs(split - config["split"]);
  }

  // `split` is a kernel argument and no part of the kernel.
  static Instance instance(const Desc&, const Target& target, const Config& config) {
    Instance instance;
    instance.stem = stem;
    instance.header = fake_header;
    instance.name_space = "dgrt::fake";
    instance.entry = fmt::format("{}_b{}", stem, config["block"]);
    instance.arch = target.arch;
    instance.cfg = {{"block", config["block"]}};
    instance.num_threads = 128;
    instance.params_bytes = sizeof(FakeParams);
    return instance;
  }

  static uint32_t smem_bytes(const Desc&, const Config& config) {
    return static_cast<uint32_t>(16 * config["block"]);
  }

  struct Decoded {
    int64_t block, split;
  };
  static Prepared prepare(const Desc&, const Target&, const Config& config) {
    return Prepared::of(Decoded{config["block"], config["split"]});
  }

  static Point point(const Args& a) { return {a.m, a.len, a.batch}; }

  static Status check_args(const Desc&, const Args& a) {
    if (!a.out && a.m != 0) return invalid("out=NULL: must not be NULL");
    return ok();
  }

  static uint64_t workspace_bytes(const Desc& d, const Prepared&, const Point& point) {
    return static_cast<uint64_t>(point[0]) * d.workspace_per_m;
  }

  static Status bind(const Desc& d, const Args& a, const Prepared& prepared, const Driver&,
                     void* workspace, Launch* launch) {
    const auto& decoded = prepared.as<Decoded>();
    if (d.workspace_per_m != 0 && a.m != 0 && !workspace)
      return error(DGRT_INTERNAL, "no workspace came through");
    launch->make_params<FakeParams>() = {a.out, a.m, decoded.split};
    launch->grid[0] = static_cast<uint32_t>((a.m + 127) / 128);
    launch->num_threads = 128;
    launch->smem_bytes = static_cast<uint32_t>(16 * decoded.block);
    launch->block_m = static_cast<uint32_t>(decoded.block);
    return ok();
  }
};

inline constexpr OpImpl fake_big = make_op_impl<FakeOp<1>>();
inline constexpr OpImpl fake_small = make_op_impl<FakeOp<2>>();

inline const std::vector<const OpImpl*>& fake_ops() {
  static const std::vector<const OpImpl*> ops = {&fake_big, &fake_small};
  return ops;
}

inline const dgrt_desc* base(const FakeDesc& desc) { return &desc.op; }
inline const dgrt_args* base(const FakeArgs& args) { return &args.op; }

// Sets an environment variable for the length of a scope.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const std::string& value) : name_(name) {
    if (const char* old = getenv(name)) old_ = old, had_ = true;
    setenv(name, value.c_str(), 1);
  }
  ~ScopedEnv() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }
  ScopedEnv(const ScopedEnv&) = delete;
  ScopedEnv& operator=(const ScopedEnv&) = delete;

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

}  // namespace dgrt::test
