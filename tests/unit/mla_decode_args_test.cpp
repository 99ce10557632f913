// Plans of mla_decode on a driver that only takes notes: what reaches the kernel, and that each rule of the public
// header, broken, is refused by name.
#include <cmath>

#include "dgrt/mla.h"
#include "mla/sm90_mla_decode.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_mla_decode_desc;
using Args = dgrt_mla_decode_args;
using sm90::mla_decode::Params;

Desc good_desc(uint32_t flags = 0) {
  Desc desc = DGRT_MLA_DECODE_DESC;
  desc.num_q_heads = 128;
  desc.max_batch = 4, desc.max_q_len = 8, desc.max_kv_len = 8192;
  desc.dtype = DGRT_BF16, desc.flags = flags;
  return desc;
}

Args good_args() {
  Args args = DGRT_MLA_DECODE_ARGS;
  args.q = address<void>(0x1000), args.kv = address<void>(0x2000), args.o = address<void>(0x4000);
  args.lse = address<float>(0x5004);
  args.q_indptr = address<int32_t>(0x7004), args.seq_lens = address<int32_t>(0x8004);
  args.page_table = address<int32_t>(0x9004);
  args.batch = 2, args.total_q = 4, args.max_q_len = 4, args.max_kv_len = 2000;
  args.page_size = 64, args.num_pages = 1000, args.max_pages = 40, args.page_table_stride = 41;
  args.q_token_stride = 128 * 576, args.q_head_stride = 576;
  args.kv_page_stride = 64 * 576, args.kv_token_stride = 576, args.kv_head_stride = 576;
  args.o_token_stride = 128 * 512, args.o_head_stride = 512;
  args.lse_token_stride = 128, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

Params params_of(OpsFixture& fixture, const Desc& desc, const Args& args) {
  const auto plan = fixture.plan_of(&desc.op);
  check_launch(fixture, *plan, args);
  const auto params = last_params<Params>();
  CHECK(params.counters == fixture.workspace);
  CHECK(reinterpret_cast<std::byte*>(params.parts) ==
        static_cast<std::byte*>(fixture.workspace) + plan->state_bytes());
  return params;
}

}  // namespace

TEST_CASE("mla_decode: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  for (const uint32_t flags : {0u, DGRT_FLAG_BATCH_INVARIANT}) {
    const Params p = params_of(fixture, good_desc(flags), good_args());
    CHECK((p.batch == 2 && p.group == 128 && p.num_kv_heads == 1));
    CHECK((p.tile_heads == 64 && p.tile_tokens.by == 1 && p.head_tiles.by == 2));
    // Two tokens each on average, of two tiles; alone, the heads' two.
    CHECK(p.row_lanes.by == (flags == 0 ? 4u : 2u));
    CHECK(p.max_q_len == 4);
    CHECK(p.max_kv_len == 2560);
    CHECK(p.table_row == 41);
    CHECK(p.box_rows == 64);
    CHECK((p.window_left == attn_no_window && p.window_right == 0));
    CHECK(p.lse_form == 0);
    CHECK(p.sinks == nullptr);
  }
  Args args = good_args();
  args.causal = 0;
  const Params p = params_of(fixture, good_desc(DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF), args);
  CHECK(p.window_right == attn_no_window);
  CHECK(p.lse_form == (attn_lse_base2 | attn_lse_empty_inf));
}

TEST_CASE("mla_decode: lanes divide row tiles and leave CTAs", "[unit]") {
  OpsFixture fixture;
  const struct {
    int64_t heads, batch, total_q, max_q_len;
    uint32_t sms, lanes;
  } cases[] = {{16, 4, 4, 1, 0, 1}, {64, 4, 8, 2, 0, 2}, {16, 2, 10, 8, 0, 2}, {128, 4, 12, 3, 0, 6}, {192, 4, 12, 3, 0, 3},
               {128, 4, 12, 3, 4, 3}, {128, 4, 4, 8, 1, 1}};
  for (const auto& x : cases) {
    Desc desc = good_desc();
    desc.num_q_heads = x.heads, desc.sm_budget = x.sms;
    Args args = good_args();
    args.q_token_stride = x.heads * 576, args.o_token_stride = x.heads * 512, args.lse_token_stride = x.heads;
    args.batch = x.batch, args.total_q = x.total_q, args.max_q_len = x.max_q_len;
    INFO(x.heads << " heads, " << x.total_q << " tokens");
    CHECK(params_of(fixture, desc, args).row_lanes.by == x.lanes);
    const uint32_t ctas = FakeCuda::last_config.gridDimX, most = x.sms == 0 ? 132 : x.sms;
    CHECK((ctas % x.lanes == 0 && ctas <= most && ctas + x.lanes > most));
  }
}

