// What attention must give, naively in fp64, one block per query token and head: no tiles, no sharing of
// work between rows, no code of the kernels that it judges. The outputs are compared on the spot, so that
// no reference tensor is stored. Besides the maths of dgrt/attention.h it sums what bounds the error of an
// honest kernel (see lab_attn_check.cpp).
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::attn_reference {

constexpr uint32_t num_threads = 128;
constexpr uint32_t max_head_dim_qk = 576, max_head_dim_v = 512;
constexpr int kind_compare = 0, kind_erase = 1;

// Where keys, or values, lie. Key j of sequence b, contiguous: token kv_indptr[b] + j. With `pages`: token
// j % page_size of page pages[b * pages_stride + j / page_size], where keys count from kv_start. With
// `new_base` the last keys are those of the sequence's queries, and lie there as these do.
struct Rows {
  const void* base;
  int64_t token_stride, head_stride;  // elements
  const int32_t* pages;
  int64_t pages_stride, page_stride, page_size;
  const float* scale = nullptr;  // null: elements are of q's type; else e4m3, times scale[head * scale_head],
                                 // but for those at new_base
  int64_t scale_head = 0;
  const void* new_base = nullptr;
  int64_t new_token_stride = 0, new_head_stride = 0;
};

// Relative errors that a kernel may make; lab_attn_check.cpp derives them.
struct Allowance {
  double roundoff;  // of weights, and of o
  double tiny;      // absolute, of a weight: half of the smallest subnormal
  double product;   // of a logit, of the sum of its absolute products
  double logit;     // of a logit, of its own size and that of the row's largest
  double cap;       // absolute, of a capped logit, per unit of softcap
  double sum;       // of a sum over keys, per 16 of them; 4 of these at the least
};

struct Stats {
  double xy, xx, yy;      // sums over the row's elements of got * want, got * got, want * want
  double worst;           // |got - want| over what is allowed, the largest
  double got, want;       // there
  double lse_got, lse_want;
  double logit_error;     // allowed relative error of the row's weights, on average
  double max_got, max_want;  // the largest logit, in the units of lse
  int32_t column;         // of the worst
  int32_t sequence, row;  // the token; -1: of no sequence
  uint32_t num_bad;       // elements unwritten, or wrongly finite or not, or not exactly 0
};

struct Params {
  const void* q;  // [tokens, heads, head_dim_qk]
  const float* q_scale;  // null: q is of 16 bits; else e4m3, times this
  void* o;
  float* lse;          // null: not checked
  const float* sinks;  // or null
  Rows k, v;
  const int32_t* q_indptr;   // null: every sequence has q_len tokens
  const int32_t* kv_indptr;  // null: keys are paged, kv_lens has their numbers
  const int32_t* kv_lens;
  const int32_t* kv_start;   // paged: earlier keys do not exist; null: 0
  const int32_t* tokens;  // which ones are checked; null: all
  Stats* stats;           // [checked tokens, heads]
  int64_t q_token_stride, q_head_stride, o_token_stride, o_head_stride;
  int64_t lse_token_stride, lse_head_stride;
  int64_t window_left, window_right;  // -1: none
  int32_t batch, q_len, num_heads, group;  // group: query heads of one key head
  int32_t head_dim_qk, head_dim_v;
  uint32_t is_fp16, lse_base2, lse_with_sink, lse_empty_inf;
  float scale, softcap;  // softcap 0: none
  Allowance allowance;
  const uint8_t* mask;  // null: none. Element i * keys + j of a sequence: whether query i sees key j
  const int64_t* mask_indptr;  // [batch]: bytes before a sequence's
  int64_t mask_bytes;
  uint32_t mask_is_bits, mask_skips_prefix;
  // Lists of keys: each token is a sequence, whose pages, of one key each, are its list. Entries that name no page do not
  // exist; nor do those past kv_lens.
  int64_t top_k;      // entries of a list; 0: none of this
  int64_t num_pages;
  float* max_logits;  // as lse; null: not checked
};

#ifdef __CUDACC_RTC__

constexpr uint32_t columns_per_thread = max_head_dim_v / num_threads;

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

__device__ __forceinline__ double to_double(uint32_t bits, bool is_fp16) {
  if (!is_fp16) return __uint_as_float(bits << 16);
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<uint16_t>(bits)));
  return x;
}

