#include "tests/gpu/mla_sparse_decode_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "tests/gpu/decode_launches.h"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::test {
namespace {

constexpr int64_t dv = 512;

uint16_t clamped_normal(std::mt19937_64& random, float sigma) {
  const float value = std::normal_distribution<float>(0.0f, sigma)(random);
  return lab::float_to_bf16(std::clamp(value, -1.0f, 1.0f));
}

}  // namespace

std::string SparseCase::name() const {
  std::string text = fmt::format("mla_sparse_decode {} h={} {}x{} top_k={} page={}",
                                 format == DGRT_MLA_KV_V32 ? "v32" : "v4", heads, batch, q_len, top_k, page_size);
  if (extra_top_k > 0) text += fmt::format(" extra={} page={}", extra_top_k, extra_page_size);
  constexpr const char* lengths_of[] = {"", " lengths", " lengths-of-tokens"};
  text += lengths_of[static_cast<int>(lengths)];
  if (holes != 0.1) text += fmt::format(" holes={}", holes);
  if (sinks) text += " sinks";
  if (!lse) text += " no-lse";
  if (padded) text += " padded";
  if (sm_budget > 0) text += fmt::format(" sms={}", sm_budget);
  for (const auto& [flag, name] : {std::pair{DGRT_FLAG_PDL, " pdl"},
                                   {DGRT_FLAG_BATCH_INVARIANT, " batch-invariant"},
                                   {DGRT_MLA_NO_SPLIT, " no-split"},
                                   {DGRT_MLA_LSE_BASE2, " base2"},
                                   {DGRT_MLA_LSE_EMPTY_INF, " empty-inf"}})
    if ((flags & flag) != 0) text += name;
  return text;
}

// Codes of any size but NaN, under scales that make them about as large as a model's: of V32 any numbers, of V4 with
// garbage in the byte that nobody reads. A group in eight has the smallest codes, under scales of 2^7 and more.
void SparseRun::fill_slot(int64_t slot, uint64_t seed, Pool* pool) const {
  std::mt19937_64 random(seed);
  const bool v4 = test_.format == DGRT_MLA_KV_V4;
  const int64_t in_page = slot % pool->page_size, quantised = v4 ? 448 : 512;
  std::byte* const page = pool->cache_image.data() + slot / pool->page_size * pool->page_stride;
  std::byte* const row = page + in_page * (v4 ? 576 : 656);
  const int64_t group_columns = v4 ? 64 : 128;
  const uint64_t large = random() & random() & random();  // a bit for each group
  for (int64_t i = 0; i < quantised; ++i) {
    const auto code = static_cast<uint8_t>(random() & ((large >> i / group_columns & 1) != 0 ? 0x81 : 0xff));
    row[i] = static_cast<std::byte>((code & 0x7f) == 0x7f ? 0x7e : code);
  }
  for (int64_t i = 0; i < 64; ++i) {
    const uint16_t value = clamped_normal(random, 0.1f);
    std::memcpy(row + (v4 ? 448 : 528) + i * 2, &value, 2);
  }
  for (int64_t group = 0; group < (v4 ? 8 : 4); ++group) {
    if (v4) {
      page[pool->page_size * 576 + in_page * 8 + group] =
          static_cast<std::byte>((large >> group & 1) != 0 ? 134 + random() % 2 : 116 + random() % 3);
    } else {
      const float part = static_cast<float>(random() % 1000) / 1000;
      const float scale = (large >> group & 1) != 0 ? (1 + part) * 128 : (0.5f + part) / 900;
      std::memcpy(row + 512 + group * 4, &scale, 4);
    }
  }
}

