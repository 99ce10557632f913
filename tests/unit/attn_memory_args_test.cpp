// Plans of attn_merge and kv_append on a driver that only takes notes: what reaches the kernel, and that each
// rule of the public header, broken, is refused by name.

#include "attention/sm90_attn_merge.cuh"
#include "attention/sm90_kv_append.cuh"
#include "dgrt/attention.h"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using MergeDesc = dgrt_attn_merge_desc;
using MergeArgs = dgrt_attn_merge_args;
using AppendDesc = dgrt_kv_append_desc;
using AppendArgs = dgrt_kv_append_args;

MergeDesc merge_desc(uint32_t flags = 0) {
  MergeDesc desc = DGRT_ATTN_MERGE_DESC;
  desc.num_heads = 8, desc.head_dim = 128, desc.max_tokens = 4096, desc.max_parts = 16;
  desc.dtype_part = DGRT_FP32, desc.dtype_o = DGRT_BF16, desc.flags = flags;
  return desc;
}

MergeArgs merge_args(int64_t tokens = 100) {
  MergeArgs args = DGRT_ATTN_MERGE_ARGS;
  args.part_o = address<void>(0x1000), args.part_lse = address<float>(0x2004);
  args.o = address<void>(0x3000), args.lse = address<float>(0x4004),
  args.sinks = address<float>(0x5004);
  args.tokens = tokens, args.num_parts = 5;
  args.part_o_part_stride = 5000 * 1024, args.part_o_token_stride = 1024,
  args.part_o_head_stride = 128;
  args.part_lse_part_stride = 40000, args.part_lse_token_stride = 8, args.part_lse_head_stride = 1;
  args.o_token_stride = 1024, args.o_head_stride = 128;
  args.lse_token_stride = 8, args.lse_head_stride = 1;
  return args;
}

AppendDesc append_desc(dgrt_dtype cache = DGRT_BF16, uint32_t flags = 0) {
  AppendDesc desc = DGRT_KV_APPEND_DESC;
  desc.num_kv_heads = 8, desc.head_dim_qk = 192, desc.head_dim_v = 128, desc.max_tokens = 4096;
  desc.dtype = DGRT_BF16, desc.dtype_cache = cache, desc.flags = flags;
  return desc;
}

AppendArgs append_args(int64_t tokens = 100) {
  AppendArgs args = DGRT_KV_APPEND_ARGS;
  args.k = address<void>(0x1000), args.v = address<void>(0x2000);
  args.k_cache = address<void>(0x3000), args.v_cache = address<void>(0x4000);
  args.slot_mapping = address<void>(0x5004);
  args.tokens = tokens, args.page_size = 16, args.num_pages = 1000;
  args.k_token_stride = 8 * 192, args.k_head_stride = 192;
  args.v_token_stride = 8 * 128, args.v_head_stride = 128;
  args.k_cache_page_stride = 16 * 8 * 192, args.k_cache_token_stride = 8 * 192,
  args.k_cache_head_stride = 192;
  args.v_cache_page_stride = 16 * 8 * 128, args.v_cache_token_stride = 8 * 128,
  args.v_cache_head_stride = 128;
  return args;
}

}  // namespace

TEST_CASE("attn_merge: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const MergeDesc desc = merge_desc();
  check_launches(fixture, &desc.op, [](int64_t m) { return merge_args(m); });
  const MergeDesc formed = merge_desc(DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK);
  const auto plan = fixture.plan_of(&formed.op);
  for (const auto& [parts, lanes] : std::initializer_list<std::pair<int64_t, uint32_t>>{
           {1, 1}, {2, 2}, {3, 4}, {5, 8}, {16, 16}}) {
    MergeArgs args = merge_args();
    args.num_parts = parts;
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    const auto p = last_params<sm90::attn_merge::Params>();
    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(&args.op, &info).is_ok());
    CHECK(p.lse_lanes == lanes);
    CHECK(p.num_rows == 800);
    CHECK(p.row_vectors == 32);
    CHECK(p.block_rows == info.block_m);
    CHECK(FakeCuda::last_config.gridDimX == (800 + p.block_rows - 1) / p.block_rows);
    CHECK(p.lse_form == (attn_lse_base2 | attn_lse_with_sink));
    CHECK(p.part_o_strides.part == 5000 * 1024);
  }
  MergeArgs bare = merge_args();
  bare.lse = nullptr, bare.sinks = nullptr, bare.lse_token_stride = bare.lse_head_stride = 0;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
}

