// quant_fp8 byte for byte against the CPU model: every block shape and scale layout, tails, row
// strides, every amax that a bf16 can have.
#include <algorithm>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tools/lib/lab_input_ops_check.h"
#include "tools/lib/lab_quant_model.h"

namespace dgrt::test {
namespace {

struct QuantCase {
  int64_t k = 0;
  std::vector<int64_t> m;
  dgrt_quant_block block = DGRT_QUANT_1X128;
  dgrt_major major = DGRT_K_MAJOR;
  int64_t pad = 0;  // elements between rows of x, twice as many of q; also more room in scale
  uint32_t flags = 0;

  int64_t group_m() const { return block == DGRT_QUANT_1X128 ? 1 : 128; }
  std::string name() const {
    return fmt::format("quant_fp8 k={} {}x128 {}{}{}", k, group_m(),
                       major == DGRT_K_MAJOR ? "k-major" : "mn-major",
                       pad != 0 ? fmt::format(" pad={}", pad) : "", flags != 0 ? " pdl" : "");
  }
};

int64_t div_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

// A host matrix of bf16, NaN between the rows: reading there would show.
struct Input {
  std::vector<uint16_t> bits;
  int64_t ld = 0;
};

Input random_input(int64_t m, int64_t k, int64_t ld) {
  Input x{std::vector<uint16_t>(m * ld, 0x7fc0), ld};
  uint64_t state = 0x9e3779b97f4a7c15 + m * 1000003 + k;
  for (int64_t row = 0; row < m; ++row) {
    // Rows of very different size, among them all zeros and below the clamp.
    const float size = row % 7 == 3 ? 0.0f : std::ldexp(1.0f, static_cast<int>(row % 61) - 30);
    for (int64_t col = 0; col < k; ++col) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto draw = static_cast<int32_t>(state >> 32);
      x.bits[row * ld + col] = lab::float_to_bf16(static_cast<float>(draw) * 0x1p-31f * size);
    }
  }
  return x;
}

class QuantRun {
 public:
  static Result<QuantRun> make(Gpu& gpu, const QuantCase& test) {
    QuantRun run;
    run.gpu_ = &gpu;
    run.test_ = test;
    run.desc_.k = test.k, run.desc_.max_m = 1 << 20;
    run.desc_.block = test.block, run.desc_.scale_major = test.major;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    return run;
  }

  int64_t ldx() const { return div_up(test_.k + test_.pad, 8) * 8; }

  Result<std::string> check(const Input& x, int64_t m) const {
    const lab::Device& lab = *gpu_->lab;
    const int64_t ldq = div_up(test_.k + 2 * test_.pad, 16) * 16;
    const int64_t num_k = div_up(test_.k, 128), num_rows = div_up(m, test_.group_m());
    const bool k_major = test_.major == DGRT_K_MAJOR;
    const int64_t ld_scale = std::max<int64_t>(1, (k_major ? num_k : num_rows) + test_.pad % 5);
    DGRT_ASSIGN(const lab::DeviceBuffer x_dev, lab::DeviceBuffer::make(lab, m * x.ld * 2));
    DGRT_ASSIGN(const lab::DeviceBuffer q_dev, lab::DeviceBuffer::make(lab, m * ldq));
    DGRT_ASSIGN(const lab::DeviceBuffer scale_dev,
                lab::DeviceBuffer::make(lab, (k_major ? num_rows : num_k) * ld_scale * 4));
    DGRT_TRY(x_dev.upload(x.bits.data(), m * x.ld * 2));

    dgrt_quant_fp8_args args = DGRT_QUANT_FP8_ARGS;
    args.x = x_dev.data(), args.q = q_dev.data(), args.scale = scale_dev.as<float>();
    args.m = m, args.ldx = x.ld, args.ldq = ldq, args.ld_scale = ld_scale;
    std::string kernel = "no kernel";
    if (m > 0) {
      DGRT_ASSIGN(kernel, plan_.kernel_name(&args.op));
    }
    DGRT_TRY(plan_.launch(&args.op, lab.stream()));
    DGRT_TRY(lab.synchronize());
    for (const lab::DeviceBuffer* buffer : {&x_dev, &q_dev, &scale_dev})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(const std::vector<uint8_t> q, q_dev.download_all<uint8_t>());
    DGRT_ASSIGN(const std::vector<uint32_t> scale, scale_dev.download_all<uint32_t>());
    const Status status = lab::check_quant_fp8(desc_, args, x.bits, q, scale);
    if (!status.is_ok()) return error(status.code(), "m={} {}: {}", m, kernel, status.message());
    return fmt::format("m={} {}", m, kernel);
  }

