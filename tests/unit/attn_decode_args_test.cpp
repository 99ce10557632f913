// Plans of attn_decode on a driver that only takes notes: what reaches the kernel, and that each rule of the
// public header, broken, is refused by name.
#include <cmath>

#include "attention/sm90_attn_decode.cuh"
#include "dgrt/attention.h"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_attn_decode_desc;
using Args = dgrt_attn_decode_args;
using sm90::attn_decode::Params;

Desc good_desc(uint32_t flags = 0) {
  Desc desc = DGRT_ATTN_DECODE_DESC;
  desc.num_q_heads = 20, desc.num_kv_heads = 4;
  desc.head_dim_qk = 192, desc.head_dim_v = 128;
  desc.max_batch = 4, desc.max_q_len = 16, desc.max_kv_len = 8192;
  desc.dtype = DGRT_BF16, desc.flags = flags;
  return desc;
}

Args good_args() {
  Args args = DGRT_ATTN_DECODE_ARGS;
  args.q = address<void>(0x1000), args.k = address<void>(0x2000);
  args.v = address<void>(0x3000), args.o = address<void>(0x4000);
  args.lse = address<float>(0x5004), args.sinks = address<float>(0x6004);
  args.q_indptr = address<int32_t>(0x7004), args.seq_lens = address<int32_t>(0x8004);
  args.page_table = address<int32_t>(0x9004);
  args.batch = 2, args.total_q = 8, args.max_q_len = 4, args.max_kv_len = 2000;
  args.page_size = 5, args.num_pages = 1000, args.max_pages = 400, args.page_table_stride = 401;
  args.q_token_stride = 20 * 192, args.q_head_stride = 192;
  args.k_page_stride = 5 * 4 * 192, args.k_token_stride = 4 * 192, args.k_head_stride = 192;
  args.v_page_stride = 5 * 4 * 128, args.v_token_stride = 4 * 128, args.v_head_stride = 128;
  args.o_token_stride = 20 * 128, args.o_head_stride = 128;
  args.lse_token_stride = 20, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

}  // namespace

TEST_CASE("attn_decode: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT}) {
    const Desc desc = good_desc(flags);
    const auto plan = fixture.plan_of(&desc.op);
    CHECK(plan->state_bytes() > 0);
    CHECK(plan->state_bytes() < plan->workspace_bytes());
    const Args args = good_args();
    check_launch(fixture, *plan, args);
    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(&args.op, &info).is_ok());
    const Params p = last_params<Params>();
    CHECK(FakeCuda::last_config.gridDimX % 132 == 0);
    CHECK(p.counters == fixture.workspace);
    CHECK(reinterpret_cast<std::byte*>(p.parts) ==
          static_cast<std::byte*>(fixture.workspace) + plan->state_bytes());
    CHECK(p.batch == 2);
    CHECK(p.group == 5);
    CHECK(p.tile_heads == 5);
    CHECK(p.tile_tokens.by == info.block_m / 5);
    CHECK(p.head_tiles.by == 1);
    CHECK(p.max_q_len == (flags == 0 ? 8 : 4));
    CHECK(p.max_kv_len == 2000);
    CHECK(p.table_row == 401);
    CHECK(p.window_left == attn_no_window);
    CHECK(p.window_right == 0);
    for (uint32_t row = 0; row < 64; ++row) CHECK(token_of_row(row, p.row_scale) == row / 5);
  }
}

TEST_CASE("attn_decode: a cluster of CTAs for each head of a small batch", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  desc.num_q_heads = 8;
  const auto plan = fixture.plan_of(&desc.op);
  Args args = good_args();
  args.total_q = args.batch = 2, args.max_q_len = 1, args.max_kv_len = 1024;
  const auto launch = [&] {
    const Status status = fixture.launch(*plan, &args.op);
    INFO(status.message());
    REQUIRE(status.is_ok());
  };
  launch();
  CHECK(FakeCuda::last_config.gridDimX == 2 * 4 * 8);  // sequences, key heads, CTAs of a cluster
  args.max_kv_len = 8192;  // too long to be divided by eight
  launch();
  CHECK(FakeCuda::last_config.gridDimX % 132 == 0);
  args.window_left = 127;  // of which few are seen
  launch();
  CHECK(FakeCuda::last_config.gridDimX <= 2 * 4 * 8);
}

TEST_CASE("attn_decode: rows are divided by every number of heads", "[unit]") {
  for (uint32_t heads = 1; heads <= 64; ++heads)
    for (uint32_t row = 0; row < 80; ++row)
      CHECK(token_of_row(row, attn_row_scale(heads)) == row / heads);
}

