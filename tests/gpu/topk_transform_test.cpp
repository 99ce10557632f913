// topk_transform against a sort on the CPU, place by place: distributions of scores, lengths, few long rows and
// many short ones, page tables, strides; graphs and repeats; every kernel, with rows that take each of its paths.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "runtime/ops/op.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tests/support/fake_op.h"
#include "tests/support/temp_dir.h"
#include "tools/lib/lab_topk_check.h"

namespace dgrt::test {
namespace {

// late, late_few: what comes last is mostly small, and else like the rest: many scores that differ in their last bits,
// or few. step: the first third is a last bit less. brim: of the second chunk of 4096 2049 are above the first one's.
enum class Scores {
  normal, equal, few, special, subnormal, nan, one_exponent, rising, falling, bits, late, late_few, step, brim
};
constexpr Scores all_scores[] = {Scores::normal,    Scores::equal,        Scores::few,
                                 Scores::special,   Scores::subnormal,    Scores::nan,
                                 Scores::one_exponent, Scores::rising,    Scores::falling,
                                 Scores::bits,      Scores::late,         Scores::late_few,
                                 Scores::step,      Scores::brim};

struct TopkCase {
  int64_t rows = 0, columns = 0, top_k = 0;
  Scores scores = Scores::normal;
  int64_t page_size = 64;
  int64_t pad = 0;           // of every row
  bool full = false;         // all rows are as long as they can be
  bool one_table = false;    // of all rows
  bool positions = true, slots = true;
  bool narrow = false;       // the plan is for no more rows and columns
  uint32_t flags = 0;