Status SparseRun::make_pool(int64_t top_k, int64_t page_size, uint64_t seed, Pool* pool) const {
  const int64_t token_bytes = test_.format == DGRT_MLA_KV_V32 ? 656 : 584, pad = test_.padded ? 1 : 0;
  pool->top_k = top_k, pool->page_size = page_size;
  pool->num_pages = test_.num_slots / page_size + 2;
  pool->page_stride = (page_size * token_bytes + 15) / 16 * 16 + pad * 48;
  pool->index_stride = top_k + pad * 5;
  const int64_t num_slots = pool->num_pages * page_size;
  pool->cache_image.assign(static_cast<size_t>(pool->num_pages * pool->page_stride), std::byte{0xff});
  std::mt19937_64 random(seed);
  std::vector<char> is_named(static_cast<size_t>(num_slots));
  for (int64_t i = 0; i < test_.tokens() * pool->index_stride; ++i) {
    const int64_t bad[] = {-1, num_slots, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
    const bool is_hole = static_cast<double>(random() % 1000) < test_.holes * 1000;
    const int64_t slot = static_cast<int64_t>(random() % static_cast<uint64_t>(num_slots));
    // Odd slots are never named: what lies there is NaN.
    pool->index_image.push_back(static_cast<int32_t>(is_hole ? bad[random() % 4] : slot / 2 * 2));
    if (!is_hole) is_named[static_cast<size_t>(slot / 2 * 2)] = 1;
  }
  for (int64_t slot = 0; slot < num_slots; ++slot)
    if (is_named[static_cast<size_t>(slot)]) fill_slot(slot, seed * 1000003 + static_cast<uint64_t>(slot), pool);
  DGRT_ASSIGN(pool->cache, lab::DeviceBuffer::make_of(*gpu_->lab, pool->cache_image));
  DGRT_ASSIGN(pool->indices, lab::DeviceBuffer::make_of(*gpu_->lab, pool->index_image));
  const int64_t num_lengths = test_.lengths == ListLengths::of_tokens ? test_.tokens() : test_.batch;
  DGRT_ASSIGN(pool->lengths, lab::DeviceBuffer::make(*gpu_->lab, static_cast<size_t>(num_lengths) * 4));
  return ok();
}

// Past its length a list names odd slots, and none.
Status SparseRun::set_lengths(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (Pool* pool : {&main_, &extra_}) {
    if (test_.lengths == ListLengths::all || pool->top_k == 0) continue;
    pool->length_image.clear();
    for (size_t i = 0; i < pool->lengths.bytes() / 4; ++i) {
      const auto any = static_cast<int64_t>(random() % 70);
      const int64_t kinds[] = {0, -3, pool->top_k + 9, pool->top_k / 2, pool->top_k, any};
      pool->length_image.push_back(static_cast<int32_t>(kinds[random() % 6]));
    }
    std::vector<int32_t> indices = pool->index_image;
    for (int64_t token = 0; token < test_.tokens(); ++token) {
      const int64_t at = test_.lengths == ListLengths::of_tokens ? token : token / test_.q_len;
      for (int64_t i = std::max<int64_t>(pool->length_image[at], 0); i < pool->index_stride; ++i)
        indices[token * pool->index_stride + i] = i % 2 ? 1 : 2147480000;
    }
    DGRT_TRY(gpu_->lab->synchronize());
    DGRT_TRY(pool->indices.upload(indices.data(), pool->indices.bytes()));
    DGRT_TRY(pool->lengths.upload(pool->length_image.data(), pool->lengths.bytes()));
  }
  return ok();
}

Status SparseRun::make_queries() {
  std::mt19937_64 random(7);
  q_image_.resize(static_cast<size_t>(test_.tokens() * test_.heads * q_head_));
  for (uint16_t& value : q_image_) value = clamped_normal(random, 1.0f);
  const float kinds[] = {0.5f, std::numeric_limits<float>::infinity(), -3, -std::numeric_limits<float>::infinity(), 6};
  for (int64_t head = 0; head < test_.heads; ++head) sinks_image_.push_back(kinds[head % 5]);
  DGRT_ASSIGN(q_, lab::DeviceBuffer::make_of(*gpu_->lab, q_image_));
  DGRT_ASSIGN(sinks_, lab::DeviceBuffer::make_of(*gpu_->lab, sinks_image_));
  return ok();
}

Result<SparseRun> SparseRun::make(Gpu& gpu, const SparseCase& test) {
  SparseRun run;
  run.gpu_ = &gpu, run.test_ = test;
  dgrt_mla_sparse_decode_desc& desc = run.desc_;
  desc.num_q_heads = test.heads, desc.format = test.format, desc.flags = test.flags, desc.sm_budget = test.sm_budget;
  desc.max_tokens = test.tokens(), desc.max_keys = test.top_k + test.extra_top_k;
  run.columns_ = test.format == DGRT_MLA_KV_V32 ? 576 : 512;
  run.q_head_ = run.columns_ + (test.padded ? 8 : 0), run.o_head_ = dv + (test.padded ? 16 : 0);
  DGRT_TRY(run.make_pool(test.top_k, test.page_size, 1, &run.main_));
  DGRT_TRY(run.make_pool(test.extra_top_k, test.extra_page_size, 2, &run.extra_));
  DGRT_TRY(run.set_lengths(3));
  DGRT_TRY(run.make_queries());
  DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
  DGRT_TRY(gpu.lab->synchronize());
  return run;
}

Result<SparseRun::Outputs> SparseRun::outputs() const {
  Outputs out;
  dgrt_mla_sparse_decode_args& x = out.args;
  const int64_t rows = test_.tokens() * test_.heads;
  DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(*gpu_->lab, static_cast<size_t>(rows * o_head_ * 2)));
  DGRT_ASSIGN(out.lse, lab::DeviceBuffer::make(*gpu_->lab, static_cast<size_t>(rows * 4)));
  x.q = q_.data(), x.o = out.o.data();
  if (test_.lse) x.lse = out.lse.as<float>();
  if (test_.sinks) x.sinks = sinks_.as<float>();
  x.cache = main_.cache.data(), x.extra_cache = extra_.cache.data();
  x.indices = main_.indices.as<int32_t>(), x.extra_indices = extra_.indices.as<int32_t>();
  if (test_.lengths != ListLengths::all)
    x.lengths = main_.lengths.as<int32_t>(), x.extra_lengths = extra_.lengths.as<int32_t>();
  x.lengths_per_token = test_.lengths == ListLengths::of_tokens ? 1 : 0;
  x.batch = test_.batch, x.q_len = test_.q_len, x.top_k = test_.top_k, x.extra_top_k = test_.extra_top_k;
  x.page_size = main_.page_size, x.num_pages = main_.num_pages, x.cache_page_stride = main_.page_stride;
  x.extra_page_size = extra_.page_size, x.extra_num_pages = extra_.num_pages;
  x.extra_cache_page_stride = extra_.page_stride;
  x.indices_token_stride = main_.index_stride, x.extra_indices_token_stride = extra_.index_stride;
  x.q_head_stride = q_head_, x.q_token_stride = test_.heads * q_head_;
  x.o_head_stride = o_head_, x.o_token_stride = test_.heads * o_head_;
  x.lse_head_stride = test_.padded ? test_.tokens() : 1;  // padded: [heads, tokens]
  x.lse_token_stride = test_.padded ? 1 : test_.heads;
  x.scale = std::pow(static_cast<float>(columns_), -0.55f);
  return out;
}

