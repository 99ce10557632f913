// Plans of attention on a driver that only takes notes: what reaches the kernel, and that each rule of the
// public header, broken, is refused by name.
#include <cmath>

#include "attention/sm90_attn_prefill.cuh"
#include "dgrt/attention.h"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_attn_prefill_desc;
using Args = dgrt_attn_prefill_args;
using sm90::attn_prefill::Params;

Desc good_desc(uint32_t flags = 0) {
  Desc desc = DGRT_ATTN_PREFILL_DESC;
  desc.num_q_heads = 8, desc.num_kv_heads = 4;
  desc.head_dim_qk = 192, desc.head_dim_v = 128;
  desc.max_batch = 4, desc.max_q_len = 4096, desc.max_kv_len = 8192;
  desc.dtype = DGRT_BF16, desc.flags = flags;
  return desc;
}

Args good_args() {
  Args args = DGRT_ATTN_PREFILL_ARGS;
  args.q = address<void>(0x1000), args.k = address<void>(0x2000);
  args.v = address<void>(0x3000), args.o = address<void>(0x4000);
  args.lse = address<float>(0x5004), args.sinks = address<float>(0x6004);
  args.q_indptr = address<int32_t>(0x7004), args.kv_indptr = address<int32_t>(0x8004);
  args.batch = 2, args.total_q = 1000, args.total_kv = 3000;
  args.max_q_len = 900, args.max_kv_len = 2000;
  args.q_token_stride = 8 * 192, args.q_head_stride = 192;
  args.k_token_stride = 4 * 192, args.k_head_stride = 192;
  args.v_token_stride = 4 * 128, args.v_head_stride = 128;
  args.o_token_stride = 8 * 128, args.o_head_stride = 128;
  args.lse_token_stride = 8, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

}  // namespace

TEST_CASE("attn_prefill: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  CHECK(plan->state_bytes() > 0);
  CHECK(plan->state_bytes() <= plan->workspace_bytes());
  for (const int64_t batch : {1, 2, 4})
    for (const int64_t total_q : {1, 64, 1000, 16384}) {
      Args args = good_args();
      args.batch = batch, args.total_q = total_q;
      INFO("batch=" << batch << " total_q=" << total_q);
      check_launch(fixture, *plan, args);
      dgrt_call_info info = DGRT_CALL_INFO;
      REQUIRE(plan->query(&args.op, &info).is_ok());
      const Params p = last_params<Params>();
      const int64_t tiles = (total_q / info.block_m + batch) * 8;
      CHECK(FakeCuda::last_config.gridDimX == std::min<int64_t>(tiles, 132));
      CHECK(p.counter == fixture.workspace);
      CHECK(p.batch == batch);
      CHECK(p.total_q == total_q);
      CHECK(p.total_kv == 3000);
      CHECK(p.num_heads == 8);
      CHECK(p.group == 2);
      CHECK(p.head_section % p.group == 0);
      CHECK(p.head_section >= 1);
      CHECK(p.head_section <= 8);
      CHECK(p.v_columns == 128);
      CHECK(p.o == args.o);
      CHECK(p.lse == args.lse);
      CHECK(p.sinks == args.sinks);
    }
}

TEST_CASE("attn_prefill: masks, caps and forms of lse as the kernel takes them", "[unit]") {
  constexpr float log2e = 1.4426950f;
  OpsFixture fixture;
  Args args = good_args();
  const Desc plain = good_desc();
  const auto plan = fixture.plan_of(&plain.op);
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  CHECK(last_params<Params>().window_left == attn_no_window);
  CHECK(last_params<Params>().window_right == 0);
  CHECK(last_params<Params>().lse_form == 0);
  CHECK(last_params<Params>().scale_log2 == 0.125f * log2e);
  args.window_left = 7, args.window_right = int64_t{1} << 40;
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  CHECK(last_params<Params>().window_left == 7);
  CHECK(last_params<Params>().window_right == attn_no_window);
  const Desc formed = good_desc(DGRT_ATTN_SOFTCAP | DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK);
  args.softcap = 50;
  REQUIRE(fixture.launch(*fixture.plan_of(&formed.op), &args.op).is_ok());
  CHECK(last_params<Params>().lse_form == (attn_lse_base2 | attn_lse_with_sink));
  CHECK(last_params<Params>().scale_log2 == 50 * log2e);
  CHECK(last_params<Params>().cap_scale == 0.125f / 50);
}

