// What e4m3 keys and values are multiplied by, one number for each key head: not they, but their products with q
// and the sums over values.
#pragma once
#include "device/common/attn_params.cuh"
#include "device/common/gemm_params.cuh"
#include "device/ptx/convert.cuh"

namespace dgrt {

// Of what products of 64 rows read: e4m3 becomes fp16, and queries with it (fp16_queries.cuh). But new keys may be of
// bf16, which then is everything.
template <class Cfg>
constexpr int attn_operand_dtype = Cfg::kv_bytes == 1 && !Cfg::new_keys ? dtype_fp16 : Cfg::dtype;

// P: AttnParams, AttnPagedParams.
template <class P>
__device__ __forceinline__ float key_scale(const P& p, uint32_t kv_head) {
  return p.k_scale == nullptr ? 1.0f : p.k_scale[kv_head * p.k_scale_head];
}
template <class P>
__device__ __forceinline__ float value_scale(const P& p, uint32_t kv_head) {
  return p.v_scale == nullptr ? 1.0f : p.v_scale[kv_head * p.v_scale_head];
}

// Factors of a tile's scores and outputs. With NEW_KEYS the new keys, which have no scale, come first: at the
// border to the cache the maximum so far and o are divided by the scales once, so that neither every score nor
// every output needs a factor of its own. (The maximum's rounding is one more of 2^-23 of a logit.)
template <class Cfg>
struct KvScales {
  static constexpr bool scaled = Cfg::kv_bytes == 1;
  static constexpr bool by_row = attn_operand_dtype<Cfg> != Cfg::dtype;  // queries were multiplied too

  const AttnParams& p;
  float product[by_row ? 2 : 1];  // of a row's score; with softcap: of the tangent's argument

  __device__ explicit KvScales(const AttnParams& p) : p(p) {}

  // row: of the thread's two.
  __device__ __forceinline__ float cap(uint32_t row) const { return scaled ? product[by_row ? row : 0] : p.cap_scale; }
  __device__ __forceinline__ float logit(uint32_t row) const {
    return scaled && !Cfg::softcap ? product[by_row ? row : 0] : p.scale_log2;
  }

  // Before a tile's first keys.
  __device__ __forceinline__ void begin(uint32_t head) {
    if constexpr (scaled) product[0] = Cfg::softcap ? p.cap_scale : p.scale_log2;
    if constexpr (scaled && !Cfg::new_keys) product[0] *= key_scale(p, head / p.group);
  }
  // Behind begin(). factor: of each row's scores.
  __device__ __forceinline__ void set_rows(const float (&factor)[2]) {
    constexpr float least = 1.17549435e-38f;  // as good as 0, which times minus infinity were NaN
    const float all = product[0];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i)
      product[i] = Cfg::softcap ? all * factor[i] : fmaxf(all * factor[i], least);
  }

  // Whether key tile `at` is the first of the cache, behind new ones. Then enter() before its scores are
  // weighed, and output() is a factor of the output before it.
  template <class Tiles>
  __device__ __forceinline__ static bool enters(const Tiles& tiles, int32_t at) {
    if constexpr (scaled && Cfg::new_keys) return at + 1 == tiles.cached;
    return false;
  }
  __device__ __forceinline__ void enter(uint32_t head, float (&max)[2]) {
    const float scale = key_scale(p, head / p.group);
    product[0] *= scale;
    if constexpr (!Cfg::softcap) {
      max[0] *= ptx::rcp_approx_f32(scale);
      max[1] *= ptx::rcp_approx_f32(scale);
    }
  }
  __device__ __forceinline__ float output(uint32_t head) const {
    return ptx::rcp_approx_f32(value_scale(p, head / p.group));
  }

  // Of o in the end. first: the last key tile.
  template <class Tiles>
  __device__ __forceinline__ float value(uint32_t head, const Tiles& tiles, int32_t first) const {
    if constexpr (!scaled) return 1.0f;
    if constexpr (Cfg::new_keys)
      if (tiles.is_new(first)) return 1.0f;
    return value_scale(p, head / p.group);
  }
};

}  // namespace dgrt