  std::string name() const {
    return fmt::format("topk_transform {}x{} k={} scores={} page={} pad={} {}{}{}{} flags={:#x}", rows,
                       columns, top_k, static_cast<int>(scores), page_size, pad, full ? "full " : "",
                       one_table ? "one table " : "", positions ? "positions " : "", slots ? "slots" : "",
                       flags);
  }
};

float draw(Scores kind, std::mt19937& random, int64_t column, int64_t columns) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const uint32_t word = random();
  const auto with_bits = [](uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  };
  switch (kind) {
    case Scores::normal: {  // the sum of eight bytes
      const uint32_t other = random();
      int sum = 0;
      for (int i = 0; i < 4; ++i) sum += (word >> i * 8 & 255) + (other >> i * 8 & 255);
      return static_cast<float>(sum - 1020) / 209.0f + static_cast<float>(word & 1023) * 1e-6f;
    }
    case Scores::equal: return -3.5f;
    case Scores::few: return static_cast<float>(word % 5) - 2.0f;
    case Scores::special: {
      const float values[] = {infinity, -infinity, nan, -nan, 0.0f, -0.0f, 1.0f, -1.0f};
      return values[word % 8];
    }
    case Scores::subnormal: return with_bits((word & 0x80000fff) | (word & 0x100000 ? 0x3ff000 : 0));
    case Scores::nan: return column % 97 == 3 ? static_cast<float>(word % 100) : nan;
    case Scores::one_exponent: return with_bits(0x3f800000 | (word & 0xff));
    case Scores::rising: return static_cast<float>(column);
    case Scores::falling: return static_cast<float>(columns - column) * -0.25f;
    case Scores::bits: return with_bits(word);
    case Scores::step: return with_bits(0x3f800000 | (column * 3 < columns ? 0 : 1));
    case Scores::brim: return column < 4096 ? 0.0f : column < 4096 + 2049 ? 1.0f : -1.0f;
    case Scores::late:
    case Scores::late_few:
      if (column * 3 >= columns * 2 && word % 8 != 0) return -5.0f;
      return with_bits(0x3f800000 | (word >> 8 & (kind == Scores::late ? 0xffff : 15)));
  }
  return 0;
}

class TopkRun {
 public:
  static Result<TopkRun> make(Gpu& gpu, const TopkCase& test) {
    TopkRun run;
    run.gpu_ = &gpu, run.test_ = test;
    dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
    desc.top_k = test.top_k, desc.flags = test.flags;
    desc.max_rows = test.narrow ? test.rows : 1 << 20, desc.max_columns = test.narrow ? test.columns : INT32_MAX;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &desc.op));
    dgrt_topk_transform_args& x = run.args_;
    x.rows = test.rows, x.columns = test.columns, x.page_size = test.page_size;
    x.num_pages = std::max<int64_t>(test.columns / test.page_size, 1);  // the last page may be missing
    x.scores_row_stride = (test.columns + 3) / 4 * 4 + test.pad * 4;
    x.page_table_row_stride = test.one_table ? 0 : x.num_pages + test.pad;
    x.positions_row_stride = test.top_k + test.pad, x.slots_row_stride = test.top_k + 2 * test.pad;
    const lab::Device& lab = *gpu.lab;
    const auto make = [&](lab::DeviceBuffer* buffer, int64_t words) -> Status {
      DGRT_ASSIGN(*buffer, lab::DeviceBuffer::make(lab, static_cast<size_t>(std::max<int64_t>(words, 0)) * 4));
      return ok();
    };
    const int64_t last = test.rows - 1;
    DGRT_TRY(make(&run.scores_, last * x.scores_row_stride + test.columns));
    DGRT_TRY(make(&run.lengths_, test.rows));
    DGRT_TRY(make(&run.tables_, last * x.page_table_row_stride + x.num_pages));
    DGRT_TRY(make(&run.positions_, last * x.positions_row_stride + test.top_k));
    DGRT_TRY(make(&run.slots_, last * x.slots_row_stride + test.top_k));
    x.scores = run.scores_.as<float>(), x.lengths = run.lengths_.as<int32_t>();
    x.page_table = run.tables_.as<int32_t>();
    x.positions = test.positions ? run.positions_.as<int32_t>() : nullptr;
    x.slots = test.slots ? run.slots_.as<int32_t>() : nullptr;
    DGRT_TRY(run.fill(1));
    return run;
  }

  Status fill(uint32_t seed) {
    std::mt19937 random(seed);
    images_.scores.assign(scores_.bytes() / 4, std::numeric_limits<float>::infinity());
    images_.lengths.resize(test_.rows);
    images_.tables.assign(tables_.bytes() / 4, -1);
    const auto length_of = [&](int64_t row) -> int64_t {
      const int64_t k = test_.top_k, columns = test_.columns;
      const int64_t lengths[] = {columns, 0,           1, k - 1,           k,           k + 1,
                                 k + 2,   columns / 2, INT32_MIN, INT32_MAX, columns - 1, k + columns / 3};
      return test_.full ? columns : lengths[row % std::size(lengths)];
    };
    for (int64_t row = 0; row < test_.rows; ++row) {
      images_.lengths[row] = static_cast<int32_t>(length_of(row));
      const int64_t length = std::clamp<int64_t>(images_.lengths[row], 0, test_.columns);
      float* scores = images_.scores.data() + row * args_.scores_row_stride;  // past the length: +inf
      for (int64_t i = 0; i < length; ++i) scores[i] = draw(test_.scores, random, i, length);
      int32_t* table = images_.tables.data() + row * args_.page_table_row_stride;
      for (int64_t i = 0; i < args_.num_pages; ++i)
        table[i] = static_cast<int32_t>(random() % 11 == 0 ? random() : random() % 100000);
    }
    DGRT_TRY(scores_.upload(images_.scores.data(), images_.scores.size() * 4));
    DGRT_TRY(lengths_.upload(images_.lengths.data(), images_.lengths.size() * 4));
    return tables_.upload(images_.tables.data(), images_.tables.size() * 4);
  }

  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }
  Status poison() const {
    DGRT_TRY(positions_.poison());
    return slots_.poison();
  }

  Result<std::string> check() const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&scores_, &lengths_, &tables_, &positions_, &slots_})
      DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(const auto positions, positions_.download_all<int32_t>());
    DGRT_ASSIGN(const auto slots, slots_.download_all<int32_t>());
    const auto k = static_cast<size_t>(test_.top_k);
    for (int64_t row = 0; row < test_.rows; ++row) {
      const auto length =
          static_cast<size_t>(std::clamp<int64_t>(images_.lengths[row], 0, test_.columns));
      const std::vector<int32_t> want =
          lab::top_positions({images_.scores.data() + row * args_.scores_row_stride, length}, test_.top_k);
      if (test_.positions)
        DGRT_TRY(lab::check_row("positions", row, {positions.data() + row * args_.positions_row_stride, k}, want));
      if (!test_.slots) continue;
      const std::vector<int32_t> at = lab::slots_of(
          want,
          {images_.tables.data() + row * args_.page_table_row_stride, static_cast<size_t>(args_.num_pages)},
          test_.page_size);
      DGRT_TRY(lab::check_row("slots", row, {slots.data() + row * args_.slots_row_stride, k}, at));
    }
    if (test_.rows == 0) return std::string("nothing to do");
    return plan_.kernel_name(&args_.op);
  }

 private:
  Gpu* gpu_ = nullptr;
  TopkCase test_;
  dgrt_topk_transform_args args_ = DGRT_TOPK_TRANSFORM_ARGS;
  Plan plan_;
  struct {
    std::vector<float> scores;
    std::vector<int32_t> lengths, tables;
  } images_;
  lab::DeviceBuffer scores_, lengths_, tables_, positions_, slots_;
};