TEST_CASE("attn_prefill: nothing to do launches nothing; no keys and no lse are fine", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  for (void (*spoil)(Args*) : {+[](Args* x) { x->batch = 0; }, +[](Args* x) { x->total_q = 0; }}) {
    Args args = DGRT_ATTN_PREFILL_ARGS;  // pointers are not looked at
    args.batch = 2, args.total_q = 10;
    spoil(&args);
    CHECK(fixture.launch(*plan, &args.op).is_ok());
  }
  CHECK(FakeCuda::num_launches == launches);
  Args args = good_args();
  args.total_kv = args.max_kv_len = 0;
  args.k = args.v = nullptr, args.lse = nullptr, args.sinks = nullptr;
  args.lse_token_stride = args.lse_head_stride = 0;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(plan->launch(&args.op, fixture.workspace, 0, fixture.stream).code() ==
        DGRT_WORKSPACE_TOO_SMALL);
}

TEST_CASE("attn_prefill refuses bad sizes, pointers and strides by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->batch = -1; }, "batch=-1: must be 0 to 4"},
       {[](Args* x) { x->batch = 5; }, "batch=5: must be 0 to 4"},
       {[](Args* x) { x->max_q_len = -1; }, "max_q_len=-1"},
       {[](Args* x) { x->max_q_len = 4097; }, "max_q_len=4097"},
       {[](Args* x) { x->max_kv_len = -1; }, "max_kv_len=-1"},
       {[](Args* x) { x->max_kv_len = 8193; }, "max_kv_len=8193"},
       {[](Args* x) { x->total_q = -1; }, "total_q=-1"},
       {[](Args* x) { x->total_q = 1 << 30; }, "total_q=1073741824"},
       {[](Args* x) { x->total_kv = -1; }, "total_kv=-1"},
       {[](Args* x) { x->total_kv = 1 << 30; }, "total_kv=1073741824"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->k = nullptr; }, "k=NULL: must point to device memory"},
       {[](Args* x) { x->v = nullptr; }, "v=NULL: must point to device memory"},
       {[](Args* x) { x->o = nullptr; }, "o=NULL: must point to device memory"},
       {[](Args* x) { x->q_indptr = nullptr; }, "q_indptr=NULL: must point to device memory"},
       {[](Args* x) { x->kv_indptr = nullptr; }, "kv_indptr=NULL: must point to device memory"},
       {[](Args* x) { x->q = address<void>(0x1008); }, "q=0x1008: must be 16-byte aligned"},
       {[](Args* x) { x->k = address<void>(0x2008); }, "k=0x2008"},
       {[](Args* x) { x->v = address<void>(0x3004); }, "v=0x3004"},
       {[](Args* x) { x->o = address<void>(0x4002); }, "o=0x4002"},
       {[](Args* x) { x->lse = address<float>(0x5002); }, "lse=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->sinks = address<float>(0x6001); }, "sinks=0x6001"},
       {[](Args* x) { x->q_indptr = address<int32_t>(0x7002); }, "q_indptr=0x7002"},
       {[](Args* x) { x->kv_indptr = address<int32_t>(0x8002); }, "kv_indptr=0x8002"},
       {[](Args* x) { x->q_token_stride = 184; }, "q_token_stride=184: must be at least 192"},
       {[](Args* x) { x->q_head_stride = 196; }, "q_head_stride=196: must be a multiple of 8"},
       {[](Args* x) { x->k_token_stride = 772; }, "k_token_stride=772: must be a multiple of 8"},
       {[](Args* x) { x->k_head_stride = 0; }, "k_head_stride=0: must be at least 192"},
       {[](Args* x) { x->v_token_stride = 120; }, "v_token_stride=120: must be at least 128"},
       {[](Args* x) { x->v_head_stride = 132; }, "v_head_stride=132: must be a multiple of 8"},
       {[](Args* x) { x->o_token_stride = -128; }, "o_token_stride=-128: must be at least 128"},
       {[](Args* x) { x->o_head_stride = 129; }, "o_head_stride=129: must be a multiple of 8"},
       {[](Args* x) { x->k_token_stride = int64_t{1} << 39; }, "k_token_stride=549755813888"},
       {[](Args* x) { x->lse_token_stride = 0; }, "lse_token_stride=0: must be at least 1"},
       {[](Args* x) { x->lse_head_stride = 0; }, "lse_head_stride=0: must be at least 1"}});
  Desc many = good_desc();
  many.num_q_heads = 65532;
  check_breaches<Args>(fixture, &many.op, good_args(),
                       {{[](Args* x) { x->total_q = 1 << 24; }, "total_q=16777216 batch=2"}});
}

