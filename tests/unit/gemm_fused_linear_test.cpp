// gemm_fused_linear on the host: every rule of its header, broken, is refused by name, and a call
// becomes a table of segments with a tensor map for each one that TMA can store.
#include <string>
#include <vector>

#include "runtime/engine/desc_copy.h"
#include "runtime/ops/gemm_common.h"
#include "tests/support/catch.h"
#include "tests/support/fake_cuda.h"

namespace dgrt {
namespace {

using Desc = dgrt_gemm_fused_linear_desc;
using Args = dgrt_gemm_fused_linear_args;

template <class T>
T* address(uintptr_t number) {
  return reinterpret_cast<T*>(number);
}

Desc good_desc() {
  Desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
  desc.k = 2304;
  desc.max_m = 8192;
  desc.num_segments = 4;
  desc.n[0] = 1024, desc.n[1] = 8, desc.n[2] = 128, desc.n[3] = 12;
  desc.dtype_ab = desc.dtype_d = DGRT_BF16;
  return desc;
}

Args good_args() {
  Args args = DGRT_GEMM_FUSED_LINEAR_ARGS;
  args.a = address<void>(0x1000);
  args.b = address<void>(0x2000);
  args.m = 100;
  args.lda = args.ldb = 2304;
  const int64_t ldd[] = {1024, 8, 129, 12};
  for (uint32_t i = 0; i < 4; ++i) {
    args.d[i] = address<void>(0x10000 * (i + 1));
    args.ldd[i] = ldd[i];
  }
  return args;
}

template <class T>
struct Breach {
  void (*spoil)(T*);
  const char* text;
};

TEST_CASE("gemm_fused_linear refuses bad descs by name", "[unit]") {
  const auto check = [](dgrt_status code, const std::vector<Breach<Desc>>& breaches) {
    for (const Breach<Desc>& breach : breaches) {
      Desc desc = good_desc();
      breach.spoil(&desc);
      const Status status = DescCopy::make(&desc.op, all_ops()).status();
      INFO("expected " << breach.text << ", got " << status.message());
      CHECK(status.code() == code);
      CHECK(status.message().find(breach.text) != std::string::npos);
    }
  };
  const Desc good = good_desc();
  REQUIRE(DescCopy::make(&good.op, all_ops()).is_ok());
  check(DGRT_INVALID_ARGUMENT,
        {{[](Desc* d) { d->num_segments = 0; }, "num_segments=0: must be in 1..8"},
         {[](Desc* d) { d->num_segments = 9; }, "num_segments=9: "},
         {[](Desc* d) { d->num_segments = 3; }, "n[3]=12: must be 0, there are 3 segments"},
         {[](Desc* d) { d->n[1] = 0; }, "n[1]=0: must be in 1.."},
         {[](Desc* d) { d->n[1] = int64_t{1} << 31; }, "n[1]=2147483648: "},
         {[](Desc* d) { d->n[0] = d->n[1] = INT32_MAX; }, "n=4294967434: "},
         {[](Desc* d) { d->k = -1; }, "k=-1: "},
         {[](Desc* d) { d->max_m = -1; }, "max_m=-1: "},
         {[](Desc* d) { d->max_block_m = 4; }, "max_block_m=4: "},
         {[](Desc* d) { d->max_block_n = 32; }, "max_block_n=32: "},
         {[](Desc* d) { d->reserved = 1; }, "reserved=1: "},
         {[](Desc* d) { d->flags = DGRT_GEMM_WITH_C; }, "flags=0x10000: "}});
  check(DGRT_UNSUPPORTED, {{[](Desc* d) { d->dtype_ab = DGRT_E4M3; }, "dtype_ab=4"},
                           {[](Desc* d) { d->dtype_ab = d->dtype_d = DGRT_FP32; }, "dtype_ab=3"},
                           {[](Desc* d) { d->dtype_d = DGRT_E4M3; }, "dtype_ab=1 dtype_d=4"},
                           {[](Desc* d) { d->dtype_d = DGRT_FP16; },
                            "dtype_ab=1 dtype_d=2: must be bf16 (1) or fp16 (2), d of that type or "
                            "fp32 (3)"}});
}

TEST_CASE("gemm_fused_linear refuses bad args by name", "[unit]") {
  const Desc desc = good_desc();
  const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
  REQUIRE(copy.is_ok());
  const OpImpl& op = copy.value().op();
  const auto check = [&](const Args& args) { return op.check_args(copy.value().get(), &args.op); };
  REQUIRE(check(good_args()).is_ok());
  const std::vector<Breach<Args>> breaches = {
      {[](Args* x) { x->a = nullptr; }, "a=NULL"},
      {[](Args* x) { x->b = address<void>(0x2008); }, "b=0x2008: must be 16-byte aligned"},
      {[](Args* x) { x->lda = 2303; }, "lda=2303: must be at least 2304"},
      {[](Args* x) { x->ldb = 2305; }, "ldb=2305: must be a multiple of 8"},
      {[](Args* x) { x->d[2] = nullptr; }, "d[2]=NULL"},
      {[](Args* x) { x->d[1] = address<void>(0x3001); }, "d[1]=0x3001: must be 2-byte aligned"},
      {[](Args* x) { x->d[4] = x->d[0]; }, "d[4]=0x10000 ldd[4]=0: must be 0"},
      {[](Args* x) { x->ldd[7] = 8; }, "d[7]=0x0 ldd[7]=8: must be 0"},
      {[](Args* x) { x->ldd[0] = 1023; }, "ldd[0]=1023: must be at least 1024"},
      {[](Args* x) { x->ldd[3] = int64_t{1} << 40; }, "ldd[3]=1099511627776: "}};
  for (const Breach<Args>& breach : breaches) {
    Args args = good_args();
    breach.spoil(&args);
    const Status status = check(args);
    INFO("expected " << breach.text << ", got " << status.message());
    CHECK(status.code() == DGRT_INVALID_ARGUMENT);
    CHECK(status.message().find(breach.text) == 0);
  }
  Args nothing = DGRT_GEMM_FUSED_LINEAR_ARGS;
  CHECK(check(nothing).is_ok());  // m == 0 reads no pointer
}

// `unaligned`: of each segment.
void check_bound(const Desc& desc, const std::vector<bool>& unaligned) {
  const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
  REQUIRE(copy.is_ok());
  const OpImpl& op = copy.value().op();
  const Target target{"sm_90a", 132};
  const auto driver = test::FakeCuda::make();
  const Args args = good_args();
  for (const Config& config : op.candidates(copy.value().get(), target, {100, 0, 0})) {
    Launch launch;
    const Prepared prepared = op.prepare(copy.value().get(), target, config);
    REQUIRE(op.bind(copy.value().get(), &args.op, prepared, *driver, nullptr, &launch).is_ok());
    const auto& p = *reinterpret_cast<const GemmSegmentParams*>(launch.params);
    CHECK(launch.params_bytes == sizeof(GemmSegmentParams));
    CHECK(launch.params_bytes == op.instance(copy.value().get(), target, config).params_bytes);
    CHECK(launch.grid[0] > 0);
    CHECK(p.out.n == 1172);
    REQUIRE(p.num_segments == 4);
    CHECK(p.any_copied == 1);
    const uint32_t ends[] = {1024, 1032, 1160, 1172};
    for (uint32_t i = 0; i < 4; ++i) {
      INFO("segment " << i);
      CHECK(p.segments[i].d == args.d[i]);
      CHECK(p.segments[i].ldd == static_cast<uint64_t>(args.ldd[i]));
      CHECK(p.segments[i].begin == (i == 0 ? 0 : ends[i - 1]));
      CHECK(p.segments[i].end == ends[i]);
      CHECK((p.segments[i].unaligned != 0) == unaligned[i]);
    }
  }
}

TEST_CASE("gemm_fused_linear binds each segment, maps for the aligned ones", "[unit]") {
  Desc desc = good_desc();
  check_bound(desc, {false, false, true, true});  // ldd of 129, n of 12
  desc.dtype_d = DGRT_FP32;
  check_bound(desc, {false, false, true, false});  // 12 columns are whole vectors of 4
}

TEST_CASE("gemm_fused_linear wants fp32 segments on their elements' alignment", "[unit]") {
  Desc desc = good_desc();
  desc.dtype_d = DGRT_FP32;
  const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
  REQUIRE(copy.is_ok());
  Args args = good_args();
  args.d[1] = address<void>(0x3004);
  CHECK(copy.value().op().check_args(copy.value().get(), &args.op).is_ok());
  args.d[1] = address<void>(0x3002);
  const Status status = copy.value().op().check_args(copy.value().get(), &args.op);
  CHECK(status.message().find("d[1]=0x3002: must be 4-byte aligned") == 0);
}

}  // namespace
}  // namespace dgrt
