// Plans of mla_sparse_decode on a driver that only takes notes: what reaches the kernel, and that each rule of the
// public header, broken, is refused by name.
#include <cmath>

#include "dgrt/mla.h"
#include "mla/sm90_mla_sparse_decode.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_mla_sparse_decode_desc;
using Args = dgrt_mla_sparse_decode_args;
using sm90::mla_sparse_decode::Params;

Desc good_desc(uint32_t flags = 0) {
  Desc desc = DGRT_MLA_SPARSE_DECODE_DESC;
  desc.num_q_heads = 128, desc.max_tokens = 256, desc.max_keys = 2048;
  desc.format = DGRT_MLA_KV_V4, desc.flags = flags;
  return desc;
}

Args good_args() {
  Args args = DGRT_MLA_SPARSE_DECODE_ARGS;
  args.q = address<void>(0x1000), args.o = address<void>(0x2000), args.lse = address<float>(0x3004);
  args.sinks = address<float>(0x4004);
  args.cache = address<void>(0x5010), args.extra_cache = address<void>(0x6010);
  args.indices = address<int32_t>(0x7004), args.extra_indices = address<int32_t>(0x8004);
  args.lengths = address<int32_t>(0x9004), args.extra_lengths = address<int32_t>(0xa004);
  args.batch = 3, args.q_len = 2, args.top_k = 128, args.extra_top_k = 500;
  args.page_size = 256, args.num_pages = 100, args.cache_page_stride = 149760;
  args.extra_page_size = 2, args.extra_num_pages = 1 << 20, args.extra_cache_page_stride = 1728;
  args.indices_token_stride = 128, args.extra_indices_token_stride = 501;
  args.q_token_stride = 128 * 512, args.q_head_stride = 512;
  args.o_token_stride = 128 * 512, args.o_head_stride = 512;
  args.lse_token_stride = 128, args.lse_head_stride = 1;
  args.scale = 0.125f;
  return args;
}

Params params_of(OpsFixture& fixture, const Desc& desc, const Args& args) {
  const auto plan = fixture.plan_of(&desc.op);
  check_launch(fixture, *plan, args);
  return last_params<Params>();
}

}  // namespace

TEST_CASE("mla_sparse_decode: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  Args args = good_args();
  Params p = params_of(fixture, good_desc(), args);
  CHECK((p.batch == 3 && p.list_tokens == 2 && p.group == 128 && p.num_kv_heads == 1));
  CHECK((p.tile_heads == 64 && p.tile_tokens.by == 1 && p.head_tiles.by == 2 && p.row_lanes.by == 2));
  CHECK((p.main.num_slots == 25600 && p.main.top_k == 128 && p.main.page_bytes == 149760));
  CHECK((p.extra.num_slots == 1 << 21 && p.extra.page_size == 2 && p.extra.index_token == 501));
  CHECK(p.extra.lengths == args.extra_lengths);
  CHECK((p.sinks == args.sinks && p.lse_form == 0 && p.window_left == attn_no_window));
  CHECK(p.counters == fixture.workspace);
  CHECK(FakeCuda::last_config.gridDimX == 132);

  args.lengths_per_token = 1, args.extra_top_k = 0, args.num_pages = 0;
  args.cache = args.extra_cache = nullptr, args.extra_indices = nullptr, args.lengths = nullptr;
  p = params_of(fixture, good_desc(DGRT_MLA_LSE_BASE2 | DGRT_MLA_LSE_EMPTY_INF), args);
  CHECK((p.batch == 6 && p.list_tokens == 1));
  CHECK((p.main.num_slots == 0 && p.main.page_size == 1 && p.main.top_k == 128 && p.extra.top_k == 0));
  CHECK(p.extra.lengths == nullptr);
  CHECK(p.lse_form == (attn_lse_base2 | attn_lse_empty_inf));
}

TEST_CASE("mla_sparse_decode: lanes are row tiles of one token, and leave CTAs", "[unit]") {
  OpsFixture fixture;
  const struct {
    int64_t heads;
    uint32_t sms, lanes, tile_heads;
  } cases[] = {{8, 0, 1, 8},    {64, 0, 1, 64},  {128, 1, 1, 64}, {128, 3, 2, 64},
               {192, 0, 3, 64}, {192, 2, 1, 64}, {896, 0, 2, 64}, {1024, 0, 8, 64}};
  for (const auto& x : cases) {
    Desc desc = good_desc();
    desc.num_q_heads = x.heads, desc.sm_budget = x.sms;
    Args args = good_args();
    args.q_token_stride = args.o_token_stride = x.heads * 512, args.lse_token_stride = x.heads;
    INFO(x.heads << " heads");
    const Params p = params_of(fixture, desc, args);
    CHECK((p.row_lanes.by == x.lanes && p.tile_heads == x.tile_heads));
    const uint32_t ctas = FakeCuda::last_config.gridDimX, most = x.sms == 0 ? 132 : x.sms;
    CHECK((ctas % x.lanes == 0 && ctas <= most && ctas + x.lanes > most));
  }
}