__device__ __forceinline__ double e4m3_to_double(uint32_t code) {
  if ((code & 0x7f) == 0x7f) return __longlong_as_double(0x7ff8000000000000ll);
  const int32_t exponent = code >> 3 & 15, fraction = code & 7;
  const double size = exponent == 0 ? ldexp(double(fraction), -9) : ldexp(double(8 + fraction), exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}

__device__ __forceinline__ bool is_finite(double x) { return fabs(x) < infinity(); }

template <class Combine>
__device__ __forceinline__ double block_reduce(double* shared, double value, const Combine& combine) {
  __syncthreads();
  shared[threadIdx.x] = value;
  for (uint32_t half = num_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + half]);
  }
  __syncthreads();
  return shared[0];
}
__device__ __forceinline__ double block_sum(double* shared, double value) {
  return block_reduce(shared, value, [](double a, double b) { return a + b; });
}
__device__ __forceinline__ double block_max(double* shared, double value) {
  return block_reduce(shared, value, [](double a, double b) { return fmax(a, b); });
}

// A query token: its sequence, its place there, and the keys [first, end) that it sees, but for the mask, of
// which those from first_new on are the queries' own. Pages begin with key `start`.
struct Query {
  int64_t token;
  int32_t sequence, row;
  int64_t first, end, first_new, start;
  int64_t num_queries, num_keys;
};

__device__ inline Query find_query(const Params& p, int64_t token) {
  Query x{token, -1, -1, 0, 0, 0, 0};
  int64_t num_queries = p.q_len;
  if (p.q_indptr == nullptr) {
    if (token < int64_t{p.batch} * p.q_len) x.sequence = static_cast<int32_t>(token / p.q_len);
    x.row = static_cast<int32_t>(token % p.q_len);
  } else {
    int32_t low = 0, high = p.batch;  // the first sequence that ends behind the token
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (p.q_indptr[middle + 1] > token)
        high = middle;
      else
        low = middle + 1;
    }
    if (low < p.batch) {
      x.sequence = low;
      x.row = static_cast<int32_t>(token) - p.q_indptr[low];
      num_queries = p.q_indptr[low + 1] - p.q_indptr[low];
    }
  }
  if (x.sequence < 0) return x;
  int64_t num_keys = p.kv_lens != nullptr ? p.kv_lens[x.sequence]
                     : p.top_k > 0        ? p.top_k
                                          : p.kv_indptr[x.sequence + 1] - p.kv_indptr[x.sequence];
  if (p.top_k > 0) num_keys = num_keys < 0 ? 0 : num_keys < p.top_k ? num_keys : p.top_k;
  if (p.k.new_base != nullptr && num_keys < num_queries) num_keys = num_queries;
  x.num_queries = num_queries, x.num_keys = num_keys;
  const int64_t place = num_keys - num_queries + x.row;
  x.end = num_keys;
  x.first_new = p.k.new_base != nullptr ? num_keys - num_queries : num_keys;
  if (p.kv_start != nullptr && p.kv_start[x.sequence] > 0) x.start = p.kv_start[x.sequence];
  x.first = x.start < x.first_new ? x.start : x.first_new;
  if (p.window_left >= 0 && place - p.window_left > x.first) x.first = place - p.window_left;
  if (p.window_right >= 0 && place + p.window_right + 1 < x.end) x.end = place + p.window_right + 1;
  return x;
}

