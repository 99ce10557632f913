// attn_extend on a driver that only takes notes: what reaches the kernel of a paged cache, and that each
// rule about it, broken, is refused by name. Rules that attn_prefill shares: attention_args_test.cpp.
#include <cstddef>

#include "attention/sm90_attn_extend.cuh"
#include "dgrt/attention.h"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_attn_extend_desc;
using Args = dgrt_attn_extend_args;
using sm90::attn_extend::Params;

Desc good_desc() {
  Desc desc = DGRT_ATTN_EXTEND_DESC;
  desc.num_q_heads = 8, desc.num_kv_heads = 4;
  desc.head_dim_qk = 192, desc.head_dim_v = 128;
  desc.max_batch = 4, desc.max_q_len = 4096, desc.max_kv_len = 8192;
  desc.dtype = DGRT_BF16;
  return desc;
}

Args good_args() {
  Args args = DGRT_ATTN_EXTEND_ARGS;
  args.q = address<void>(0x1000), args.k = address<void>(0x2000);
  args.v = address<void>(0x3000), args.o = address<void>(0x4000);
  args.lse = address<float>(0x5004), args.sinks = address<float>(0x6004);
  args.q_indptr = address<int32_t>(0x7004), args.page_table = address<int32_t>(0x8004);
  args.seq_lens = address<int32_t>(0x9004);
  args.batch = 2, args.total_q = 1000, args.max_q_len = 900, args.max_kv_len = 2000;
  args.page_size = 16, args.num_pages = 1000, args.max_pages = 200, args.page_table_stride = 208;
  args.q_token_stride = 8 * 192, args.q_head_stride = 192;
  args.k_token_stride = 4 * 192, args.k_head_stride = 192, args.k_page_stride = 16 * 4 * 192;
  args.v_token_stride = 4 * 128, args.v_head_stride = 128, args.v_page_stride = 16 * 4 * 128;
  args.o_token_stride = 8 * 128, args.o_head_stride = 128;
  args.lse_token_stride = 8, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

Args with_new_keys() {
  Args args = good_args();
  args.k_new = address<void>(0xa000), args.v_new = address<void>(0xb000);
  args.k_new_token_stride = 4 * 192, args.k_new_head_stride = 192;
  args.v_new_token_stride = 4 * 128, args.v_new_head_stride = 128;
  return args;
}

}  // namespace

TEST_CASE("attn_extend: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t page_size : {1, 5, 16, 48, 64, 1072}) {
    Args args = good_args();
    args.page_size = page_size;
    INFO("page_size=" << page_size);
    check_launch(fixture, *plan, args);
    const Params p = last_params<Params>();
    CHECK(p.page_table == args.page_table);
    CHECK(p.seq_lens == args.seq_lens);
    CHECK(p.table_row == 208);
    CHECK(p.page_size == page_size);
    CHECK(p.num_pages == 1000);
    CHECK(p.max_kv_len == 200 * page_size);
    CHECK(page_size % p.box_rows == 0);
    if (page_size % 16 == 0) CHECK(p.box_rows % 16 == 0);  // as every tile
    CHECK(p.q_indptr == args.q_indptr);
    CHECK(p.total_q == 1000);
    CHECK(p.group == 2);
    CHECK(p.o == args.o);
  }
}

TEST_CASE("attn_extend: nothing to do launches nothing; a cache without pages is fine", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  for (void (*spoil)(Args*) : {+[](Args* x) { x->batch = 0; }, +[](Args* x) { x->total_q = 0; }}) {
    Args args = DGRT_ATTN_EXTEND_ARGS;  // pointers are not looked at
    args.batch = 2, args.total_q = 10;
    spoil(&args);
    CHECK(fixture.launch(*plan, &args.op).is_ok());
  }
  CHECK(FakeCuda::num_launches == launches);
  for (void (*spoil)(Args*) :
       {+[](Args* x) { x->num_pages = 0; }, +[](Args* x) { x->max_pages = 0; }}) {
    Args args = good_args();
    spoil(&args);
    args.k = args.v = nullptr, args.page_table = nullptr;
    CHECK(fixture.launch(*plan, &args.op).is_ok());
    CHECK(last_params<Params>().max_kv_len == 0);
  }
}

