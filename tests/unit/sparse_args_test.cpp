// Plans of the helper ops around sparse MLA on a driver that only takes notes: what reaches the kernel, and that
// each rule of the public header, broken, is refused by name.
#include <algorithm>

#include "dgrt/mla.h"
#include "mla/sm90_build_swa_token_ids.cuh"
#include "mla/sm90_combine_topk_swa_indices.cuh"
#include "mla/sm90_kv_dequant_paged.cuh"
#include "mla/sm90_mla_kv_append.cuh"
#include "mla/sm90_topk_transform.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using TopkDesc = dgrt_topk_transform_desc;
using TopkArgs = dgrt_topk_transform_args;
using AppendDesc = dgrt_mla_kv_append_desc;
using AppendArgs = dgrt_mla_kv_append_args;
using DequantDesc = dgrt_kv_dequant_paged_desc;
using DequantArgs = dgrt_kv_dequant_paged_args;
using IdsDesc = dgrt_build_swa_token_ids_desc;
using IdsArgs = dgrt_build_swa_token_ids_args;
using CombineDesc = dgrt_combine_topk_swa_indices_desc;
using CombineArgs = dgrt_combine_topk_swa_indices_args;

TopkDesc topk_desc() {
  TopkDesc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = 512, desc.max_rows = 4096, desc.max_columns = 100000;
  return desc;
}

TopkArgs topk_args(int64_t rows = 100) {
  TopkArgs args = DGRT_TOPK_TRANSFORM_ARGS;
  args.scores = address<float>(0x1000), args.lengths = address<int32_t>(0x2004);
  args.page_table = address<int32_t>(0x3004), args.positions = address<int32_t>(0x4004);
  args.slots = address<int32_t>(0x5004);
  args.rows = rows, args.columns = 5001, args.page_size = 61, args.num_pages = 82;
  args.scores_row_stride = 5004, args.page_table_row_stride = 82;
  args.positions_row_stride = 512, args.slots_row_stride = 520;
  return args;
}

AppendDesc append_desc(dgrt_mla_kv_format format = DGRT_MLA_KV_V4, uint32_t flags = 0) {
  AppendDesc desc = DGRT_MLA_KV_APPEND_DESC;
  desc.max_tokens = 4096, desc.format = format, desc.flags = flags;
  return desc;
}

AppendArgs append_args(int64_t tokens = 100) {
  AppendArgs args = DGRT_MLA_KV_APPEND_ARGS;
  args.latent = address<void>(0x1000), args.rotary = address<void>(0x1380), args.cache = address<void>(0x2000);
  args.slot_mapping = address<void>(0x3004);
  args.tokens = tokens, args.page_size = 64, args.num_pages = 100;
  args.latent_token_stride = args.rotary_token_stride = 576, args.cache_page_stride = 64 * 656;
  return args;
}

DequantDesc dequant_desc(int64_t max_batch = 0, uint32_t flags = 0) {
  DequantDesc desc = DGRT_KV_DEQUANT_PAGED_DESC;
  desc.max_rows = 4096, desc.max_batch = max_batch, desc.format = DGRT_MLA_KV_V4, desc.flags = flags;
  return desc;
}

DequantArgs dequant_args(int64_t rows = 100, int64_t batch = 0) {
  DequantArgs args = DGRT_KV_DEQUANT_PAGED_ARGS;
  args.cache = address<void>(0x1000), args.out = address<void>(0x2000), args.slots = address<void>(0x3004);
  args.seq_lens = address<int32_t>(0x4004), args.gather_lens = address<int32_t>(0x5004);
  args.page_table = address<int32_t>(0x6004);
  args.rows = rows, args.batch = batch, args.page_size = 64, args.num_pages = 100, args.max_pages = 9;
  args.cache_page_stride = 37440, args.out_row_stride = 512, args.out_sequence_stride = 512 * 4096;
  args.page_table_row_stride = 9;
  return args;
}

IdsDesc ids_desc() {
  IdsDesc desc = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  desc.window = 128, desc.max_batch = 100, desc.max_capacity = 10000;
  return desc;
}

