// Plans of the hyper-connection ops on a driver that only takes notes: what reaches the kernel, how
// k is shared out, and that each rule of the public header, broken, is refused by name.
#include <functional>
#include <vector>

#include "dgrt/hyper.h"
#include "hyper/sm90_hc_prenorm.cuh"
#include "tests/support/args_check.h"

namespace dgrt {
namespace {

using sm90::hc_prenorm::Params;
using test::address;
using test::Breach;
using test::check_breaches;
using test::check_descs;
using test::check_launch;
using test::FakeCuda;
using test::last_params;
using test::OpsFixture;

dgrt_hc_prenorm_desc prenorm_desc(int64_t k = 28672) {
  dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
  desc.n = 24, desc.k = k, desc.max_m = 100000, desc.max_splits = 200;
  return desc;
}

dgrt_hc_prenorm_args prenorm_args(int64_t m, int64_t num_splits) {
  dgrt_hc_prenorm_args args = DGRT_HC_PRENORM_ARGS;
  args.x = address<void>(0x1000), args.w = address<void>(0x2000);
  args.z = address<float>(0x3000), args.q = address<float>(0x4000);
  args.m = m, args.num_splits = num_splits;
  args.ldx = 28672, args.ldz = 24;
  args.z_split_stride = 24 * m, args.q_split_stride = m;
  return args;
}

dgrt_hc_prenorm_weights_desc weights_desc() {
  dgrt_hc_prenorm_weights_desc desc = DGRT_HC_PRENORM_WEIGHTS_DESC;
  desc.n = 20, desc.k = 1088;
  return desc;
}

dgrt_hc_prenorm_weights_args weights_args() {
  dgrt_hc_prenorm_weights_args args = DGRT_HC_PRENORM_WEIGHTS_ARGS;
  args.f = address<float>(0x1000), args.w = address<void>(0x2000), args.ldf = 1088;
  return args;
}

constexpr uint64_t counter_bytes = 1280;  // two for each of 132 SMs, a multiple of 256 bytes

// Counters lie in the state, in front of what is sent to adders; parts that a last CTA adds up lie behind it.
void check_shared(const Plan& plan, const dgrt_call_info& info, const Params& p, uint64_t tiles) {
  const auto start = reinterpret_cast<uintptr_t>(p.parts) - 0x10000;
  const uint64_t end = start + tiles * p.num_groups * info.block_m * 25 * sizeof(float);
  CHECK(end <= info.workspace_bytes);
  CHECK(plan.state_bytes() <= info.workspace_bytes);
  if (p.num_adders > 0) {
    CHECK(p.counters == nullptr);
    CHECK(start == counter_bytes);
    CHECK(end <= plan.state_bytes());
    CHECK(FakeCuda::last_config.gridDimX == tiles);
    CHECK(FakeCuda::last_config.gridDimY == p.num_groups + p.num_adders);
    // A thread for every four sums of a tile.
    CHECK(p.num_adders * FakeCuda::last_config.blockDimX * 4 >= info.block_m * 25);
  } else {
    CHECK(reinterpret_cast<uintptr_t>(p.counters) == 0x10000);
    CHECK(tiles * sizeof(uint32_t) <= counter_bytes);
    CHECK(start == plan.state_bytes());
    CHECK(FakeCuda::last_config.gridDimX == tiles * p.num_groups);
  }
}

}  // namespace

TEST_CASE("hc_prenorm: any m, whole and in splits, without an allocation", "[unit]") {
  OpsFixture fixture;
  const dgrt_hc_prenorm_desc desc = prenorm_desc();
  const auto plan = fixture.plan_of(&desc.op);
  CHECK(plan->state_bytes() > 0);
  CHECK(plan->state_bytes() <= plan->workspace_bytes());
  for (const int64_t m : {1, 64, 137, 300, 512, 1000, 2048, 4096, 8192, 100000})
    for (const int64_t num_splits : {0, 1, 16, 200}) {
      const dgrt_hc_prenorm_args args = prenorm_args(m, num_splits);
      INFO("m=" << m << " splits=" << num_splits);
      check_launch(fixture, *plan, args);
      const Params p = last_params<Params>();
      dgrt_call_info info = DGRT_CALL_INFO;
      REQUIRE(plan->query(&args.op, &info).is_ok());
      const uint64_t tiles = ceil_div(static_cast<uint32_t>(m), info.block_m);
      const auto& config = FakeCuda::last_config;
      CHECK(config.gridDimX * config.gridDimY == tiles * (p.num_groups + p.num_adders));
      CHECK(p.num_groups * p.least_k_blocks + p.num_longer_parts == 448);
      CHECK(p.parts_per_cta == 1);
      CHECK(p.out.z == args.z);
      CHECK(p.out.q == args.q);
      if (num_splits != 0) {
        CHECK(info.workspace_bytes == 0);
        CHECK(p.num_groups == num_splits);
      }
      if (num_splits != 0 || p.num_groups == 1) {
        CHECK(p.counters == nullptr);
        CHECK(p.parts == nullptr);
      } else {
        check_shared(*plan, info, p, tiles);
      }
    }
  const dgrt_hc_prenorm_args nothing = prenorm_args(0, 0);
  const int launches = FakeCuda::num_launches;
  CHECK(fixture.launch(*plan, &nothing.op).is_ok());
  CHECK(FakeCuda::num_launches == launches);
}

TEST_CASE("hc_prenorm: few rows are spread over the device", "[unit]") {
  OpsFixture fixture;
  const dgrt_hc_prenorm_desc desc = prenorm_desc();
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t m : {1, 13, 64, 137, 512, 2048, 4096, 8192}) {
    const dgrt_hc_prenorm_args args = prenorm_args(m, 0);
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    const auto& config = FakeCuda::last_config;
    const uint32_t ctas = config.gridDimX * config.gridDimY;
    INFO("m=" << m << ": " << ctas << " CTAs");
    CHECK(ctas >= 448 / 12);               // a k block for each warp
    CHECK(ctas * config.blockDimX <= 132 * 576);  // and all of them at once
  }
}