TEST_CASE("attn_extend: new keys reach the kernel", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  desc.flags = DGRT_ATTN_NEW_KEYS;
  const auto plan = fixture.plan_of(&desc.op);
  Args args = with_new_keys();
  args.kv_start = address<int32_t>(0xc004);
  const Status status = fixture.launch(*plan, &args.op);
  INFO(status.message());
  REQUIRE(status.is_ok());
  CHECK(last_params<Params>().kv_start == args.kv_start);
  CHECK(last_params<Params>().max_kv_len == 200 * 16);
  args.num_pages = 0, args.k = args.v = nullptr, args.page_table = nullptr;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(last_params<Params>().max_kv_len == 0);
  // A caller of before: its args end where the new fields begin.
  Args old = good_args();
  old.op.struct_size = offsetof(Args, kv_start);
  const Desc plain = good_desc();
  CHECK(fixture.launch(*fixture.plan_of(&plain.op), &old.op).is_ok());
  CHECK(last_params<Params>().kv_start == nullptr);
}

TEST_CASE("attn_extend refuses bad new keys by name", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->kv_start = address<int32_t>(0xc002); }, "kv_start=0xc002: must be 4-byte aligned"},
       {[](Args* x) { x->k_new = address<void>(0xa000); }, "k_new: must be NULL without NEW_KEYS"},
       {[](Args* x) { x->v_new = address<void>(0xa000); }, "v_new: must be NULL without NEW_KEYS"},
       {[](Args* x) { x->k_new_token_stride = 8; }, "k_new_token_stride=8: must be 0 without NEW_KEYS"},
       {[](Args* x) { x->k_new_head_stride = 8; }, "k_new_head_stride=8: must be 0 without NEW_KEYS"},
       {[](Args* x) { x->v_new_token_stride = 8; }, "v_new_token_stride=8: must be 0 without NEW_KEYS"},
       {[](Args* x) { x->v_new_head_stride = 8; }, "v_new_head_stride=8: must be 0 without NEW_KEYS"}});
  desc.flags = DGRT_ATTN_NEW_KEYS;
  check_breaches<Args>(
      fixture, &desc.op, with_new_keys(),
      {{[](Args* x) { x->k_new = nullptr; }, "k_new=NULL: must point to device memory"},
       {[](Args* x) { x->v_new = address<void>(0xb008); }, "v_new=0xb008: must be 16-byte aligned"},
       {[](Args* x) { x->k_new_token_stride = 772; }, "k_new_token_stride=772: must be a multiple of 8"},
       {[](Args* x) { x->k_new_head_stride = 184; }, "k_new_head_stride=184: must be at least 192"},
       {[](Args* x) { x->v_new_token_stride = 120; }, "v_new_token_stride=120: must be at least 128"},
       {[](Args* x) { x->v_new_head_stride = 0; }, "v_new_head_stride=0: must be at least 128"}});
}

TEST_CASE("attn_extend: page_error", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  Args args = good_args();
  check_breaches<Args>(fixture, &desc.op, args,
                       {{[](Args* x) { x->page_error = address<int32_t>(0xd010); },
                         "page_error=0xd010: must be NULL without CHECK_PAGES"}});
  desc.flags = DGRT_ATTN_CHECK_PAGES;
  args.page_error = address<int32_t>(0xd010);
  CHECK(fixture.launch(*fixture.plan_of(&desc.op), &args.op).is_ok());
  CHECK(last_params<Params>().page_error == args.page_error);
  check_breaches<Args>(
      fixture, &desc.op, args,
      {{[](Args* x) { x->page_error = nullptr; }, "page_error=NULL: must point to device memory"},
       {[](Args* x) { x->page_error = address<int32_t>(0xd004); }, "page_error=0xd004: must be 16-byte aligned"}});
}