TEST_CASE("attn_prefill: e4m3 keys and values have scales, and rows of 16 elements", "[unit]") {
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
  CHECK(p.v_rows.base == args.v);
  CHECK(p.k_rows.token == 4 * 192);
  CHECK(p.k_rows.head == 192);
  check_breaches<Args>(
      fixture, &desc.op, args,
      {{[](Args* x) { x->k_token_stride = 4 * 192 + 8; }, "k_token_stride=776: must be a multiple of 16"},
       {[](Args* x) { x->v_head_stride = 136; }, "v_head_stride=136: must be a multiple of 16"},
       {[](Args* x) { x->k_scale = address<float>(0xa002); }, "k_scale=0xa002: must be 4-byte aligned"},
       {[](Args* x) { x->k_scale_head_stride = -1; }, "k_scale_head_stride=-1: must be 0"}});
  check_descs<Desc>(desc, DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->head_dim_v = 136; }, "head_dim_v=136: must be a multiple of 16"}});
  check_descs<Desc>(desc, DGRT_UNSUPPORTED, {{[](Desc* d) { d->dtype_kv = DGRT_FP32; }, "attn_prefill"}});
  const Desc plain = good_desc();
  check_breaches<Args>(fixture, &plain.op, good_args(),
                       {{[](Args* x) { x->v_scale = address<float>(0x6004); }, "v_scale: must be NULL"}});
}

TEST_CASE("attn_prefill refuses bad windows, scales and caps by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(fixture, &desc.op, good_args(),
                       {{[](Args* x) { x->scale = 0; }, "scale=0: must be greater than 0"},
                        {[](Args* x) { x->scale = -1; }, "scale=-1"},
                        {[](Args* x) { x->scale = HUGE_VALF; }, "scale=inf"},
                        {[](Args* x) { x->scale = NAN; }, "scale=nan"},
                        {[](Args* x) { x->softcap = 1; }, "softcap=1: must be 0 without SOFTCAP"},
                        {[](Args* x) { x->softcap = NAN; }, "softcap=nan: must be 0"},
                        {[](Args* x) { x->window_left = -2; }, "window_left=-2"},
                        {[](Args* x) { x->window_right = -2; }, "window_right=-2"}});
  const Desc capped = good_desc(DGRT_ATTN_SOFTCAP);
  Args args = good_args();
  args.softcap = 30;
  check_breaches<Args>(fixture, &capped.op, args,
                       {{[](Args* x) { x->softcap = 0; }, "softcap=0: must be greater than 0"},
                        {[](Args* x) { x->softcap = -1; }, "softcap=-1"},
                        {[](Args* x) { x->softcap = HUGE_VALF; }, "softcap=inf"},
                        {[](Args* x) { x->softcap = NAN; }, "softcap=nan"}});
}

TEST_CASE("attn_prefill refuses bad descs by name", "[unit]") {
  check_descs<Desc>(
      good_desc(), DGRT_INVALID_ARGUMENT,
      {{[](Desc* d) { d->num_kv_heads = 0; }, "num_kv_heads=0: must be 1 to 65535"},
       {[](Desc* d) { d->num_kv_heads = 65536; }, "num_kv_heads=65536"},
       {[](Desc* d) { d->num_q_heads = 0; }, "num_q_heads=0"},
       {[](Desc* d) { d->num_q_heads = 10; }, "num_q_heads=10: must be a multiple of"},
       {[](Desc* d) { d->num_q_heads = 65536; }, "num_q_heads=65536"},
       {[](Desc* d) { d->head_dim_qk = 0; }, "head_dim_qk=0"},
       {[](Desc* d) { d->head_dim_qk = 100; }, "head_dim_qk=100: must be a multiple of 8"},
       {[](Desc* d) { d->head_dim_qk = 520; }, "head_dim_qk=520"},
       {[](Desc* d) { d->head_dim_v = 4; }, "head_dim_v=4"},
       {[](Desc* d) { d->head_dim_v = 520; }, "head_dim_v=520"},
       {[](Desc* d) { d->max_batch = -1; }, "max_batch=-1"},
       {[](Desc* d) { d->max_batch = 1 << 30; }, "max_batch=1073741824"},
       {[](Desc* d) { d->max_q_len = -1; }, "max_q_len=-1"},
       {[](Desc* d) { d->max_q_len = 1 << 30; }, "max_q_len=1073741824"},
       {[](Desc* d) { d->max_kv_len = -1; }, "max_kv_len=-1"},
       {[](Desc* d) { d->max_kv_len = 1 << 30; }, "max_kv_len=1073741824"},
       {[](Desc* d) { d->flags = 1u << 31; }, "flags=0x80000000"}});
  check_descs<Desc>(good_desc(), DGRT_UNSUPPORTED,
                    {{[](Desc* d) { d->dtype = DGRT_FP32; }, "attn_prefill"}});
}

}  // namespace dgrt::test
