// The CPU references of the helper ops around sparse MLA, against results worked out by hand.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/catch.h"
#include "tools/lib/lab_sparse_check.h"
#include "tools/lib/lab_topk_check.h"

namespace dgrt::lab {

TEST_CASE("lab_topk_check: order, ties, NaN and padding", "[unit]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {1, nan, 2, 1, -inf, 1, -0.0f, 0};
  CHECK(top_positions(scores, 1) == std::vector<int32_t>{2});
  CHECK(top_positions(scores, 3) == std::vector<int32_t>{0, 2, 3});
  CHECK(top_positions(scores, 5) == std::vector<int32_t>{0, 2, 3, 5, 6});
  CHECK(top_positions(scores, 7) == std::vector<int32_t>{0, 2, 3, 4, 5, 6, 7});
  CHECK(top_positions(std::span(scores).first(2), 4) == std::vector<int32_t>{0, 1, -1, -1});
  const std::vector<int32_t> table = {7, -1, 1 << 30};
  CHECK(slots_of(std::vector<int32_t>{0, 4, 9, 12, 16, -1}, table, 5) ==
        std::vector<int32_t>{35, 39, -1, -1, -1, -1});
  CHECK(check_row("x", 0, table, table).is_ok());
  CHECK_FALSE(check_row("x", 0, table, std::vector<int32_t>{7, -1}).is_ok());
  CHECK_FALSE(check_row("x", 0, table, std::vector<int32_t>{7, 0, 1 << 30}).is_ok());
}

// A token of V4 whose groups are 1.75, 896, 0, ...: scales of 2^-8 (of 1.75 / 448), 2 and the least.
TEST_CASE("lab_sparse_check: a row of V4, and back", "[unit]") {
  dgrt_mla_kv_append_desc append = DGRT_MLA_KV_APPEND_DESC;
  append.max_tokens = 2, append.format = DGRT_MLA_KV_V4;
  dgrt_mla_kv_append_args args = DGRT_MLA_KV_APPEND_ARGS;
  args.tokens = 2, args.page_size = 1, args.num_pages = 1, args.cache_page_stride = 592;
  args.latent_token_stride = 448, args.rotary_token_stride = 64;
  LatentAppendImages images;
  images.latent.assign(896, 0), images.rotary.assign(128, 0x1234);
  std::fill_n(images.latent.begin(), 64, uint16_t{0x3fe0});       // 1.75
  std::fill_n(images.latent.begin() + 64, 64, uint16_t{0x4460});  // 896
  images.slots = {0, -1};
  images.cache.assign(592, std::byte{0xff});
  std::fill_n(images.cache.begin(), 128, std::byte{0x7e});  // 448
  std::fill_n(images.cache.begin() + 128, 320, std::byte{0});
  for (size_t i = 448; i < 576; i += 2) images.cache[i] = std::byte{0x34}, images.cache[i + 1] = std::byte{0x12};
  const int scales[8] = {119, 128, 105, 105, 105, 105, 105, 0};  // 1e-4 / 448 is between 2^-23 and 2^-22
  for (size_t i = 0; i < 8; ++i) images.cache[576 + i] = static_cast<std::byte>(scales[i]);
  const Status status = check_mla_kv_append(append, args, images);
  INFO(status.message());
  CHECK(status.is_ok());
  LatentAppendImages wrong = images;
  wrong.cache[583] = std::byte{0xff};
  CHECK_FALSE(check_mla_kv_append(append, args, wrong).is_ok());

  dgrt_kv_dequant_paged_desc desc = DGRT_KV_DEQUANT_PAGED_DESC;
  desc.max_rows = 2, desc.format = DGRT_MLA_KV_V4;
  dgrt_kv_dequant_paged_args back = DGRT_KV_DEQUANT_PAGED_ARGS;
  back.rows = 2, back.page_size = 1, back.num_pages = 1, back.cache_page_stride = 592, back.out_row_stride = 512;
  DequantImages dequant;
  dequant.cache = images.cache, dequant.slots = {0, 1};
  dequant.out.assign(images.latent.begin(), images.latent.begin() + 448);
  dequant.out.resize(512, 0x1234), dequant.out.resize(1024, 0);
  CHECK(check_kv_dequant_paged(desc, back, dequant).is_ok());
  dequant.out[63] ^= 1;
  CHECK_FALSE(check_kv_dequant_paged(desc, back, dequant).is_ok());
}

TEST_CASE("lab_sparse_check: ids of windows, and what queries attend to", "[unit]") {
  dgrt_build_swa_token_ids_desc ids = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  ids.window = 3;
  dgrt_build_swa_token_ids_args args = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  args.batch = 2, args.capacity = 7, args.num_request_rows = 2, args.max_tokens = 5, args.num_full = 10;
  args.req_to_token_row_stride = 5;
  SwaIdsImages images;
  images.seq_lens = {5, 1}, images.extend_lens = {1, 1}, images.request_rows = {1, 0};
  images.req_to_token = {9, 0, 0, 0, 0, 1, 2, 3, 4, 10};
  images.full_to_swa = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90};
  images.first = {2, 0}, images.gather_lens = {3, 1}, images.offsets = {0, 3, 4};
  images.token_ids = {30, 40, -1, 90, -1, -1, -1};
  CHECK(check_build_swa_token_ids(ids, args, images).is_ok());
  images.token_ids[6] = 0;
  CHECK_FALSE(check_build_swa_token_ids(ids, args, images).is_ok());

  dgrt_combine_topk_swa_indices_desc combine = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  combine.window = 2, combine.ratio = 2;
  dgrt_combine_topk_swa_indices_args call = DGRT_COMBINE_TOPK_SWA_INDICES_ARGS;
  call.tokens = 3, call.batch = 1, call.top_k = 2, call.width = 4, call.topk_row_stride = call.indices_row_stride = 4;
  CombineImages rows;
  rows.topk_indices = {1, -1, 9, 9, 2, 0, 9, 9, 0, 0, 0, 0};
  rows.query_start_loc = {7, 9}, rows.seq_lens = {5}, rows.gather_lens = {3};
  rows.compressed_base = {100}, rows.swa_base = {200};
  // Positions 3 and 4, two compressed rows each; the last token belongs to nobody.
  rows.indices = {101, -1, 200, 201, -1, 100, 201, 202, -1, -1, -1, -1}, rows.lengths = {4, 4, 0};
  CHECK(check_combine_topk_swa_indices(combine, call, rows).is_ok());
  rows.indices[1] = 99;
  CHECK_FALSE(check_combine_topk_swa_indices(combine, call, rows).is_ok());
}

}  // namespace dgrt::lab
