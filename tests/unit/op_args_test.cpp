// Every op's plans on a driver that only takes notes: good calls reach it without a single
// allocation, and each rule of the public headers, broken, is refused by name.
#include <cstddef>

#include "tests/support/args_check.h"

namespace dgrt {
namespace {

using test::address;
using test::Breach;
using test::check_breaches;
using test::check_descs;
using test::check_launches;
using test::FakeCuda;
using test::OpsFixture;

dgrt_gemm_desc fp8_desc() {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = 2112;
  desc.k = 7168;
  desc.max_m = 4096;
  desc.dtype_ab = DGRT_E4M3;
  desc.dtype_d = DGRT_BF16;
  desc.scale_mode = DGRT_SCALE_BLOCK;
  return desc;
}

dgrt_gemm_desc bf16_desc() {
  dgrt_gemm_desc desc = fp8_desc();
  desc.dtype_ab = DGRT_BF16;
  desc.scale_mode = DGRT_SCALE_NONE;
  desc.flags = DGRT_GEMM_WITH_C;
  return desc;
}

dgrt_gemm_args gemm_args(const dgrt_gemm_desc& desc, int64_t m) {
  dgrt_gemm_args args = DGRT_GEMM_ARGS;
  args.a = address<void>(0x1000);
  args.b = address<void>(0x2000);
  args.d = address<void>(0x3000);
  args.m = m;
  args.lda = args.ldb = desc.k;
  args.ldd = desc.n;
  if (desc.scale_mode == DGRT_SCALE_BLOCK) {
    args.a_scale = address<float>(0x4000);
    args.b_scale = address<float>(0x5000);
    args.ld_a_scale = 4096;
    args.ld_b_scale = desc.k / 128;
  } else {
    args.c = address<void>(0x6000);
    args.ldc = desc.n;
  }
  return args;
}

dgrt_quant_fp8_desc quant_desc() {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  desc.k = 7168;
  desc.max_m = 4096;
  return desc;
}

dgrt_quant_fp8_args quant_args(int64_t m) {
  dgrt_quant_fp8_args args = DGRT_QUANT_FP8_ARGS;
  args.x = address<void>(0x1000);
  args.q = address<void>(0x2000);
  args.scale = address<float>(0x3000);
  args.m = m;
  args.ldx = args.ldq = 7168;
  args.ld_scale = 56;
  return args;
}

dgrt_scale_layout_desc layout_desc() {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = 56;
  desc.max_m = 4096;
  return desc;
}

dgrt_scale_layout_args layout_args(int64_t m) {
  dgrt_scale_layout_args args = DGRT_SCALE_LAYOUT_ARGS;
  args.src = address<float>(0x1000);
  args.dst = address<float>(0x2000);
  args.m = m;
  args.ld_src = 56;
  args.ld_dst = 4096;
  return args;
}

dgrt_scale_layout_desc grouped_layout_desc() {
  dgrt_scale_layout_desc desc = layout_desc();
  desc.src_major = DGRT_MN_MAJOR, desc.num_groups = 4;
  return desc;
}

// Grouped, MN-major source.
dgrt_scale_layout_args grouped_layout_args(int64_t m) {
  dgrt_scale_layout_args args = layout_args(m);
  args.ld_src = 4097;
  args.group_stride_src = 0;
  args.group_stride_dst = 56 * 4096;
  return args;
}

dgrt_scale_pack_ue8m0_desc pack_desc() {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  desc.k_blocks = 57, desc.max_m = 4096, desc.num_groups = 4;
  return desc;
}

dgrt_scale_pack_ue8m0_args pack_args(int64_t m) {
  dgrt_scale_pack_ue8m0_args args = DGRT_SCALE_PACK_UE8M0_ARGS;
  args.src = address<float>(0x1000);
  args.dst = address<int32_t>(0x2000);
  args.m = m;
  args.ld_src = 57;
  args.ld_dst = 4096;
  args.group_stride_src = 57 * 4096;
  args.group_stride_dst = 15 * 4096;
  return args;
}

dgrt_scale_pack_ue8m0_desc k_grouped_desc() {
  dgrt_scale_pack_ue8m0_desc desc = pack_desc();
  desc.flags = DGRT_SCALE_K_GROUPED | DGRT_SCALE_CEIL | DGRT_FLAG_PDL;
  desc.src_major = DGRT_MN_MAJOR, desc.gran_k = 128;
  return desc;
}

dgrt_scale_pack_ue8m0_args k_grouped_args(int64_t m) {
  dgrt_scale_pack_ue8m0_args args = pack_args(m);
  args.ks = address<int32_t>(0x3000);
  args.ld_src = 4096, args.k_blocks = 50;
  args.group_stride_src = args.group_stride_dst = -1;  // not used
  return args;
}

TEST_CASE("a good call of any op is launched without an allocation", "[unit]") {
  OpsFixture fixture;
  const size_t before = test::allocations_of_this_thread();
  CHECK(std::make_unique<int>(1) != nullptr);
  CHECK(test::allocations_of_this_thread() > before);  // the counter counts
  const dgrt_gemm_desc fp8 = fp8_desc(), bf16 = bf16_desc();
  const dgrt_quant_fp8_desc quant = quant_desc();
  const dgrt_scale_layout_desc layout = layout_desc();
  check_launches(fixture, &fp8.op, [&](int64_t m) { return gemm_args(fp8, m); });
  check_launches(fixture, &bf16.op, [&](int64_t m) { return gemm_args(bf16, m); });
  check_launches(fixture, &quant.op, [](int64_t m) { return quant_args(m); });
  check_launches(fixture, &layout.op, [](int64_t m) { return layout_args(m); });
  const dgrt_scale_layout_desc grouped = grouped_layout_desc();
  check_launches(fixture, &grouped.op, [](int64_t m) { return grouped_layout_args(m); });
  const dgrt_scale_pack_ue8m0_desc pack = pack_desc(), k_grouped = k_grouped_desc();
  check_launches(fixture, &pack.op, [](int64_t m) { return pack_args(m); });
  check_launches(fixture, &k_grouped.op, [](int64_t m) { return k_grouped_args(m); });
}

TEST_CASE("gemm refuses bad args by name", "[unit]") {
  using Args = dgrt_gemm_args;
  const std::vector<Breach<Args>> common = {
      {[](Args* x) { x->m = -1; }, "m=-1: "},
      {[](Args* x) { x->m = 4097; }, "m=4097: must be 0 to 4096"},
      {[](Args* x) { x->a = nullptr; }, "a=NULL"},
      {[](Args* x) { x->b = nullptr; }, "b=NULL"},
      {[](Args* x) { x->d = nullptr; }, "d=NULL"},
      {[](Args* x) { x->a = address<void>(0x1008); }, "a=0x1008: must be 16-byte aligned"},
      {[](Args* x) { x->b = address<void>(0x2001); }, "b=0x2001"},
      {[](Args* x) { x->d = address<void>(0x3002); }, "d=0x3002"},
      {[](Args* x) { x->lda = 7152; }, "lda=7152: must be at least 7168"},
      {[](Args* x) { x->ldb = 7169; }, "ldb=7169: must be a multiple of"},
      {[](Args* x) { x->ldd = 2111; }, "ldd=2111"},
      {[](Args* x) { x->ldd = 2113; }, "ldd=2113: must be a multiple of 8"},
      {[](Args* x) { x->lda = -16; }, "lda=-16"},
      {[](Args* x) { x->ldb = int64_t{1} << 62; }, "ldb=4611686018427387904"}};
  std::vector<Breach<Args>> fp8 = common, bf16 = common;
  fp8.insert(fp8.end(),
             {{[](Args* x) { x->c = x->d; }, "c="},
              {[](Args* x) { x->a_scale = nullptr; }, "a_scale=NULL"},
              {[](Args* x) { x->b_scale = nullptr; }, "b_scale=NULL"},
              {[](Args* x) { x->a_scale = address<float>(0x4004); }, "a_scale=0x4004"},
              {[](Args* x) { x->b_scale = address<float>(0x5002); }, "b_scale=0x5002"},
              {[](Args* x) { x->ld_a_scale = 96; }, "ld_a_scale=96: must be at least 100"},
              {[](Args* x) { x->ld_a_scale = 4097; }, "ld_a_scale=4097: must be a multiple of 4"},
              {[](Args* x) { x->ld_b_scale = 55; }, "ld_b_scale=55: must be at least 56"}});
  bf16.insert(bf16.end(), {{[](Args* x) { x->a_scale = address<float>(0x4000); }, "a_scale=0x4000"},
                           {[](Args* x) { x->c = nullptr; }, "c=NULL"},
                           {[](Args* x) { x->c = address<void>(0x6008); }, "c=0x6008"},
                           {[](Args* x) { x->ldc = 2104; }, "ldc=2104"},
                           {[](Args* x) { x->c = x->d, x->ldc = 2120; }, "ldc=2120 ldd=2112"}});
  OpsFixture fixture;
  const dgrt_gemm_desc fp8_of = fp8_desc(), bf16_of = bf16_desc();
  check_breaches(fixture, &fp8_of.op, gemm_args(fp8_of, 100), fp8);
  check_breaches(fixture, &bf16_of.op, gemm_args(bf16_of, 100), bf16);
}

TEST_CASE("quant_fp8 refuses bad args by name", "[unit]") {
  using Args = dgrt_quant_fp8_args;
  OpsFixture fixture;
  const dgrt_quant_fp8_desc desc = quant_desc();
  check_breaches<Args>(fixture, &desc.op, quant_args(100),
                       {{[](Args* x) { x->m = -1; }, "m=-1"},
                        {[](Args* x) { x->m = 4097; }, "m=4097"},
                        {[](Args* x) { x->x = nullptr; }, "x=NULL"},
                        {[](Args* x) { x->q = nullptr; }, "q=NULL"},
                        {[](Args* x) { x->scale = nullptr; }, "scale=NULL"},
                        {[](Args* x) { x->x = address<void>(0x1008); }, "x=0x1008"},
                        {[](Args* x) { x->q = address<void>(0x2008); }, "q=0x2008"},
                        {[](Args* x) { x->scale = address<float>(0x3002); }, "scale=0x3002"},
                        {[](Args* x) { x->ldx = 7160; }, "ldx=7160"},
                        {[](Args* x) { x->ldx = 7172; }, "ldx=7172"},
                        {[](Args* x) { x->ldq = 7176; }, "ldq=7176"},
                        {[](Args* x) { x->ld_scale = 55; }, "ld_scale=55"}});
}

TEST_CASE("scale_layout refuses bad args by name", "[unit]") {
  using Args = dgrt_scale_layout_args;
  OpsFixture fixture;
  const dgrt_scale_layout_desc desc = layout_desc();
  check_breaches<Args>(fixture, &desc.op, layout_args(101),
                       {{[](Args* x) { x->m = -1; }, "m=-1"},
                        {[](Args* x) { x->m = 4097; }, "m=4097"},
                        {[](Args* x) { x->src = nullptr; }, "src=NULL"},
                        {[](Args* x) { x->dst = nullptr; }, "dst=NULL"},
                        {[](Args* x) { x->src = address<float>(0x1002); }, "src=0x1002"},
                        {[](Args* x) { x->dst = address<float>(0x2008); }, "dst=0x2008"},
                        {[](Args* x) { x->ld_src = 55; }, "ld_src=55"},
                        {[](Args* x) { x->ld_dst = 100; }, "ld_dst=100"},
                        {[](Args* x) { x->ld_dst = 4098; }, "ld_dst=4098"}});
}

TEST_CASE("scale_layout refuses bad strides of groups and of an MN-major source by name",
          "[unit]") {
  using Args = dgrt_scale_layout_args;
  OpsFixture fixture;
  const dgrt_scale_layout_desc desc = grouped_layout_desc();
  check_breaches<Args>(fixture, &desc.op, grouped_layout_args(101),
                       {{[](Args* x) { x->ld_src = 100; }, "ld_src=100: must be at least m=101"},
                        {[](Args* x) { x->ld_src = int64_t{1} << 40; }, "ld_src=1099511627776"},
                        {[](Args* x) { x->ld_dst = int64_t{1} << 40; }, "ld_dst=1099511627776"},
                        {[](Args* x) { x->group_stride_src = -1; }, "group_stride_src=-1"},
                        {[](Args* x) { x->group_stride_dst = 0; }, "group_stride_dst=0"},
                        {[](Args* x) { x->group_stride_dst -= 4; }, "group_stride_dst=229372"},
                        {[](Args* x) { x->group_stride_dst += 2; }, "group_stride_dst=229378"}});
}

TEST_CASE("scale_pack_ue8m0 refuses bad args by name", "[unit]") {
  using Args = dgrt_scale_pack_ue8m0_args;
  OpsFixture fixture;
  const dgrt_scale_pack_ue8m0_desc desc = pack_desc(), k_grouped = k_grouped_desc();
  check_breaches<Args>(fixture, &desc.op, pack_args(101),
                       {{[](Args* x) { x->m = -1; }, "m=-1"},
                        {[](Args* x) { x->m = 4097; }, "m=4097"},
                        {[](Args* x) { x->src = nullptr; }, "src=NULL"},
                        {[](Args* x) { x->dst = nullptr; }, "dst=NULL"},
                        {[](Args* x) { x->src = address<float>(0x1002); }, "src=0x1002"},
                        {[](Args* x) { x->dst = address<int32_t>(0x2008); }, "dst=0x2008"},
                        {[](Args* x) { x->ld_src = 56; }, "ld_src=56"},
                        {[](Args* x) { x->ld_dst = 100; }, "ld_dst=100"},
                        {[](Args* x) { x->ld_dst = 4098; }, "ld_dst=4098"},
                        {[](Args* x) { x->group_stride_dst -= 4; }, "group_stride_dst=61436"},
                        {[](Args* x) { x->ks = address<int32_t>(0x3000); }, "ks=0x3000"},
                        {[](Args* x) { x->k_blocks = 57; }, "k_blocks=57: must be 0"}});
  check_breaches<Args>(fixture, &k_grouped.op, k_grouped_args(101),
                       {{[](Args* x) { x->ks = nullptr; }, "ks=NULL"},
                        {[](Args* x) { x->ks = address<int32_t>(0x3002); }, "ks=0x3002"},
                        {[](Args* x) { x->k_blocks = -1; }, "k_blocks=-1"},
                        {[](Args* x) { x->k_blocks = 58; }, "k_blocks=58: must be 0 to"}});
  const auto plan = fixture.plan_of(&k_grouped.op);
  dgrt_scale_pack_ue8m0_args nothing = k_grouped_args(101);
  nothing.k_blocks = 0;
  const int launches = FakeCuda::num_launches;
  CHECK(plan->launch(&nothing.op, nullptr, 0, fixture.stream).is_ok());
  CHECK(FakeCuda::num_launches == launches);
}

TEST_CASE("bad descs are refused by name", "[unit]") {
  using Gemm = dgrt_gemm_desc;
  check_descs<Gemm>(fp8_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Gemm* d) { d->n = 0; }, "n=0: "},
                     {[](Gemm* d) { d->n = int64_t{1} << 31; }, "n=2147483648: "},
                     {[](Gemm* d) { d->k = -1; }, "k=-1: "},
                     {[](Gemm* d) { d->max_m = -1; }, "max_m=-1: "},
                     {[](Gemm* d) { d->flags = 4; }, "flags=0x4: "},
                     {[](Gemm* d) { d->flags = DGRT_GEMM_SIGNAL; }, "flags=0x80000: "},
                     {[](Gemm* d) { d->b_scale_major = 2; }, "b_scale_major=2: "},
                     {[](Gemm* d) { d->a_major = 2; }, "a_major=2: "},
                     {[](Gemm* d) { d->b_major = 2; }, "b_major=2: "},
                     {[](Gemm* d) { d->max_block_m = 7; }, "max_block_m=7: "},
                     {[](Gemm* d) { d->max_block_n = 63; }, "max_block_n=63: "},
                     {[](Gemm* d) { d->head_left = 8; }, "head_left=8 head_right=0: "},
                     {[](Gemm* d) { d->head_mid = 8; }, "head_left=0 head_mid=8"},
                     {[](Gemm* d) { d->head_left = 4, d->head_mid = 8; }, "head_left=4 head_mid"},
                     {[](Gemm* d) { d->head_left = 80, d->head_mid = 8; }, "n=2112: "},
                     {[](Gemm* d) { d->head_left = 8, d->head_mid = 1u << 31; }, "head_mid=2147"},
                     {[](Gemm* d) {
                        d->head_left = 64, d->head_mid = 8;
                        d->flags = DGRT_GEMM_WITH_C;
                      },
                      "heads take no WITH_C"},
                     {[](Gemm* d) { d->reserved = 1; }, "reserved=1: "}});
  check_descs<Gemm>(
      bf16_desc(), DGRT_INVALID_ARGUMENT,
      {{[](Gemm* d) { d->a_major = DGRT_MN_MAJOR, d->max_block_m = 63; }, "max_block_m=63: "}});
  check_descs<Gemm>(fp8_desc(), DGRT_UNSUPPORTED,
                    {{[](Gemm* d) { d->dtype_ab = 77; }, "dtype_ab=77 "},
                     {[](Gemm* d) { d->dtype_ab = DGRT_FP16; }, "dtype_ab=2 "},
                     {[](Gemm* d) { d->dtype_d = DGRT_E4M3; }, "dtype_d=4 "},
                     {[](Gemm* d) { d->scale_mode = 9; }, "scale_mode=9"},
                     {[](Gemm* d) { d->scale_mode = DGRT_SCALE_NONE; }, "scale_mode=0"},
                     {[](Gemm* d) { d->a_major = DGRT_MN_MAJOR; }, "a_major=1 b_major=0: "},
                     {[](Gemm* d) { d->b_major = DGRT_MN_MAJOR; }, "a_major=0 b_major=1: "}});
  check_descs<Gemm>(bf16_desc(), DGRT_UNSUPPORTED,
                    {{[](Gemm* d) { d->dtype_d = DGRT_FP16; }, "dtype_ab=1 dtype_d=2 "},
                     {[](Gemm* d) { d->scale_mode = DGRT_SCALE_ROW; }, "scale_mode=2"}});
}

