#include "tests/gpu/mla_decode_case.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/gpu/decode_launches.h"
#include "tools/lib/lab_attn_check.h"
#include "tools/lib/lab_fill.h"

namespace dgrt::test {
namespace {

constexpr int64_t qk = 576, dv = 512;

int64_t pages_of(int64_t keys, int64_t page_size) { return (keys + page_size - 1) / page_size; }

}  // namespace

int64_t MlaCase::num_q() const {
  int64_t sum = 0;
  for (const auto& [queries, keys] : lens) sum += queries;
  return sum;
}

std::string MlaCase::name() const {
  std::string text =
      fmt::format("mla_decode {} {}/{}", dtype == DGRT_FP16 ? "fp16" : "bf16", num_q_heads, num_kv_heads);
  if (dtype_kv == DGRT_E4M3) text += " kv-e4m3";
  if (dtype_q == DGRT_E4M3) text += " q-e4m3";
  if (every_code) text += " every-code";
  if (lens.size() <= 4)
    for (const auto& [queries, keys] : lens) text += fmt::format(" {}:{}", queries, keys);
  else
    text += fmt::format(" batch={} tokens={}", lens.size(), num_q());
  text += fmt::format(" page={}", page_size);
  if (!causal) text += " full";
  if (!lse) text += " no-lse";
  if (sigma != 1) text += fmt::format(" sigma={}", sigma);
  constexpr const char* layouts[] = {"", " heads-first", " padded"};
  text += layouts[static_cast<int>(layout)];
  if (sm_budget > 0) text += fmt::format(" sms={}", sm_budget);
  if ((flags & DGRT_FLAG_PDL) != 0) text += " pdl";
  if ((flags & DGRT_FLAG_BATCH_INVARIANT) != 0) text += " batch-invariant";
  if ((flags & DGRT_MLA_LSE_BASE2) != 0) text += " base2";
  if ((flags & DGRT_MLA_LSE_EMPTY_INF) != 0) text += " empty-inf";
  return text;
}

MlaRun::Strides MlaRun::cache_strides() const {
  const int64_t heads = test_.num_kv_heads, page = test_.page_size;
  switch (test_.layout) {
    case MlaLayout::tokens_first:
      break;
    case MlaLayout::heads_first:
      return {heads * page * qk, qk, page * qk};
    case MlaLayout::padded: {
      const int64_t unit = 16 / kv_bytes(), head = qk + unit, token = heads * head + 2 * unit;
      return {page * token + 3 * unit, token, head};
    }
  }
  return {page * heads * qk, heads * qk, qk};
}

// Pages in random order, page 0 and the last nobody's. Entries past a sequence's end are garbage.
Status MlaRun::make_tables() {
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
  std::mt19937_64 rng(11);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng() % i]);
  pages_.assign(test_.lens.size() * static_cast<size_t>(max_pages_), 2147480000);
  size_t next = 0;
  for (size_t b = 0; b < test_.lens.size(); ++b)
    for (int64_t i = 0; i < pages_of(test_.lens[b].second, test_.page_size); ++i)
      pages_[b * static_cast<size_t>(max_pages_) + static_cast<size_t>(i)] = order[next++];
  for (const auto& [buffer, values] :
       {std::pair{&q_indptr_, &q_indptr}, {&seq_lens_, &seq_lens}, {&page_table_, &pages_}}) {
    DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(*gpu_->lab, values->size() * sizeof(int32_t)));
    DGRT_TRY(buffer->upload(values->data(), buffer->bytes()));
  }
  return ok();
}

// Slots past the sequences' ends, and pages of nobody.
Status MlaRun::plant_nan() const {
  const Strides at = cache_strides();
  const bool heads_first = test_.layout == MlaLayout::heads_first;
  const auto erase = [&](int64_t page, int64_t first, int64_t end) -> Status {
    for (int64_t head = 0; head < (heads_first ? test_.num_kv_heads : 1); ++head)
      DGRT_TRY(lab::fill_words(
          *gpu_->lab, kv_.as<uint8_t>() + (page * at.page + first * at.token + head * at.head) * kv_bytes(),
          (end - first) * at.token * kv_bytes() / 4, 0xffffffff));
    return ok();
  };
  const int64_t page_size = test_.page_size;
  for (const int64_t page : {int64_t{0}, num_pages_ - 1}) DGRT_TRY(erase(page, 0, page_size));
  for (size_t b = 0; b < test_.lens.size(); ++b) {
    const int64_t keys = test_.lens[b].second;
    const int32_t* row = &pages_[b * static_cast<size_t>(max_pages_)];
    if (keys % page_size != 0) DGRT_TRY(erase(row[keys / page_size], keys % page_size, page_size));
  }
  return ok();
}

