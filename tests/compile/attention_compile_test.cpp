// Configs that attention may take with the head sizes of models compile: without spills, without the
// assembler serialising wgmma, within a time budget. A sample of them: one takes up to a second. The engine
// refuses a kernel whose parameters are not as large as the host's.
#include <algorithm>
#include <vector>

#include "dgrt/attention.h"
#include "runtime/ops/op.h"
#include "tests/support/catch.h"
#include "tests/support/compile_sweep.h"
#include "tests/support/random_desc.h"

namespace dgrt::test {
namespace {

// The largest head sizes unroll 32 steps for each product: 1.0 s on a core that others use too. (On an idle
// one 900 ms are the goal.)
double budget_ms(const Instance&) { return 1500; }

// Every `step`th of the configs, and the last. last: the point's last coordinate.
template <class Desc>
void collect(const Desc& desc, size_t step, std::map<std::string, Instance>* kernels,
             int64_t last = 4096) {
  const Target target{"sm_90a", 132};
  const OpImpl& op = *find_op(&desc.op).value();
  const Status checked = op.check_desc(&desc.op);
  INFO(checked.message());
  REQUIRE(checked.is_ok());
  const std::vector<Config> configs = op.candidates(&desc.op, target, Point{1, desc.max_q_len, last});
  CHECK(!configs.empty());
  const auto add = [&](const Config& config) {
    const Instance instance = op.instance(&desc.op, target, config);
    CHECK(instance.params_bytes > 0);
    const auto [known, added] = kernels->emplace(instance.entry, instance);
    if (!added) CHECK(known->second == instance);
  };
  for (size_t i = 0; i < configs.size(); i += std::min(step, configs.size())) add(configs[i]);
  if (step < configs.size()) add(configs.back());  // the tallest tile, or the most divided
}

dgrt_attn_prefill_desc desc_of(int64_t head_dim_qk, int64_t head_dim_v) {
  dgrt_attn_prefill_desc desc = DGRT_ATTN_PREFILL_DESC;
  desc.num_q_heads = 8, desc.num_kv_heads = 4;
  desc.head_dim_qk = head_dim_qk, desc.head_dim_v = head_dim_v;
  desc.max_batch = 1, desc.max_q_len = desc.max_kv_len = 4096;
  desc.dtype = DGRT_BF16;
  return desc;
}

}  // namespace

TEST_CASE("attn_prefill: configs of the head sizes of models compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const auto& [qk, v] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {512, 512}}) {
    dgrt_attn_prefill_desc desc = desc_of(qk, v);
    collect(desc, 6, &kernels);
    desc.dtype = DGRT_FP16, desc.flags = DGRT_ATTN_SOFTCAP;
    collect(desc, SIZE_MAX, &kernels);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_prefill: what may be asked for together compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  Rng rng(42);
  for (int round = 0; round < 60; ++round) {
    const dgrt_attn_prefill_desc desc = random_attn_prefill(rng);
    std::map<std::string, Instance> of_one;
    collect(desc, SIZE_MAX, &of_one);  // one: that there is any
    if (round % 12 == 0) kernels.insert(of_one.begin(), of_one.end());
  }
  compile_all(kernels, budget_ms);
}

// With new keys a kernel has all that it has without, and their loads.
TEST_CASE("attn_extend: configs of the head sizes of models compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const auto& [qk, v] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {512, 512}}) {
    dgrt_attn_extend_desc desc = DGRT_ATTN_EXTEND_DESC;
    desc.num_q_heads = 8, desc.num_kv_heads = 4;
    desc.head_dim_qk = qk, desc.head_dim_v = v;
    desc.max_batch = 1, desc.max_q_len = desc.max_kv_len = 4096;
    desc.dtype = DGRT_BF16;
    collect(desc, 24, &kernels, 16);
    desc.flags = DGRT_ATTN_NEW_KEYS;
    for (const int64_t page_rows : {1, 16}) collect(desc, 12, &kernels, page_rows);
    desc.dtype = DGRT_FP16, desc.flags |= DGRT_ATTN_SOFTCAP;
    collect(desc, SIZE_MAX, &kernels, 16);
    desc.flags = DGRT_ATTN_SOFTCAP;
    collect(desc, SIZE_MAX, &kernels, 1);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_prefill and attn_extend: configs of e4m3 keys and values compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (const auto& [qk, v] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {512, 512}}) {
    dgrt_attn_prefill_desc prefill = desc_of(qk, v);
    prefill.dtype_kv = DGRT_E4M3;
    collect(prefill, 9, &kernels);
    dgrt_attn_extend_desc extend = DGRT_ATTN_EXTEND_DESC;
    extend.num_q_heads = 8, extend.num_kv_heads = 4;
    extend.head_dim_qk = qk, extend.head_dim_v = v;
    extend.max_batch = 1, extend.max_q_len = extend.max_kv_len = 4096;
    extend.dtype = DGRT_BF16, extend.dtype_kv = DGRT_E4M3;
    extend.flags = DGRT_ATTN_NEW_KEYS | DGRT_ATTN_SOFTCAP;
    collect(extend, SIZE_MAX, &kernels, 16);
    extend.dtype = DGRT_FP16, extend.flags = DGRT_ATTN_MASK_BITS;
    if (qk == v && qk <= 128) collect(extend, SIZE_MAX, &kernels, 16);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_extend: what may be asked for together compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  Rng rng(44);
  for (int round = 0; round < 60; ++round) {
    const dgrt_attn_extend_desc desc = random_attn_extend(rng);
    std::map<std::string, Instance> of_one;
    collect(desc, SIZE_MAX, &of_one, 1 << rng() % 5);  // one: that there is any
    if (round % 12 == 0) kernels.insert(of_one.begin(), of_one.end());
  }
  compile_all(kernels, budget_ms);
}

// attn_decode in bf16, of the head sizes of models, one token and many.
std::vector<dgrt_attn_decode_desc> decode_descs() {
  std::vector<dgrt_attn_decode_desc> descs;
  for (const auto& [qk, v] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {512, 512}})
    for (const int64_t tokens : {1, 16}) {
      dgrt_attn_decode_desc desc = DGRT_ATTN_DECODE_DESC;
      desc.num_q_heads = 32, desc.num_kv_heads = 4;
      desc.head_dim_qk = qk, desc.head_dim_v = v;
      desc.max_batch = 64, desc.max_q_len = tokens, desc.max_kv_len = 4096;
      desc.dtype = DGRT_BF16;
      descs.push_back(desc);
    }
  return descs;
}