// The counters must be zero again, and nothing beyond the workspace's end written.
Status SparseRun::check_state() const {
  DGRT_TRY(plan_.check_guards());
  dgrt_plan_info info = DGRT_PLAN_INFO;
  DGRT_TRY(to_status(dgrt_plan_get_info(plan_.get(), &info)));
  std::vector<unsigned char> state(info.state_bytes);
  if (state.empty()) return ok();
  DGRT_TRY(plan_.workspace().download(state.data(), state.size()));
  for (size_t i = 0; i < state.size(); ++i)
    if (state[i] != 0) return error(DGRT_INTERNAL, "byte {} of the state is not zero", i);
  return ok();
}

Result<std::string> SparseRun::check(const Outputs& out) {
  DGRT_TRY(gpu_->lab->synchronize());
  const std::initializer_list<const lab::DeviceBuffer*> buffers = {
      &q_, &sinks_, &main_.cache, &main_.indices, &main_.lengths, &extra_.cache, &extra_.indices, &extra_.lengths,
      &out.o, &out.lse};
  for (const lab::DeviceBuffer* buffer : buffers)
    if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
  DGRT_TRY(check_state());
  lab::SparseDecodeImages images;
  images.q = q_image_, images.cache = main_.cache_image, images.extra_cache = extra_.cache_image;
  images.indices = main_.index_image, images.extra_indices = extra_.index_image;
  images.lengths = main_.length_image, images.extra_lengths = extra_.length_image;
  if (test_.sinks) images.sinks = sinks_image_;
  DGRT_ASSIGN(images.o, out.o.download_all<uint16_t>());
  if (test_.lse) {
    DGRT_ASSIGN(images.lse, out.lse.download_all<float>());
  }
  DGRT_ASSIGN(const lab::SparseDecodeError found,
              lab::check_mla_sparse_decode(desc_, out.args, images, test_.most_checked));
  DGRT_TRY(lab::check_mla_sparse_untouched(desc_, out.args, std::move(images)));
  return found.to_string();
}

