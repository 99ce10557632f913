#include "tests/gpu/attn_case.h"

#include <algorithm>
#include <cmath>

#include "tools/lib/lab_attn_check.h"
#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

using Lens = std::vector<std::pair<int64_t, int64_t>>;

std::vector<int32_t> indptr_of(const Lens& lens, int64_t std::pair<int64_t, int64_t>::*count) {
  std::vector<int32_t> indptr = {0};
  for (const auto& of_one : lens)
    indptr.push_back(indptr.back() + static_cast<int32_t>(of_one.*count));
  return indptr;
}

int64_t longest(const Lens& lens, int64_t std::pair<int64_t, int64_t>::*count) {
  int64_t most = 0;
  for (const auto& of_one : lens) most = std::max(most, of_one.*count);
  return most;
}

int64_t sum_of(const Lens& lens, int64_t std::pair<int64_t, int64_t>::*count) {
  int64_t sum = 0;
  for (const auto& of_one : lens) sum += of_one.*count;
  return sum;
}

constexpr auto queries = &std::pair<int64_t, int64_t>::first;
constexpr auto keys = &std::pair<int64_t, int64_t>::second;

}  // namespace

int64_t AttnCase::num_q() const { return sum_of(lens, queries) + spare_tokens; }
int64_t AttnCase::num_kv() const { return sum_of(lens, keys) + spare_tokens; }

std::string AttnCase::name() const {
  std::string text = fmt::format("attn_prefill {} {}/{} d={}", dtype == DGRT_FP16 ? "fp16" : "bf16",
                                 num_q_heads, num_kv_heads, head_dim_qk);
  if (head_dim_v != head_dim_qk) text += fmt::format("/{}", head_dim_v);
  if (lens.size() <= 4)
    for (const auto& [num_queries, num_keys] : lens)
      text += fmt::format(" {}:{}", num_queries, num_keys);
  else
    text += fmt::format(" batch={} tokens={}:{}", lens.size(), num_q(), num_kv());
  if (window_right == -1 && window_left == -1) text += " full";
  if (window_left >= 0 || window_right > 0)
    text += fmt::format(" window={},{}", window_left, window_right);
  if (softcap > 0) text += fmt::format(" cap={}", softcap);
  if (sinks) text += " sinks";
  if (!lse) text += " no-lse";
  if (dtype_kv == DGRT_E4M3) text += scale_per_head ? " kv=e4m3" : " kv=e4m3, one scale";
  if (sigma != 1) text += fmt::format(" sigma={}", sigma);
  constexpr const char* layouts[] = {"", " padded", " head-major", " fused"};
  text += layouts[static_cast<int>(layout)];
  if (spare_tokens > 0) text += " spare";
  if (!nan_keys.empty()) text += " nan";
  if (hint_factor > 1) text += " hints";
  if ((flags & DGRT_FLAG_PDL) != 0) text += " pdl";
  if ((flags & DGRT_FLAG_BATCH_INVARIANT) != 0) text += " batch-invariant";
  if ((flags & DGRT_ATTN_LSE_BASE2) != 0) text += " base2";
  if ((flags & DGRT_ATTN_LSE_WITH_SINK) != 0) text += " with-sink";
  return text;
}

AttnRun::Strides AttnRun::strides(int64_t tokens, int64_t heads, int64_t columns, int64_t bytes) const {
  switch (test_.layout) {
    case AttnLayout::packed:
    case AttnLayout::fused:
      break;
    case AttnLayout::padded: {
      const int64_t head = columns + 16 / bytes, token = heads * head + 48 / bytes;
      return {token, head, tokens * token};
    }
    case AttnLayout::head_major: {
      const int64_t head = std::max<int64_t>(tokens, 1) * columns;
      return {columns, head, heads * head};
    }
  }
  return {heads * columns, columns, tokens * heads * columns};
}