TEST_CASE("mla_decode: boxes lie in pages, or there are none", "[unit]") {
  OpsFixture fixture;
  for (const auto& [page_size, box_rows] : {std::pair{1, 0}, {4, 0}, {8, 8}, {24, 8}, {48, 16}, {256, 64}}) {
    Args args = good_args();
    args.page_size = page_size, args.kv_page_stride = page_size * 576;
    CHECK(params_of(fixture, good_desc(), args).box_rows == static_cast<uint32_t>(box_rows));
  }
}

TEST_CASE("mla_decode: the workspace does not grow with the batch, unless it is asked for", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  const uint64_t few = fixture.plan_of(&desc.op)->workspace_bytes();
  desc.max_batch = 1 << 20;
  CHECK(fixture.plan_of(&desc.op)->workspace_bytes() == few);
  CHECK(few < uint64_t{34} << 20);
  desc = good_desc(DGRT_FLAG_BATCH_INVARIANT);
  const uint64_t invariant = fixture.plan_of(&desc.op)->workspace_bytes();
  desc.max_batch = 8;
  CHECK(fixture.plan_of(&desc.op)->workspace_bytes() > invariant);
}

TEST_CASE("mla_decode: nothing to do launches nothing; no cache and no lse are fine", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  for (void (*spoil)(Args*) : {+[](Args* x) { x->batch = 0; }, +[](Args* x) { x->total_q = 0; }}) {
    Args args = DGRT_MLA_DECODE_ARGS;  // pointers are not looked at
    args.batch = 2, args.total_q = 4;
    spoil(&args);
    CHECK(fixture.launch(*plan, &args.op).is_ok());
  }
  CHECK(FakeCuda::num_launches == launches);
  Args args = good_args();
  args.num_pages = args.max_pages = args.max_kv_len = 0;
  args.kv = nullptr, args.page_table = nullptr, args.lse = nullptr;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(plan->launch(&args.op, fixture.workspace, 0, fixture.stream).code() == DGRT_WORKSPACE_TOO_SMALL);
}

TEST_CASE("mla_decode refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->batch = 5; }, "batch=5: must be 0 to 4"},
       {[](Args* x) { x->max_q_len = 9; }, "max_q_len=9"},
       {[](Args* x) { x->max_kv_len = 8193; }, "max_kv_len=8193"},
       {[](Args* x) { x->total_q = 1 << 30; }, "total_q=1073741824"},
       {[](Args* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](Args* x) { x->page_size = 0; }, "page_size=0: must be 1 to"},
       {[](Args* x) { x->page_size = 1 << 26; }, "max_pages=40: times page_size=67108864"},
       {[](Args* x) { x->page_table_stride = 39; }, "page_table_stride=39: must be at least"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->kv = nullptr; }, "kv=NULL: must point to device memory"},
       {[](Args* x) { x->kv = address<void>(0x3008); }, "kv=0x3008: must be 16-byte aligned"},
       {[](Args* x) { x->o = address<void>(0x4002); }, "o=0x4002"},
       {[](Args* x) { x->lse = address<float>(0x5002); }, "lse=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->q_indptr = nullptr; }, "q_indptr=NULL: must point to device memory"},
       {[](Args* x) { x->seq_lens = nullptr; }, "seq_lens=NULL: must point to device memory"},
       {[](Args* x) { x->page_table = nullptr; }, "page_table=NULL: must point to device memory"},
       {[](Args* x) { x->num_pages = 0, x->page_table = nullptr; }, "page_table=NULL: must point to device memory"},
       {[](Args* x) { x->kv_page_stride = 4; }, "kv_page_stride=4: must be a multiple of 8"},
       {[](Args* x) { x->kv_token_stride = 512; }, "kv_token_stride=512: must be at least 576"},
       {[](Args* x) { x->kv_head_stride = 580; }, "kv_head_stride=580: must be a multiple of 8"},
       {[](Args* x) { x->q_head_stride = 568; }, "q_head_stride=568: must be at least 576"},
       {[](Args* x) { x->o_token_stride = 504; }, "o_token_stride=504: must be at least 512"},
       {[](Args* x) { x->lse_head_stride = 0; }, "lse_head_stride=0: must be at least 1"},
       {[](Args* x) { x->scale = NAN; }, "scale=nan"},
       {[](Args* x) { x->scale = 0; }, "scale=0: must be greater than 0"},
       {[](Args* x) { x->causal = 2; }, "causal=2: must be 0 or 1"},
       {[](Args* x) { x->max_pages = x->page_table_stride = 16000000, x->total_q = 1 << 20; },
        "total_q=1048576 batch=2 max_pages=16000000: more than 2^32 tiles"}});
}