TEST_CASE("Divisor: quotients are those of divisions", "[unit]") {
  for (const uint32_t by : {1u, 2u, 3u, 5u, 7u, 12u, 64u, 65u, 1000u, 65537u, 0x7fffffffu, 0x80000001u, ~0u}) {
    const Divisor divisor(by);
    for (const uint32_t x : {0u, 1u, by - 1, by, by + 1, 3 * by - 1, 3 * by, 0x7fffffffu, 0x80000000u, ~0u - 1, ~0u})
      CHECK(divisor.quotient(x) == x / by);
  }
  for (uint32_t x = 0; x < 200; ++x) CHECK(ceil_div(x, Divisor(7)) == ceil_div(x, 7));
}

TEST_CASE("attn_decode: nothing to do launches nothing; no cache and no lse are fine", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  for (void (*spoil)(Args*) : {+[](Args* x) { x->batch = 0; }, +[](Args* x) { x->total_q = 0; }}) {
    Args args = DGRT_ATTN_DECODE_ARGS;  // pointers are not looked at
    args.batch = 2, args.total_q = 4;
    spoil(&args);
    CHECK(fixture.launch(*plan, &args.op).is_ok());
  }
  CHECK(FakeCuda::num_launches == launches);
  Args args = good_args();
  args.num_pages = args.max_pages = args.max_kv_len = 0;
  args.k = args.v = nullptr, args.page_table = nullptr, args.lse = nullptr, args.sinks = nullptr;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  args.max_pages = 400;  // there is no table to look into either
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(last_params<Params>().max_kv_len == 0);
  CHECK(plan->launch(&args.op, fixture.workspace, 0, fixture.stream).code() ==
        DGRT_WORKSPACE_TOO_SMALL);
}

TEST_CASE("attn_decode refuses bad sizes, pointers and strides by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->batch = -1; }, "batch=-1: must be 0 to 4"},
       {[](Args* x) { x->batch = 5; }, "batch=5: must be 0 to 4"},
       {[](Args* x) { x->max_q_len = 17; }, "max_q_len=17"},
       {[](Args* x) { x->max_kv_len = 8193; }, "max_kv_len=8193"},
       {[](Args* x) { x->total_q = 1 << 30; }, "total_q=1073741824"},
       {[](Args* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](Args* x) { x->max_pages = -1; }, "max_pages=-1"},
       {[](Args* x) { x->page_size = 0; }, "page_size=0: must be 1 to"},
       {[](Args* x) { x->page_size = 1 << 22; }, "max_pages=400: times page_size=4194304"},
       {[](Args* x) { x->page_table_stride = 399; }, "page_table_stride=399: must be at least"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->k = nullptr; }, "k=NULL: must point to device memory"},
       {[](Args* x) { x->v = address<void>(0x3004); }, "v=0x3004: must be 16-byte aligned"},
       {[](Args* x) { x->o = address<void>(0x4002); }, "o=0x4002"},
       {[](Args* x) { x->lse = address<float>(0x5002); }, "lse=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->sinks = address<float>(0x6001); }, "sinks=0x6001"},
       {[](Args* x) { x->q_indptr = nullptr; }, "q_indptr=NULL: must point to device memory"},
       {[](Args* x) { x->seq_lens = nullptr; }, "seq_lens=NULL: must point to device memory"},
       {[](Args* x) { x->page_table = nullptr; }, "page_table=NULL: must point to device memory"},
       {[](Args* x) { x->k_page_stride = 4; }, "k_page_stride=4: must be a multiple of 8"},
       {[](Args* x) { x->v_page_stride = -8; }, "v_page_stride=-8"},
       {[](Args* x) { x->k_token_stride = 184; }, "k_token_stride=184: must be at least 192"},
       {[](Args* x) { x->v_head_stride = 132; }, "v_head_stride=132: must be a multiple of 8"},
       {[](Args* x) { x->lse_head_stride = 0; }, "lse_head_stride=0: must be at least 1"},
       {[](Args* x) { x->scale = NAN; }, "scale=nan"},
       {[](Args* x) { x->softcap = 1; }, "softcap=1: must be 0 without SOFTCAP"},
       {[](Args* x) { x->window_left = -2; }, "window_left=-2"},
       {[](Args* x) { x->max_pages = x->page_table_stride = 200000000, x->total_q = 1 << 20; },
        "total_q=1048576 batch=2 max_pages=200000000: more than 2^32 tiles"},
       {[](Args* x) { x->k_scale = address<float>(0x6004); }, "k_scale: must be NULL"}});
}