void run_topk(Gpu& gpu, const TopkCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(TopkRun run, TopkRun::make(gpu, test));
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch());
    return run.check();
  });
}

// While it lives, plans of topk_transform that are made on the device have one kernel for all sizes.
class OneKernel {
 public:
  OneKernel(Gpu& gpu, const Config& config) : gpu_(gpu) {
    std::string use;
    for (const char* name : {"threads", "items_per_thread", "cluster", "streamed"})
      use += fmt::format("{}\"{}\": {}", use.empty() ? "" : ", ", name, config[name]);
    std::ofstream(dir_.path() + "/topk_transform.json")
        << R"({"op": "topk_transform", "schema": 1, "rules": [{"arch": "sm90", "when": {}, "use": {)" << use
        << R"(}, "why": "test", "measured": "untested"}]})";
    const ScopedEnv env("DGRT_HEURISTICS_PATH", dir_.path());
    dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
    if (!getenv("DGRT_CACHE_DIR")) options.cache_dir = "";
    const Status status = to_status(dgrt_context_create(&options, &context_));
    INFO(status.message());
    REQUIRE(status.is_ok());
    std::swap(gpu_.context, context_);
  }
  ~OneKernel() {
    std::swap(gpu_.context, context_);
    dgrt_context_destroy(context_);
  }

 private:
  const TempDir dir_;
  Gpu& gpu_;
  dgrt_context* context_ = nullptr;
};

std::vector<Config> kernels(int64_t threads, bool streamed) {
  dgrt_topk_transform_desc desc = DGRT_TOPK_TRANSFORM_DESC;
  desc.top_k = 1, desc.max_rows = desc.max_columns = 1;
  std::vector<Config> found;
  for (const Config& config : find_op(&desc.op).value()->candidates(&desc.op, {"sm_90a", 132}, {1, 1}))
    if (config["threads"] == threads && (config["streamed"] != 0) == streamed) found.push_back(config);
  return found;
}

// Rows of somewhat less than `chunks` chunks of each CTA: lists that are cut, chunks that have more than a list has
// room for, few that are left over, one key only, and rows that are no longer than top_k.
void run_kernel(Gpu& gpu, const Config& config, double chunks, std::span<const Scores> distributions) {
  const OneKernel kernel(gpu, config);
  const auto columns = static_cast<int64_t>(
      static_cast<double>(config["threads"] * config["items_per_thread"] * config["cluster"]) * chunks);
  for (const Scores scores : distributions) {
    run_topk(gpu, {.rows = 2, .columns = columns, .top_k = 2048, .scores = scores, .full = true});
    run_topk(gpu, {.rows = 1, .columns = columns, .top_k = 333, .scores = scores, .full = true});
    run_topk(gpu, {.rows = 12, .columns = columns / 3, .top_k = 333, .scores = scores});
  }
  run_topk(gpu, {.rows = 1, .columns = columns - 5, .top_k = 1, .full = true});
}

}  // namespace

TEST_CASE("topk_transform: streams of one small CTA", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: streams of one small CTA");
  if (!gpu) return;
  for (const Config& config : kernels(256, true))
    run_kernel(*gpu, config, 3.2, all_scores);
}

TEST_CASE("topk_transform: streams of several CTAs", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: streams of several CTAs");
  if (!gpu) return;
  constexpr Scores scores[] = {Scores::normal, Scores::equal, Scores::special, Scores::one_exponent, Scores::rising};
  for (const int64_t threads : {512, 1024})
    for (const Config& config : kernels(threads, true)) run_kernel(*gpu, config, 3.2, scores);
}

