#include "tools/sparse_bench.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_topk_check.h"

namespace dgrt {
namespace {

constexpr uint64_t seed = 20258;         // of the inputs; any will do
constexpr int64_t most_checked = 1 << 5;  // rows of topk_transform
constexpr int64_t page_size = 64;

// Rows of full length, as of one context.
class TopkTransformBench final : public OpBench {
 public:
  TopkTransformBench(const BenchHost& host, const dgrt_topk_transform_desc& desc)
      : OpBench(host), desc_(desc) {}
  const dgrt_desc* desc() const override { return &desc_.op; }
  Result<const dgrt_args*> prepare(int64_t m) override;

 private:
  Status check(BenchCheck* check) const override;
  BenchCost cost(int64_t m) const override;

  dgrt_topk_transform_desc desc_;
  dgrt_topk_transform_args args_ = DGRT_TOPK_TRANSFORM_ARGS;
  std::vector<int32_t> table_;  // of all rows
  lab::DeviceBuffer scores_, lengths_, table_on_device_, positions_, slots_;
};

Result<const dgrt_args*> TopkTransformBench::prepare(int64_t m) {
  dgrt_topk_transform_args& x = args_;
  x.rows = m, x.columns = desc_.max_columns, x.page_size = page_size;
  x.num_pages = (x.columns + page_size - 1) / page_size;
  x.scores_row_stride = (x.columns + 3) / 4 * 4;
  x.positions_row_stride = x.slots_row_stride = desc_.top_k;
  DGRT_ASSIGN(scores_, lab::DeviceBuffer::make(device(), m * x.scores_row_stride * sizeof(float)));
  DGRT_ASSIGN(lengths_, lab::DeviceBuffer::make(device(), m * sizeof(int32_t)));
  DGRT_ASSIGN(table_on_device_, lab::DeviceBuffer::make(device(), x.num_pages * sizeof(int32_t)));
  DGRT_ASSIGN(positions_, lab::DeviceBuffer::make(device(), m * desc_.top_k * sizeof(int32_t)));
  DGRT_ASSIGN(slots_, lab::DeviceBuffer::make(device(), m * desc_.top_k * sizeof(int32_t)));
  DGRT_TRY(lab::fill_normal_f32(device(), scores_.as<float>(), m * x.scores_row_stride, seed));
  DGRT_TRY(lab::fill_words(device(), lengths_.data(), m, static_cast<uint32_t>(x.columns)));
  table_.resize(x.num_pages);
  std::iota(table_.begin(), table_.end(), 0);
  std::shuffle(table_.begin(), table_.end(), std::mt19937_64(seed));
  DGRT_TRY(table_on_device_.upload(table_.data(), table_.size() * sizeof(int32_t)));
  x.scores = scores_.as<float>(), x.lengths = lengths_.as<int32_t>();
  x.page_table = table_on_device_.as<int32_t>();
  x.positions = positions_.as<int32_t>(), x.slots = slots_.as<int32_t>();
  return &x.op;
}

Status TopkTransformBench::check(BenchCheck* check) const {
  for (const lab::DeviceBuffer* buffer :
       {&scores_, &lengths_, &table_on_device_, &positions_, &slots_})
    DGRT_TRY(buffer->check_guards());
  const auto k = static_cast<size_t>(desc_.top_k), columns = static_cast<size_t>(args_.columns);
  std::vector<float> scores(columns);
  std::vector<int32_t> positions(k), slots(k);
  for (int64_t row = 0; row < args_.rows; row += args_.rows / most_checked + 1) {
    DGRT_TRY(scores_.download(scores.data(), columns * 4, row * args_.scores_row_stride * 4));
    DGRT_TRY(positions_.download(positions.data(), k * 4, row * k * 4));
    DGRT_TRY(slots_.download(slots.data(), k * 4, row * k * 4));
    const std::vector<int32_t> want = lab::top_positions(scores, desc_.top_k);
    DGRT_TRY(lab::check_row("positions", row, positions, want));
    DGRT_TRY(lab::check_row("slots", row, slots, lab::slots_of(want, table_, page_size)));
    check->elements += 2 * k;
  }
  return ok();
}

BenchCost TopkTransformBench::cost(int64_t m) const {
  BenchCost cost;
  cost.bytes = static_cast<double>(m * 4 * (desc_.max_columns + 2 * desc_.top_k));
  return cost;
}

}  // namespace

Result<std::unique_ptr<OpBench>> make_bench(const BenchHost& host,
                                            const dgrt_topk_transform_desc& desc) {
  return make_op_bench<TopkTransformBench>(host, desc);
}

}  // namespace dgrt