Result<AttnRun> AttnRun::make(Gpu& gpu, const AttnCase& test) {
  AttnRun run;
  run.gpu_ = &gpu;
  run.test_ = test;
  dgrt_attn_prefill_desc& desc = run.desc_;
  desc.num_q_heads = test.num_q_heads, desc.num_kv_heads = test.num_kv_heads;
  desc.head_dim_qk = test.head_dim_qk, desc.head_dim_v = test.head_dim_v;
  desc.max_batch = static_cast<int64_t>(test.lens.size());
  desc.max_q_len = longest(test.lens, queries) * test.hint_factor;
  desc.max_kv_len = longest(test.lens, keys) * test.hint_factor;
  desc.dtype = test.dtype, desc.dtype_kv = test.dtype_kv;
  desc.flags = test.flags | (test.softcap > 0 ? DGRT_ATTN_SOFTCAP : 0);
  const lab::Device& lab = *gpu.lab;
  const int64_t num_q = test.num_q(), num_kv = test.num_kv();
  int64_t q_elements = run.strides(num_q, test.num_q_heads, test.head_dim_qk).elements;
  const int64_t kv_bytes = test.kv_bytes();
  const int64_t k_elements = run.strides(num_kv, test.num_kv_heads, test.head_dim_qk, kv_bytes).elements;
  const int64_t v_elements = run.strides(num_kv, test.num_kv_heads, test.head_dim_v, kv_bytes).elements;
  const bool fused = test.layout == AttnLayout::fused;
  if (fused) q_elements += k_elements + v_elements;
  DGRT_ASSIGN(run.q_, lab::DeviceBuffer::make(lab, q_elements * 2));
  DGRT_ASSIGN(run.k_, lab::DeviceBuffer::make(lab, fused ? 0 : k_elements * kv_bytes));
  DGRT_ASSIGN(run.v_, lab::DeviceBuffer::make(lab, fused ? 0 : v_elements * kv_bytes));
  DGRT_ASSIGN(run.sinks_, lab::DeviceBuffer::make(lab, test.num_q_heads * 4));
  DGRT_ASSIGN(run.scales_, lab::DeviceBuffer::make(lab, test.num_kv_heads * 2 * 4));
  DGRT_ASSIGN(run.q_indptr_, lab::DeviceBuffer::make(lab, (test.lens.size() + 1) * 4));
  DGRT_ASSIGN(run.kv_indptr_, lab::DeviceBuffer::make(lab, (test.lens.size() + 1) * 4));
  DGRT_TRY(run.set_lens(test.lens));
  DGRT_TRY(run.fill(1));
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
  return run;
}

Status AttnRun::set_lens(const Lens& lens) const {
  DGRT_TRY(gpu_->lab->synchronize());
  for (const auto& [buffer, indptr] :
       {std::pair{&q_indptr_, indptr_of(lens, queries)}, {&kv_indptr_, indptr_of(lens, keys)}})
    DGRT_TRY(buffer->upload(indptr.data(), indptr.size() * sizeof(int32_t)));
  return ok();
}

Status AttnRun::fill_tensor(const lab::DeviceBuffer& buffer, int64_t bytes, uint64_t seed, float sigma) const {
  if (bytes == 1) return lab::fill_normal_e4m3(*gpu_->lab, buffer.data(), buffer.bytes(), seed);
  if (test_.dtype == DGRT_FP16)
    return lab::fill_normal_fp16(*gpu_->lab, buffer.data(), buffer.bytes() / 2, seed, sigma);
  return lab::fill_normal_bf16(*gpu_->lab, buffer.data(), buffer.bytes() / 2, seed, sigma);
}