TEST_CASE("topk_transform: keys that are held or read again", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: keys that are held or read again");
  if (!gpu) return;
  constexpr Scores scores[] = {Scores::normal, Scores::special};
  for (const int64_t threads : {64, 128, 256, 512, 1024})
    for (const Config& config : kernels(threads, false))
      for (const double chunks : {0.9, 2.3}) run_kernel(*gpu, config, chunks, scores);
}

// A CTA takes many rows one after the other, some of them without a chunk.
TEST_CASE("topk_transform: streams from row to row", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: streams from row to row");
  if (!gpu) return;
  for (const int64_t threads : {256, 512})
    for (const Config& config : kernels(threads, true)) {
      const OneKernel kernel(*gpu, config);
      run_topk(*gpu, {.rows = 900, .columns = 9000, .top_k = 1000});
    }
}

TEST_CASE("topk_transform: distributions of scores", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: distributions of scores");
  if (!gpu) return;
  for (const Scores scores : all_scores) {
    run_topk(*gpu, {.rows = 13, .columns = 2048, .top_k = 512, .scores = scores});
    run_topk(*gpu, {.rows = 24, .columns = 8003, .top_k = 2048, .scores = scores});
    run_topk(*gpu, {.rows = 12, .columns = 70001, .top_k = 1024, .scores = scores});
    run_topk(*gpu, {.rows = 2, .columns = 300001, .top_k = 2048, .scores = scores, .full = true});
  }
}

// In one segment of a CTA, in several, in chunks that a CTA reads one after the other.
TEST_CASE("topk_transform: rows and columns", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: rows and columns");
  if (!gpu) return;
  for (const int64_t rows : {0, 1, 3, 40, 700})
    for (const int64_t columns : {0, 1, 7, 513, 4096, 40003}) {
      run_topk(*gpu, {.rows = rows, .columns = columns, .top_k = 512, .scores = Scores::few});
      run_topk(*gpu, {.rows = rows, .columns = columns, .top_k = 1, .full = true});
    }
  run_topk(*gpu, {.rows = 5000, .columns = 600, .top_k = 77});
  run_topk(*gpu, {.rows = 150, .columns = 140001, .top_k = 2048, .full = true});
  run_topk(*gpu, {.rows = 17, .columns = 600003, .top_k = 2048});
  run_topk(*gpu, {.rows = 1, .columns = 3000000, .top_k = 2048, .scores = Scores::few, .full = true});
}

TEST_CASE("topk_transform: page tables, strides and what is wanted", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: page tables, strides and what is wanted");
  if (!gpu) return;
  for (const int64_t page_size : {1, 2, 61, 64, 256, 100000})
    run_topk(*gpu, {.rows = 24, .columns = 5001, .top_k = 600, .page_size = page_size, .pad = 3});
  run_topk(*gpu, {.rows = 24, .columns = 5001, .top_k = 600, .one_table = true, .flags = DGRT_FLAG_PDL});
  run_topk(*gpu, {.rows = 24, .columns = 5001, .top_k = 600, .pad = 1, .slots = false});
  run_topk(*gpu, {.rows = 24, .columns = 5001, .top_k = 600, .pad = 1, .positions = false});
}

TEST_CASE("topk_transform: graph replay with other scores", "[gpu]") {
  Gpu* gpu = gpu_for("topk_transform: graph replay with other scores");
  if (!gpu) return;
  for (const int64_t columns : {3000, 90000}) {
    const TopkCase test{.rows = 12, .columns = columns, .top_k = 512, .flags = DGRT_FLAG_PDL};
    run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(TopkRun run, TopkRun::make(*gpu, test));
      return replay(*gpu, 5, &run);
    });
  }
}

TEST_CASE("topk_transform: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("topk_transform: small sizes");
  if (!gpu) return;
  run_topk(*gpu, {.rows = 3, .columns = 513, .top_k = 77, .pad = 1, .narrow = true});
  run_topk(*gpu, {.rows = 2, .columns = 300, .top_k = 512, .scores = Scores::special, .page_size = 61, .narrow = true});
  for (const Config& config : kernels(256, true)) {
    const OneKernel kernel(*gpu, config);
    for (const Scores scores : {Scores::normal, Scores::special, Scores::one_exponent})
      run_topk(*gpu, {.rows = 2, .columns = 9999, .top_k = 2048, .scores = scores, .full = true});
  }
}

}  // namespace dgrt::test
