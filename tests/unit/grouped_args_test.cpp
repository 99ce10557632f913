// The grouped and batched products on a driver that only takes notes: good calls reach it without
// a single allocation, each rule of gemm.h, broken, is refused by name, and a query tells a signal's
// consumer what to wait for.
#include "tests/support/args_check.h"

namespace dgrt {
namespace {

using test::address;
using test::Breach;
using test::check_breaches;
using test::check_descs;
using test::check_launches;
using test::OpsFixture;

using ContiguousDesc = dgrt_gemm_grouped_contiguous_desc;
using ContiguousArgs = dgrt_gemm_grouped_contiguous_args;
using MaskedDesc = dgrt_gemm_grouped_masked_desc;
using MaskedArgs = dgrt_gemm_grouped_masked_args;
using BatchedDesc = dgrt_gemm_batched_desc;
using BatchedArgs = dgrt_gemm_batched_args;

constexpr int64_t n = 4096, k = 7168, max_m = 4096;

template <class Desc>
Desc product(Desc desc, dgrt_dtype dtype_ab) {
  desc.n = n, desc.k = k, desc.max_m = max_m;
  desc.dtype_ab = dtype_ab;
  desc.dtype_d = DGRT_BF16;
  desc.scale_mode = dtype_ab == DGRT_E4M3 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  return desc;
}

ContiguousDesc contiguous(dgrt_dtype dtype_ab) {
  auto desc = product<ContiguousDesc>(DGRT_GEMM_GROUPED_CONTIGUOUS_DESC, dtype_ab);
  desc.num_groups = 8, desc.alignment = 128;
  return desc;
}
MaskedDesc masked(dgrt_dtype dtype_ab) {
  auto desc = product<MaskedDesc>(DGRT_GEMM_GROUPED_MASKED_DESC, dtype_ab);
  desc.num_groups = 8;
  return desc;
}
BatchedDesc batched(dgrt_dtype dtype_ab) {
  auto desc = product<BatchedDesc>(DGRT_GEMM_BATCHED_DESC, dtype_ab);
  desc.num_batches = 8;
  return desc;
}

// Without parts, hence without a workspace.
BatchedDesc batch_sum(dgrt_dtype dtype_ab) {
  BatchedDesc desc = batched(dtype_ab);
  desc.flags = DGRT_GEMM_SUM_BATCHES | DGRT_FLAG_BATCH_INVARIANT;
  return desc;
}

template <class Args, class Desc>
Args operands(Args args, const Desc& desc, int64_t m) {
  args.a = address<void>(0x1000), args.b = address<void>(0x2000), args.d = address<void>(0x3000);
  args.m = m;
  args.lda = args.ldb = k, args.ldd = n;
  if (desc.scale_mode != DGRT_SCALE_NONE) {
    args.a_scale = address<float>(0x4000), args.b_scale = address<float>(0x5000);
    args.ld_a_scale = max_m, args.ld_b_scale = k / 128;
  }
  return args;
}

ContiguousArgs args_of(const ContiguousDesc& desc, int64_t m) {
  auto args = operands<ContiguousArgs>(DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS, desc, m);
  args.groups = address<int32_t>(0x6000);
  args.b_group_stride = n * k, args.b_scale_group_stride = n / 128 * (k / 128);
  return args;
}
MaskedArgs args_of(const MaskedDesc& desc, int64_t m) {
  auto args = operands<MaskedArgs>(DGRT_GEMM_GROUPED_MASKED_ARGS, desc, m);
  args.masked_m = address<int32_t>(0x6000);
  if ((desc.flags & DGRT_GEMM_SIGNAL) != 0) args.signal = address<int32_t>(0x7000);
  args.expected_m = m;
  args.a_group_stride = max_m * k, args.b_group_stride = n * k, args.d_group_stride = max_m * n;
  args.a_scale_group_stride = max_m * (k / 128);
  args.b_scale_group_stride = n / 128 * (k / 128);
  return args;
}
BatchedArgs args_of(const BatchedDesc& desc, int64_t m) {
  auto args = operands<BatchedArgs>(DGRT_GEMM_BATCHED_ARGS, desc, m);
  if ((desc.flags & DGRT_GEMM_WITH_C) != 0) args.c = address<void>(0x8000);
  // Side by side: strides between batches are shorter than those between rows.
  args.lda = 8 * k, args.ldd = args.ldc = 8 * n;
  args.a_batch_stride = k;
  if ((desc.flags & DGRT_GEMM_SUM_BATCHES) == 0) args.d_batch_stride = args.c_batch_stride = n;
  args.b_batch_stride = n * k;
  args.a_scale_batch_stride = max_m * (k / 128);
  args.b_scale_batch_stride = n / 128 * (k / 128);
  return args;
}

TEST_CASE("a good call of a grouped product is launched without an allocation", "[unit]") {
  OpsFixture fixture;
  for (const dgrt_dtype dtype : {DGRT_E4M3, DGRT_BF16}) {
    const ContiguousDesc sorted = contiguous(dtype);
    check_launches(fixture, &sorted.op, [&](int64_t m) { return args_of(sorted, m); });
    MaskedDesc counted = masked(dtype);
    counted.flags = dtype == DGRT_E4M3 ? DGRT_GEMM_SIGNAL : 0;
    check_launches(fixture, &counted.op, [&](int64_t m) { return args_of(counted, m); });
    BatchedDesc many = batched(dtype);
    many.flags = dtype == DGRT_E4M3 ? 0 : DGRT_GEMM_WITH_C;
    check_launches(fixture, &many.op, [&](int64_t m) { return args_of(many, m); });
  }
  const BatchedDesc sum = batch_sum(DGRT_BF16);
  check_launches(fixture, &sum.op, [&](int64_t m) { return args_of(sum, m); });
}

TEST_CASE("gemm_grouped_contiguous refuses bad args by name", "[unit]") {
  using Args = ContiguousArgs;
  OpsFixture fixture;
  const ContiguousDesc desc = contiguous(DGRT_E4M3);
  check_breaches<Args>(
      fixture, &desc.op, args_of(desc, 100),
      {{[](Args* x) { x->m = -1; }, "m=-1: "},
       {[](Args* x) { x->m = 4097; }, "m=4097: must be 0 to 4096"},
       {[](Args* x) { x->groups = nullptr; }, "groups=NULL"},
       {[](Args* x) { x->groups = address<int32_t>(0x6002); }, "groups=0x6002"},
       {[](Args* x) { x->b_group_stride = 0; }, "b_group_stride=0: must be a positive multiple"},
       {[](Args* x) { x->b_group_stride = 8; }, "b_group_stride=8"},
       {[](Args* x) { x->b_group_stride = int64_t{1} << 41; }, "b_group_stride=2199023255552"},
       {[](Args* x) { x->b_scale_group_stride = -1; }, "b_scale_group_stride=-1"},
       {[](Args* x) { x->ld_a_scale = 96; }, "ld_a_scale=96: must be at least 100"},
       {[](Args* x) { x->ldd = 4088; }, "ldd=4088"}});
}

TEST_CASE("gemm_grouped_masked refuses bad args by name", "[unit]") {
  using Args = MaskedArgs;
  const std::vector<Breach<Args>> common = {
      {[](Args* x) { x->m = -1; }, "m=-1: "},
      {[](Args* x) { x->m = 4097; }, "m=4097: must be 0 to 4096"},
      {[](Args* x) { x->masked_m = nullptr; }, "masked_m=NULL"},
      {[](Args* x) { x->expected_m = 0; }, "expected_m=0: must be in 1..100"},
      {[](Args* x) { x->expected_m = 101; }, "expected_m=101: must be in 1..100"},
      {[](Args* x) { x->a_group_stride = 0; }, "a_group_stride=0"},
      {[](Args* x) { x->b_group_stride = 4; }, "b_group_stride=4"},
      {[](Args* x) { x->d_group_stride = -8; }, "d_group_stride=-8"}};
  std::vector<Breach<Args>> plain = common, signalling = common;
  plain.push_back({[](Args* x) { x->signal = address<int32_t>(0x7000); }, "signal=0x7000"});
  signalling.insert(signalling.end(),
                    {{[](Args* x) { x->signal = nullptr; }, "signal=NULL"},
                     {[](Args* x) { x->signal = address<int32_t>(0x7002); }, "signal=0x7002"},
                     {[](Args* x) { x->a_scale_group_stride = 2; }, "a_scale_group_stride=2"}});
  OpsFixture fixture;
  const MaskedDesc of_plain = masked(DGRT_BF16);
  MaskedDesc of_signalling = masked(DGRT_E4M3);
  of_signalling.flags = DGRT_GEMM_SIGNAL;
  check_breaches(fixture, &of_plain.op, args_of(of_plain, 100), plain);
  check_breaches(fixture, &of_signalling.op, args_of(of_signalling, 100), signalling);
}

TEST_CASE("gemm_batched refuses bad args by name", "[unit]") {
  using Args = BatchedArgs;
  OpsFixture fixture;
  BatchedDesc desc = batched(DGRT_BF16);
  desc.flags = DGRT_GEMM_WITH_C;
  check_breaches<Args>(
      fixture, &desc.op, args_of(desc, 100),
      {{[](Args* x) { x->a_batch_stride = 4; }, "a_batch_stride=4"},
       {[](Args* x) { x->b_batch_stride = 0; }, "b_batch_stride=0"},
       {[](Args* x) { x->c_batch_stride = 0; }, "c_batch_stride=0"},
       {[](Args* x) { x->d_batch_stride = 0; }, "d_batch_stride=0"},
       {[](Args* x) { x->c = nullptr; }, "c=NULL"},
       {[](Args* x) { x->c = x->d, x->c_batch_stride = 2 * n; }, "ldc=32768 ldd=32768"}});
}

TEST_CASE("gemm_batched: a sum of batches has one c and one d", "[unit]") {
  using Args = BatchedArgs;
  OpsFixture fixture;
  BatchedDesc desc = batch_sum(DGRT_BF16);
  desc.flags |= DGRT_GEMM_WITH_C;
  check_breaches<Args>(
      fixture, &desc.op, args_of(desc, 100),
      {{[](Args* x) { x->a_batch_stride = 4; }, "a_batch_stride=4"},
       {[](Args* x) { x->b_batch_stride = 0; }, "b_batch_stride=0"},
       {[](Args* x) { x->c_batch_stride = 8; }, "c_batch_stride=8 d_batch_stride=0: must be 0"},
       {[](Args* x) { x->d_batch_stride = n; }, "c_batch_stride=0 d_batch_stride=4096: must be 0"},
       {[](Args* x) { x->ldd = n - 8; }, "ldd=4088"},
       {[](Args* x) { x->a = nullptr; }, "a=NULL"}});
}

TEST_CASE("gemm_batched: parts of a sum share tiles that are few, and say what they need",
          "[unit]") {
  OpsFixture fixture;
  BatchedDesc desc = batched(DGRT_BF16);
  desc.flags = DGRT_GEMM_SUM_BATCHES;
  desc.n = 128, desc.k = 128, desc.num_batches = 4096, desc.max_m = 4096;
  const auto grid_of = [&](const BatchedDesc& d, int64_t m, uint64_t* workspace_bytes) {
    const auto plan = fixture.plan_of(&d.op);
    BatchedArgs args = args_of(d, m);
    args.lda = args.ldb = args.b_batch_stride = d.k * d.n, args.a_batch_stride = d.k;
    args.ldd = d.n;
    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(&args.op, &info).is_ok());
    *workspace_bytes = info.workspace_bytes;
    return info.grid[0];
  };
  uint64_t workspace_bytes = 0;
  CHECK(grid_of(desc, 128, &workspace_bytes) > 100);  // one tile
  CHECK(workspace_bytes > 0);
  CHECK(workspace_bytes < 20u << 20);
  CHECK(grid_of(desc, 0, &workspace_bytes) == 0);
  CHECK(workspace_bytes == 0);
  BatchedDesc invariant = desc;
  invariant.flags |= DGRT_FLAG_BATCH_INVARIANT;
  CHECK(grid_of(invariant, 128, &workspace_bytes) < 10);
  CHECK(workspace_bytes == 0);
  BatchedDesc budgeted = desc;
  budgeted.sm_budget = 20;
  CHECK(grid_of(budgeted, 128, &workspace_bytes) <= 20);
  BatchedDesc empty = desc;
  empty.num_batches = 0;
  CHECK(grid_of(empty, 128, &workspace_bytes) < 10);
  CHECK(workspace_bytes == 0);
}

TEST_CASE("gemm: bias, single scales and unaligned d have rules of their own", "[unit]") {
  using Args = dgrt_gemm_args;
  OpsFixture fixture;
  auto desc = product<dgrt_gemm_desc>(DGRT_GEMM_DESC, DGRT_E4M3);
  desc.scale_mode = DGRT_SCALE_CHANNEL;
  desc.flags = DGRT_GEMM_WITH_BIAS | DGRT_GEMM_UNALIGNED_D;
  Args good = operands<Args>(DGRT_GEMM_ARGS, desc, 100);
  good.a_scale = address<float>(0x4004), good.b_scale = address<float>(0x5004);
  good.ld_a_scale = 1, good.ld_b_scale = 0;
  good.d = address<void>(0x3002), good.bias = address<void>(0x9002), good.ldd = n + 1;
  check_breaches<Args>(fixture, &desc.op, good,
                       {{[](Args* x) { x->bias = nullptr; }, "bias=NULL"},
                        {[](Args* x) { x->bias = address<void>(0x9001); }, "bias=0x9001"},
                        {[](Args* x) { x->d = address<void>(0x3001); }, "d=0x3001"},
                        {[](Args* x) { x->ldd = n - 1; }, "ldd=4095"},
                        {[](Args* x) { x->a_scale = nullptr; }, "a_scale=NULL"},
                        {[](Args* x) { x->ld_a_scale = 4; }, "ld_a_scale=4: must be 1"},
                        {[](Args* x) { x->ld_b_scale = -1; }, "ld_b_scale=-1: must be 1"}});
  desc.k = 0;  // the scales are read all the same
  check_breaches<Args>(fixture, &desc.op, good,
                       {{[](Args* x) { x->a_scale = nullptr; }, "a_scale=NULL"}});
  auto rows = product<dgrt_gemm_desc>(DGRT_GEMM_DESC, DGRT_E4M3);
  rows.scale_mode = DGRT_SCALE_ROW;
  Args by_row = operands<Args>(DGRT_GEMM_ARGS, rows, 100);
  by_row.ld_b_scale = n;
  check_breaches<Args>(
      fixture, &rows.op, by_row,
      {{[](Args* x) { x->bias = x->b; }, "bias=0x2000"},
       {[](Args* x) { x->b_scale = address<float>(0x5004); }, "b_scale=0x5004"},
       {[](Args* x) { x->ld_b_scale = n - 4; }, "ld_b_scale=4092: must be at least 4096"},
       {[](Args* x) { x->ld_b_scale = n + 1; }, "ld_b_scale=4097: must be a multiple of 4"}});
}

TEST_CASE("gemm: rows of MN-major operands and of d with heads have other lengths", "[unit]") {
  using Args = dgrt_gemm_args;
  OpsFixture fixture;
  auto desc = product<dgrt_gemm_desc>(DGRT_GEMM_DESC, DGRT_FP16);
  desc.dtype_d = DGRT_FP16;
  desc.a_major = desc.b_major = DGRT_MN_MAJOR;
  desc.head_left = 128, desc.head_mid = 64, desc.head_right = 128;
  Args good = operands<Args>(DGRT_GEMM_ARGS, desc, 100);
  good.lda = 104, good.ldb = n, good.ldd = n / 256 * 320;
  check_breaches<Args>(fixture, &desc.op, good,
                       {{[](Args* x) { x->lda = 96; }, "lda=96: must be at least 100"},
                        {[](Args* x) { x->ldb = n - 8; }, "ldb=4088: must be at least 4096"},
                        {[](Args* x) { x->ldd = 5112; }, "ldd=5112: must be at least 5120"}});
}

TEST_CASE("bad descs of grouped products are refused by name", "[unit]") {
  using C = ContiguousDesc;
  check_descs<C>(contiguous(DGRT_E4M3), DGRT_INVALID_ARGUMENT,
                 {{[](C* d) { d->num_groups = 0; }, "num_groups=0: "},
                  {[](C* d) { d->num_groups = 65536; }, "num_groups=65536: "},
                  {[](C* d) { d->group_layout = 2; }, "group_layout=2: "},
                  {[](C* d) { d->alignment = 32; }, "alignment=32: "},
                  {[](C* d) { d->flags = DGRT_GEMM_WITH_C; }, "flags=0x10000: "},
                  {[](C* d) { d->flags = DGRT_GEMM_SIGNAL; }, "flags=0x80000: "}});
  check_descs<C>(contiguous(DGRT_E4M3), DGRT_UNSUPPORTED,
                 {{[](C* d) { d->scale_mode = DGRT_SCALE_ROW; }, "scale_mode=2"},
                  {[](C* d) { d->b_major = DGRT_MN_MAJOR; }, "b_major=1: "}});
  using M = MaskedDesc;
  check_descs<M>(masked(DGRT_BF16), DGRT_INVALID_ARGUMENT,
                 {{[](M* d) { d->num_groups = 0; }, "num_groups=0: "},
                  {[](M* d) { d->flags = DGRT_GEMM_WITH_BIAS; }, "flags=0x20000: "},
                  {[](M* d) { d->reserved = 1; }, "reserved=1: "}});
  using B = BatchedDesc;
  check_descs<B>(batched(DGRT_BF16), DGRT_INVALID_ARGUMENT,
                 {{[](B* d) { d->num_batches = 0; }, "num_batches=0: "},
                  {[](B* d) { d->flags = DGRT_GEMM_SIGNAL; }, "flags=0x80000: "}});
  check_descs<B>(batch_sum(DGRT_BF16), DGRT_INVALID_ARGUMENT,
                 {{[](B* d) { d->num_batches = 65536; }, "num_batches=65536: must be in 0..65535"},
                  {[](B* d) { d->num_batches = 65535, d->k = 1 << 24; },
                   "num_batches=65535 k=16777216: 17179607040 k blocks, at most 2147483647"}});
  check_descs<B>(batch_sum(DGRT_BF16), DGRT_UNSUPPORTED,
                 {{[](B* d) { d->dtype_ab = DGRT_E4M3, d->scale_mode = DGRT_SCALE_BLOCK; },
                   "dtype_ab=4: SUM_BATCHES is for bf16 (1) and fp16 (2)"}});
}

TEST_CASE("a query tells the consumer of signals its tiles and threshold", "[unit]") {
  OpsFixture fixture;
  MaskedDesc desc = masked(DGRT_E4M3);
  desc.flags = DGRT_GEMM_SIGNAL;
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t m : {1, 20, 200, 4096}) {
    const MaskedArgs args = args_of(desc, m);
    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(&args.op, &info).is_ok());
    const int64_t block_n_most = 256, split_k_most = 8;
    INFO("m=" << m << " block_m=" << info.block_m);
    CHECK(info.block_m >= 8);
    CHECK(info.completion_threshold >= n / block_n_most);
    CHECK(info.completion_threshold <= n / 64 * split_k_most);
  }
  const MaskedDesc quiet = masked(DGRT_E4M3);
  const auto quiet_plan = fixture.plan_of(&quiet.op);
  const MaskedArgs args = args_of(quiet, 20);
  dgrt_call_info info = DGRT_CALL_INFO;
  REQUIRE(quiet_plan->query(&args.op, &info).is_ok());
  CHECK(info.completion_threshold == 0);
}

}  // namespace
}  // namespace dgrt