// Tokens from `live` on, and of keys those that the case names. Requires: whole words, even in a head.
Status AttnRun::plant_nan(const lab::DeviceBuffer& buffer, int64_t heads, int64_t columns,
                          int64_t tokens, int64_t live, int64_t bytes) const {
  const Strides at = strides(tokens, heads, columns, bytes);
  const bool head_major = test_.layout == AttnLayout::head_major;
  for (int64_t head = 0; head < (head_major ? heads : 1); ++head) {
    auto* from = buffer.as<uint8_t>() + (head * at.head + live * at.token) * bytes;
    DGRT_TRY(lab::fill_words(*gpu_->lab, from, (tokens - live) * at.token * bytes / 4, 0xffffffff));
  }
  if (&buffer == &q_) return ok();
  for (const auto& [first, end] : test_.nan_keys)
    DGRT_TRY(lab::fill_words(*gpu_->lab, buffer.as<uint8_t>() + first * at.token * bytes,
                             (end - first) * at.token * bytes / 4, 0xffffffff));
  return ok();
}

Status AttnRun::fill(uint64_t seed) const {
  DGRT_TRY(fill_tensor(q_, 2, 4 * seed, test_.sigma));
  DGRT_TRY(
      lab::fill_normal_f32(*gpu_->lab, sinks_.as<float>(), test_.num_q_heads, 4 * seed + 3, 2.0f));
  DGRT_TRY(lab::fill_words(*gpu_->lab, sinks_.data(), 1, 0xff800000));  // minus infinity: none
  if (test_.layout == AttnLayout::fused) return ok();
  const int64_t kv_bytes = test_.kv_bytes();
  DGRT_TRY(fill_tensor(k_, kv_bytes, 4 * seed + 1, 1.0f));
  DGRT_TRY(fill_tensor(v_, kv_bytes, 4 * seed + 2, 1.0f));
  // e4m3 codes are 100 normal numbers.
  std::vector<float> scales(static_cast<size_t>(test_.num_kv_heads) * 2);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.008f + 0.001f * static_cast<float>(i % 5);
  DGRT_TRY(scales_.upload(scales.data(), scales_.bytes()));
  const int64_t num_q = test_.num_q(), num_kv = test_.num_kv(), spare = test_.spare_tokens;
  DGRT_TRY(plant_nan(q_, test_.num_q_heads, test_.head_dim_qk, num_q, num_q - spare, 2));
  DGRT_TRY(plant_nan(k_, test_.num_kv_heads, test_.head_dim_qk, num_kv, num_kv - spare, kv_bytes));
  return plant_nan(v_, test_.num_kv_heads, test_.head_dim_v, num_kv, num_kv - spare, kv_bytes);
}

void AttnRun::set_args(dgrt_attn_prefill_args* args) const {
  const AttnCase& t = test_;
  dgrt_attn_prefill_args& x = *args;
  x.q = q_.data(), x.k = k_.data(), x.v = v_.data();
  if (t.sinks) x.sinks = sinks_.as<float>();
  x.q_indptr = q_indptr_.as<int32_t>(), x.kv_indptr = kv_indptr_.as<int32_t>();
  x.batch = static_cast<int64_t>(t.lens.size());
  x.total_q = t.num_q(), x.total_kv = t.num_kv();
  x.max_q_len = desc_.max_q_len, x.max_kv_len = desc_.max_kv_len;
  const Strides q = strides(x.total_q, t.num_q_heads, t.head_dim_qk);
  const Strides k = strides(x.total_kv, t.num_kv_heads, t.head_dim_qk, t.kv_bytes());
  const Strides v = strides(x.total_kv, t.num_kv_heads, t.head_dim_v, t.kv_bytes());
  const Strides o = strides(x.total_q, t.num_q_heads, t.head_dim_v);
  x.q_token_stride = q.token, x.q_head_stride = q.head;
  x.k_token_stride = k.token, x.k_head_stride = k.head;
  x.v_token_stride = v.token, x.v_head_stride = v.head;
  x.o_token_stride = o.token, x.o_head_stride = o.head;
  if (t.layout == AttnLayout::fused) {
    x.q_token_stride = x.k_token_stride = x.v_token_stride = q.token + k.token + v.token;
    x.k = q_.as<uint16_t>() + q.token, x.v = q_.as<uint16_t>() + q.token + k.token;
  }
  x.lse_token_stride = t.layout == AttnLayout::head_major ? 1 : t.num_q_heads;
  x.lse_head_stride = t.layout == AttnLayout::head_major ? std::max<int64_t>(x.total_q, 1) : 1;
  if (t.layout == AttnLayout::padded) x.lse_token_stride = 3 * t.num_q_heads, x.lse_head_stride = 2;
  x.window_left = t.window_left, x.window_right = t.window_right;
  x.scale = 1.0f / std::sqrt(static_cast<float>(t.head_dim_qk));
  x.softcap = t.softcap;
  if (t.dtype_kv != DGRT_E4M3) return;
  x.k_scale = scales_.as<float>(), x.v_scale = scales_.as<float>() + t.num_kv_heads;
  x.k_scale_head_stride = x.v_scale_head_stride = t.scale_per_head ? 1 : 0;
}