TEST_CASE("mla_sparse_decode: the workspace is bounded, and none where nothing is split", "[unit]") {
  OpsFixture fixture;
  Desc desc = good_desc();
  const uint64_t few = fixture.plan_of(&desc.op)->workspace_bytes();
  desc.max_tokens = 1 << 20, desc.max_keys = 1 << 20;
  CHECK(fixture.plan_of(&desc.op)->workspace_bytes() == few);
  CHECK(few < uint64_t{34} << 20);
  desc = good_desc(DGRT_FLAG_BATCH_INVARIANT);
  const uint64_t invariant = fixture.plan_of(&desc.op)->workspace_bytes();
  desc.max_tokens = 512;
  CHECK(fixture.plan_of(&desc.op)->workspace_bytes() > invariant);
  desc = good_desc(DGRT_FLAG_BATCH_INVARIANT | DGRT_MLA_NO_SPLIT);
  CHECK(fixture.plan_of(&desc.op)->workspace_bytes() == 0);
}

TEST_CASE("mla_sparse_decode: nothing to do launches nothing", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const int launches = FakeCuda::num_launches;
  for (void (*spoil)(Args*) : {+[](Args* x) { x->batch = 0; }, +[](Args* x) { x->q_len = 0; }}) {
    Args args = DGRT_MLA_SPARSE_DECODE_ARGS;  // pointers are not looked at
    args.batch = 2, args.q_len = 4, args.top_k = 64;
    spoil(&args);
    CHECK(fixture.launch(*plan, &args.op).is_ok());
  }
  CHECK(FakeCuda::num_launches == launches);
  const Args args = good_args();
  CHECK(plan->launch(&args.op, fixture.workspace, 0, fixture.stream).code() == DGRT_WORKSPACE_TOO_SMALL);
}

TEST_CASE("mla_sparse_decode refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = good_desc();
  check_breaches<Args>(
      fixture, &desc.op, good_args(),
      {{[](Args* x) { x->batch = -1; }, "batch=-1: must be 0 to"},
       {[](Args* x) { x->q_len = int64_t{1} << 40; }, "q_len=1099511627776: must be 0 to"},
       {[](Args* x) { x->batch = 129; }, "tokens=258: must be 0 to 256"},
       {[](Args* x) { x->top_k = -64; }, "top_k=-64: must be 0 to"},
       {[](Args* x) { x->extra_top_k = 2000; }, "keys=2128: must be 0 to 2048"},
       {[](Args* x) { x->page_size = 0; }, "page_size=0: must be at least 1"},
       {[](Args* x) { x->num_pages = -1; }, "num_pages=-1: must be 0 to"},
       {[](Args* x) { x->extra_num_pages = int64_t{1} << 30; }, "extra_page_size=2: must be at least 1, and"},
       {[](Args* x) { x->cache_page_stride = 149488; }, "cache_page_stride=149488: must be at least 149504"},
       {[](Args* x) { x->extra_cache_page_stride = 1720; }, "extra_cache_page_stride=1720: must be a multiple of 16"},
       {[](Args* x) { x->cache = address<void>(0x5008); }, "cache=0x5008: must be 16-byte aligned"},
       {[](Args* x) { x->extra_cache = nullptr; }, "extra_cache=NULL: must point to device memory"},
       {[](Args* x) { x->indices = nullptr; }, "indices=NULL: must point to device memory"},
       {[](Args* x) { x->extra_indices = address<int32_t>(0x8002); }, "extra_indices=0x8002: must be 4-byte"},
       {[](Args* x) { x->lengths = address<int32_t>(0x9002); }, "lengths=0x9002: must be 4-byte aligned"},
       {[](Args* x) { x->extra_lengths = address<int32_t>(0xa001); }, "extra_lengths=0xa001"},
       {[](Args* x) { x->indices_token_stride = 127; }, "indices_token_stride=127: must be at least 128"},
       {[](Args* x) { x->extra_indices_token_stride = 0; }, "extra_indices_token_stride=0: must be at least 500"},
       {[](Args* x) { x->q = address<void>(0x1008); }, "q=0x1008: must be 16-byte aligned"},
       {[](Args* x) { x->q_head_stride = 504; }, "q_head_stride=504: must be at least 512"},
       {[](Args* x) { x->o = nullptr; }, "o=NULL: must point to device memory"},
       {[](Args* x) { x->o_token_stride = 516; }, "o_token_stride=516: must be a multiple of 8"},
       {[](Args* x) { x->lse = address<float>(0x3002); }, "lse=0x3002: must be 4-byte aligned"},
       {[](Args* x) { x->lse_head_stride = 0; }, "lse_head_stride=0: must be at least 1"},
       {[](Args* x) { x->sinks = address<float>(0x4001); }, "sinks=0x4001: must be 4-byte aligned"},
       {[](Args* x) { x->scale = NAN; }, "scale=nan"},
       {[](Args* x) { x->scale = -1; }, "scale=-1: must be greater than 0"},
       {[](Args* x) { x->lengths_per_token = 2; }, "lengths_per_token=2: must be 0 or 1"}});
}

TEST_CASE("mla_sparse_decode refuses bad descs by name", "[unit]") {
  check_descs<Desc>(good_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->num_q_heads = 0; }, "num_q_heads=0: must be 1 to"},
                     {[](Desc* d) { d->max_tokens = -1; }, "max_tokens=-1: must be 0 to"},
                     {[](Desc* d) { d->max_keys = 1 << 30; }, "max_keys=1073741824: must be 0 to"},
                     {[](Desc* d) { d->format = 3; }, "format=3: must be DGRT_MLA_KV_V32 or"},
                     {[](Desc* d) { d->flags = 1u << 18; }, "flags=0x40000: mla_sparse_decode knows PDL"},
                     {[](Desc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
}

}  // namespace dgrt::test