void run_sparse(Gpu& gpu, const SparseCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(SparseRun run, SparseRun::make(gpu, test));
    DGRT_ASSIGN(const SparseRun::Outputs out, run.outputs());
    std::string kernel;
    if (test.tokens() > 0) {
      DGRT_ASSIGN(kernel, run.plan().kernel_name(&out.args.op));
      kernel += ": ";
    }
    DGRT_TRY(run.launch(out));
    DGRT_ASSIGN(const std::string found, run.check(out));
    return kernel + found;
  });
}

void run_sparse_repeats(Gpu& gpu, const SparseCase& test, int rounds) {
  run_launch_repeats<SparseRun>(gpu, test, rounds);
}

void run_sparse_one_by_one(Gpu& gpu, const SparseCase& test) {
  run_case("one by one: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(SparseRun run, SparseRun::make(gpu, test));
    DGRT_ASSIGN(const SparseRun::Outputs want, run.outputs());
    DGRT_ASSIGN(const SparseRun::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    dgrt_mla_sparse_decode_args x = got.args;
    x.batch = 1;
    for (int64_t b = 0; b < test.batch; ++b) {
      DGRT_TRY(run.plan().launch(&x.op, gpu.lab->stream()));
      x.q = static_cast<const uint16_t*>(x.q) + test.q_len * x.q_token_stride;
      x.o = static_cast<uint16_t*>(x.o) + test.q_len * x.o_token_stride;
      x.lse += test.q_len * x.lse_token_stride;
      x.indices += test.q_len * x.indices_token_stride;
      x.extra_indices += test.q_len * x.extra_indices_token_stride;
      const int64_t lengths = x.lengths_per_token != 0 ? test.q_len : 1;
      if (x.lengths != nullptr) x.lengths += lengths, x.extra_lengths += lengths;
    }
    DGRT_TRY(check_equal(gpu, want, got));
    return run.check(want);
  });
}

void run_sparse_replays(Gpu& gpu, const SparseCase& test, int replays) {
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(SparseRun run, SparseRun::make(gpu, test));
    DGRT_ASSIGN(const SparseRun::Outputs out, run.outputs());
    Graph graph(gpu.lab->driver());
    const CUstream stream = gpu.lab->stream();
    DGRT_TRY(capture(&graph, stream, [&] { return run.launch(out); }));
    std::string found;
    for (int replay = 0; replay < replays; ++replay) {
      DGRT_TRY(run.set_lengths(static_cast<uint64_t>(replay) + 11));
      for (const lab::DeviceBuffer* buffer : {&out.o, &out.lse}) DGRT_TRY(buffer->poison());
      DGRT_TRY(gpu.lab->synchronize());
      for (int i = 0; i < 2; ++i) DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, stream));
      DGRT_ASSIGN(found, run.check(out));
    }
    return found;
  });
}

}  // namespace dgrt::test
