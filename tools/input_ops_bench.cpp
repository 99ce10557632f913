#include "tools/input_ops_bench.h"

#include <algorithm>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_input_ops_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20252;  // of the inputs; any will do

int64_t align(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Buffers are made anew for each m, so that their guards begin where the operands end.
class QuantFp8Bench final : public OpBench {
 public:
  QuantFp8Bench(const BenchHost& host, const dgrt_quant_fp8_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  int64_t num_m(int64_t m) const { return desc_.block == DGRT_QUANT_1X128 ? m : ceil_div(m, 128); }
  int64_t num_k() const { return ceil_div(desc_.k, 128); }
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_quant_fp8_desc desc_;
  dgrt_quant_fp8_args args_ = DGRT_QUANT_FP8_ARGS;
  lab::DeviceBuffer x_, q_, scale_;
};

Result<const dgrt_args*> QuantFp8Bench::prepare(int64_t m) {
  const bool k_major = desc_.scale_major == DGRT_K_MAJOR;
  args_.m = m;
  args_.ldx = align(desc_.k, 8);
  args_.ldq = align(desc_.k, 16);
  args_.ld_scale = k_major ? num_k() : align(num_m(m), 4);  // as gemm wants it
  const uint64_t num_x = m * args_.ldx;
  const uint64_t num_scales = (k_major ? num_m(m) : num_k()) * args_.ld_scale;
  DGRT_ASSIGN(x_, lab::DeviceBuffer::make(device(), num_x * sizeof(uint16_t)));
  DGRT_ASSIGN(q_, lab::DeviceBuffer::make(device(), m * args_.ldq));
  DGRT_ASSIGN(scale_, lab::DeviceBuffer::make(device(), num_scales * sizeof(float)));
  DGRT_TRY(lab::fill_normal_bf16(device(), x_.data(), num_x, seed));
  args_.x = x_.data();
  args_.q = q_.data();
  args_.scale = scale_.as<float>();
  return &args_.op;
}

Status QuantFp8Bench::check(BenchCheck* check) const {
  check->elements = args_.m * desc_.k + num_m(args_.m) * num_k();
  for (const lab::DeviceBuffer* buffer : {&x_, &q_, &scale_}) DGRT_TRY(buffer->check_guards());
  DGRT_ASSIGN(const std::vector<uint16_t> x, x_.download_all<uint16_t>());
  DGRT_ASSIGN(const std::vector<uint8_t> q, q_.download_all<uint8_t>());
  DGRT_ASSIGN(const std::vector<uint32_t> scale, scale_.download_all<uint32_t>());
  return lab::check_quant_fp8(desc_, args_, x, q, scale);
}

BenchCost QuantFp8Bench::cost(int64_t m) const {
  BenchCost cost;
  cost.bytes = (sizeof(uint16_t) + 1.0) * m * desc_.k + sizeof(float) * num_m(m) * num_k();
  return cost;
}

struct ScaleLayout {
  using Desc = dgrt_scale_layout_desc;
  using Args = dgrt_scale_layout_args;
  using Out = float;
  static constexpr Args no_args = DGRT_SCALE_LAYOUT_ARGS;
  static int64_t out_columns(const Desc& desc) { return desc.k_blocks; }
  static Status check(const Desc& desc, const Args& args, const std::vector<uint32_t>& src,
                      const std::vector<uint32_t>& dst) {
    return lab::check_scale_layout(desc, args, src, dst);
  }
};

struct ScalePack {
  using Desc = dgrt_scale_pack_ue8m0_desc;
  using Args = dgrt_scale_pack_ue8m0_args;
  using Out = int32_t;
  static constexpr Args no_args = DGRT_SCALE_PACK_UE8M0_ARGS;
  static int64_t out_columns(const Desc& desc) { return ceil_div(desc.k_blocks, 4); }
  static Status check(const Desc& desc, const Args& args, const std::vector<uint32_t>& src,
                      const std::vector<uint32_t>& dst) {
    return lab::check_scale_pack(desc, args, {}, src, dst);
  }
};

// Scales of groups one behind the other, with dense strides, into another layout.
template <class Op>
class ScaleBench final : public OpBench {
 public:
  ScaleBench(const BenchHost& host, const typename Op::Desc& desc) : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override {
    BenchCost cost;
    cost.bytes = 4.0 * m * (desc_.k_blocks + Op::out_columns(desc_)) * num_groups();
    return cost;
  }
  int64_t num_groups() const { return std::max<int64_t>(desc_.num_groups, 1); }

  typename Op::Desc desc_;
  typename Op::Args args_ = Op::no_args;
  lab::DeviceBuffer src_, dst_;
};

template <class Op>
Result<const dgrt_args*> ScaleBench<Op>::prepare(int64_t m) {
  args_.m = m;
  args_.ld_src = desc_.src_major == DGRT_MN_MAJOR ? m : desc_.k_blocks;
  args_.ld_dst = dgrt_tma_aligned_rows(m, sizeof(float));
  args_.group_stride_src = m * desc_.k_blocks;
  args_.group_stride_dst = Op::out_columns(desc_) * args_.ld_dst;
  const uint64_t num_src = num_groups() * args_.group_stride_src;
  const uint64_t num_dst = num_groups() * args_.group_stride_dst;
  DGRT_ASSIGN(src_, lab::DeviceBuffer::make(device(), num_src * sizeof(float)));
  DGRT_ASSIGN(dst_, lab::DeviceBuffer::make(device(), num_dst * sizeof(typename Op::Out)));
  DGRT_TRY(lab::fill_scales(device(), src_.as<float>(), num_src, seed));
  args_.src = src_.as<float>();
  args_.dst = dst_.as<typename Op::Out>();
  return &args_.op;
}

template <class Op>
Status ScaleBench<Op>::check(BenchCheck* check) const {
  check->elements = dst_.bytes() / sizeof(typename Op::Out);
  for (const lab::DeviceBuffer* buffer : {&src_, &dst_}) DGRT_TRY(buffer->check_guards());
  DGRT_ASSIGN(const std::vector<uint32_t> src, src_.download_all<uint32_t>());
  DGRT_ASSIGN(const std::vector<uint32_t> dst, dst_.download_all<uint32_t>());
  return Op::check(desc_, args_, src, dst);
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_quant_fp8_desc& desc) {
  return make_op_bench<QuantFp8Bench>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_scale_layout_desc& desc) {
  return make_op_bench<ScaleBench<ScaleLayout>>(host, desc);
}

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_scale_pack_ue8m0_desc& desc) {
  return make_op_bench<ScaleBench<ScalePack>>(host, desc);
}

}  // namespace dgrt