Result<MlaRun> MlaRun::make(Gpu& gpu, const MlaCase& test) {
  MlaRun run;
  run.gpu_ = &gpu;
  run.test_ = test;
  dgrt_mla_decode_desc& desc = run.desc_;
  desc.num_q_heads = test.num_q_heads, desc.num_kv_heads = test.num_kv_heads;
  desc.max_batch = static_cast<int64_t>(test.lens.size());
  for (const auto& [queries, keys] : test.lens) {
    desc.max_q_len = std::max(desc.max_q_len, queries);
    desc.max_kv_len = std::max(desc.max_kv_len, keys);
  }
  desc.dtype = test.dtype, desc.dtype_kv = test.dtype_kv, desc.dtype_q = test.dtype_q;
  desc.sm_budget = test.sm_budget, desc.flags = test.flags;
  DGRT_TRY(run.make_tables());
  const lab::Device& lab = *gpu.lab;
  const int64_t q_row = (qk + run.padding_q()) * run.q_bytes();
  DGRT_ASSIGN(run.q_, lab::DeviceBuffer::make(lab, test.num_q() * test.num_q_heads * q_row));
  DGRT_ASSIGN(run.kv_, lab::DeviceBuffer::make(lab, run.num_pages_ * run.cache_strides().page * run.kv_bytes()));
  DGRT_TRY(run.fill(run.q_, run.q_bytes(), 1, test.sigma));
  DGRT_TRY(run.fill(run.kv_, run.kv_bytes(), 2, 1.0f));
  const float scales[] = {0.0087f * test.sigma, 0.0113f};  // codes' sigma is about 100
  DGRT_ASSIGN(run.scales_, lab::DeviceBuffer::make(lab, sizeof(scales)));
  DGRT_TRY(run.scales_.upload(scales, sizeof(scales)));
  DGRT_TRY(run.plant_nan());
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
  DGRT_TRY(lab.synchronize());
  return run;
}

// bytes: of an element.
Status MlaRun::fill(const lab::DeviceBuffer& to, int64_t bytes, uint64_t seed, float sigma) const {
  const lab::Device& lab = *gpu_->lab;
  if (bytes == 1 && test_.every_code) {
    std::vector<uint8_t> codes(to.bytes());
    std::mt19937_64 rng(seed);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(rng());
    // A NaN reaches a whole row: some have none.
    for (size_t i = 0; i < codes.size(); ++i)
      if (i / qk % 8 != 0 && (codes[i] & 0x7f) == 0x7f) codes[i] = 0;
    return to.upload(codes.data(), codes.size());
  }
  if (bytes == 1) return lab::fill_normal_e4m3(lab, to.data(), to.bytes(), seed);
  if (test_.dtype == DGRT_FP16) return lab::fill_normal_fp16(lab, to.data(), to.bytes() / 2, seed, sigma);
  return lab::fill_normal_bf16(lab, to.data(), to.bytes() / 2, seed, sigma);
}

Status MlaRun::set_kv_lens(const std::vector<int32_t>& lens) const {
  DGRT_TRY(gpu_->lab->synchronize());
  return seq_lens_.upload(lens.data(), lens.size() * sizeof(int32_t));
}

void MlaRun::set_args(dgrt_mla_decode_args* args) const {
  const MlaCase& t = test_;
  dgrt_mla_decode_args& x = *args;
  x.q = q_.data(), x.kv = kv_.data();
  x.q_indptr = q_indptr_.as<int32_t>(), x.seq_lens = seq_lens_.as<int32_t>();
  x.page_table = page_table_.as<int32_t>();
  x.batch = static_cast<int64_t>(t.lens.size()), x.total_q = t.num_q();
  x.max_q_len = desc_.max_q_len, x.max_kv_len = desc_.max_kv_len;
  x.page_size = t.page_size, x.num_pages = num_pages_;
  x.max_pages = x.page_table_stride = max_pages_;
  const Strides kv = cache_strides();
  x.kv_page_stride = kv.page, x.kv_token_stride = kv.token, x.kv_head_stride = kv.head;
  x.q_head_stride = qk + padding_q(), x.q_token_stride = t.num_q_heads * x.q_head_stride;
  x.o_head_stride = dv + padding(), x.o_token_stride = t.num_q_heads * x.o_head_stride;
  x.lse_token_stride = t.num_q_heads, x.lse_head_stride = 1;
  x.scale = 1.0f / std::sqrt(static_cast<float>(qk));
  if (q_bytes() == 1) x.q_scale = scales_.as<float>();
  if (kv_bytes() == 1) x.kv_scale = scales_.as<float>() + 1;
  x.causal = t.causal ? 1 : 0;
}