TEST_CASE("hc_prenorm: batch-invariant, k is shared out alike for every m", "[unit]") {
  OpsFixture fixture;
  dgrt_hc_prenorm_desc desc = prenorm_desc();
  desc.flags = DGRT_FLAG_BATCH_INVARIANT;
  const auto plan = fixture.plan_of(&desc.op);
  for (const int64_t m : {1, 64, 65, 500, 4096, 8192, 100000}) {
    const dgrt_hc_prenorm_args args = prenorm_args(m, 0);
    REQUIRE(fixture.launch(*plan, &args.op).is_ok());
    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(&args.op, &info).is_ok());
    const Params p = last_params<Params>();
    CHECK(p.num_groups * p.parts_per_cta == 8);
    CHECK((p.parts == nullptr) == (p.num_groups == 1));
    if (p.num_groups > 1) {
      CHECK(p.max_slices == 1);
      check_shared(*plan, info, p, ceil_div(static_cast<uint32_t>(m), info.block_m));
    }
  }
}

TEST_CASE("hc_prenorm refuses bad args by name", "[unit]") {
  using Args = dgrt_hc_prenorm_args;
  OpsFixture fixture;
  const dgrt_hc_prenorm_desc desc = prenorm_desc();
  check_breaches<Args>(
      fixture, &desc.op, prenorm_args(100, 4),
      {{[](Args* x) { x->m = -1; }, "m=-1"},
       {[](Args* x) { x->m = 100001; }, "m=100001"},
       {[](Args* x) { x->num_splits = -1; }, "num_splits=-1"},
       {[](Args* x) { x->num_splits = 201; }, "num_splits=201: must be 0 to 200"},
       {[](Args* x) { x->x = nullptr; }, "x=NULL"},
       {[](Args* x) { x->w = nullptr; }, "w=NULL"},
       {[](Args* x) { x->z = nullptr; }, "z=NULL"},
       {[](Args* x) { x->q = nullptr; }, "q=NULL"},
       {[](Args* x) { x->x = address<void>(0x1008); }, "x=0x1008"},
       {[](Args* x) { x->w = address<void>(0x2008); }, "w=0x2008"},
       {[](Args* x) { x->z = address<float>(0x3004); }, "z=0x3004"},
       {[](Args* x) { x->q = address<float>(0x4002); }, "q=0x4002"},
       {[](Args* x) { x->ldx = 28664; }, "ldx=28664: must be at least 28672"},
       {[](Args* x) { x->ldx = 28676; }, "ldx=28676: must be a multiple of 8"},
       {[](Args* x) { x->ldz = 20; }, "ldz=20: must be at least 24"},
       {[](Args* x) { x->ldz = 26; }, "ldz=26: must be a multiple of 4"},
       {[](Args* x) { x->z_split_stride = 2396; }, "z_split_stride=2396"},
       {[](Args* x) { x->z_split_stride = 2402; }, "z_split_stride=2402"},
       {[](Args* x) { x->q_split_stride = 99; }, "q_split_stride=99"}});
  dgrt_hc_prenorm_args args = prenorm_args(100, 1);
  args.z_split_stride = args.q_split_stride = 0;  // not read
  CHECK(fixture.launch(*fixture.plan_of(&desc.op), &args.op).is_ok());
  args.num_splits = 0;
  const auto plan = fixture.plan_of(&desc.op);
  CHECK(plan->launch(&args.op, fixture.workspace, 1, fixture.stream).code() ==
        DGRT_WORKSPACE_TOO_SMALL);
}