TEST_CASE("bad descs of ops that make inputs are refused by name", "[unit]") {
  using Quant = dgrt_quant_fp8_desc;
  check_descs<Quant>(quant_desc(), DGRT_INVALID_ARGUMENT,
                     {{[](Quant* d) { d->k = 0; }, "k=0: "},
                      {[](Quant* d) { d->max_m = -1; }, "max_m=-1: "},
                      {[](Quant* d) { d->block = 2; }, "block=2: "},
                      {[](Quant* d) { d->scale_major = 2; }, "scale_major=2: "},
                      {[](Quant* d) { d->flags = 4; }, "flags=0x4: "},
                      {[](Quant* d) { d->reserved = 1; }, "reserved=1: "}});
  using Layout = dgrt_scale_layout_desc;
  check_descs<Layout>(layout_desc(), DGRT_INVALID_ARGUMENT,
                      {{[](Layout* d) { d->k_blocks = 0; }, "k_blocks=0: "},
                       {[](Layout* d) { d->max_m = -1; }, "max_m=-1: "},
                       {[](Layout* d) { d->flags = 4; }, "flags=0x4: "},
                       {[](Layout* d) { d->src_major = 2; }, "src_major=2: "},
                       {[](Layout* d) { d->num_groups = -1; }, "num_groups=-1: "},
                       {[](Layout* d) { d->num_groups = 65536; }, "num_groups=65536: "},
                       {[](Layout* d) { d->num_groups = 9, d->k_blocks = 1 << 28; },
                        "num_groups=9 with k_blocks=268435456: "}});
}

