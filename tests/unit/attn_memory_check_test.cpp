// The CPU checks of attn_merge and kv_append: right results pass, each kind of wrong one does not.
#include <cmath>
#include <cstring>

#include "tests/support/catch.h"
#include "tools/lib/lab_attn_memory_check.h"

namespace dgrt::lab {
namespace {

Bytes bytes_of(const std::vector<float>& values) {
  Bytes bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// One token, one head of 8 columns, two parts; the second weighs three times as much.
struct MergeSample {
  dgrt_attn_merge_desc desc = DGRT_ATTN_MERGE_DESC;
  dgrt_attn_merge_args args = DGRT_ATTN_MERGE_ARGS;
  MergeImages images;

  MergeSample() {
    desc.num_heads = 1, desc.head_dim = 8, desc.max_tokens = 1, desc.max_parts = 2;
    desc.dtype_part = desc.dtype_o = DGRT_FP32;
    args.tokens = 1, args.num_parts = 2;
    args.part_o_part_stride = 8, args.part_lse_part_stride = 1;
    images.part_o = bytes_of({0, 1, 2, 3, 4, 5, 6, 7, 4, 4, 4, 4, 4, 4, 4, 4});
    images.part_lse = {2.0f, 2.0f + std::log(3.0f)};
    images.o = bytes_of({3, 3.25f, 3.5f, 3.75f, 4, 4.25f, 4.5f, 4.75f});
    images.lse = {2.0f + std::log(4.0f)};
  }
  bool passes() const { return check_attn_merge(desc, args, images, 10).is_ok(); }
};

}  // namespace

TEST_CASE("lab_attn_memory_check: merged rows", "[unit]") {
  MergeSample sample;
  CHECK(sample.passes());
  sample.images.lse[0] += 1e-4f;
  CHECK_FALSE(sample.passes());
  sample = {};
  sample.images.o = bytes_of({3, 3.25f, 3.5f, 3.75f, 4, 4.25f, 4.5f, 4.76f});
  CHECK_FALSE(sample.passes());
  sample.images.o = bytes_of({3, 3.25f, 3.5f, 3.75f, 4, 4.25f, 4.5f, NAN});
  CHECK_FALSE(sample.passes());
}

TEST_CASE("lab_attn_memory_check: sinks, powers of two and empty parts", "[unit]") {
  MergeSample sample;
  sample.images.sinks = {2.0f + std::log(4.0f)};  // as much as both parts
  sample.images.o = bytes_of({1.5f, 1.625f, 1.75f, 1.875f, 2, 2.125f, 2.25f, 2.375f});
  CHECK(sample.passes());
  sample.desc.flags = DGRT_ATTN_LSE_WITH_SINK;
  CHECK_FALSE(sample.passes());
  sample.images.lse[0] = 2.0f + std::log(8.0f);
  CHECK(sample.passes());
  sample = {};
  sample.desc.flags = DGRT_ATTN_LSE_BASE2;
  sample.images.part_lse = {5.0f, 5.0f + std::log2(3.0f)}, sample.images.lse = {7.0f};
  CHECK(sample.passes());
  sample = {};
  sample.images.part_lse = {-INFINITY, -INFINITY}, sample.images.lse = {-INFINITY};
  CHECK_FALSE(sample.passes());
  sample.images.o = bytes_of({0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(sample.passes());
}

TEST_CASE("lab_attn_memory_check: appended rows", "[unit]") {
  dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
  desc.num_kv_heads = 1, desc.head_dim_qk = desc.head_dim_v = 8, desc.max_tokens = 2;
  desc.dtype = DGRT_BF16, desc.dtype_cache = DGRT_E4M3;
  dgrt_kv_append_args args = DGRT_KV_APPEND_ARGS;
  args.tokens = 2, args.page_size = 2, args.num_pages = 1;
  args.k_token_stride = args.v_token_stride = 8;
  args.k_cache_token_stride = args.v_cache_token_stride = 8;
  AppendImages images;
  images.k = images.v = Bytes(32, std::byte{0x40});  // bf16 3
  images.slots = {1, 2};                             // 2: skipped
  images.k_scale = {2.0f};
  images.k_cache = images.v_cache = Bytes(16, std::byte{0xff});
  std::fill(images.k_cache.begin() + 8, images.k_cache.end(), std::byte{0x3c});  // 1.5
  std::fill(images.v_cache.begin() + 8, images.v_cache.end(), std::byte{0x44});  // 3
  const Status status = check_kv_append(desc, args, images);
  INFO(status.message());
  CHECK(status.is_ok());
  images.v_cache[0] = std::byte{0x44};
  CHECK_FALSE(check_kv_append(desc, args, images).is_ok());
}

}  // namespace dgrt::lab