TEST_CASE("hc_prenorm_weights: launches, and refuses bad args by name", "[unit]") {
  using Args = dgrt_hc_prenorm_weights_args;
  OpsFixture fixture;
  const dgrt_hc_prenorm_weights_desc desc = weights_desc();
  const auto plan = fixture.plan_of(&desc.op);
  const Args good = weights_args();
  REQUIRE(fixture.launch(*plan, &good.op).is_ok());
  CHECK(FakeCuda::last_config.gridDimX == 2);
  CHECK(FakeCuda::last_config.gridDimY == 24);
  check_breaches<Args>(fixture, &desc.op, good,
                       {{[](Args* x) { x->f = nullptr; }, "f=NULL"},
                        {[](Args* x) { x->w = nullptr; }, "w=NULL"},
                        {[](Args* x) { x->f = address<float>(0x1004); }, "f=0x1004"},
                        {[](Args* x) { x->w = address<void>(0x2002); }, "w=0x2002"},
                        {[](Args* x) { x->ldf = 1084; }, "ldf=1084"},
                        {[](Args* x) { x->ldf = 1090; }, "ldf=1090"}});
}

TEST_CASE("hyper-connection ops refuse bad descs by name", "[unit]") {
  using Prenorm = dgrt_hc_prenorm_desc;
  check_descs<Prenorm>(prenorm_desc(), DGRT_INVALID_ARGUMENT,
                       {{[](Prenorm* d) { d->n = 0; }, "n=0: "},
                        {[](Prenorm* d) { d->n = 22; }, "n=22: "},
                        {[](Prenorm* d) { d->n = 36; }, "n=36: "},
                        {[](Prenorm* d) { d->k = 0; }, "k=0: "},
                        {[](Prenorm* d) { d->k = 7200; }, "k=7200: "},
                        {[](Prenorm* d) { d->max_m = -1; }, "max_m=-1: "},
                        {[](Prenorm* d) { d->max_splits = -1; }, "max_splits=-1: "},
                        {[](Prenorm* d) { d->max_splits = 65536; }, "max_splits=65536: "},
                        {[](Prenorm* d) { d->flags = 4; }, "flags=0x4: "},
                        {[](Prenorm* d) { d->reserved = 1; }, "reserved=1: "}});
  using Weights = dgrt_hc_prenorm_weights_desc;
  check_descs<Weights>(weights_desc(), DGRT_INVALID_ARGUMENT,
                       {{[](Weights* d) { d->n = 3; }, "n=3: "},
                        {[](Weights* d) { d->k = 32; }, "k=32: "},
                        {[](Weights* d) { d->flags = 4; }, "flags=0x4: "},
                        {[](Weights* d) { d->reserved = 1; }, "reserved=1: "}});
}

}  // namespace dgrt
