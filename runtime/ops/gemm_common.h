// What the dense GEMM ops share on the host: which tile configs are legal, what they cost by the
// model, and the parts of a launch that do not depend on the element type.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "device/common/gemm_tile.cuh"
#include "device/epilogue/output.cuh"
#include "dgrt/gemm.h"
#include "runtime/base/config.h"
#include "runtime/base/status.h"
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/op.h"

namespace dgrt::gemm {

// What distinguishes one element type and output from another.
struct Traits {
  dgrt_dtype dtype_ab;
  uint32_t element_bytes;  // of a and b
  bool scaled;             // e4m3: a scale per 128 of k, sums promoted there
  bool d_is_fp32, with_c;
  bool ragged_n;     // rows of d hold no multiple of 16 bytes
  uint32_t max_sms;  // the device's SMs or the desc's budget
  bool budgeted;     // the desc limits SMs

  bool direct() const { return d_is_fp32 || with_c || ragged_n; }  // see gemm_store
};

bool is_ragged(const dgrt_gemm_desc& desc);
// Tells the kernel, if its store would care.
void set_ragged(const dgrt_gemm_desc& desc, const GemmConfig& config, Instance* instance);
Traits make_traits(const dgrt_gemm_desc& desc, const Target& target, bool scaled);

constexpr int64_t max_size = INT32_MAX;  // of m, n, k: TMA coordinates are 32-bit

GemmConfig decode(const Config& config);
Config encode(const GemmConfig& config);
uint32_t smem_bytes(const Traits& traits, const GemmConfig& config);

Status check_config(const Traits& traits, const GemmConfig& config);
std::vector<Config> candidates(const Traits& traits, int64_t m);
int64_t cost_ps(const Traits& traits, int64_t m, int64_t n, int64_t k, const GemmConfig& config);
SelectorVar selector_m(int64_t max_m);

// "sm90_gemm_fp8_128x192_s4_c2x1"
std::string entry_name(const char* stem, const GemmConfig& config);

// Everything that bind() needs of a config.
struct Plan {
  GemmConfig config;
  uint32_t smem_bytes, num_threads, max_clusters, band;
  bool direct;
};
Plan make_plan(const Traits& traits, const Config& config);

Status check_desc(const dgrt_gemm_desc& desc);
// Pointers, strides and m. `with_c` and the scales are the caller's part.
Status check_args(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args, uint32_t ab_bytes,
                  uint32_t d_bytes);
Status check_pointer(const char* name, const void* pointer, uint32_t alignment);
// `least`: elements a row holds.
Status check_stride(const char* name, int64_t stride, int64_t least, uint32_t element_bytes);

GemmOutput make_output(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args);
// The maps of a, b and, where the store wants one, d.
Status encode_maps(const Driver& driver, const dgrt_gemm_desc& desc, const dgrt_gemm_args& args,
                   const Plan& plan, TensorMap* a, TensorMap* b, TensorMap* d);
void set_grid(const dgrt_gemm_desc& desc, const dgrt_gemm_args& args, const Plan& plan,
              Launch* launch);

// What the gemm stems say in the same words. T has `stem`, `scaled`, and of its kernel `header`,
// `name_space` and `params_bytes`.
template <class T>
struct OpBase {
  using Desc = dgrt_gemm_desc;
  using Args = dgrt_gemm_args;
  static constexpr uint32_t op_id = DGRT_OP_GEMM;
  static constexpr const char* op = "gemm";

  static Status check_desc(const Desc& d) { return gemm::check_desc(d); }
  static std::vector<SelectorVar> selector(const Desc& d) { return {selector_m(d.max_m)}; }
  static Traits traits(const Desc& d, const Target& t) { return make_traits(d, t, T::scaled); }
  static std::vector<Config> candidates(const Desc& d, const Target& t, const Point& p) {
    if (t.arch != "sm_90a") return {};
    return gemm::candidates(traits(d, t), p[0]);
  }
  static Status check_config(const Desc& d, const Target& t, const Config& c) {
    if (t.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", t.arch, T::stem);
    return gemm::check_config(traits(d, t), decode(c));
  }
  static int64_t cost_ps(const Desc& d, const Target& t, const Point& p, const Config& c) {
    return gemm::cost_ps(traits(d, t), p[0], d.n, d.k, decode(c));
  }
  static Instance instance(const Desc& d, const Target& t, const Config& c) {
    const GemmConfig config = decode(c);
    Instance instance{.stem = T::stem,
                      .header = T::header,
                      .name_space = T::name_space,
                      .entry = entry_name(T::stem, config),
                      .arch = t.arch,
                      .cfg = encode(config),
                      .num_threads = gemm_num_threads(config),
                      .min_blocks = config.blocks_per_sm,
                      .params_bytes = T::params_bytes};
    set_ragged(d, config, &instance);
    return instance;
  }
  static Prepared prepare(const Desc& d, const Target& t, const Config& c) {
    return Prepared::of(make_plan(traits(d, t), c));
  }
  static Point point(const Args& x) { return {x.m}; }
  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }
};

}  // namespace dgrt::gemm