 private:
  Gpu* gpu_ = nullptr;
  QuantCase test_;
  dgrt_quant_fp8_desc desc_ = DGRT_QUANT_FP8_DESC;
  Plan plan_;
};

void run_quant_cases(Gpu& gpu, const std::vector<QuantCase>& cases) {
  for (const QuantCase& test : cases)
    run_case(test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const QuantRun run, QuantRun::make(gpu, test));
      std::string details;
      for (const int64_t m : test.m) {
        DGRT_ASSIGN(const std::string detail, run.check(random_input(m, test.k, run.ldx()), m));
        details += (details.empty() ? "" : "; ") + detail;
      }
      return details;
    });
}

// Every block shape and layout of a case.
std::vector<QuantCase> all_layouts(const QuantCase& test) {
  std::vector<QuantCase> cases;
  for (const dgrt_quant_block block : {DGRT_QUANT_1X128, DGRT_QUANT_128X128})
    for (const dgrt_major major : {DGRT_K_MAJOR, DGRT_MN_MAJOR}) {
      cases.push_back(test);
      cases.back().block = block;
      cases.back().major = major;
    }
  return cases;
}

}  // namespace

TEST_CASE("quant_fp8: activations and weights of models", "[gpu]") {
  Gpu* gpu = gpu_for("quant_fp8: activations and weights of models");
  if (!gpu) return;
  for (const int64_t k : {1536, 7168})
    run_quant_cases(*gpu, all_layouts({k, {0, 1, 2, 7, 16, 63, 64, 127, 128, 129, 300, 1000}}));
  run_quant_cases(*gpu, all_layouts({2048, {4096}}));
}

TEST_CASE("quant_fp8: every k, rows further apart than they are long", "[gpu]") {
  Gpu* gpu = gpu_for("quant_fp8: every k, rows further apart than they are long");
  if (!gpu) return;
  for (const int64_t k :
       {1, 7, 8, 9, 15, 16, 17, 64, 65, 100, 127, 128, 129, 136, 200, 576, 1000}) {
    run_quant_cases(*gpu, all_layouts({k, {1, 5, 129}}));
    run_quant_cases(*gpu, all_layouts({k, {3, 130}, DGRT_QUANT_1X128, DGRT_K_MAJOR, 24}));
  }
}

// Thread blocks loop over rows once the grid's second dimension is full.
TEST_CASE("quant_fp8: more rows than the grid has room for", "[gpu]") {
  Gpu* gpu = gpu_for("quant_fp8: more rows than the grid has room for");
  if (!gpu) return;
  run_quant_cases(*gpu, {{8, {600'000, 1'048'576}, DGRT_QUANT_1X128, DGRT_MN_MAJOR}});
}

// Row i of 128 columns has bf16 number i as its largest element, for all of them, infinity and NaN
// too.
TEST_CASE("quant_fp8: every amax", "[gpu]") {
  Gpu* gpu = gpu_for("quant_fp8: every amax");
  if (!gpu) return;
  for (const dgrt_quant_block block : {DGRT_QUANT_1X128, DGRT_QUANT_128X128}) {
    const QuantCase test{128, {32768}, block};
    run_case(test.name() + ", every amax", [&]() -> Result<std::string> {
      DGRT_ASSIGN(const QuantRun run, QuantRun::make(*gpu, test));
      // Smaller numbers of either sign beside the largest, which moves through the columns.
      Input x{std::vector<uint16_t>(32768 * 128), 128};
      std::mt19937 random(7);
      for (uint32_t row = 0; row < 32768; ++row) {
        for (uint32_t col = 0; col < 128; ++col)
          x.bits[row * 128 + col] =
              static_cast<uint16_t>(random() % (row + 1) | (random() & 1) << 15);
        x.bits[row * 128 + row % 128] = static_cast<uint16_t>(row | (row & 64) << 9);
      }
      return run.check(x, 32768);
    });
  }
}

TEST_CASE("quant_fp8: dependent launch", "[gpu]") {
  Gpu* gpu = gpu_for("quant_fp8: dependent launch");
  if (!gpu) return;
  run_quant_cases(*gpu, {{7168, {1, 129}, DGRT_QUANT_1X128, DGRT_MN_MAJOR, 0, DGRT_FLAG_PDL}});
}

TEST_CASE("quant_fp8: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("quant_fp8: small sizes");
  if (!gpu) return;
  run_quant_cases(*gpu, all_layouts({200, {1, 37}, DGRT_QUANT_1X128, DGRT_K_MAJOR, 24}));
}

}  // namespace dgrt::test