IdsArgs ids_args(int64_t capacity = 5000) {
  IdsArgs args = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  args.seq_lens = address<int32_t>(0x1004), args.extend_lens = address<int32_t>(0x2004);
  args.request_rows = address<int32_t>(0x3004), args.req_to_token = address<int32_t>(0x4004);
  args.full_to_swa = address<int64_t>(0x5008), args.token_ids = address<int32_t>(0x6004);
  args.first = address<int32_t>(0x7004), args.gather_lens = address<int32_t>(0x8004);
  args.offsets = address<int32_t>(0x9004);
  args.batch = 7, args.capacity = capacity, args.num_request_rows = 20, args.max_tokens = 1000;
  args.num_full = 5000, args.req_to_token_row_stride = 1001;
  return args;
}

CombineDesc combine_desc() {
  CombineDesc desc = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  desc.window = 128, desc.ratio = 4, desc.max_tokens = 4096;
  return desc;
}

CombineArgs combine_args(int64_t tokens = 100) {
  CombineArgs args = DGRT_COMBINE_TOPK_SWA_INDICES_ARGS;
  args.topk_indices = address<int32_t>(0x1000), args.query_start_loc = address<int32_t>(0x2004);
  args.seq_lens = address<int32_t>(0x3004), args.gather_lens = address<int32_t>(0x4004);
  args.compressed_base = address<int32_t>(0x5004), args.swa_base = address<int32_t>(0x6004);
  args.query_pos = address<int32_t>(0x7004), args.indices = address<int32_t>(0x8000);
  args.lengths = address<int32_t>(0x9004);
  args.tokens = tokens, args.batch = 3, args.top_k = 510, args.width = 640;
  args.topk_row_stride = 512, args.indices_row_stride = 644;
  return args;
}

}  // namespace

TEST_CASE("topk_transform: what reaches the kernel, without an allocation", "[unit]") {
  OpsFixture fixture;
  const TopkDesc desc = topk_desc();
  check_launches(fixture, &desc.op, [](int64_t rows) { return topk_args(rows); });
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t rows : {1, 20, 4000}) {
    TopkArgs args = topk_args(rows);
    args.columns = 90000, args.scores_row_stride = 90000;
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    const auto p = last_params<sm90::topk_transform::Params>();
    CHECK(p.num_rows == rows);
    CHECK(p.top_k == 512);
    CHECK(p.page_size.value == 61);
    CHECK(p.slot_row == 520);
  }
  TopkArgs bare = topk_args();
  bare.slots = nullptr, bare.page_table = nullptr, bare.page_size = 0, bare.slots_row_stride = 0;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
  bare.columns = 0, bare.scores = nullptr;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
}

TEST_CASE("topk_transform: pages are divided by exactly", "[unit]") {
  constexpr uint32_t most = (1u << 31) - 1, largest = (1u << 30) - 1;
  for (const uint32_t value : {1u, 2u, 3u, 7u, 61u, 64u, 641u, 65535u, 65537u, (1u << 29) + 1, largest}) {
    const auto divisor = sm90::topk_transform::Divisor::of(value);
    for (const uint64_t quotient : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{most / value}, uint64_t{most / value / 3}})
      for (const uint64_t x : {quotient * value, quotient * value + value - 1})
        if (x <= most) CHECK(divisor.quotient(static_cast<uint32_t>(x)) == quotient);
  }
}