TEST_CASE("attn_extend refuses a bad cache by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->batch = 5; }, "batch=5: must be 0 to 4"},
       {[](Args* x) { x->total_q = 1 << 30; }, "total_q=1073741824"},
       {[](Args* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](Args* x) { x->max_pages = -1; }, "max_pages=-1"},
       {[](Args* x) { x->page_size = 0; }, "page_size=0: must be 1 to"},
       {[](Args* x) { x->page_size = 1 << 23; }, "max_pages=200: times page_size=8388608"},
       {[](Args* x) { x->page_table_stride = 199; }, "page_table_stride=199: must be at least"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->k = nullptr; }, "k=NULL: must point to device memory"},
       {[](Args* x) { x->v = address<void>(0x3004); }, "v=0x3004: must be 16-byte aligned"},
       {[](Args* x) { x->o = nullptr; }, "o=NULL: must point to device memory"},
       {[](Args* x) { x->q_indptr = nullptr; }, "q_indptr=NULL: must point to device memory"},
       {[](Args* x) { x->page_table = nullptr; }, "page_table=NULL: must point to device memory"},
       {[](Args* x) { x->seq_lens = address<int32_t>(0x9002); }, "seq_lens=0x9002"},
       {[](Args* x) { x->lse = address<float>(0x5002); }, "lse=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->k_page_stride = -8; }, "k_page_stride=-8: must be a multiple of 8"},
       {[](Args* x) { x->v_page_stride = 12; }, "v_page_stride=12: must be a multiple of 8"},
       {[](Args* x) { x->k_page_stride = int64_t{1} << 39; }, "k_page_stride=549755813888"},
       {[](Args* x) { x->k_token_stride = 772; }, "k_token_stride=772: must be a multiple of 8"},
       {[](Args* x) { x->v_head_stride = 120; }, "v_head_stride=120: must be at least 128"},
       {[](Args* x) { x->scale = 0; }, "scale=0: must be greater than 0"},
       {[](Args* x) { x->softcap = 1; }, "softcap=1: must be 0 without SOFTCAP"},
       {[](Args* x) { x->window_left = -2; }, "window_left=-2"}});
  check_descs<Desc>(good_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->flags = 1u << 31; }, "attn_extend knows PDL"},
                     {[](Desc* d) { d->num_q_heads = 10; }, "num_q_heads=10: must be a multiple of"}});
  check_descs<Desc>(good_desc(), DGRT_UNSUPPORTED,
                    {{[](Desc* d) { d->dtype = DGRT_FP32; }, "attn_extend"},
                     {[](Desc* d) { d->dtype_kv = DGRT_FP32; }, "attn_extend"}});
}

TEST_CASE("attn_extend: an e4m3 cache has scales, rows of 16 elements and no gather", "[unit]") {
  OpsFixture fixture;
  for (const uint32_t flags : {0u, DGRT_ATTN_NEW_KEYS}) {
    Desc desc = good_desc();
    desc.dtype_kv = DGRT_E4M3, desc.flags = flags;
    Args args = flags == 0 ? good_args() : with_new_keys();
    args.page_size = 1;
    args.k_scale = address<float>(0xc004), args.v_scale = address<float>(0xd004);
    args.v_scale_head_stride = 3;
    const auto plan = fixture.plan_of(&desc.op);
    FakeCuda::last_params.reserve(FakeCuda::params_bytes);
    const Status status = fixture.launch(*plan, &args.op);
    INFO(status.message());
    REQUIRE(status.is_ok());
    const Params p = last_params<Params>();
    CHECK(p.k_scale == args.k_scale);
    CHECK(p.v_scale == args.v_scale);
    CHECK(p.k_scale_head == 0);
    CHECK(p.v_scale_head == 3);
    CHECK(p.k_rows.base == args.k);
    CHECK(p.v_rows.page == static_cast<uint64_t>(args.v_page_stride));
    const Result<const OpImpl*> op = find_op(&desc.op);
    REQUIRE(op.is_ok());
    for (const Config& c : op.value()->candidates(&desc.op, Target{"sm_90a", 132}, Point{1, 512, 1}))
      CHECK(c["gather"] == 0);
    check_breaches<Args>(
        fixture, &desc.op, args,
        {{[](Args* x) { x->v_token_stride = 4 * 128 + 8; }, "v_token_stride=520: must be a multiple of 16"},
         {[](Args* x) { x->k_page_stride = 8; }, "k_page_stride=8: must be a multiple of 16"},
         {[](Args* x) { x->k_scale = address<float>(0xa002); }, "k_scale=0xa002: must be 4-byte aligned"},
         {[](Args* x) { x->v_scale_head_stride = -1; }, "v_scale_head_stride=-1: must be 0"}});
    check_descs<Desc>(desc, DGRT_INVALID_ARGUMENT,
                      {{[](Desc* d) { d->head_dim_qk = 136; }, "head_dim_qk=136: must be a multiple of 16"}});
  }
}

}  // namespace dgrt::test