TEST_CASE("attn_merge refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const MergeDesc desc = merge_desc();
  check_breaches<MergeArgs>(
      fixture, &desc.op, merge_args(),
      {{[](MergeArgs* x) { x->tokens = -1; }, "tokens=-1: must be 0 to 4096"},
       {[](MergeArgs* x) { x->tokens = 4097; }, "tokens=4097"},
       {[](MergeArgs* x) { x->num_parts = 0; }, "num_parts=0: must be 1 to max_parts=16"},
       {[](MergeArgs* x) { x->num_parts = 17; }, "num_parts=17"},
       {[](MergeArgs* x) { x->part_o = nullptr; }, "part_o=NULL: must point to device memory"},
       {[](MergeArgs* x) { x->part_o = address<void>(0x1008); },
        "part_o=0x1008: must be 16-byte aligned"},
       {[](MergeArgs* x) { x->part_lse = nullptr; }, "part_lse=NULL: must point to device memory"},
       {[](MergeArgs* x) { x->part_lse = address<float>(0x2002); }, "part_lse=0x2002"},
       {[](MergeArgs* x) { x->o = nullptr; }, "o=NULL: must point to device memory"},
       {[](MergeArgs* x) { x->o = address<void>(0x3004); }, "o=0x3004"},
       {[](MergeArgs* x) { x->lse = address<float>(0x4001); }, "lse=0x4001"},
       {[](MergeArgs* x) { x->sinks = address<float>(0x5002); }, "sinks=0x5002"},
       {[](MergeArgs* x) { x->part_o_part_stride = 0; },
        "part_o_part_stride=0: must be at least 128"},
       {[](MergeArgs* x) { x->part_o_part_stride = 130; },
        "part_o_part_stride=130: must be a multiple of 4"},
       {[](MergeArgs* x) { x->part_o_token_stride = 1022; },
        "part_o_token_stride=1022: must be a multiple of 4"},
       {[](MergeArgs* x) { x->part_o_head_stride = 120; },
        "part_o_head_stride=120: must be at least 128"},
       {[](MergeArgs* x) { x->part_lse_part_stride = 0; },
        "part_lse_part_stride=0: must be at least 1"},
       {[](MergeArgs* x) { x->part_lse_token_stride = 0; }, "part_lse_token_stride=0"},
       {[](MergeArgs* x) { x->part_lse_head_stride = -1; }, "part_lse_head_stride=-1"},
       {[](MergeArgs* x) { x->o_token_stride = 1028; },
        "o_token_stride=1028: must be a multiple of 8"},
       {[](MergeArgs* x) { x->o_head_stride = 0; }, "o_head_stride=0: must be at least 128"},
       {[](MergeArgs* x) { x->lse_token_stride = 0; }, "lse_token_stride=0"},
       {[](MergeArgs* x) { x->lse_head_stride = 0; }, "lse_head_stride=0"}});
  MergeDesc many = merge_desc();
  many.num_heads = 65535, many.max_tokens = 1 << 20;
  check_breaches<MergeArgs>(
      fixture, &many.op, merge_args(),
      {{[](MergeArgs* x) { x->tokens = 1 << 16; }, "tokens=65536: times 65535 heads"}});
}