TEST_CASE("topk_transform refuses bad args by name", "[unit]") {
  OpsFixture fixture;
  const TopkDesc desc = topk_desc();
  check_breaches<TopkArgs>(
      fixture, &desc.op, topk_args(),
      {{[](TopkArgs* x) { x->rows = -1; }, "rows=-1: must be 0 to 4096"},
       {[](TopkArgs* x) { x->rows = 4097; }, "rows=4097"},
       {[](TopkArgs* x) { x->columns = -1; }, "columns=-1: must be 0 to 100000"},
       {[](TopkArgs* x) { x->columns = 100001; }, "columns=100001"},
       {[](TopkArgs* x) { x->scores = nullptr; }, "scores=NULL: must point to device memory"},
       {[](TopkArgs* x) { x->scores = address<float>(0x1004); }, "scores=0x1004: must be 16-byte aligned"},
       {[](TopkArgs* x) { x->scores_row_stride = 5000; }, "scores_row_stride=5000: must be at least 5001"},
       {[](TopkArgs* x) { x->scores_row_stride = 5002; }, "scores_row_stride=5002: must be a multiple of 4"},
       {[](TopkArgs* x) { x->scores_row_stride = int64_t{1} << 40; }, "scores_row_stride=1099511627776"},
       {[](TopkArgs* x) { x->lengths = nullptr; }, "lengths=NULL"},
       {[](TopkArgs* x) { x->lengths = address<int32_t>(0x2002); }, "lengths=0x2002"},
       {[](TopkArgs* x) { x->positions = x->slots = nullptr; }, "slots, positions: one of them"},
       {[](TopkArgs* x) { x->positions = address<int32_t>(0x4002); }, "positions=0x4002"},
       {[](TopkArgs* x) { x->positions_row_stride = 511; }, "positions_row_stride=511: must be at least 512"},
       {[](TopkArgs* x) { x->slots = address<int32_t>(0x5001); }, "slots=0x5001"},
       {[](TopkArgs* x) { x->slots_row_stride = 0; }, "slots_row_stride=0"},
       {[](TopkArgs* x) { x->page_table = nullptr; }, "page_table=NULL"},
       {[](TopkArgs* x) { x->page_size = 0; }, "page_size=0: must be 1 to 1073741823"},
       {[](TopkArgs* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](TopkArgs* x) { x->page_table_row_stride = 81; }, "page_table_row_stride=81: must be at least 82"}});
}