// Where a row begins, and what it holds.
struct Row {
  const void* base;
  bool is_e4m3;
  double scale;
};
__device__ __forceinline__ Row row_of(const Params& p, const Rows& rows, const Query& x, int64_t j, int64_t head) {
  int64_t at = head * rows.head_stride;
  if (rows.new_base != nullptr && j >= x.first_new) {
    at = (x.token - x.row + j - x.first_new) * rows.new_token_stride + head * rows.new_head_stride;
    return {static_cast<const uint16_t*>(rows.new_base) + at, false, 1.0};
  }
  if (rows.pages == nullptr) {
    at += (p.kv_indptr[x.sequence] + j) * rows.token_stride;
  } else {
    const int64_t slot = j - x.start;
    const int64_t page = rows.pages[x.sequence * rows.pages_stride + slot / rows.page_size];
    at += page * rows.page_stride + slot % rows.page_size * rows.token_stride;
  }
  const bool is_e4m3 = rows.scale != nullptr;
  return {static_cast<const uint8_t*>(rows.base) + at * (is_e4m3 ? 1 : 2), is_e4m3,
          is_e4m3 ? rows.scale[head * rows.scale_head] : 1.0};
}

__device__ __forceinline__ double element(const Params& p, const Row& row, int64_t column) {
  if (row.is_e4m3) return row.scale * e4m3_to_double(static_cast<const uint8_t*>(row.base)[column]);
  return to_double(static_cast<const uint16_t*>(row.base)[column], p.is_fp16);
}
// Without the scale. Rows are 16-byte aligned.
__device__ __forceinline__ void load_8(const Params& p, const Row& row, int32_t column, double (&elements)[8]) {
  if (row.is_e4m3) {
    const uint2 codes = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(row.base) + column);
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i)
      elements[i] = e4m3_to_double((i < 4 ? codes.x : codes.y) >> i % 4 * 8 & 0xff);
    return;
  }
  const uint4 bits = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(row.base) + column);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) elements[i] = to_double(words[i / 2] >> i % 2 * 16 & 0xffff, p.is_fp16);
}

// Whether key j of [first, end) is there, and the mask lets it be seen.
__device__ inline bool is_seen(const Params& p, const Query& x, int64_t j) {
  if (p.top_k > 0) {
    const int64_t page = p.k.pages[x.sequence * p.k.pages_stride + j];
    if (page < 0 || page >= p.num_pages) return false;
  }
  if (p.mask == nullptr) return true;
  if (p.mask_skips_prefix && j < x.num_keys - x.num_queries) return true;
  const int64_t element = x.row * x.num_keys + j;
  const int64_t byte = p.mask_indptr[x.sequence] + (p.mask_is_bits ? element / 8 : element);
  if (byte < 0 || byte >= p.mask_bytes) return false;
  return p.mask_is_bits ? p.mask[byte] >> element % 8 & 1 : p.mask[byte] != 0;
}

// The logit of key j; *error: what it may be off by. q: in shared memory.
__device__ inline double logit_of(const Params& p, const double* q, const Row& k, double* error) {
  double sum = 0, size = 0;
  for (int32_t d = 0; d < p.head_dim_qk; d += 8) {
    double elements[8];
    load_8(p, k, d, elements);
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      const double product = q[d + i] * elements[i];
      sum += product;
      size += fabs(product);
    }
  }
  double s = sum * p.scale * k.scale;
  *error = size * p.scale * k.scale * p.allowance.product;
  if (p.softcap > 0) {
    s = p.softcap * tanh(s / p.softcap);
    *error += p.softcap * p.allowance.cap;
  }
  return s;
}

constexpr double unseen = -1;  // in place of an error

struct Sums {
  double keys = 0;       // that this thread saw
  double weight = 0;     // of exp(logit - the largest)
  double error = 0;      // the same, times what each may be off by
  double most = -infinity();
  double o[columns_per_thread] = {}, bound[columns_per_thread] = {}, size[columns_per_thread] = {};
};

struct Shared {
  double q[max_head_dim_qk], weight[num_threads], error[num_threads], scratch[num_threads];
};