TEST_CASE("attn_merge refuses bad descs by name", "[unit]") {
  check_descs<MergeDesc>(
      merge_desc(), DGRT_INVALID_ARGUMENT,
      {{[](MergeDesc* d) { d->num_heads = 0; }, "num_heads=0: must be 1 to 65535"},
       {[](MergeDesc* d) { d->num_heads = 65536; }, "num_heads=65536"},
       {[](MergeDesc* d) { d->head_dim = 0; }, "head_dim=0: must be a multiple of 8"},
       {[](MergeDesc* d) { d->head_dim = 100; }, "head_dim=100"},
       {[](MergeDesc* d) { d->head_dim = 520; }, "head_dim=520"},
       {[](MergeDesc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
       {[](MergeDesc* d) { d->max_tokens = 1 << 30; }, "max_tokens=1073741824"},
       {[](MergeDesc* d) { d->max_parts = 0; }, "max_parts=0: must be 1 to 64"},
       {[](MergeDesc* d) { d->max_parts = 65; }, "max_parts=65"},
       {[](MergeDesc* d) { d->flags = DGRT_ATTN_SOFTCAP; }, "flags=0x10000"},
       {[](MergeDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<MergeDesc>(merge_desc(), DGRT_UNSUPPORTED,
                         {{[](MergeDesc* d) { d->dtype_part = DGRT_E4M3; }, "attn_merge"},
                          {[](MergeDesc* d) { d->dtype_o = DGRT_E4M3; }, "attn_merge"}});
}

TEST_CASE("kv_append: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  for (const dgrt_dtype cache : {DGRT_BF16, DGRT_E4M3}) {
    const AppendDesc desc = append_desc(cache);
    check_launches(fixture, &desc.op, [](int64_t m) { return append_args(m); });
    AppendArgs args = append_args();
    if (cache == DGRT_E4M3) args.k_scale = address<float>(0x6004), args.k_scale_head_stride = 2;
    const auto plan = fixture.plan_of(&desc.op);
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    const auto p = last_params<sm90::kv_append::Params>();
    CHECK(p.num_slots == 16000);
    CHECK(p.num_vectors == 8 * (24 + 16));
    CHECK(p.k_vectors == 8 * 24);
    CHECK(p.lanes * FakeCuda::last_config.gridDimY >= p.num_vectors);
    CHECK(p.lanes * p.block_tokens <= 256);
    CHECK(p.k.scale == args.k_scale);
    CHECK(p.k.scale_head == static_cast<uint64_t>(args.k_scale_head_stride));
    CHECK(p.v.scale == nullptr);
    args.num_pages = 0, args.k = args.k_cache = nullptr;
    const int launches = FakeCuda::num_launches;
    CHECK(fixture.launch(*plan, &args.op).is_ok());
    CHECK(FakeCuda::num_launches == launches);
  }
}

TEST_CASE("kv_append refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const AppendDesc desc = append_desc();
  check_breaches<AppendArgs>(
      fixture, &desc.op, append_args(),
      {{[](AppendArgs* x) { x->tokens = -1; }, "tokens=-1: must be 0 to 4096"},
       {[](AppendArgs* x) { x->tokens = 4097; }, "tokens=4097"},
       {[](AppendArgs* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](AppendArgs* x) { x->num_pages = 1 << 30; }, "num_pages=1073741824"},
       {[](AppendArgs* x) { x->page_size = 0; }, "page_size=0: must be at least 1"},
       {[](AppendArgs* x) { x->page_size = 1 << 21; },
        "page_size=2097152: must be at least 1, and 1000 pages"},
       {[](AppendArgs* x) { x->k = nullptr; }, "k=NULL: must point to device memory"},
       {[](AppendArgs* x) { x->v = address<void>(0x2008); }, "v=0x2008: must be 16-byte aligned"},
       {[](AppendArgs* x) { x->k_cache = address<void>(0x3008); }, "k_cache=0x3008"},
       {[](AppendArgs* x) { x->v_cache = nullptr; }, "v_cache=NULL: must point to device memory"},
       {[](AppendArgs* x) { x->slot_mapping = nullptr; }, "slot_mapping=NULL: must point to device memory"},
       {[](AppendArgs* x) { x->slot_mapping = address<void>(0x5002); }, "slot_mapping=0x5002"},
       {[](AppendArgs* x) { x->k_token_stride = 184; }, "k_token_stride=184: must be at least 192"},
       {[](AppendArgs* x) { x->k_head_stride = 196; },
        "k_head_stride=196: must be a multiple of 8"},
       {[](AppendArgs* x) { x->v_token_stride = 0; }, "v_token_stride=0"},
       {[](AppendArgs* x) { x->v_head_stride = 120; }, "v_head_stride=120"},
       {[](AppendArgs* x) { x->k_cache_page_stride = 12; },
        "k_cache_page_stride=12: must be a multiple of 8"},
       {[](AppendArgs* x) { x->v_cache_page_stride = -8; }, "v_cache_page_stride=-8"},
       {[](AppendArgs* x) { x->k_cache_token_stride = 100; }, "k_cache_token_stride=100"},
       {[](AppendArgs* x) { x->k_cache_head_stride = 8; }, "k_cache_head_stride=8"},
       {[](AppendArgs* x) { x->v_cache_token_stride = 132; }, "v_cache_token_stride=132"},
       {[](AppendArgs* x) { x->v_cache_head_stride = 0; }, "v_cache_head_stride=0"},
       {[](AppendArgs* x) { x->k_scale = address<float>(0x6004); }, "k_scale: must be NULL"}});
  const AppendDesc quantised = append_desc(DGRT_E4M3, DGRT_KV_SLOTS_INT64);
  AppendArgs args = append_args();
  args.slot_mapping = address<void>(0x5008);
  args.k_scale = args.v_scale = address<float>(0x6004);
  check_breaches<AppendArgs>(
      fixture, &quantised.op, args,
      {{[](AppendArgs* x) { x->slot_mapping = address<void>(0x5004); },
        "slot_mapping=0x5004: must be 8-byte"},
       {[](AppendArgs* x) { x->v_scale = address<float>(0x6002); }, "v_scale=0x6002"},
       {[](AppendArgs* x) { x->k_scale_head_stride = -1; }, "k_scale_head_stride=-1: must be 0"}});
}

TEST_CASE("kv_append refuses bad descs by name", "[unit]") {
  check_descs<AppendDesc>(
      append_desc(), DGRT_INVALID_ARGUMENT,
      {{[](AppendDesc* d) { d->num_kv_heads = 0; }, "num_kv_heads=0"},
       {[](AppendDesc* d) { d->num_kv_heads = 65536; }, "num_kv_heads=65536"},
       {[](AppendDesc* d) { d->head_dim_qk = 4; }, "head_dim_qk=4"},
       {[](AppendDesc* d) { d->head_dim_v = 520; }, "head_dim_v=520"},
       {[](AppendDesc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
       {[](AppendDesc* d) { d->max_tokens = 1 << 30; }, "max_tokens=1073741824"},
       {[](AppendDesc* d) { d->flags = 1u << 17; }, "flags=0x20000"},
       {[](AppendDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<AppendDesc>(append_desc(), DGRT_UNSUPPORTED,
                          {{[](AppendDesc* d) { d->dtype = DGRT_FP32; }, "kv_append"},
                           {[](AppendDesc* d) { d->dtype_cache = DGRT_FP16; }, "kv_append"}});
}

}  // namespace dgrt::test