TEST_CASE("attn_decode: configs of the head sizes of models compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (dgrt_attn_decode_desc desc : decode_descs()) {
    collect(desc, 8, &kernels);
    desc.flags = DGRT_FLAG_BATCH_INVARIANT;
    collect(desc, SIZE_MAX, &kernels);
    desc.dtype = DGRT_FP16, desc.flags = DGRT_ATTN_SOFTCAP;
    collect(desc, SIZE_MAX, &kernels);
    desc.flags = DGRT_ATTN_NEW_KEYS;
    collect(desc, SIZE_MAX, &kernels);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_decode and attn_extend: configs with masks compile", "[compile]") {
  constexpr uint32_t skip = DGRT_ATTN_MASK_SKIP_PREFIX;
  std::map<std::string, Instance> kernels;
  for (const int64_t head_dim : {64, 96, 128, 256, 512}) {
    for (const uint32_t flags : {DGRT_ATTN_MASK_BYTES | skip, uint32_t{DGRT_ATTN_MASK_BITS}}) {
      dgrt_attn_decode_desc decode = DGRT_ATTN_DECODE_DESC;
      decode.num_q_heads = 32, decode.num_kv_heads = 4;
      decode.head_dim_qk = decode.head_dim_v = head_dim;
      decode.max_batch = 64, decode.max_q_len = 16, decode.max_kv_len = 4096;
      decode.dtype = DGRT_BF16, decode.flags = flags;
      collect(decode, 12, &kernels);
      dgrt_attn_extend_desc extend = DGRT_ATTN_EXTEND_DESC;
      extend.num_q_heads = 8, extend.num_kv_heads = 4;
      extend.head_dim_qk = extend.head_dim_v = head_dim;
      extend.max_batch = 1, extend.max_q_len = extend.max_kv_len = 4096;
      extend.dtype = DGRT_FP16;
      for (const int64_t page_rows : {1, 16}) {
        extend.flags = flags;
        collect(extend, 24, &kernels, page_rows);
      }
      extend.flags = flags | DGRT_ATTN_SOFTCAP;
      collect(extend, SIZE_MAX, &kernels, 1);
      extend.flags = flags | DGRT_ATTN_NEW_KEYS;
      collect(extend, SIZE_MAX, &kernels, 16);
    }
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_decode and attn_extend: configs that check pages compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  dgrt_attn_decode_desc decode = decode_descs()[4];  // heads of 128
  decode.flags = DGRT_ATTN_CHECK_PAGES;
  collect(decode, SIZE_MAX, &kernels);
  decode.dtype_kv = DGRT_E4M3, decode.flags |= DGRT_FLAG_BATCH_INVARIANT;
  collect(decode, SIZE_MAX, &kernels);
  dgrt_attn_extend_desc extend = DGRT_ATTN_EXTEND_DESC;
  extend.num_q_heads = 8, extend.num_kv_heads = 4;
  extend.head_dim_qk = extend.head_dim_v = 256;
  extend.max_batch = 1, extend.max_q_len = extend.max_kv_len = 4096;
  extend.dtype = DGRT_BF16;
  for (const auto& [flags, page_rows] : {std::pair{0u, 1}, {DGRT_ATTN_NEW_KEYS, 16}}) {
    extend.flags = DGRT_ATTN_CHECK_PAGES | flags;
    collect(extend, SIZE_MAX, &kernels, page_rows);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_decode: configs of an e4m3 cache compile", "[compile]") {
  std::map<std::string, Instance> kernels;
  for (dgrt_attn_decode_desc desc : decode_descs()) {
    desc.dtype_kv = DGRT_E4M3;
    collect(desc, 12, &kernels);
    desc.dtype = DGRT_FP16, desc.flags = DGRT_ATTN_SOFTCAP | DGRT_FLAG_BATCH_INVARIANT;
    collect(desc, SIZE_MAX, &kernels);
  }
  compile_all(kernels, budget_ms);
}

TEST_CASE("attn_decode: what may be asked for together compiles", "[compile]") {
  std::map<std::string, Instance> kernels;
  Rng rng(43);
  for (int round = 0; round < 60; ++round) {
    const dgrt_attn_decode_desc desc = random_attn_decode(rng);
    std::map<std::string, Instance> of_one;
    collect(desc, SIZE_MAX, &of_one);  // one: that there is any
    if (round % 12 == 0) kernels.insert(of_one.begin(), of_one.end());
  }
  compile_all(kernels, budget_ms);
}

}  // namespace dgrt::test