TEST_CASE("mla_decode over e4m3: rows found one by one, scales, strides of 16 bytes", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  desc.dtype_kv = desc.dtype_q = DGRT_E4M3;
  Args args = good_args();
  args.q_scale = address<float>(0xa004), args.kv_scale = address<float>(0xb004);
  const Params p = params_of(fixture, desc, args);
  CHECK((p.q_scale == args.q_scale && p.k_scale == args.kv_scale && p.v_scale == args.kv_scale));
  CHECK((p.k_scale_head == 0 && p.v_scale_head == 0 && p.box_rows == 0));
  check_breaches<Args>(fixture, &desc.op, args,
                       {{[](Args* x) { x->kv_token_stride = 584; }, "kv_token_stride=584: must be a multiple of 16"},
                        {[](Args* x) { x->kv_page_stride = 8; }, "kv_page_stride=8: must be a multiple of 16"},
                        {[](Args* x) { x->q_head_stride = 584; }, "q_head_stride=584: must be a multiple of 16"},
                        {[](Args* x) { x->q_scale = address<float>(0xa002); }, "q_scale=0xa002: must be 4-byte aligned"}});
  desc.dtype_q = DGRT_BF16;
  args.q_head_stride = 584, args.q_token_stride = 128 * 584;
  args.q_scale = args.kv_scale = nullptr;
  CHECK(params_of(fixture, desc, args).k_scale == nullptr);
  check_breaches<Args>(fixture, &desc.op, args,
                       {{[](Args* x) { x->q_scale = address<float>(0xa004); }, "q_scale: must be NULL"}});
  desc.dtype_kv = 0;
  check_breaches<Args>(fixture, &desc.op, args,
                       {{[](Args* x) { x->kv_scale = address<float>(0xb004); }, "kv_scale: must be NULL"}});
}

TEST_CASE("mla_decode refuses bad descs by name", "[unit]") {
  check_descs<Desc>(good_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->num_kv_heads = 0; }, "num_kv_heads=0: must be 1 to"},
                     {[](Desc* d) { d->num_kv_heads = 3; }, "num_q_heads=128: must be a multiple of num_kv_heads=3"},
                     {[](Desc* d) { d->max_batch = -1; }, "max_batch=-1"},
                     {[](Desc* d) { d->flags = 1u << 18; }, "flags=0x40000: mla_decode knows PDL"},
                     {[](Desc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<Desc>(good_desc(), DGRT_UNSUPPORTED,
                    {{[](Desc* d) { d->dtype = DGRT_FP32; }, "mla_decode"},
                     {[](Desc* d) { d->dtype_kv = DGRT_FP16; }, "mla_decode"},
                     {[](Desc* d) { d->dtype_q = DGRT_E4M3; }, "mla_decode"},
                     {[](Desc* d) { d->dtype_kv = DGRT_E4M3, d->dtype_q = DGRT_FP16; }, "mla_decode"},
                     {[](Desc* d) { d->head_dim_qk = 512; }, "mla_decode"},
                     {[](Desc* d) { d->head_dim_v = 256; }, "mla_decode"}});
}

}  // namespace dgrt::test
