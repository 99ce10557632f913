// Plans of the helper ops around sparse MLA on a driver that only takes notes: what reaches the kernel, and that
// each rule of the public header, broken, is refused by name.
#include <cstring>

#include "dgrt/mla.h"
#include "mla/sm90_topk_transform.cuh"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

using TopkDesc = dgrt_topk_transform_desc;
using TopkArgs = dgrt_topk_transform_args;

template <class Params>
Params last_params() {
  Params params;
  REQUIRE(FakeCuda::last_params.size() == sizeof(params));
  std::memcpy(static_cast<void*>(&params), FakeCuda::last_params.data(), sizeof(params));
  return params;
}

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
    CHECK(p.page_size == 61);
    CHECK(p.slot_row == 520);
  }
  TopkArgs bare = topk_args();
  bare.slots = nullptr, bare.page_table = nullptr, bare.page_size = 0, bare.slots_row_stride = 0;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
  bare.columns = 0, bare.scores = nullptr;
  CHECK(fixture.launch(*plan, &bare.op).is_ok());
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

}  // namespace dgrt::test