__device__ inline void attend(const Params& p, const Query& x, int64_t head, Shared& shared, Sums& sums) {
  const int64_t kv_head = head / p.group;
  for (int64_t first = x.first; first < x.end; first += num_threads) {
    const int64_t j = first + threadIdx.x;
    double s = -infinity(), error = 0;
    const bool sees = j < x.end && is_seen(p, x, j);
    if (sees) s = logit_of(p, shared.q, row_of(p, p.k, x, j, kv_head), &error);
    const double most = fmax(sums.most, block_max(shared.scratch, s));
    const double rescale = sums.most == most ? 1 : exp(sums.most - most);
    const double weight = sees ? exp(s - most) : 0;
    sums.most = most;
    error = sees ? expm1(error + p.allowance.logit * (fabs(s) + fabs(most) + 1)) : unseen;
    shared.weight[threadIdx.x] = weight;
    shared.error[threadIdx.x] = error;
    sums.weight = sums.weight * rescale + weight;
    sums.error = sums.error * rescale + (sees ? weight * error : 0);
    sums.keys += sees ? 1 : 0;
    __syncthreads();
    const int64_t count = x.end - first < num_threads ? x.end - first : num_threads;
    for (uint32_t c = 0; c < columns_per_thread; ++c) {
      const int32_t column = c * num_threads + threadIdx.x;
      if (column >= p.head_dim_v) break;
      sums.o[c] *= rescale;
      sums.bound[c] *= rescale;
      for (int64_t i = 0; i < count; ++i) {
        if (shared.error[i] == unseen) continue;
        const double v = element(p, row_of(p, p.v, x, first + i, kv_head), column);
        sums.o[c] += shared.weight[i] * v;
        sums.bound[c] += shared.weight[i] * (p.allowance.roundoff + shared.error[i]) * fabs(v);
        sums.size[c] += fabs(v);
      }
    }
  }
}

// Adds element `column` to this thread's part of the row's stats.
__device__ __forceinline__ void add_element(const Params& p, double got, double want, double bound, bool is_bad,
                                            int32_t column, Stats& s) {
  if (is_bad || is_finite(got) != is_finite(want)) ++s.num_bad;
  if (!is_finite(got) || !is_finite(want)) return;
  s.xy += got * want, s.xx += got * got, s.yy += want * want;
  const double error = fabs(got - want);
  const double ratio = error == 0 ? 0 : bound > 0 ? error / bound : 1e300;
  if (ratio <= s.worst) return;
  s.worst = ratio, s.got = got, s.want = want, s.column = column;
}