Result<AttnRun::Outputs> AttnRun::outputs() const {
  Outputs out;
  set_args(&out.args);
  const int64_t num_q = test_.num_q();
  const int64_t elements = strides(num_q, test_.num_q_heads, test_.head_dim_v).elements;
  const int64_t lse_elements =
      (test_.layout == AttnLayout::padded ? 3 : 1) * num_q * test_.num_q_heads;
  DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(*gpu_->lab, elements * 2));
  DGRT_ASSIGN(out.lse, lab::DeviceBuffer::make(*gpu_->lab, test_.lse ? lse_elements * 4 : 0));
  out.args.o = out.o.data();
  if (test_.lse) out.args.lse = out.lse.as<float>();
  return out;
}

Status AttnRun::poison(const Outputs& out) const {
  DGRT_TRY(out.o.poison());
  return out.lse.poison();
}

// The counter must be zero again, and nothing beyond the workspace's end written.
Status AttnRun::check_state() const {
  DGRT_TRY(plan_.check_guards());
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &info)));
  std::vector<unsigned char> state(info.state_bytes);
  if (state.empty()) return error(DGRT_INTERNAL, "state_bytes=0: there is no counter");
  DGRT_TRY(plan_.workspace().download(state.data(), state.size()));
  for (size_t i = 0; i < state.size(); ++i)
    if (state[i] != 0) return error(DGRT_INTERNAL, "byte {} of the state is not zero", i);
  return ok();
}

Result<std::string> AttnRun::check(const Outputs& out) const {
  DGRT_TRY(gpu_->lab->synchronize());
  for (const lab::DeviceBuffer* buffer :
       {&q_, &k_, &v_, &scales_, &sinks_, &q_indptr_, &kv_indptr_, &out.o, &out.lse})
    if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(check_state());
  const lab::AttnProblem problem = lab::problem_of(desc_, out.args);
  DGRT_ASSIGN(const lab::AttnError found,
              lab::check_attn(*gpu_->lab, problem, out.args.total_q, test_.most_checked));
  DGRT_TRY(lab::check_attn_untouched(*gpu_->lab, problem, out.args.total_q, out.o, out.lse));
  return found.to_string();
}

Result<std::string> AttnRun::launch_and_check() const {
  DGRT_ASSIGN(const Outputs out, outputs());
  std::string kernel;
  if (out.args.batch > 0 && out.args.total_q > 0) {
    DGRT_ASSIGN(kernel, plan_.kernel_name(&out.args.op));
    kernel += ": ";
  }
  DGRT_TRY(launch(out));
  DGRT_ASSIGN(const std::string found, check(out));
  return kernel + found;
}

void run_attn(Gpu& gpu, const AttnCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const AttnRun run, AttnRun::make(gpu, test));
    return run.launch_and_check();
  });
}

}  // namespace dgrt::test
