// Plans of mla_sparse_prefill on a driver that only takes notes: what reaches the kernel, and that each rule of the
// public header, broken, is refused by name.
#include <cmath>

#include "dgrt/mla.h"
#include "mla/sm90_mla_sparse_prefill.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_mla_sparse_prefill_desc;
using Args = dgrt_mla_sparse_prefill_args;
using sm90::mla_sparse_prefill::Params;

Desc good_desc(int64_t heads = 128) {
  Desc desc = DGRT_MLA_SPARSE_PREFILL_DESC;
  desc.num_heads = heads, desc.max_tokens = 100000, desc.max_top_k = 2048;
  desc.dtype = DGRT_BF16;
  return desc;
}

Args good_args(int64_t heads = 128) {
  Args args = DGRT_MLA_SPARSE_PREFILL_ARGS;
  args.q = address<void>(0x1000), args.kv = address<void>(0x2000), args.o = address<void>(0x4000);
  args.indices = address<int32_t>(0x7004), args.lengths = address<int32_t>(0x8004);
  args.sinks = address<float>(0x9004), args.lse = address<float>(0x5004), args.max_logits = address<float>(0x6004);
  args.tokens = 1000, args.kv_rows = 5000, args.top_k = 640, args.indices_row_stride = 641;
  args.q_token_stride = heads * 576, args.q_head_stride = args.kv_row_stride = 576;
  args.o_token_stride = heads * 512, args.o_head_stride = 512;
  args.lse_token_stride = heads, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

Params params_of(OpsFixture& fixture, const Desc& desc, const Args& args) {
  const auto plan = fixture.plan_of(&desc.op);
  CHECK(plan->workspace_bytes() == 0);
  check_launch(fixture, *plan, args);
  return last_params<Params>();
}

}  // namespace

TEST_CASE("mla_sparse_prefill: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  Params p = params_of(fixture, desc, good_args());
  CHECK((p.num_heads == 128 && p.head_tiles == 2 && p.num_items == 2000));
  CHECK((p.top_k == 640 && p.num_rows == 5000));
  CHECK((p.kv_row == 576 && p.indices_row == 641));
  CHECK((p.lengths != nullptr && p.sinks != nullptr && p.lse != nullptr && p.max_logits != nullptr));
  CHECK(p.scale_log2 == 0.125f * 1.4426950408889634f);
  CHECK(p.lse_form == 0);
  desc.flags = DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF;
  p = params_of(fixture, desc, good_args());
  CHECK(p.lse_form == (attn_lse_base2 | attn_lse_empty_inf));
}

TEST_CASE("mla_sparse_prefill: CTAs take a token's tiles together", "[unit]") {
  OpsFixture fixture;
  const struct {
    int64_t heads, tokens;
    uint32_t sms, ctas;
  } cases[] = {{16, 1000, 0, 132}, {64, 7, 0, 7}, {128, 1000, 0, 132}, {128, 3, 0, 6},
               {128, 1000, 7, 6},  {129, 1000, 0, 132}, {320, 1000, 0, 130}, {320, 1000, 3, 3}, {512, 1000, 7, 7},
               {64, 70000, 0, 132}};
  for (const auto& x : cases) {
    Desc desc = good_desc(x.heads);
    desc.sm_budget = x.sms;
    Args args = good_args(x.heads);
    args.tokens = x.tokens;
    INFO(x.heads << " heads, " << x.tokens << " tokens");
    const Params p = params_of(fixture, desc, args);
    CHECK(p.num_items == static_cast<uint32_t>((x.heads + 63) / 64 * x.tokens));
    CHECK(FakeCuda::last_config.gridDimX == x.ctas);
  }
}

TEST_CASE("mla_sparse_prefill: nothing to do launches nothing; what is optional may be missing", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  const Args none = DGRT_MLA_SPARSE_PREFILL_ARGS;  // pointers are not looked at
  CHECK(fixture.launch(*plan, &none.op).is_ok());
  CHECK(FakeCuda::num_launches == launches);
  Args args = good_args();
  args.lengths = nullptr, args.sinks = nullptr, args.lse = nullptr, args.max_logits = nullptr;
  args.lse_token_stride = args.lse_head_stride = 0;
  args.kv_rows = args.kv_row_stride = 0, args.kv = nullptr;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(FakeCuda::num_launches == launches + 1);
}