__device__ inline void compare(const Params& p) {
  __shared__ Shared shared;
  const int64_t head = blockIdx.y;
  const Query x = find_query(p, p.tokens == nullptr ? blockIdx.x : p.tokens[blockIdx.x]);
  Stats& out = p.stats[int64_t{blockIdx.x} * p.num_heads + head];
  if (x.sequence < 0) {
    if (threadIdx.x == 0) out.sequence = -1;
    return;
  }
  const int64_t first = x.token * p.q_token_stride + head * p.q_head_stride;
  for (int32_t d = threadIdx.x; d < p.head_dim_qk; d += num_threads)
    shared.q[d] = p.q_scale == nullptr
                      ? to_double(static_cast<const uint16_t*>(p.q)[first + d], p.is_fp16)
                      : *p.q_scale * e4m3_to_double(static_cast<const uint8_t*>(p.q)[first + d]);
  __syncthreads();
  Sums sums;
  attend(p, x, head, shared, sums);
  const double num_seen = block_sum(shared.scratch, sums.keys);
  const bool is_empty = num_seen == 0;
  const double weight = block_sum(shared.scratch, sums.weight);
  const double logit_error = is_empty ? 0 : block_sum(shared.scratch, sums.error) / weight;
  double total = weight, share = 1, lse = sums.most + log(weight);
  if (p.sinks != nullptr) {
    const double sink = p.sinks[head], top = fmax(sums.most, sink);
    share = is_empty ? 0 : exp(sums.most - top);
    total = weight * share + (sink == top ? 1 : exp(sink - top));
    if (p.lse_with_sink) lse = top + log(total);
  }
  const double keys = num_seen / 16;
  const double sum_error = p.allowance.sum * (keys > 4 ? keys : 4);

  Stats s{};
  s.worst = -1;
  const uint16_t* o = static_cast<const uint16_t*>(p.o) + x.token * p.o_token_stride + head * p.o_head_stride;
  for (uint32_t c = 0; c < columns_per_thread; ++c) {
    const int32_t column = c * num_threads + threadIdx.x;
    if (column >= p.head_dim_v) break;
    const uint16_t bits = o[column];
    const double want = is_empty ? 0 : sums.o[c] * share / total;
    // |o| <= the sum of weights * |v| <= bound / roundoff.
    double bound = is_empty ? 0 : (sums.bound[c] * (1 + sum_error / p.allowance.roundoff) +
                                   p.allowance.tiny * sums.size[c]) * share / total;
    bound += is_empty ? 0 : fabs(want) * (p.allowance.roundoff + logit_error + sum_error) + p.allowance.tiny;
    add_element(p, to_double(bits, p.is_fp16), want, bound * 1.02, bits == 0xffff || (is_empty && bits != 0),
                column, s);
  }
  s.xy = block_sum(shared.scratch, s.xy), s.xx = block_sum(shared.scratch, s.xx);
  s.yy = block_sum(shared.scratch, s.yy);
  const double num_bad = block_sum(shared.scratch, s.num_bad), worst = block_max(shared.scratch, s.worst);
  // Of equals, any one.
  const bool is_worst = s.worst == worst;
  const double writer = block_max(shared.scratch, is_worst ? threadIdx.x : -1.0);
  if (threadIdx.x != writer) return;
  s.num_bad = static_cast<uint32_t>(num_bad);
  s.sequence = x.sequence, s.row = x.row;
  s.logit_error = logit_error;
  if (p.lse != nullptr) {
    const float got = p.lse[x.token * p.lse_token_stride + head * p.lse_head_stride];
    if (__float_as_uint(got) == 0xffffffff) ++s.num_bad;
    s.lse_got = got;
    s.lse_want = p.lse_base2 ? lse * 1.4426950408889634 : lse;
    if (is_empty && p.lse_empty_inf) s.lse_want = infinity();
  }
  if (p.max_logits != nullptr) {
    const float got = p.max_logits[x.token * p.lse_token_stride + head * p.lse_head_stride];
    if (__float_as_uint(got) == 0xffffffff) ++s.num_bad;
    s.max_got = got;
    s.max_want = p.lse_base2 ? sums.most * 1.4426950408889634 : sums.most;
  }
  out = s;
}

// Poisons what the call had to write. What is not poison then, nobody had to.
__device__ inline void erase(const Params& p) {
  const int64_t head = blockIdx.y;
  const Query x = find_query(p, blockIdx.x);
  if (x.sequence < 0) return;
  uint16_t* o = static_cast<uint16_t*>(p.o) + x.token * p.o_token_stride + head * p.o_head_stride;
  for (int32_t column = threadIdx.x; column < p.head_dim_v; column += num_threads) o[column] = 0xffff;
  if (p.lse != nullptr && threadIdx.x == 0)
    p.lse[x.token * p.lse_token_stride + head * p.lse_head_stride] = __uint_as_float(0xffffffff);
  if (p.max_logits != nullptr && threadIdx.x == 0)
    p.max_logits[x.token * p.lse_token_stride + head * p.lse_head_stride] = __uint_as_float(0xffffffff);
}

template <class Cfg>
__device__ void run(const Params& p) {
  if constexpr (Cfg::kind == kind_erase)
    erase(p);
  else
    compare(p);
}

#endif
}  // namespace dgrt::lab::attn_reference
