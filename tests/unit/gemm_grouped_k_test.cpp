// gemm_grouped_k on the host: every rule of its header, broken, is refused by name; the workspace has
// room for two tensor maps of each group in each block; the kernels that build maps have the
// warp and the shared memory for it.
#include <string>
#include <vector>

#include "runtime/engine/desc_copy.h"
#include "runtime/ops/gemm_common.h"
#include "tests/support/catch.h"
#include "tests/support/fake_cuda.h"

namespace dgrt {
namespace {

using Desc = dgrt_gemm_grouped_k_desc;
using Args = dgrt_gemm_grouped_k_args;

const Target target{"sm_90a", 132};

template <class T>
T* address(uintptr_t number) {
  return reinterpret_cast<T*>(number);
}

Desc good_desc(bool is_fp8) {
  Desc desc = DGRT_GEMM_GROUPED_K_DESC;
  desc.m = 4096;
  desc.n = 7168;
  desc.max_k = 65536;
  desc.num_groups = 4;
  desc.dtype_ab = is_fp8 ? DGRT_E4M3 : DGRT_BF16;
  desc.dtype_d = DGRT_FP32;
  desc.scale_mode = is_fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
  desc.flags = DGRT_GEMM_WITH_C;
  return desc;
}

Args good_args(bool is_fp8) {
  Args args = DGRT_GEMM_GROUPED_K_ARGS;
  args.a = address<void>(0x1000);
  args.b = address<void>(0x2000);
  args.c = args.d = address<void>(0x3000);
  args.ks = address<int32_t>(0x4000);
  args.k = 32768;
  args.ldc = args.ldd = 7168;
  args.c_group_stride = args.d_group_stride = 4096 * 7168;
  if (is_fp8) {
    args.a_scale = address<float>(0x5000);
    args.b_scale = address<float>(0x6000);
    args.ld_a_scale = 4096, args.ld_b_scale = 7168;
  } else {
    args.lda = 4096, args.ldb = 7168;
  }
  return args;
}

template <class T>
struct Breach {
  void (*spoil)(T*);
  const char* text;
};

void check_descs(bool is_fp8, dgrt_status code, const std::vector<Breach<Desc>>& breaches) {
  const Desc good = good_desc(is_fp8);
  REQUIRE(DescCopy::make(&good.op, all_ops()).is_ok());
  for (const Breach<Desc>& breach : breaches) {
    Desc desc = good;
    breach.spoil(&desc);
    const Status status = DescCopy::make(&desc.op, all_ops()).status();
    INFO("expected " << breach.text << ", got " << status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(breach.text) != std::string::npos);
  }
}

void check_args(bool is_fp8, const std::vector<Breach<Args>>& breaches) {
  const Desc desc = good_desc(is_fp8);
  const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
  REQUIRE(copy.is_ok());
  const auto check = [&](const Args& args) {
    return copy.value().op().check_args(copy.value().get(), &args.op);
  };
  REQUIRE(check(good_args(is_fp8)).is_ok());
  for (const Breach<Args>& breach : breaches) {
    Args args = good_args(is_fp8);
    breach.spoil(&args);
    const Status status = check(args);
    INFO("expected " << breach.text << ", got " << status.message());
    CHECK(status.code() == DGRT_INVALID_ARGUMENT);
    CHECK(status.message().find(breach.text) == 0);
  }
}

TEST_CASE("gemm_grouped_k refuses bad descs by name", "[unit]") {
  for (const bool is_fp8 : {false, true})
    check_descs(is_fp8, DGRT_INVALID_ARGUMENT,
                {{[](Desc* d) { d->m = 0; }, "m=0: must be in 1.."},
                 {[](Desc* d) { d->n = 0; }, "n=0: must be in 1.."},
                 {[](Desc* d) { d->max_k = -1; }, "max_k=-1: must be in 0.."},
                 {[](Desc* d) { d->num_groups = 0; }, "num_groups=0: must be in 1..65535"},
                 {[](Desc* d) { d->max_block_n = 8; }, "max_block_n=8: "},
                 {[](Desc* d) { d->flags = DGRT_GEMM_UNALIGNED_D; }, "flags=0x40000: "}});
  check_descs(false, DGRT_UNSUPPORTED,
              {{[](Desc* d) { d->dtype_d = DGRT_BF16; }, "dtype_ab=1 dtype_d=1 scale_mode=0"},
               {[](Desc* d) { d->scale_mode = DGRT_SCALE_ROW; }, "scale_mode=2"}});
  check_descs(true, DGRT_UNSUPPORTED,
              {{[](Desc* d) { d->dtype_d = DGRT_BF16; }, "dtype_ab=4 dtype_d=1 scale_mode=2"},
               {[](Desc* d) { d->scale_mode = DGRT_SCALE_BLOCK; }, "scale_mode=1"}});
}

TEST_CASE("gemm_grouped_k refuses bad args by name", "[unit]") {
  const std::vector<Breach<Args>> common = {
      {[](Args* x) { x->a = nullptr; }, "a=NULL"},
      {[](Args* x) { x->b = address<void>(0x2008); }, "b=0x2008: must be 16-byte aligned"},
      {[](Args* x) { x->d = address<void>(0x3004); }, "d=0x3004: must be 16-byte aligned"},
      {[](Args* x) { x->c = nullptr; }, "c=NULL"},
      {[](Args* x) { x->ks = nullptr; }, "ks=NULL"},
      {[](Args* x) { x->ks = address<int32_t>(0x4002); }, "ks=0x4002: must be 4-byte aligned"},
      {[](Args* x) { x->ldd = 7167; }, "ldd=7167: must be at least 7168"},
      {[](Args* x) { x->ldd = 7172; }, "ldc=7168 ldd=7172: all strides must be equal"},
      {[](Args* x) { x->d_group_stride = 0; }, "d_group_stride=0: "},
      {[](Args* x) { x->c_group_stride = -4; }, "c_group_stride=-4: "},
      {[](Args* x) { x->c_group_stride += 4; }, "ldc=7168 ldd=7168: all strides must be equal"}};
  std::vector<Breach<Args>> bf16 = common, fp8 = common;
  bf16.insert(bf16.end(),
              {{[](Args* x) { x->lda = 4088; }, "lda=4088: must be at least 4096"},
               {[](Args* x) { x->ldb = 7169; }, "ldb=7169: must be a multiple of 8"},
               {[](Args* x) { x->a_scale = address<float>(0x5000); }, "a_scale=0x5000 "}});
  fp8.insert(fp8.end(), {{[](Args* x) { x->lda = 4096; }, "lda=4096 ldb=0: must be 0"},
                         {[](Args* x) { x->a_scale = nullptr; }, "a_scale=NULL"},
                         {[](Args* x) { x->b_scale = address<float>(0x6004); }, "b_scale=0x6004"},
                         {[](Args* x) { x->ld_a_scale = 4092; }, "ld_a_scale=4092: "},
                         {[](Args* x) { x->ld_b_scale = 7170; }, "ld_b_scale=7170: "},
                         {[](Args* x) { x->k = 64; }, "k=64: must be a multiple of 128"}});
  check_args(false, bf16);
  check_args(true, fp8);
}

TEST_CASE("gemm_grouped_k binds groups, and room for maps where the kernel builds them", "[unit]") {
  const auto driver = test::FakeCuda::make();
  std::vector<std::byte> memory(32 << 20);
  for (const bool is_fp8 : {false, true}) {
    const Desc desc = good_desc(is_fp8);
    const Result<DescCopy> copy = DescCopy::make(&desc.op, all_ops());
    REQUIRE(copy.is_ok());
    const OpImpl& op = copy.value().op();
    Args args = good_args(is_fp8);
    const std::vector<Config> candidates = op.candidates(copy.value().get(), target, {32768, 0, 0});
    REQUIRE(!candidates.empty());
    for (const Config& config : candidates) {
      INFO(op.stem << " " << config.to_string());
      const Prepared prepared = op.prepare(copy.value().get(), target, config);
      for (const int64_t k : {0, is_fp8 ? 32768 : 32749}) {
        args.k = k;
        Launch launch;
        REQUIRE(op.bind(copy.value().get(), &args.op, prepared, *driver, memory.data(), &launch)
                    .is_ok());
        const auto& p = *reinterpret_cast<const GemmParams*>(launch.params);
        CHECK(launch.params_bytes == sizeof(GemmParams));
        CHECK(p.groups.k == k);
        CHECK(p.groups.a_row_bytes >= (is_fp8 ? 0 : 4096 * 2));
        CHECK(p.groups.ids == args.ks);
        CHECK(p.groups.count == 4);
        CHECK(p.out.d_group_stride == static_cast<uint64_t>(args.d_group_stride));
        CHECK(launch.grid[0] > 0);  // without k, d is still c
        const uint64_t workspace = op.workspace_bytes(copy.value().get(), prepared, {args.k, 0, 0});
        CHECK(workspace >= uint64_t{launch.grid[0]} * 4 * 256);
        CHECK(workspace <= uint64_t{132} * 4 * 256);
        CHECK(p.groups.a == args.a);
        CHECK(p.groups.b == args.b);
        CHECK(static_cast<const void*>(p.groups.maps) == memory.data());
        CHECK(launch.num_threads == 384);
      }
    }
  }
}

}  // namespace
}  // namespace dgrt