TEST_CASE("mla_sparse_prefill refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->tokens = -1; }, "tokens=-1: must be 0 to 100000, the bound"},
       {[](Args* x) { x->tokens = 100001; }, "tokens=100001: must be 0 to 100000, the bound"},
       {[](Args* x) { x->top_k = 2112; }, "top_k=2112: must be 0 to 2048, the bound"},
       {[](Args* x) { x->top_k = 0; }, "top_k=0: must be a multiple of 64"},
       {[](Args* x) { x->top_k = 100; }, "top_k=100: must be a multiple of 64"},
       {[](Args* x) { x->kv_rows = -1; }, "kv_rows=-1"},
       {[](Args* x) { x->kv_rows = 1 << 30; }, "kv_rows=1073741824"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->kv = nullptr; }, "kv=NULL: must point to device memory"},
       {[](Args* x) { x->kv = address<void>(0x3008); }, "kv=0x3008: must be 16-byte aligned"},
       {[](Args* x) { x->o = address<void>(0x4002); }, "o=0x4002"},
       {[](Args* x) { x->indices = nullptr; }, "indices=NULL: must point to device memory"},
       {[](Args* x) { x->indices = address<int32_t>(0x7002); }, "indices=0x7002: must be 4-byte aligned"},
       {[](Args* x) { x->lengths = address<int32_t>(0x8001); }, "lengths=0x8001"},
       {[](Args* x) { x->sinks = address<float>(0x9002); }, "sinks=0x9002"},
       {[](Args* x) { x->lse = address<float>(0x5002); }, "lse=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->max_logits = address<float>(0x5002); }, "max_logits=0x5002: must be 4-byte aligned"},
       {[](Args* x) { x->q_head_stride = 568; }, "q_head_stride=568: must be at least 576"},
       {[](Args* x) { x->q_token_stride = 580; }, "q_token_stride=580: must be a multiple of 8"},
       {[](Args* x) { x->kv_row_stride = 512; }, "kv_row_stride=512: must be at least 576"},
       {[](Args* x) { x->kv_row_stride = 580; }, "kv_row_stride=580: must be a multiple of 8"},
       {[](Args* x) { x->indices_row_stride = 639; }, "indices_row_stride=639: must be at least 640"},
       {[](Args* x) { x->o_token_stride = 504; }, "o_token_stride=504: must be at least 512"},
       {[](Args* x) { x->lse_head_stride = 0; }, "lse_head_stride=0: must be at least 1"},
       {[](Args* x) { x->lse = nullptr, x->lse_token_stride = 0; }, "lse_token_stride=0: must be at least 1"},
       {[](Args* x) { x->scale = NAN; }, "scale=nan"},
       {[](Args* x) { x->scale = 0; }, "scale=0: must be greater than 0"},
       {[](Args* x) { x->reserved = 1; }, "reserved=1: must be 0"}});
  Desc many = good_desc(65535);
  many.max_tokens = 1 << 22;
  Args args = good_args(65535);
  args.tokens = 1 << 21;
  const auto plan = fixture.plan_of(&many.op);
  const Status status = fixture.launch(*plan, &args.op);
  CHECK(status.code() == DGRT_INVALID_ARGUMENT);
  CHECK(status.message().find("tokens=2097152: times 1024 tiles of 64 heads") != std::string::npos);
}

TEST_CASE("mla_sparse_prefill refuses bad descs by name", "[unit]") {
  check_descs<Desc>(good_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->num_heads = 0; }, "num_heads=0: must be 1 to"},
                     {[](Desc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
                     {[](Desc* d) { d->max_top_k = 0; }, "max_top_k=0: must be 64 to"},
                     {[](Desc* d) { d->flags = 1u << 18; },
                      "flags=0x40000: mla_sparse_prefill knows PDL, BATCH_INVARIANT, LSE_BASE2, LSE_EMPTY_INF"},
                     {[](Desc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<Desc>(good_desc(), DGRT_UNSUPPORTED,
                    {{[](Desc* d) { d->dtype = DGRT_FP32; }, "mla_sparse_prefill"},
                     {[](Desc* d) { d->head_dim_qk = 128; }, "mla_sparse_prefill"},
                     {[](Desc* d) { d->head_dim_v = 256; }, "mla_sparse_prefill"}});
}

}  // namespace dgrt::test