Result<MlaRun::Outputs> MlaRun::outputs() const {
  Outputs out;
  set_args(&out.args);
  const int64_t rows = test_.num_q() * test_.num_q_heads;
  DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(*gpu_->lab, rows * (dv + padding()) * 2));
  DGRT_ASSIGN(out.lse, lab::DeviceBuffer::make(*gpu_->lab, rows * 4));
  out.args.o = out.o.data();
  if (test_.lse) out.args.lse = out.lse.as<float>();
  return out;
}

// The counters must be zero again, and nothing beyond the workspace's end written.
Status MlaRun::check_state() const {
  DGRT_TRY(plan_.check_guards());
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &info)));
  std::vector<unsigned char> state(info.state_bytes);
  if (state.empty()) return test_.num_q() > 0 ? error(DGRT_INTERNAL, "state_bytes=0: there are no counters") : ok();
  DGRT_TRY(plan_.workspace().download(state.data(), state.size()));
  for (size_t i = 0; i < state.size(); ++i)
    if (state[i] != 0) return error(DGRT_INTERNAL, "byte {} of the state is not zero", i);
  return ok();
}

Result<std::string> MlaRun::check(const Outputs& out) const {
  DGRT_TRY(gpu_->lab->synchronize());
  for (const lab::DeviceBuffer* buffer : {&q_, &kv_, &q_indptr_, &seq_lens_, &page_table_, &scales_, &out.o, &out.lse})
    if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(check_state());
  const lab::AttnProblem problem = lab::problem_of(desc_, out.args);
  DGRT_ASSIGN(const lab::AttnError found,
              lab::check_attn(*gpu_->lab, problem, out.args.total_q, test_.most_checked));
  DGRT_TRY(lab::check_attn_untouched(*gpu_->lab, problem, out.args.total_q, out.o, out.lse));
  return found.to_string();
}

void run_mla(Gpu& gpu, const MlaCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const MlaRun run, MlaRun::make(gpu, test));
    DGRT_ASSIGN(const MlaRun::Outputs out, run.outputs());
    std::string kernel;
    if (out.args.total_q > 0) {
      DGRT_ASSIGN(kernel, run.plan().kernel_name(&out.args.op));
      kernel += ": ";
    }
    DGRT_TRY(run.launch(out));
    DGRT_ASSIGN(const std::string found, run.check(out));
    return kernel + found;
  });
}

void run_mla_repeats(Gpu& gpu, const MlaCase& test, int rounds) { run_launch_repeats<MlaRun>(gpu, test, rounds); }

void run_mla_one_by_one(Gpu& gpu, const MlaCase& test) {
  run_case("one by one: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const MlaRun run, MlaRun::make(gpu, test));
    DGRT_ASSIGN(const MlaRun::Outputs want, run.outputs());
    DGRT_ASSIGN(const MlaRun::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    DGRT_ASSIGN(const lab::DeviceBuffer indptr, lab::DeviceBuffer::make(*gpu.lab, 8));
    int64_t first = 0;
    for (size_t b = 0; b < test.lens.size(); ++b) {
      dgrt_mla_decode_args x = got.args;
      const int32_t ends[] = {0, static_cast<int32_t>(test.lens[b].first)};
      DGRT_TRY(indptr.upload(ends, sizeof(ends)));
      x.batch = 1, x.total_q = x.max_q_len = ends[1], x.max_kv_len = test.lens[b].second;
      x.q_indptr = indptr.as<int32_t>();
      x.seq_lens += b, x.page_table += static_cast<int64_t>(b) * x.page_table_stride;
      x.q = static_cast<const uint8_t*>(x.q) + first * x.q_token_stride * run.q_bytes();
      x.o = static_cast<uint16_t*>(x.o) + first * x.o_token_stride;
      x.lse += first * x.lse_token_stride;
      DGRT_TRY(run.plan().launch(&x.op, gpu.lab->stream()));
      DGRT_TRY(gpu.lab->synchronize());
      first += ends[1];
    }
    DGRT_TRY(check_equal(gpu, want, got));
    return run.check(want);
  });
}

void run_mla_replays(Gpu& gpu, const MlaCase& test, const std::vector<std::vector<int32_t>>& replays) {
  run_launch_replays<MlaRun>(gpu, test, replays);
}

}  // namespace dgrt::test