TEST_CASE("bad descs of scale_pack_ue8m0 are refused by name", "[unit]") {
  using Pack = dgrt_scale_pack_ue8m0_desc;
  check_descs<Pack>(pack_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Pack* d) { d->k_blocks = 0; }, "k_blocks=0: "},
                     {[](Pack* d) { d->max_m = -1; }, "max_m=-1: "},
                     {[](Pack* d) { d->src_major = 2; }, "src_major=2: "},
                     {[](Pack* d) { d->num_groups = -1; }, "num_groups=-1: "},
                     {[](Pack* d) { d->flags = 4; }, "flags=0x4: "},
                     {[](Pack* d) { d->gran_k = 128; }, "gran_k=128: must be 0"},
                     {[](Pack* d) { d->reserved = 1; }, "reserved=1: "}});
  check_descs<Pack>(k_grouped_desc(), DGRT_INVALID_ARGUMENT,
                    {{[](Pack* d) { d->gran_k = 64; }, "gran_k=64: must be 32 or 128"},
                     {[](Pack* d) { d->src_major = DGRT_K_MAJOR; }, "src_major=0: "},
                     {[](Pack* d) { d->num_groups = 129; }, "num_groups=129: "}});
}

// Callers that were built before groups and source orders existed.
TEST_CASE("a scale_layout desc and args of the first layout mean one K-major group", "[unit]") {
  OpsFixture fixture;
  dgrt_scale_layout_desc desc = layout_desc();
  desc.op.struct_size = offsetof(dgrt_scale_layout_desc, num_groups);
  desc.num_groups = 77;  // beyond the struct
  dgrt_scale_layout_args args = layout_args(101);
  args.op.struct_size = offsetof(dgrt_scale_layout_args, group_stride_src);
  const auto plan = fixture.plan_of(&desc.op);
  REQUIRE(plan->launch(&args.op, nullptr, 0, fixture.stream).is_ok());
  CHECK(FakeCuda::last_config.gridDimZ == 1);
}

}  // namespace
}  // namespace dgrt
