#include "tests/gpu/attn_decode_case.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>

#include "tools/lib/lab_attn_check.h"
#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

// What both ops' args begin with; the library pads shorter ones.
constexpr size_t common_bytes = offsetof(dgrt_attn_decode_args, page_error);
static_assert(sizeof(dgrt_attn_decode_desc) == sizeof(dgrt_attn_extend_desc) &&
              common_bytes == offsetof(dgrt_attn_extend_args, kv_start));

template <class From, class To>
To converted(const From& from, To to) {
  const dgrt_op op = to.op;
  std::memcpy(static_cast<void*>(&to), &from, common_bytes);
  to.op = op, to.page_error = from.page_error;
  to.k_new = from.k_new, to.v_new = from.v_new;
  to.k_new_token_stride = from.k_new_token_stride, to.k_new_head_stride = from.k_new_head_stride;
  to.v_new_token_stride = from.v_new_token_stride, to.v_new_head_stride = from.v_new_head_stride;
  return to;
}

int64_t pages_of(int64_t keys, int64_t page_size) { return (keys + page_size - 1) / page_size; }

}  // namespace

dgrt_attn_extend_args to_extend(const dgrt_attn_decode_args& args) {
  return converted(args, dgrt_attn_extend_args DGRT_ATTN_EXTEND_ARGS);
}
dgrt_attn_decode_args to_decode(const dgrt_attn_extend_args& args) {
  return converted(args, dgrt_attn_decode_args DGRT_ATTN_DECODE_ARGS);
}

int64_t DecodeCase::num_q() const {
  int64_t sum = 0;
  for (const auto& [queries, keys] : lens) sum += queries;
  return sum;
}

std::string DecodeCase::name() const {
  const char* op = op_id == DGRT_OP_ATTN_EXTEND ? "attn_extend" : "attn_decode";
  std::string text = fmt::format("{} {} {}/{} d={}", op, dtype == DGRT_FP16 ? "fp16" : "bf16",
                                 num_q_heads, num_kv_heads, head_dim_qk);
  if (dtype_kv == DGRT_E4M3) text += scale_per_head ? " kv=e4m3" : " kv=e4m3, one scale";
  if (head_dim_v != head_dim_qk) text += fmt::format("/{}", head_dim_v);
  if (lens.size() <= 4)
    for (const auto& [queries, keys] : lens) text += fmt::format(" {}:{}", queries, keys);
  else
    text += fmt::format(" batch={} tokens={}", lens.size(), num_q());
  text += fmt::format(" page={}", page_size);
  if (window_left >= 0 || window_right != 0)
    text += fmt::format(" window={},{}", window_left, window_right);
  if (softcap > 0) text += fmt::format(" cap={}", softcap);
  if (sinks) text += " sinks";
  if (sigma != 1) text += fmt::format(" sigma={}", sigma);
  constexpr const char* layouts[] = {"", " heads-first", " padded"};
  text += layouts[static_cast<int>(layout)];
  if ((flags & DGRT_ATTN_CHECK_PAGES) != 0) text += " check-pages";
  if (sm_budget > 0) text += fmt::format(" sms={}", sm_budget);
  if (hint_factor > 1) text += " hints";
  if (mask != MaskShape::none) text += fmt::format(" mask={}", name_of(mask));
  if ((flags & DGRT_ATTN_MASK_BYTES) != 0) text += " bytes";
  if ((flags & DGRT_ATTN_MASK_BITS) != 0) text += " bits";
  if ((flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0) text += " skip-prefix";
  if (mask_bytes_cut > 0) text += fmt::format(" cut={}", mask_bytes_cut);
  if ((flags & DGRT_FLAG_PDL) != 0) text += " pdl";
  if ((flags & DGRT_FLAG_BATCH_INVARIANT) != 0) text += " batch-invariant";
  if ((flags & DGRT_ATTN_LSE_BASE2) != 0) text += " base2";
  if ((flags & DGRT_ATTN_LSE_WITH_SINK) != 0) text += " with-sink";
  return text;
}

DecodeRun::Strides DecodeRun::cache_strides(int64_t columns) const {
  const int64_t heads = test_.num_kv_heads, page = test_.page_size;
  switch (test_.layout) {
    case CacheLayout::tokens_first:
      break;
    case CacheLayout::heads_first:
      return {heads * page * columns, columns, page * columns};
    case CacheLayout::padded: {
      const int64_t unit = 16 / test_.kv_bytes();
      const int64_t head = columns + unit, token = heads * head + 2 * unit;
      return {page * token + 3 * unit, token, head};
    }
  }
  return {page * heads * columns, heads * columns, columns};
}

// Pages in random order, page 0 nobody's. Entries past a sequence's end are no pages.
Status DecodeRun::make_tables() {
  std::vector<int32_t> q_indptr = {0}, seq_lens;
  int64_t used = 0;
  for (const auto& [queries, keys] : test_.lens) {
    q_indptr.push_back(q_indptr.back() + static_cast<int32_t>(queries));
    seq_lens.push_back(static_cast<int32_t>(keys));
    used += pages_of(keys, test_.page_size);
    max_pages_ = std::max(max_pages_, pages_of(keys, test_.page_size) + 1);
  }
  num_pages_ = used + 2;
  std::vector<int32_t> order(static_cast<size_t>(used));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i) + 1;
  std::mt19937_64 rng(7);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng() % i]);
  pages_.assign(test_.lens.size() * static_cast<size_t>(max_pages_), -1);
  size_t next = 0;
  for (size_t b = 0; b < test_.lens.size(); ++b)
    for (int64_t i = 0; i < pages_of(test_.lens[b].second, test_.page_size); ++i)
      pages_[b * static_cast<size_t>(max_pages_) + static_cast<size_t>(i)] = order[next++];
  for (const auto& [buffer, values] :
       {std::pair{&q_indptr_, &q_indptr}, {&seq_lens_, &seq_lens}, {&page_table_, &pages_}}) {
    DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(*gpu_->lab, values->size() * sizeof(int32_t)));
    DGRT_TRY(buffer->upload(values->data(), buffer->bytes()));
  }
  if (test_.mask == MaskShape::none) return ok();
  const EncodedMask mask = encode_masks(test_.mask, test_.flags, test_.lens);
  DGRT_ASSIGN(mask_, lab::DeviceBuffer::make(*gpu_->lab, mask.bytes.size()));
  DGRT_ASSIGN(mask_indptr_, lab::DeviceBuffer::make(*gpu_->lab, mask.indptr.size() * sizeof(int64_t)));
  return upload_mask(test_.lens);
}

