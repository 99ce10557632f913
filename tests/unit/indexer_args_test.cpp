// Plans of the indexer's ops on a driver that only takes notes: what reaches the kernel, and that each rule of
// the public header, broken, is refused by name.

#include "dgrt/indexer.h"
#include "indexer/sm90_mqa_logits.cuh"
#include "indexer/sm90_paged_mqa_logits.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using Desc = dgrt_mqa_logits_desc;
using Args = dgrt_mqa_logits_args;
using PagedDesc = dgrt_paged_mqa_logits_desc;
using PagedArgs = dgrt_paged_mqa_logits_args;

Desc logits_desc(uint32_t flags = 0) {
  Desc desc = DGRT_MQA_LOGITS_DESC;
  desc.num_heads = 64, desc.head_dim = 128, desc.max_tokens = 4096, desc.max_kv_tokens = 1 << 16;
  desc.dtype_out = DGRT_FP32, desc.flags = flags;
  return desc;
}

Args logits_args(int64_t tokens = 100) {
  Args args = DGRT_MQA_LOGITS_ARGS;
  args.q = address<void>(0x1000), args.kv = address<void>(0x2010), args.kv_scale = address<float>(0x3004);
  args.w = address<float>(0x4004), args.ks = address<int32_t>(0x5004), args.ke = address<int32_t>(0x6004);
  args.out = address<void>(0x7004);
  args.tokens = tokens, args.kv_tokens = 10001;
  args.w_token_stride = 65, args.out_token_stride = 10001;
  return args;
}

PagedDesc paged_desc(uint32_t flags = 0) {
  PagedDesc desc = DGRT_PAGED_MQA_LOGITS_DESC;
  desc.num_heads = 64, desc.head_dim = 128, desc.next_n = 2, desc.page_size = 64;
  desc.max_batch = 4096, desc.max_context_len = 1 << 16;
  desc.dtype_out = DGRT_BF16, desc.flags = flags;
  return desc;
}

PagedArgs paged_args(int64_t batch = 100) {
  PagedArgs args = DGRT_PAGED_MQA_LOGITS_ARGS;
  args.q = address<void>(0x1000), args.kv_cache = address<void>(0x2010), args.w = address<float>(0x4004);
  args.context_lens = address<int32_t>(0x5004), args.page_table = address<int32_t>(0x6004);
  args.out = address<void>(0x7002);
  args.batch = batch, args.max_context_len = 10001, args.num_pages = 1000, args.max_pages = 200;
  args.kv_page_stride = 64 * 132, args.page_table_stride = 201;
  args.w_token_stride = 64, args.out_token_stride = 10002;
  return args;
}

}  // namespace

TEST_CASE("mqa_logits: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const Desc desc = logits_desc(DGRT_LOGITS_CLEAN);
  check_launches(fixture, &desc.op, [](int64_t m) { return logits_args(m); });
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t tokens : {1, 4, 5, 4096}) {
    const Args args = logits_args(tokens);
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    const auto p = last_params<sm90::mqa_logits::Params>();
    CHECK(p.blocks == (tokens + 3) / 4);
    CHECK(p.columns == 10001);
    CHECK(p.w_row == 65);
    CHECK(FakeCuda::last_config.gridDimX == 132);
  }
}

TEST_CASE("mqa_logits: calls without keys or columns", "[unit]") {
  OpsFixture fixture;
  const auto launches_of = [&](uint32_t flags, int64_t kv_tokens, int64_t max_k) {
    const Desc desc = logits_desc(flags);
    const auto plan = fixture.plan_of(&desc.op);
    Args args = logits_args();
    args.kv_tokens = kv_tokens, args.max_k = max_k;
    if (kv_tokens == 0) args.kv = nullptr, args.kv_scale = nullptr;
    const int launches = FakeCuda::num_launches;
    const Status status = fixture.launch(*plan, &args.op);
    INFO(status.message());
    CHECK(status.is_ok());
    return FakeCuda::num_launches - launches;
  };
  CHECK(launches_of(DGRT_LOGITS_CLEAN, 0, 0) == 0);
  CHECK(launches_of(DGRT_LOGITS_COMPRESSED, 0, 100) == 0);
  CHECK(launches_of(DGRT_LOGITS_COMPRESSED, 100, 0) == 0);
  CHECK(launches_of(DGRT_LOGITS_COMPRESSED | DGRT_LOGITS_CLEAN, 0, 100) == 1);
  const auto p = last_params<sm90::mqa_logits::Params>();
  CHECK(p.columns == 100);
  CHECK(p.kv_tokens == 0);
}

