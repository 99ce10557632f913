// What the ops of the GEMM family share on the host. Each op turns its desc into a Spec and its args
// into a Call; everything else is written once for all of them: which tile configs are legal, what
// they cost by the model, and how one call is checked and bound.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "device/common/gemm_params.cuh"
#include "device/common/gemm_segments.cuh"
#include "device/common/gemm_tile.cuh"
#include "dgrt/gemm.h"
#include "runtime/base/config.h"
#include "runtime/base/status.h"
#include "runtime/driver/tensor_map.h"
#include "runtime/ops/arg_rules.h"
#include "runtime/ops/op.h"

namespace dgrt::gemm {

constexpr int64_t max_size = INT32_MAX;  // of m, n, k: TMA coordinates are 32-bit
constexpr int64_t max_groups = 65535;

enum class Grouping : uint8_t {
  none,
  contiguous,  // rows sorted by group, b per group
  masked,      // a, b, d per group, row counts on the device
  batched,     // a, b, c, d per batch
  batch_sum,   // a, b per batch, whose products are added up
  segments,    // d cut by columns
  k            // k cut by groups, c and d per group, lengths on the device
};

// A desc of any op of the family.
struct Spec {
  int64_t n, k, max_m;
  Grouping grouping = Grouping::none;
  uint32_t num_groups = 1;
  dgrt_dtype dtype_ab, dtype_d;
  dgrt_scale_mode scale_mode;
  dgrt_major b_scale_major;
  dgrt_major a_major = DGRT_K_MAJOR, b_major;
  uint32_t sm_budget, flags;
  uint32_t max_block_m, max_block_n;
  uint32_t head_left = 0, head_mid = 0, head_right = 0;
  uint32_t alignment = 0;  // contiguous
  bool end_rows = false;   // contiguous: GROUP_END_ROW
  // segments: columns of each; their sum is n. Points into the desc.
  const int64_t* segment_n = nullptr;
  uint32_t num_segments = 0;

  bool is_fp8() const { return dtype_ab == DGRT_E4M3; }
  bool has(uint32_t flag) const { return (flags & flag) != 0; }
  uint32_t ab_bytes() const { return is_fp8() ? 1 : 2; }
  uint32_t d_bytes() const { return dtype_d == DGRT_FP32 ? 4 : 2; }
  // See gemm_store.
  bool is_ragged() const { return grouping != Grouping::segments && n * d_bytes() % 16 != 0; }
  bool is_direct() const {
    return (has(DGRT_GEMM_WITH_C) && dtype_d != DGRT_FP32) || has(DGRT_GEMM_UNALIGNED_D) ||
           is_ragged();
  }
  // Nothing asked for that would bar a config or make the store slower: what tables measure.
  bool is_plain() const {
    return !is_direct() && dtype_d != DGRT_FP32 && a_major == DGRT_K_MAJOR &&
           b_major == DGRT_K_MAJOR && scale_mode <= DGRT_SCALE_BLOCK && head_mid == 0 &&
           max_block_m == 0 && max_block_n == 0 && !has(DGRT_GEMM_WITH_BIAS) &&
           !has(DGRT_FLAG_BATCH_INVARIANT);
  }
  // c and d have a third axis.
  bool has_d_groups() const {
    return grouping == Grouping::masked || grouping == Grouping::batched || grouping == Grouping::k;
  }
  bool scale_per_block() const {
    return scale_mode == DGRT_SCALE_BLOCK || scale_mode == DGRT_SCALE_ROW;
  }
  uint32_t scale_bytes(const GemmConfig& c) const {
    return gemm_scale_bytes(c, scale_per_block(), scale_mode == DGRT_SCALE_ROW);
  }
  // a and b have a third axis.
  bool has_ab_groups() const {
    return grouping == Grouping::masked || grouping == Grouping::batched ||
           grouping == Grouping::batch_sum;
  }
  // Sets of tiles with an m of the call's.
  uint32_t tile_groups() const {
    return grouping == Grouping::contiguous || grouping == Grouping::batch_sum ? 1 : num_groups;
  }
  // What each element of d sums up.
  uint32_t summed_batches() const { return grouping == Grouping::batch_sum ? num_groups : 1; }
  int64_t num_k_blocks() const {
    return (k * ab_bytes() + gemm_block_k_bytes - 1) / gemm_block_k_bytes * summed_batches();
  }
  // The kernel makes tensor maps of each group.
  bool builds_maps() const { return grouping == Grouping::k; }
  uint32_t smem_bytes(const GemmConfig& c) const {
    return gemm_smem_bytes(c, gemm_store(c, is_direct()), d_bytes(), scale_bytes(c)) +
           (builds_maps() ? gemm_group_maps_bytes : 0);
  }
  int64_t d_columns() const {
    return head_mid == 0 ? n : n + n / (head_left + head_right) * head_mid;
  }
};

// Args of any op of the family. What an op does not have stays zero.
struct Call {
  const void *a, *b, *c = nullptr, *bias = nullptr;
  const float *a_scale, *b_scale;
  void* d;
  const int32_t* groups = nullptr;
  int32_t* signal = nullptr;
  int64_t m, expected_m;  // expected_m: what the kernel is chosen for
  int64_t lda, ldb, ldc = 0, ldd, ld_a_scale, ld_b_scale;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0, d_stride = 0;  // between groups
  int64_t a_scale_stride = 0, b_scale_stride = 0;
  void* const* segment_d = nullptr;  // segments: instead of d and ldd; they point into the args
  const int64_t* segment_ldd = nullptr;
  TensorMap* maps = nullptr;                    // k: the workspace
  std::byte* parts = nullptr;                   // batch_sum: the workspace
  const char* stride_suffix = "_group_stride";  // what the op's fields are called
};

// A Spec on a device.
struct Traits {
  Spec spec;
  uint32_t max_sms;  // the device's SMs or the desc's budget
  bool budgeted;     // the desc limits SMs
};
Traits make_traits(const Spec& spec, const Target& target);

GemmConfig decode(const Config& config);
Config encode(const GemmConfig& config);

Status check_config(const Traits& traits, const GemmConfig& config);
std::vector<Config> candidates(const Traits& traits, int64_t m);
int64_t same_candidates(int64_t m);  // rows that have the same
int64_t cost_ps(const Traits& traits, int64_t m, const GemmConfig& config);
SelectorVar selector_m(const char* name, int64_t max_m);

// batch_sum: CTAs stream rows that others want too. With deeper rings on an SM, or in clusters, they drift
// so far apart that L2 loses what they share: 4096 batches of 256 x 256 x 256 in tiles of 64 x 64 took 600
// us with 13 stages, 377 with 8, 477 with 5 (H100, CUDA 13.0, 2026-11-26).
constexpr uint32_t calm_ring_bytes = 131072;

// Clusters that run at once.
int64_t cluster_slots(const Traits& traits, const GemmConfig& config);
// batch_sum: clusters, `slots` over all tiles at most, that share each tile's k. Else 1.
uint32_t num_parts(const Spec& spec, int64_t m, const GemmConfig& config, int64_t slots);
// Of the counters where parts meet.
uint64_t parts_state_bytes(const Traits& traits);
Config shape(const Spec& spec);

// Of `stem`'s kernel, kernels/gemm/sm90_<stem>.cuh.
Instance make_instance(const char* stem, const Spec& spec, const Target& target,
                       const GemmConfig& config);

// Everything that bind() needs of a config.
struct Plan {
  GemmConfig config;
  uint32_t smem_bytes, num_threads, max_clusters, band;
  uint32_t slots, parts_state_bytes;  // batch_sum
};
Plan make_plan(const Traits& traits, const Config& config);

// The workspace of any m; 0 where no call has parts.
uint64_t parts_bytes(const Spec& spec, const Plan& plan);
void set_parts(const Spec& spec, const Call& call, const Plan& plan, GemmParts* parts);

// `known_flags`: of the op, besides those that every op knows.
Status check_spec(const Spec& spec, uint32_t known_flags);
Status check_call(const Spec& spec, const Call& call);
Status bind(const Spec& spec, const Call& call, const Plan& plan, const Driver& driver,
            Launch* launch);

// What the stems of the family say in the same words. T has `op_id`, `op`, `stem`, `Desc`, `Args`,
// `fp8` (which of the op's two stems it is), `known_flags`, spec(desc) and call(desc, args).
template <class T, class D, class A>
struct OpBase {
  using Desc = D;
  using Args = A;
  static constexpr const char* selector_name = "m";