Status DecodeRun::upload_mask(const std::vector<std::pair<int64_t, int64_t>>& lens) const {
  const EncodedMask mask = encode_masks(test_.mask, test_.flags, lens);
  DGRT_TRY(mask_.upload(mask.bytes.data(), mask.bytes.size()));
  return mask_indptr_.upload(mask.indptr.data(), mask_indptr_.bytes());
}

Result<DecodeRun> DecodeRun::make(Gpu& gpu, const DecodeCase& test) {
  DecodeRun run;
  run.gpu_ = &gpu;
  run.test_ = test;
  dgrt_attn_decode_desc& desc = run.desc_;
  desc.op.id = test.op_id;
  desc.num_q_heads = test.num_q_heads, desc.num_kv_heads = test.num_kv_heads;
  desc.head_dim_qk = test.head_dim_qk, desc.head_dim_v = test.head_dim_v;
  desc.max_batch = static_cast<int64_t>(test.lens.size());
  for (const auto& [queries, keys] : test.lens) {
    desc.max_q_len = std::max(desc.max_q_len, queries * test.hint_factor);
    desc.max_kv_len = std::max(desc.max_kv_len, keys * test.hint_factor);
  }
  desc.dtype = test.dtype, desc.dtype_kv = test.dtype_kv, desc.sm_budget = test.sm_budget;
  desc.flags = test.flags | (test.softcap > 0 ? DGRT_ATTN_SOFTCAP : 0);
  DGRT_TRY(run.make_tables());
  const lab::Device& lab = *gpu.lab;
  const auto cache_bytes = [&](int64_t columns) {
    return static_cast<size_t>(run.num_pages_ * run.cache_strides(columns).page * test.kv_bytes());
  };
  DGRT_ASSIGN(run.q_, lab::DeviceBuffer::make(
                          lab, test.num_q() * test.num_q_heads * test.head_dim_qk * 2));
  DGRT_ASSIGN(run.k_, lab::DeviceBuffer::make(lab, cache_bytes(test.head_dim_qk)));
  DGRT_ASSIGN(run.v_, lab::DeviceBuffer::make(lab, cache_bytes(test.head_dim_v)));
  DGRT_ASSIGN(run.sinks_, lab::DeviceBuffer::make(lab, test.num_q_heads * 4));
  DGRT_ASSIGN(run.scales_, lab::DeviceBuffer::make(lab, test.num_kv_heads * 2 * 4));
  DGRT_TRY(run.fill());
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
  return run;
}