TEST_CASE("mqa_logits refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const Desc desc = logits_desc();
  check_breaches<Args>(
      fixture, &desc.op, logits_args(),
      {{[](Args* x) { x->tokens = -1; }, "tokens=-1: must be 0 to 4096"},
       {[](Args* x) { x->tokens = 4097; }, "tokens=4097"},
       {[](Args* x) { x->kv_tokens = -1; }, "kv_tokens=-1"},
       {[](Args* x) { x->kv_tokens = 65537; }, "kv_tokens=65537: must be 0 to 65536"},
       {[](Args* x) { x->max_k = 1; }, "max_k=1: must be 0 to 0"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL: must point to device memory"},
       {[](Args* x) { x->q = address<void>(0x1008); }, "q=0x1008: must be 16-byte aligned"},
       {[](Args* x) { x->kv = address<void>(0x2018); }, "kv=0x2018: must be 16-byte aligned"},
       {[](Args* x) { x->kv_scale = address<float>(0x3002); }, "kv_scale=0x3002: must be 4-byte aligned"},
       {[](Args* x) { x->w = nullptr; }, "w=NULL"},
       {[](Args* x) { x->ks = address<int32_t>(0x5001); }, "ks=0x5001"},
       {[](Args* x) { x->ke = nullptr; }, "ke=NULL"},
       {[](Args* x) { x->out = address<void>(0x7002); }, "out=0x7002: must be 4-byte aligned"},
       {[](Args* x) { x->w_token_stride = 63; }, "w_token_stride=63: must be at least 64"},
       {[](Args* x) { x->out_token_stride = 10000; }, "out_token_stride=10000: must be at least 10001"}});
  Desc many = logits_desc();
  many.max_tokens = (1 << 30) - 1;
  check_breaches<Args>(fixture, &many.op, logits_args(),
                       {{[](Args* x) { x->tokens = 1 << 28, x->kv_tokens = x->out_token_stride = 1 << 16; },
                         "tokens=268435456 kv_tokens=65536: more than 2^32 tiles"}});
  const Desc compressed = logits_desc(DGRT_LOGITS_COMPRESSED);
  Args args = logits_args();
  args.max_k = args.out_token_stride = 500;
  check_breaches<Args>(fixture, &compressed.op, args,
                       {{[](Args* x) { x->max_k = -1; }, "max_k=-1"},
                        {[](Args* x) { x->max_k = 1 << 30; }, "max_k=1073741824"},
                        {[](Args* x) { x->out_token_stride = 499; }, "out_token_stride=499: must be at least 500"}});
}

TEST_CASE("mqa_logits refuses bad descs by name", "[unit]") {
  check_descs<Desc>(logits_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Desc* d) { d->num_heads = 24; }, "num_heads=24: must be 8, 16, 32 or 64"},
                     {[](Desc* d) { d->num_heads = 128; }, "num_heads=128"},
                     {[](Desc* d) { d->head_dim = 96; }, "head_dim=96: must be 32, 64 or 128"},
                     {[](Desc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
                     {[](Desc* d) { d->max_tokens = 1 << 30; }, "max_tokens=1073741824"},
                     {[](Desc* d) { d->max_kv_tokens = 1 << 30; }, "max_kv_tokens=1073741824"},
                     {[](Desc* d) { d->flags = 1u << 18; }, "flags=0x40000: mqa_logits knows"},
                     {[](Desc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<Desc>(logits_desc(), DGRT_UNSUPPORTED, {{[](Desc* d) { d->dtype_out = DGRT_FP16; }, "mqa_logits"}});
}

TEST_CASE("paged_mqa_logits: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const PagedDesc desc = paged_desc();
  check_launches(fixture, &desc.op, [](int64_t m) { return paged_args(m); });
  const auto plan = fixture.plan_of(&desc.op);
  PagedArgs args = paged_args();
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  auto p = last_params<sm90::paged_mqa_logits::Params>();
  CHECK(p.max_len == 10001);
  CHECK(p.columns == 10001);
  CHECK(p.batch == 100);
  CHECK(FakeCuda::last_config.gridDimX == 132);
  args.max_pages = 100;
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  p = last_params<sm90::paged_mqa_logits::Params>();
  CHECK(p.max_len == 6400);
  CHECK(p.columns == 10001);

  // Without pages there is nothing to do, unless it is to clean.
  args.num_pages = 0, args.kv_cache = nullptr, args.page_table = nullptr;
  const int launches = FakeCuda::num_launches;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(FakeCuda::num_launches == launches);
  const PagedDesc clean = paged_desc(DGRT_LOGITS_CLEAN);
  const auto cleaning = fixture.plan_of(&clean.op);
  CHECK(fixture.launch(*cleaning, &args.op).is_ok());
  CHECK(FakeCuda::num_launches == launches + 1);
  CHECK(last_params<sm90::paged_mqa_logits::Params>().max_len == 0);
}

TEST_CASE("paged_mqa_logits refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const PagedDesc desc = paged_desc();
  check_breaches<PagedArgs>(
      fixture, &desc.op, paged_args(),
      {{[](PagedArgs* x) { x->batch = -1; }, "batch=-1: must be 0 to 4096"},
       {[](PagedArgs* x) { x->batch = 4097; }, "batch=4097"},
       {[](PagedArgs* x) { x->max_context_len = 65537; }, "max_context_len=65537: must be 0 to 65536"},
       {[](PagedArgs* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](PagedArgs* x) { x->max_pages = 1 << 24; }, "max_pages=16777216"},
       {[](PagedArgs* x) { x->q = address<void>(0x1008); }, "q=0x1008: must be 16-byte aligned"},
       {[](PagedArgs* x) { x->kv_cache = address<void>(0x2008); }, "kv_cache=0x2008: must be 16-byte aligned"},
       {[](PagedArgs* x) { x->w = nullptr; }, "w=NULL"},
       {[](PagedArgs* x) { x->context_lens = nullptr; }, "context_lens=NULL"},
       {[](PagedArgs* x) { x->page_table = address<int32_t>(0x6002); }, "page_table=0x6002"},
       {[](PagedArgs* x) { x->out = address<void>(0x7001); }, "out=0x7001: must be 2-byte aligned"},
       {[](PagedArgs* x) { x->kv_page_stride = 64 * 132 - 16; }, "kv_page_stride=8432: must be a multiple of 16"},
       {[](PagedArgs* x) { x->kv_page_stride = 64 * 132 + 8; }, "kv_page_stride=8456"},
       {[](PagedArgs* x) { x->page_table_stride = 199; }, "page_table_stride=199: must be at least 200"},
       {[](PagedArgs* x) { x->w_token_stride = 32; }, "w_token_stride=32"},
       {[](PagedArgs* x) { x->out_token_stride = 10000; }, "out_token_stride=10000: must be at least 10001"}});
  PagedDesc many = paged_desc();
  many.next_n = 4, many.max_batch = many.max_context_len = (1 << 30) - 1;
  check_breaches<PagedArgs>(fixture, &many.op, paged_args(),
                            {{[](PagedArgs* x) { x->batch = (1 << 30) - 1, x->max_context_len = 100; },
                              "batch=1073741823: times 4 tokens"},
                             {[](PagedArgs* x) {
                                x->batch = 1 << 10, x->max_context_len = x->out_token_stride = (1 << 30) - 1;
                              },
                              "batch=1024 max_context_len=1073741823: more than 2^32 tiles"}});
}

TEST_CASE("paged_mqa_logits refuses bad descs by name", "[unit]") {
  check_descs<PagedDesc>(paged_desc(), DGRT_INVALID_ARGUMENT,
                         {{[](PagedDesc* d) { d->num_heads = 4; }, "num_heads=4"},
                          {[](PagedDesc* d) { d->head_dim = 256; }, "head_dim=256"},
                          {[](PagedDesc* d) { d->next_n = 0; }, "next_n=0: must be 1 to 4"},
                          {[](PagedDesc* d) { d->next_n = 5; }, "next_n=5"},
                          {[](PagedDesc* d) { d->page_size = 16; }, "page_size=16: must be 32, 64 or 128"},
                          {[](PagedDesc* d) { d->max_batch = 1 << 30; }, "max_batch=1073741824"},
                          {[](PagedDesc* d) { d->max_context_len = -1; }, "max_context_len=-1"},
                          {[](PagedDesc* d) { d->flags = DGRT_LOGITS_COMPRESSED; },
                           "flags=0x20000: paged_mqa_logits knows"},
                          {[](PagedDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
  check_descs<PagedDesc>(paged_desc(), DGRT_UNSUPPORTED,
                         {{[](PagedDesc* d) { d->dtype_out = DGRT_E4M3; }, "paged_mqa_logits"}});
}

}  // namespace dgrt::test