  static bool matches(const Desc& d) { return (d.dtype_ab == DGRT_E4M3) == T::fp8; }
  static Status check_desc(const Desc& d) { return check_spec(T::spec(d), T::known_flags); }
  static std::vector<SelectorVar> selector(const Desc& d) {
    return {selector_m(T::selector_name, d.max_m)};
  }
  static Config shape(const Desc& d) { return gemm::shape(T::spec(d)); }
  static std::vector<Config> candidates(const Desc& d, const Target& t, const Point& p) {
    if (t.arch != "sm_90a") return {};
    return gemm::candidates(make_traits(T::spec(d), t), p[0]);
  }
  static Point same_candidates(const Desc&, const Point& p) {
    return {gemm::same_candidates(p[0])};
  }
  static Status check_config(const Desc& d, const Target& t, const Config& c) {
    if (t.arch != "sm_90a")
      return error(DGRT_UNSUPPORTED, "arch={}: {} has kernels for sm_90a", t.arch, T::stem);
    return gemm::check_config(make_traits(T::spec(d), t), decode(c));
  }
  static int64_t cost_ps(const Desc& d, const Target& t, const Point& p, const Config& c) {
    return gemm::cost_ps(make_traits(T::spec(d), t), p[0], decode(c));
  }
  static Instance instance(const Desc& d, const Target& t, const Config& c) {
    return make_instance(T::stem, T::spec(d), t, decode(c));
  }
  static uint32_t smem_bytes(const Desc& d, const Config& c) {
    return T::spec(d).smem_bytes(decode(c));
  }
  static Prepared prepare(const Desc& d, const Target& t, const Config& c) {
    return Prepared::of(make_plan(make_traits(T::spec(d), t), c));
  }
  static Point point(const Args& x) { return {x.m}; }
  static Status check_args(const Desc& d, const Args& x) {
    return check_call(T::spec(d), T::call(d, x));
  }
  static uint64_t workspace_bytes(const Desc&, const Prepared&, const Point&) { return 0; }
  static Status bind(const Desc& d, const Args& x, const Prepared& prepared, const Driver& driver,
                     void*, Launch* launch) {
    return gemm::bind(T::spec(d), T::call(d, x), prepared.as<Plan>(), driver, launch);
  }
};

}  // namespace dgrt::gemm