// Slots that no query of the sequence sees, and pages of nobody.
Status DecodeRun::plant_nan(const lab::DeviceBuffer& cache, int64_t columns) const {
  const Strides at = cache_strides(columns);
  const bool heads_first = test_.layout == CacheLayout::heads_first;
  const auto erase = [&](int64_t page, int64_t first, int64_t end) -> Status {
    for (int64_t head = 0; head < (heads_first ? test_.num_kv_heads : 1); ++head)
      DGRT_TRY(lab::fill_words(*gpu_->lab,
                               cache.as<uint8_t>() + (page * at.page + first * at.token + head * at.head) * test_.kv_bytes(),
                               (end - first) * at.token * test_.kv_bytes() / 4, 0xffffffff));
    return ok();
  };
  const int64_t page_size = test_.page_size;
  for (const int64_t page : {int64_t{0}, num_pages_ - 1}) DGRT_TRY(erase(page, 0, page_size));
  for (size_t b = 0; b < test_.lens.size(); ++b) {
    const auto& [queries, keys] = test_.lens[b];
    const int32_t* row = &pages_[b * static_cast<size_t>(max_pages_)];
    int64_t dead = 0;  // keys before the window of the first query
    if (test_.window_left >= 0) dead = std::clamp<int64_t>(keys - queries - test_.window_left, 0, keys);
    for (int64_t from = 0; from < dead; from += page_size)
      DGRT_TRY(erase(row[from / page_size], 0, std::min(page_size, dead - from)));
    if (keys % page_size != 0) DGRT_TRY(erase(row[keys / page_size], keys % page_size, page_size));
  }
  return ok();
}