TEST_CASE("topk_transform refuses bad descs by name", "[unit]") {
  check_descs<TopkDesc>(topk_desc(), DGRT_INVALID_ARGUMENT,
                        {{[](TopkDesc* d) { d->top_k = 0; }, "top_k=0: must be 1 to 2048"},
                         {[](TopkDesc* d) { d->top_k = 2049; }, "top_k=2049"},
                         {[](TopkDesc* d) { d->max_rows = -1; }, "max_rows=-1"},
                         {[](TopkDesc* d) { d->max_rows = 1 << 30; }, "max_rows=1073741824"},
                         {[](TopkDesc* d) { d->max_columns = -1; }, "max_columns=-1"},
                         {[](TopkDesc* d) { d->max_columns = int64_t{1} << 31; }, "max_columns=2147483648"},
                         {[](TopkDesc* d) { d->flags = 1u << 16; }, "flags=0x10000"},
                         {[](TopkDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
}

TEST_CASE("mla_kv_append: what reaches the kernel, and what is refused", "[unit]") {
  OpsFixture fixture;
  for (const dgrt_mla_kv_format format : {DGRT_MLA_KV_V32, DGRT_MLA_KV_V4}) {
    const AppendDesc desc = append_desc(format);
    check_launches(fixture, &desc.op, [](int64_t tokens) { return append_args(tokens); });
    const auto plan = fixture.plan_of(&desc.op);
    AppendArgs args = append_args();
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    CHECK(last_params<sm90::mla_kv_append::Params>().num_slots == 6400);
    CHECK(last_params<sm90::mla_kv_append::Params>().page_bytes == 64 * 656);
    args.num_pages = 0, args.cache = nullptr;
    const int launches = FakeCuda::num_launches;
    CHECK(fixture.launch(*plan, &args.op).is_ok());
    CHECK(FakeCuda::num_launches == launches);
  }
  const AppendDesc desc = append_desc(DGRT_MLA_KV_V32);
  check_breaches<AppendArgs>(
      fixture, &desc.op, append_args(),
      {{[](AppendArgs* x) { x->tokens = 4097; }, "tokens=4097"},
       {[](AppendArgs* x) { x->num_pages = -1; }, "num_pages=-1"},
       {[](AppendArgs* x) { x->page_size = 0; }, "page_size=0: must be at least 1"},
       {[](AppendArgs* x) { x->page_size = 1 << 25; }, "page_size=33554432"},
       {[](AppendArgs* x) { x->cache = nullptr; }, "cache=NULL: must point to device memory"},
       {[](AppendArgs* x) { x->cache = address<void>(0x2008); }, "cache=0x2008: must be 16-byte"},
       {[](AppendArgs* x) { x->cache_page_stride = 64 * 656 - 16; }, "cache_page_stride=41968: must be at least 41984"},
       {[](AppendArgs* x) { x->cache_page_stride = 64 * 656 + 8; }, "cache_page_stride=41992: must be a multiple of 16"},
       {[](AppendArgs* x) { x->latent = address<void>(0x1008); }, "latent=0x1008"},
       {[](AppendArgs* x) { x->latent_token_stride = 504; }, "latent_token_stride=504: must be at least 512"},
       {[](AppendArgs* x) { x->latent_token_stride = 580; }, "latent_token_stride=580: must be a multiple of 8"},
       {[](AppendArgs* x) { x->rotary = nullptr; }, "rotary=NULL"},
       {[](AppendArgs* x) { x->rotary_token_stride = 56; }, "rotary_token_stride=56: must be at least 64"},
       {[](AppendArgs* x) { x->slot_mapping = address<void>(0x3002); }, "slot_mapping=0x3002"}});
  const AppendDesc wide = append_desc(DGRT_MLA_KV_V4, DGRT_KV_SLOTS_INT64);
  AppendArgs args = append_args();
  args.slot_mapping = address<void>(0x3008);
  check_breaches<AppendArgs>(
      fixture, &wide.op, args,
      {{[](AppendArgs* x) { x->slot_mapping = address<void>(0x3004); }, "slot_mapping=0x3004: must be 8-byte"}});
  check_descs<AppendDesc>(append_desc(), DGRT_INVALID_ARGUMENT,
                          {{[](AppendDesc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
                           {[](AppendDesc* d) { d->format = 0; }, "format=0: must be DGRT_MLA_KV_V32"},
                           {[](AppendDesc* d) { d->format = 3; }, "format=3"},
                           {[](AppendDesc* d) { d->flags = 1u << 17; }, "flags=0x20000"}});
}

TEST_CASE("kv_dequant_paged: what reaches the kernel, and what is refused", "[unit]") {
  OpsFixture fixture;
  const DequantDesc by_slot = dequant_desc(), by_sequence = dequant_desc(70000);
  check_launches(fixture, &by_slot.op, [](int64_t rows) { return dequant_args(rows); });
  check_launches(fixture, &by_sequence.op, [](int64_t rows) { return dequant_args(rows, 3); });
  const auto plan = fixture.plan_of(&by_sequence.op);
  DequantArgs args = dequant_args(100, 70000);
  args.gather_lens = nullptr, args.slots = nullptr;
  REQUIRE(fixture.launch(*plan, &args.op).is_ok());
  CHECK(FakeCuda::last_config.gridDimY == 65535);
  CHECK(last_params<sm90::kv_dequant_paged::Params>().batch == 70000);
  args.batch = 0;
  const int launches = FakeCuda::num_launches;
  CHECK(fixture.launch(*plan, &args.op).is_ok());
  CHECK(FakeCuda::num_launches == launches);
  check_breaches<DequantArgs>(
      fixture, &by_slot.op, dequant_args(),
      {{[](DequantArgs* x) { x->rows = 4097; }, "rows=4097"},
       {[](DequantArgs* x) { x->batch = 1; }, "batch=1"},
       {[](DequantArgs* x) { x->num_pages = 1 << 30; }, "num_pages=1073741824"},
       {[](DequantArgs* x) { x->cache = nullptr; }, "cache=NULL"},
       {[](DequantArgs* x) { x->cache_page_stride = 37360; }, "cache_page_stride=37360: must be at least 37376"},
       {[](DequantArgs* x) { x->out = address<void>(0x2004); }, "out=0x2004"},
       {[](DequantArgs* x) { x->out_row_stride = 504; }, "out_row_stride=504: must be at least 512"},
       {[](DequantArgs* x) { x->out_row_stride = 516; }, "out_row_stride=516: must be a multiple of 8"},
       {[](DequantArgs* x) { x->slots = nullptr; }, "slots=NULL"}});
  check_breaches<DequantArgs>(
      fixture, &by_sequence.op, dequant_args(100, 5),
      {{[](DequantArgs* x) { x->batch = 70001; }, "batch=70001"},
       {[](DequantArgs* x) { x->out_sequence_stride = 12; }, "out_sequence_stride=12"},
       {[](DequantArgs* x) { x->seq_lens = nullptr; }, "seq_lens=NULL"},
       {[](DequantArgs* x) { x->gather_lens = address<int32_t>(0x5002); }, "gather_lens=0x5002"},
       {[](DequantArgs* x) { x->page_table = nullptr; }, "page_table=NULL"},
       {[](DequantArgs* x) { x->max_pages = -1; }, "max_pages=-1"},
       {[](DequantArgs* x) { x->page_table_row_stride = 8; }, "page_table_row_stride=8: must be at least 9"}});
  check_descs<DequantDesc>(dequant_desc(5), DGRT_INVALID_ARGUMENT,
                           {{[](DequantDesc* d) { d->max_rows = -1; }, "max_rows=-1"},
                            {[](DequantDesc* d) { d->max_batch = -1; }, "max_batch=-1"},
                            {[](DequantDesc* d) { d->format = 9; }, "format=9"},
                            {[](DequantDesc* d) { d->flags = DGRT_KV_SLOTS_INT64; }, "flags=0x10000"}});
}

TEST_CASE("build_swa_token_ids: what reaches the kernel, and what is refused", "[unit]") {
  OpsFixture fixture;
  const IdsDesc desc = ids_desc();
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t capacity : {0, 1, 1024, 1025, 10000}) {
    const IdsArgs args = ids_args(capacity);
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    CHECK(FakeCuda::last_config.gridDimX == std::max<int64_t>((capacity + 1023) / 1024, 1));
    const auto p = last_params<sm90::build_swa_token_ids::Params>();
    CHECK(p.window == 128);
    CHECK(p.capacity == capacity);
  }
  IdsArgs none = ids_args();
  none.batch = 0, none.seq_lens = none.req_to_token = nullptr, none.full_to_swa = nullptr;
  CHECK(fixture.launch(*plan, &none.op).is_ok());
  check_breaches<IdsArgs>(
      fixture, &desc.op, ids_args(),
      {{[](IdsArgs* x) { x->batch = 101; }, "batch=101"},
       {[](IdsArgs* x) { x->capacity = 10001; }, "capacity=10001"},
       {[](IdsArgs* x) { x->seq_lens = nullptr; }, "seq_lens=NULL"},
       {[](IdsArgs* x) { x->extend_lens = nullptr; }, "extend_lens=NULL"},
       {[](IdsArgs* x) { x->request_rows = address<int32_t>(0x3001); }, "request_rows=0x3001"},
       {[](IdsArgs* x) { x->req_to_token = nullptr; }, "req_to_token=NULL"},
       {[](IdsArgs* x) { x->full_to_swa = address<int64_t>(0x5004); }, "full_to_swa=0x5004: must be 8-byte"},
       {[](IdsArgs* x) { x->token_ids = nullptr; }, "token_ids=NULL"},
       {[](IdsArgs* x) { x->first = nullptr; }, "first=NULL"},
       {[](IdsArgs* x) { x->gather_lens = nullptr; }, "gather_lens=NULL"},
       {[](IdsArgs* x) { x->offsets = nullptr; }, "offsets=NULL"},
       {[](IdsArgs* x) { x->num_request_rows = -1; }, "num_request_rows=-1"},
       {[](IdsArgs* x) { x->max_tokens = 1 << 30; }, "max_tokens=1073741824"},
       {[](IdsArgs* x) { x->num_full = -1; }, "num_full=-1"},
       {[](IdsArgs* x) { x->req_to_token_row_stride = 999; }, "req_to_token_row_stride=999: must be at least 1000"}});
  check_descs<IdsDesc>(ids_desc(), DGRT_INVALID_ARGUMENT,
                       {{[](IdsDesc* d) { d->window = 0; }, "window=0: must be 1"},
                        {[](IdsDesc* d) { d->max_batch = -1; }, "max_batch=-1"},
                        {[](IdsDesc* d) { d->max_capacity = 1 << 30; }, "max_capacity=1073741824"},
                        {[](IdsDesc* d) { d->flags = DGRT_KV_SLOTS_INT64; }, "flags=0x10000"},
                        {[](IdsDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
}

TEST_CASE("combine_topk_swa_indices: what reaches the kernel, and what is refused", "[unit]") {
  OpsFixture fixture;
  const CombineDesc desc = combine_desc();
  check_launches(fixture, &desc.op, [](int64_t tokens) { return combine_args(tokens); });
  const auto plan = fixture.plan_of(&desc.op);
  CombineArgs bare = combine_args();
  bare.topk_indices = bare.query_pos = nullptr, bare.topk_row_stride = 0;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
  CHECK(last_params<sm90::combine_topk_swa_indices::Params>().ratio == 4);
  bare.batch = 0, bare.query_start_loc = nullptr;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
  check_breaches<CombineArgs>(
      fixture, &desc.op, combine_args(),
      {{[](CombineArgs* x) { x->tokens = 4097; }, "tokens=4097"},
       {[](CombineArgs* x) { x->batch = -1; }, "batch=-1"},
       {[](CombineArgs* x) { x->top_k = -1; }, "top_k=-1"},
       {[](CombineArgs* x) { x->width = 636; }, "width=636: must be a multiple of 4 from top_k + window = 510 + 128"},
       {[](CombineArgs* x) { x->width = 642; }, "width=642"},
       {[](CombineArgs* x) { x->topk_indices = address<int32_t>(0x1004); }, "topk_indices=0x1004"},
       {[](CombineArgs* x) { x->topk_row_stride = 508; }, "topk_row_stride=508: must be at least 510"},
       {[](CombineArgs* x) { x->topk_row_stride = 514; }, "topk_row_stride=514: must be a multiple of 4"},
       {[](CombineArgs* x) { x->indices = address<int32_t>(0x8004); }, "indices=0x8004"},
       {[](CombineArgs* x) { x->indices_row_stride = 636; }, "indices_row_stride=636"},
       {[](CombineArgs* x) { x->lengths = nullptr; }, "lengths=NULL"},
       {[](CombineArgs* x) { x->query_pos = address<int32_t>(0x7001); }, "query_pos=0x7001"},
       {[](CombineArgs* x) { x->query_start_loc = nullptr; }, "query_start_loc=NULL"},
       {[](CombineArgs* x) { x->seq_lens = nullptr; }, "seq_lens=NULL"},
       {[](CombineArgs* x) { x->gather_lens = nullptr; }, "gather_lens=NULL"},
       {[](CombineArgs* x) { x->compressed_base = nullptr; }, "compressed_base=NULL"},
       {[](CombineArgs* x) { x->swa_base = nullptr; }, "swa_base=NULL"}});
  check_descs<CombineDesc>(combine_desc(), DGRT_INVALID_ARGUMENT,
                           {{[](CombineDesc* d) { d->window = 0; }, "window=0: must be 1"},
                            {[](CombineDesc* d) { d->ratio = 0; }, "ratio=0: must be 1"},
                            {[](CombineDesc* d) { d->max_tokens = -1; }, "max_tokens=-1"},
                            {[](CombineDesc* d) { d->flags = 1u << 17; }, "flags=0x20000"},
                            {[](CombineDesc* d) { d->reserved = 1; }, "reserved=1: must be 0"}});
}

}  // namespace dgrt::test