TEST_CASE("attn_decode: new keys", "[unit]") {
  OpsFixture fixture;
  const Desc plain = good_desc(), desc = good_desc(DGRT_ATTN_NEW_KEYS);
  check_breaches<Args>(
      fixture, &plain.op, good_args(),
      {{[](Args* x) { x->k_new = address<void>(0xa000); }, "k_new: must be NULL without NEW_KEYS"},
       {[](Args* x) { x->v_new_head_stride = 8; }, "v_new_head_stride=8: must be 0 without NEW_KEYS"}});
  Args args = good_args();
  args.k_new = address<void>(0xa000), args.v_new = address<void>(0x1000);  // before and behind the cache
  args.k_new_token_stride = 4 * 192, args.k_new_head_stride = 192;
  args.v_new_token_stride = 4 * 128 + 8, args.v_new_head_stride = 136;
  const auto plan = fixture.plan_of(&desc.op);
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  Params p = last_params<Params>();
  CHECK(p.k_new == 0x4000);
  CHECK(p.v_new == static_cast<uint64_t>(-0x1000));
  CHECK(p.k_new_token == 4 * 192);
  CHECK(p.k_new_head == 192);
  CHECK(p.v_new_token == 4 * 128 + 8);
  CHECK(p.v_new_head == 136);
  check_breaches<Args>(
      fixture, &desc.op, args,
      {{[](Args* x) { x->k_new = nullptr; }, "k_new=NULL: must point to device memory"},
       {[](Args* x) { x->v_new = address<void>(0xb008); }, "v_new=0xb008: must be 16-byte aligned"},
       {[](Args* x) { x->k_new_token_stride = 772; }, "k_new_token_stride=772: must be a multiple of 8"},
       {[](Args* x) { x->v_new_head_stride = 120; }, "v_new_head_stride=120: must be at least 128"},
       {[](Args* x) { x->total_q = 600000000, x->max_pages = 1; },
        "total_q=600000000 batch=2 max_pages=1: more than 2^32 tiles of keys"}});
  args.num_pages = 0, args.k = args.v = nullptr, args.page_table = nullptr;
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  CHECK(last_params<Params>().max_kv_len == 0);
  CHECK(last_params<Params>().v_new == 0x800);
  check_descs<Desc>(desc, DGRT_UNSUPPORTED,
                    {{[](Desc* d) { d->dtype_kv = DGRT_E4M3; }, "dtype_kv=e4m3: not with NEW_KEYS"}});
}

TEST_CASE("attn_decode: page_error", "[unit]") {
  OpsFixture fixture;
  const Desc plain = good_desc(), checked = good_desc(DGRT_ATTN_CHECK_PAGES);
  Args args = good_args();
  CHECK(fixture.launch(*fixture.plan_of(&plain.op), &args.op).is_ok());
  CHECK(last_params<Params>().page_error == nullptr);
  check_breaches<Args>(fixture, &plain.op, args,
                       {{[](Args* x) { x->page_error = address<int32_t>(0xc010); },
                         "page_error=0xc010: must be NULL without CHECK_PAGES"}});
  args.page_error = address<int32_t>(0xc010);
  CHECK(fixture.launch(*fixture.plan_of(&checked.op), &args.op).is_ok());
  CHECK(last_params<Params>().page_error == args.page_error);
  check_breaches<Args>(
      fixture, &checked.op, args,
      {{[](Args* x) { x->page_error = nullptr; }, "page_error=NULL: must point to device memory"},
       {[](Args* x) { x->page_error = address<int32_t>(0xc008); }, "page_error=0xc008: must be 16-byte aligned"}});
}

TEST_CASE("attn_decode: an e4m3 cache has scales, and rows of 16 elements", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  desc.dtype_kv = DGRT_E4M3;
  Args args = good_args();
  args.k_scale = address<float>(0xa004), args.v_scale = address<float>(0xb004);
  args.k_scale_head_stride = 2;
  const auto plan = fixture.plan_of(&desc.op);
  FakeCuda::last_params.reserve(FakeCuda::params_bytes);
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  const Params p = last_params<Params>();
  CHECK(p.k_scale == args.k_scale);
  CHECK(p.v_scale == args.v_scale);
  CHECK(p.k_scale_head == 2);
  CHECK(p.v_scale_head == 0);
  check_breaches<Args>(
      fixture, &desc.op, args,
      {{[](Args* x) { x->v_token_stride = 4 * 128 + 8; }, "v_token_stride=520: must be a multiple of 16"},
       {[](Args* x) { x->k_page_stride = 8; }, "k_page_stride=8: must be a multiple of 16"},
       {[](Args* x) { x->k_scale = address<float>(0xa002); }, "k_scale=0xa002: must be 4-byte aligned"},
       {[](Args* x) { x->v_scale_head_stride = -1; }, "v_scale_head_stride=-1: must be 0"}});
  check_descs<Desc>(desc, DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->head_dim_v = 136; }, "head_dim_v=136: must be a multiple of 16"}});
  check_descs<Desc>(desc, DGRT_UNSUPPORTED, {{[](Desc* d) { d->dtype_kv = DGRT_FP32; }, "attn_decode"}});
}

}  // namespace dgrt::test