// Keys, but not values, that the mask hides from every query of a sequence: some of them.
Status DecodeRun::plant_masked_nan() const {
  const Strides at = cache_strides(test_.head_dim_qk);
  if (test_.layout != CacheLayout::tokens_first || (test_.flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0) return ok();
  for (size_t b = 0; b < test_.lens.size(); ++b) {
    const auto& [queries, keys] = test_.lens[b];
    const std::vector<int64_t> dead = dead_keys(mask_matrix(test_.mask, queries, keys, b), queries, keys);
    for (size_t i = 0; i < dead.size(); i += dead.size() / 20 + 1) {
      const int64_t page = pages_[b * static_cast<size_t>(max_pages_) + static_cast<size_t>(dead[i] / test_.page_size)];
      DGRT_TRY(lab::fill_words(
          *gpu_->lab,
          k_.as<uint8_t>() + (page * at.page + dead[i] % test_.page_size * at.token) * test_.kv_bytes(),
          at.token * test_.kv_bytes() / 4, 0xffffffff));
    }
  }
  return ok();
}

Status DecodeRun::fill() const {
  const lab::Device& lab = *gpu_->lab;
  const auto normal = [&](const lab::DeviceBuffer& to, uint64_t seed, float sigma) {
    if (test_.dtype == DGRT_FP16)
      return lab::fill_normal_fp16(lab, to.data(), to.bytes() / 2, seed, sigma);
    return lab::fill_normal_bf16(lab, to.data(), to.bytes() / 2, seed, sigma);
  };
  DGRT_TRY(normal(q_, 1, test_.sigma));
  if (test_.dtype_kv == DGRT_E4M3) {
    DGRT_TRY(lab::fill_normal_e4m3(lab, k_.data(), k_.bytes(), 2));
    DGRT_TRY(lab::fill_normal_e4m3(lab, v_.data(), v_.bytes(), 3));
    std::vector<float> scales(static_cast<size_t>(test_.num_kv_heads) * 2);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.008f + 0.001f * static_cast<float>(i % 5);
    DGRT_TRY(scales_.upload(scales.data(), scales_.bytes()));
  } else {
    DGRT_TRY(normal(k_, 2, 1.0f));
    DGRT_TRY(normal(v_, 3, 1.0f));
  }
  DGRT_TRY(lab::fill_normal_f32(lab, sinks_.as<float>(), test_.num_q_heads, 4, 2.0f));
  DGRT_TRY(lab::fill_words(lab, sinks_.data(), 1, 0xff800000));  // minus infinity: none
  DGRT_TRY(plant_nan(k_, test_.head_dim_qk));
  DGRT_TRY(plant_nan(v_, test_.head_dim_v));
  if (test_.mask != MaskShape::none) DGRT_TRY(plant_masked_nan());
  return lab.synchronize();
}

Status DecodeRun::set_kv_lens(const std::vector<int32_t>& lens) const {
  DGRT_TRY(gpu_->lab->synchronize());
  if (test_.mask != MaskShape::none) {
    auto pairs = test_.lens;
    for (size_t b = 0; b < pairs.size(); ++b) pairs[b].second = lens[b];
    DGRT_TRY(upload_mask(pairs));
  }
  return seq_lens_.upload(lens.data(), lens.size() * sizeof(int32_t));
}

Status DecodeRun::set_entries(const std::vector<PageEntry>& entries) const {
  DGRT_TRY(gpu_->lab->synchronize());
  for (const auto& [cache, columns] : {std::pair{&k_, test_.head_dim_qk}, {&v_, test_.head_dim_v}})
    DGRT_TRY(lab::fill_words(*gpu_->lab, cache->data(), cache_strides(columns).page * test_.kv_bytes() / 4, 0));
  std::vector<int32_t> pages = pages_;
  for (const PageEntry& entry : entries)
    pages[static_cast<size_t>(entry.sequence * max_pages_ + entry.column)] = entry.page;
  return page_table_.upload(pages.data(), page_table_.bytes());
}

void DecodeRun::set_args(dgrt_attn_decode_args* args) const {
  const DecodeCase& t = test_;
  dgrt_attn_decode_args& x = *args;
  x.op.id = t.op_id;
  if (t.op_id == DGRT_OP_ATTN_EXTEND) x.op.struct_size = common_bytes;
  x.q = q_.data(), x.k = k_.data(), x.v = v_.data();
  if (t.sinks) x.sinks = sinks_.as<float>();
  if (t.dtype_kv == DGRT_E4M3) {
    x.k_scale = scales_.as<float>(), x.v_scale = scales_.as<float>() + t.num_kv_heads;
    x.k_scale_head_stride = x.v_scale_head_stride = t.scale_per_head ? 1 : 0;
  }
  x.q_indptr = q_indptr_.as<int32_t>(), x.seq_lens = seq_lens_.as<int32_t>();
  x.page_table = page_table_.as<int32_t>();
  x.batch = static_cast<int64_t>(t.lens.size()), x.total_q = t.num_q();
  x.max_q_len = desc_.max_q_len, x.max_kv_len = desc_.max_kv_len;
  x.page_size = t.page_size, x.num_pages = num_pages_;
  x.max_pages = x.page_table_stride = max_pages_;
  const Strides k = cache_strides(t.head_dim_qk), v = cache_strides(t.head_dim_v);
  x.k_page_stride = k.page, x.k_token_stride = k.token, x.k_head_stride = k.head;
  x.v_page_stride = v.page, x.v_token_stride = v.token, x.v_head_stride = v.head;
  x.q_head_stride = t.head_dim_qk, x.q_token_stride = t.num_q_heads * t.head_dim_qk;
  x.o_head_stride = t.head_dim_v, x.o_token_stride = t.num_q_heads * t.head_dim_v;
  x.lse_token_stride = t.num_q_heads, x.lse_head_stride = 1;
  x.window_left = t.window_left, x.window_right = t.window_right;
  x.scale = 1.0f / std::sqrt(static_cast<float>(t.head_dim_qk));
  x.softcap = t.softcap;
  if (t.mask == MaskShape::none) return;
  x.mask = mask_.data(), x.mask_indptr = mask_indptr_.as<int64_t>();
  x.mask_bytes = static_cast<int64_t>(mask_.bytes()) - t.mask_bytes_cut;
}

Status DecodeRun::append(const DecodeRun& from) const {
  const DecodeCase& t = test_;
  dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
  desc.num_kv_heads = t.num_kv_heads;
  desc.head_dim_qk = t.head_dim_qk, desc.head_dim_v = t.head_dim_v;
  desc.max_tokens = num_pages_ * t.page_size;
  desc.dtype = t.dtype, desc.dtype_cache = t.dtype_kv;
  std::vector<int32_t> slots(static_cast<size_t>(desc.max_tokens));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
  DGRT_ASSIGN(const lab::DeviceBuffer mapping, lab::DeviceBuffer::make(*gpu_->lab, slots.size() * 4));
  DGRT_TRY(mapping.upload(slots.data(), mapping.bytes()));
  dgrt_attn_decode_args to = DGRT_ATTN_DECODE_ARGS;
  set_args(&to);
  dgrt_kv_append_args x = DGRT_KV_APPEND_ARGS;
  x.k = from.k_.data(), x.v = from.v_.data(), x.k_cache = k_.data(), x.v_cache = v_.data();
  x.slot_mapping = mapping.data();
  x.k_scale = to.k_scale, x.v_scale = to.v_scale;
  x.k_scale_head_stride = to.k_scale_head_stride, x.v_scale_head_stride = to.v_scale_head_stride;
  x.tokens = desc.max_tokens, x.page_size = t.page_size, x.num_pages = num_pages_;
  x.k_token_stride = x.k_cache_token_stride = to.k_token_stride;
  x.v_token_stride = x.v_cache_token_stride = to.v_token_stride;
  x.k_head_stride = x.k_cache_head_stride = to.k_head_stride;
  x.v_head_stride = x.v_cache_head_stride = to.v_head_stride;
  x.k_cache_page_stride = to.k_page_stride, x.v_cache_page_stride = to.v_page_stride;
  DGRT_ASSIGN(const Plan plan, Plan::make(*gpu_, &desc.op));
  DGRT_TRY(plan.launch(&x.op, gpu_->lab->stream()));
  return gpu_->lab->synchronize();
}

Result<DecodeRun::Outputs> DecodeRun::outputs() const {
  Outputs out;
  set_args(&out.args);
  const int64_t rows = test_.num_q() * test_.num_q_heads;
  DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(*gpu_->lab, rows * test_.head_dim_v * 2));
  DGRT_ASSIGN(out.lse, lab::DeviceBuffer::make(*gpu_->lab, rows * 4));
  out.args.o = out.o.data(), out.args.lse = out.lse.as<float>();
  return out;
}

