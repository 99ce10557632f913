// How descs and args are checked on a driver that only takes notes: launches of good calls, and
// breaches of one rule each with what the message must say.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dgrt/gemm.h"
#include "tests/support/allocation_count.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_cuda.h"

namespace dgrt::test {

template <class T>
T* address(uintptr_t number) {
  return reinterpret_cast<T*>(number);
}

struct OpsFixture : EngineFixture {
  OpsFixture() {
    options.device = 0;
    options.arch = nullptr;
    options.sm_count = 0;
    parts.ops = &all_ops();
    parts.driver = FakeCuda::make();
  }
  // A plan whose kernels are in the cache.
  std::unique_ptr<Plan> plan_of(const dgrt_desc* desc) {
    fill_cache(desc, all_ops());
    FakeCuda::params_bytes = enumerate(desc, {"sm_90a", 132}).value()[0].instance.params_bytes;
    if (!context) context = open();
    Result<std::unique_ptr<Plan>> plan = Plan::create(*context, desc);
    if (!plan.is_ok()) FAIL(plan.status().message());
    return std::move(plan).value();
  }
  Status launch(const Plan& plan, const dgrt_args* args) const {
    return plan.launch(args, workspace, plan.workspace_bytes(), stream);
  }
  ScopedEnv any{"DGRT_COMPILER", "any"};
  std::unique_ptr<Context> context;
  const CUstream stream = FakeCuda::stream_of(100);
  void* const workspace = address<void>(0x10000);
};

// What the kernel of the last launch was given.
template <class Params>
Params last_params() {
  Params params;
  REQUIRE(FakeCuda::last_params.size() == sizeof(params));
  std::memcpy(static_cast<void*>(&params), FakeCuda::last_params.data(), sizeof(params));
  return params;
}

// A call that must succeed, and allocate nothing.
template <class Args>
void check_launch(const OpsFixture& fixture, const Plan& plan, const Args& args) {
  FakeCuda::last_params.reserve(FakeCuda::params_bytes);  // the fake's own notes
  const size_t before = allocations_of_this_thread();
  const Status status = fixture.launch(plan, &args.op);
  const size_t num_allocations = allocations_of_this_thread() - before;
  INFO(status.message());
  REQUIRE(status.is_ok());
  CHECK(num_allocations == 0);
}

// Launches for several m; `make` gives the args.
template <class Make>
void check_launches(OpsFixture& fixture, const dgrt_desc* desc, Make make) {
  const auto plan = fixture.plan_of(desc);
  REQUIRE(plan->workspace_bytes() == 0);
  for (const int64_t m : {1, 7, 64, 129, 4096}) {
    const int launches = FakeCuda::num_launches;
    INFO(plan->op().stem << " m=" << m);
    check_launch(fixture, *plan, make(m));
    CHECK(FakeCuda::num_launches == launches + 1);
    CHECK(FakeCuda::last_config.gridDimX > 0);
  }
  const auto nothing = make(0);
  const int launches = FakeCuda::num_launches;
  CHECK(plan->launch(&nothing.op, nullptr, 0, fixture.stream).is_ok());
  CHECK(FakeCuda::num_launches == launches);
}

// One rule broken, and what the message must begin with.
template <class T>
struct Breach {
  void (*spoil)(T*);
  const char* text;
};

template <class Args>
void check_breaches(OpsFixture& fixture, const dgrt_desc* desc, const Args& good,
                    const std::vector<Breach<Args>>& breaches) {
  const auto plan = fixture.plan_of(desc);
  REQUIRE(fixture.launch(*plan, &good.op).is_ok());
  const int launches = FakeCuda::num_launches;
  for (const Breach<Args>& breach : breaches) {
    Args args = good;
    breach.spoil(&args);
    const Status status = fixture.launch(*plan, &args.op);
    dgrt_call_info info = DGRT_CALL_INFO;
    INFO("expected " << breach.text << ", got " << status.message());
    CHECK(status.code() == DGRT_INVALID_ARGUMENT);
    CHECK(status.message().find(breach.text) == 0);
    CHECK(plan->query(&args.op, &info).message() == status.message());
  }
  CHECK(FakeCuda::num_launches == launches);
}

template <class Desc>
void check_descs(const Desc& good, dgrt_status code, const std::vector<Breach<Desc>>& breaches) {
  REQUIRE(DescCopy::make(&good.op, all_ops()).is_ok());
  for (const Breach<Desc>& breach : breaches) {
    Desc desc = good;
    breach.spoil(&desc);
    const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
    INFO("expected " << breach.text << ", got " << copy.status().message());
    CHECK(copy.status().code() == code);
    CHECK(copy.status().message().find(breach.text) != std::string::npos);
  }
}

}  // namespace dgrt::test