Status DecodeRun::check_state() const {
  DGRT_TRY(plan_.check_guards());
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &info)));
  std::vector<unsigned char> state(info.state_bytes);
  if (state.empty() && test_.num_q() > 0)
    return error(DGRT_INTERNAL, "state_bytes=0: there are no counters");
  if (state.empty()) return ok();
  DGRT_TRY(plan_.workspace().download(state.data(), state.size()));
  for (size_t i = 0; i < state.size(); ++i)
    if (state[i] != 0) return error(DGRT_INTERNAL, "byte {} of the state is not zero", i);
  return ok();
}

Result<std::string> DecodeRun::check(const Outputs& out) const {
  DGRT_TRY(gpu_->lab->synchronize());
  for (const lab::DeviceBuffer* buffer :
       {&q_, &k_, &v_, &scales_, &sinks_, &q_indptr_, &seq_lens_, &page_table_, &mask_, &mask_indptr_,
        &out.o, &out.lse})
    if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(check_state());
  const lab::AttnProblem problem = lab::problem_of(desc_, out.args);
  DGRT_ASSIGN(const lab::AttnError found, lab::check_attn(*gpu_->lab, problem, out.args.total_q, test_.most_checked));
  DGRT_TRY(lab::check_attn_untouched(*gpu_->lab, problem, out.args.total_q, out.o, out.lse));
  return found.to_string();
}

Result<std::string> DecodeRun::launch_and_check() const {
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

void run_decode(Gpu& gpu, const DecodeCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const DecodeRun run, DecodeRun::make(gpu, test));
    return run.launch_and_check();
  });
}

}  // namespace dgrt::test
