// mqa_logits against a naive reference: heads, head sizes, types, both forms, ranges of every kind, what lies
// around them; bit for bit against itself: repeats, graphs, tokens alone.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()
#include "tools/lib/lab_mqa_check.h"

namespace dgrt::test {
namespace {

constexpr uint8_t nan_code = 0x7f;

struct LogitsCase {
  int64_t heads = 64, head_dim = 128;
  int64_t tokens = 0, keys = 0;
  dgrt_dtype dtype_out = DGRT_FP32;
  uint32_t flags = DGRT_LOGITS_CLEAN;
  int64_t max_k = 0;
  int64_t pad = 5;  // elements after each row of w and out

  int64_t columns() const { return (flags & DGRT_LOGITS_COMPRESSED) != 0 ? max_k : keys; }
  int64_t out_bytes() const { return dtype_out == DGRT_FP32 ? 4 : 2; }
  std::string name() const {
    return fmt::format("mqa_logits {}x{} heads {}x{}{} dtype={} flags={:#x}", tokens, keys, heads, head_dim,
                       max_k > 0 ? fmt::format(" max_k={}", max_k) : "", dtype_out, flags);
  }
};

struct Ranges {
  std::vector<int32_t> ks, ke;
};

// The last tokens of the keys.
Ranges causal(const LogitsCase& test) {
  Ranges r{std::vector<int32_t>(test.tokens, 0), {}};
  for (int64_t i = 0; i < test.tokens; ++i) r.ke.push_back(static_cast<int32_t>(test.keys - test.tokens + i + 1));
  return r;
}

// Anything: empty, the wrong way round, beyond the keys at either end.
Ranges any(const LogitsCase& test, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Ranges r;
  const auto pick = [&](int64_t low, int64_t high) {
    return static_cast<int32_t>(low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)));
  };
  for (int64_t i = 0; i < test.tokens; ++i) {
    const int32_t begin = pick(-3, test.keys);
    r.ks.push_back(i % 7 == 3 ? INT32_MIN : begin);
    r.ke.push_back(i % 11 == 5 ? INT32_MAX : i % 5 == 1 ? begin : pick(begin - 40, begin + test.keys));
  }
  return r;
}

// Tokens in two runs that see from `first` on, none beyond a part of the keys.
Ranges split(const LogitsCase& test, int32_t first) {
  Ranges r{std::vector<int32_t>(test.tokens, first), {}};
  const int64_t half = test.tokens / 2;
  for (int64_t i = 0; i < test.tokens; ++i)
    r.ke.push_back(first + static_cast<int32_t>(i < half ? test.keys / 8 + i : test.keys / 2 + i - half));
  return r;
}

class LogitsRun {
 public:
  static Result<LogitsRun> make(Gpu& gpu, const LogitsCase& test, const Ranges& ranges) {
    LogitsRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.num_heads = test.heads, run.desc_.head_dim = test.head_dim;
    run.desc_.max_tokens = 1 << 17, run.desc_.max_kv_tokens = 1 << 20;
    run.desc_.dtype_out = test.dtype_out, run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    const lab::Device& lab = *gpu.lab;
    const int64_t tokens = test.tokens, keys = test.keys;
    dgrt_mqa_logits_args& x = run.args_;
    x.tokens = tokens, x.kv_tokens = keys, x.max_k = test.max_k;
    x.w_token_stride = test.heads + test.pad, x.out_token_stride = test.columns() + test.pad;
    DGRT_ASSIGN(run.q_, lab::DeviceBuffer::make(lab, tokens * test.heads * test.head_dim));
    DGRT_ASSIGN(run.kv_, lab::DeviceBuffer::make(lab, keys * test.head_dim));
    DGRT_ASSIGN(run.kv_scale_, lab::DeviceBuffer::make(lab, (keys + 1) * 4));
    DGRT_ASSIGN(run.w_, lab::DeviceBuffer::make(lab, ((tokens - 1) * x.w_token_stride + test.heads) * 4));
    DGRT_ASSIGN(run.ks_, lab::DeviceBuffer::make(lab, tokens * 4));
    DGRT_ASSIGN(run.ke_, lab::DeviceBuffer::make(lab, tokens * 4));
    DGRT_ASSIGN(run.out_, lab::DeviceBuffer::make(lab, run.out_elements() * test.out_bytes()));
    x.q = run.q_.data(), x.kv = run.kv_.data(), x.w = run.w_.as<float>(), x.out = run.out_.data();
    x.kv_scale = run.kv_scale_.as<float>() + 1;  // as a slice has them
    x.ks = run.ks_.as<int32_t>(), x.ke = run.ke_.as<int32_t>();
    DGRT_TRY(run.fill(1));
    DGRT_TRY(run.set_ranges(ranges));
    return run;
  }

  Status fill(uint64_t seed) const {
    const lab::Device& lab = *gpu_->lab;
    DGRT_TRY(lab::fill_normal_e4m3(lab, q_.data(), q_.bytes(), seed));
    DGRT_TRY(lab::fill_normal_e4m3(lab, kv_.data(), kv_.bytes(), seed + 1));
    DGRT_TRY(lab::fill_normal_f32(lab, w_.as<float>(), w_.bytes() / 4, seed + 2));
    return lab::fill_scales(lab, kv_scale_.as<float>() + 1, test_.keys, seed + 3);
  }
  Status set_ranges(const Ranges& r) const {
    DGRT_TRY(ks_.upload(r.ks.data(), ks_.bytes()));
    return ke_.upload(r.ke.data(), ke_.bytes());
  }
  // Keys and scales that nobody sees, and the row of q and w of a token that sees nothing.
  Status spoil(int64_t first_key, int64_t end_key, int64_t token) const {
    const std::vector<uint8_t> codes(test_.keys * test_.head_dim + test_.heads * test_.head_dim, nan_code);
    const std::vector<float> scales(test_.keys + test_.heads, NAN);
    const int64_t after = test_.keys - end_key, row = test_.heads * test_.head_dim;
    DGRT_TRY(kv_.upload(codes.data(), first_key * test_.head_dim));
    DGRT_TRY(kv_.upload(codes.data(), after * test_.head_dim, end_key * test_.head_dim));
    DGRT_TRY(kv_scale_.upload(scales.data(), first_key * 4, 4));
    DGRT_TRY(kv_scale_.upload(scales.data(), after * 4, (end_key + 1) * 4));
    DGRT_TRY(q_.upload(codes.data(), row, token * row));
    return w_.upload(scales.data(), test_.heads * 4, token * args_.w_token_stride * 4);
  }
  // A NaN in one key: all its logits.
  Status spoil_key(int64_t key) const { return kv_.upload(&nan_code, 1, key * test_.head_dim + 5); }

  Status launch() const { return plan_.launch(&args_.op, gpu_->lab->stream()); }
  // The token alone, into `out`.
  Status launch_one(int64_t token, void* out) const {
    dgrt_mqa_logits_args x = args_;
    x.q = q_.as<uint8_t>() + token * test_.heads * test_.head_dim;
    x.w += token * x.w_token_stride, x.ks += token, x.ke += token;
    x.tokens = 1, x.out = out;
    return plan_.launch(&x.op, gpu_->lab->stream());
  }
  Result<std::string> check(int64_t most_rows = 1 << 20) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&q_, &kv_, &kv_scale_, &w_, &ks_, &ke_, &out_})
      DGRT_TRY(buffer->check_guards());
    if (out_.bytes() > 0) DGRT_TRY(plan_.kernel_name(&args_.op).status());
    DGRT_ASSIGN(const lab::LogitsError error, lab::check_mqa_logits(*gpu_->lab, desc_, args_, out_, most_rows));
    return error.to_string();
  }
  Result<std::string> run(int64_t most_rows = 1 << 20) const {
    DGRT_TRY(launch());
    return check(most_rows);
  }

  const lab::DeviceBuffer& out() const { return out_; }
  int64_t out_stride() const { return args_.out_token_stride; }

 private:
  int64_t out_elements() const { return (test_.tokens - 1) * args_.out_token_stride + test_.columns(); }

  Gpu* gpu_ = nullptr;
  LogitsCase test_;
  dgrt_mqa_logits_desc desc_ = DGRT_MQA_LOGITS_DESC;
  dgrt_mqa_logits_args args_ = DGRT_MQA_LOGITS_ARGS;
  lab::DeviceBuffer q_, kv_, kv_scale_, w_, ks_, ke_, out_;
  Plan plan_;
};

void run_ranges(Gpu& gpu, const LogitsCase& test, const Ranges& ranges, const char* what) {
  run_case(test.name() + ", " + what, [&]() -> Result<std::string> {
    DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(gpu, test, ranges));
    return run.run();
  });
}

}  // namespace

TEST_CASE("mqa_logits: heads, head sizes, types, forms", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: heads, head sizes, types, forms");
  if (!gpu) return;
  uint32_t turn = 0;
  for (const int64_t heads : {8, 16, 32, 64})
    for (const int64_t head_dim : {32, 64, 128}) {
      LogitsCase test{.heads = heads, .head_dim = head_dim, .tokens = 37, .keys = 1003};
      if (turn % 2) test.dtype_out = DGRT_BF16;
      if (turn / 2 % 2) test.flags |= DGRT_LOGITS_COMPRESSED, test.max_k = 400;
      if (turn / 3 % 2) test.flags &= ~DGRT_LOGITS_CLEAN;
      ++turn;
      run_ranges(*gpu, test, any(test, turn), "any");
      test.tokens = 300, test.keys = 2050;
      run_ranges(*gpu, test, causal(test), "causal");
    }
}

TEST_CASE("mqa_logits: ranges", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: ranges");
  if (!gpu) return;
  for (const uint32_t form : {0u, DGRT_LOGITS_COMPRESSED})
    for (const uint32_t clean : {0u, DGRT_LOGITS_CLEAN}) {
      LogitsCase test{.tokens = 130, .keys = 9001, .flags = form | clean, .max_k = form != 0 ? 5003 : 0};
      run_ranges(*gpu, test, causal(test), "causal");
      run_ranges(*gpu, test, split(test, 0), "split");
      run_ranges(*gpu, test, split(test, 1801), "split, later keys");
      run_ranges(*gpu, test, any(test, 7), "any");
      run_ranges(*gpu, test, {std::vector<int32_t>(130, 70), std::vector<int32_t>(130, 70)}, "all empty");
      test.pad = 0;
      run_ranges(*gpu, test, causal(test), "dense");
      const std::vector<std::pair<int64_t, int64_t>> sizes = {{1, 1}, {4, 128}, {5, 129}, {3, 70001}, {1000, 127}};
      for (const auto& [tokens, keys] : sizes) {
        test.tokens = tokens, test.keys = keys;
        run_ranges(*gpu, test, any(test, 9), "sizes");
        run_ranges(*gpu, test, {std::vector<int32_t>(tokens, 0), std::vector<int32_t>(tokens, INT32_MAX)}, "all keys");
      }
      test.tokens = 5, test.keys = 0;
      run_ranges(*gpu, test, any(test, 9), "no keys");
    }
}

TEST_CASE("mqa_logits: NaN around the ranges, and in them", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: NaN around the ranges, and in them");
  if (!gpu) return;
  for (const uint32_t form : {0u, DGRT_LOGITS_COMPRESSED}) {
    const LogitsCase test{.tokens = 66, .keys = 1003, .flags = form | DGRT_LOGITS_CLEAN, .max_k = form != 0 ? 900 : 0};
    Ranges ranges = split(test, 77);
    ranges.ke[13] = ranges.ks[13];
    const int64_t end = *std::max_element(ranges.ke.begin(), ranges.ke.end());
    run_case(test.name() + ", NaN around", [&]() -> Result<std::string> {
      DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(*gpu, test, ranges));
      DGRT_TRY(run.spoil(77, end, 13));
      return run.run();
    });
    run_case(test.name() + ", NaN in a key", [&]() -> Result<std::string> {
      DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(*gpu, test, ranges));
      DGRT_TRY(run.spoil_key(100));
      return run.run();
    });
  }
}

TEST_CASE("mqa_logits: repeats and tokens alone, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: repeats and tokens alone, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {DGRT_LOGITS_CLEAN | DGRT_FLAG_PDL, DGRT_LOGITS_COMPRESSED | DGRT_LOGITS_CLEAN}) {
    LogitsCase test{.tokens = 1001, .keys = 4099, .flags = flags};
    if ((flags & DGRT_LOGITS_COMPRESSED) != 0) test.max_k = 4000;
    run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(*gpu, test, any(test, 3)));
      DGRT_ASSIGN(const std::string detail, run.run());
      DGRT_ASSIGN(const std::vector<std::byte> want, run.out().download_all<std::byte>());
      for (int repeat = 0; repeat < 20; ++repeat) {
        DGRT_TRY(run.out().poison());
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_TRY(run.launch());
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_ASSIGN(const std::vector<std::byte> got, run.out().download_all<std::byte>());
        if (got != want) return error(DGRT_INTERNAL, "repeat {} differs", repeat);
      }
      DGRT_ASSIGN(const lab::DeviceBuffer one, lab::DeviceBuffer::make(*gpu->lab, test.columns() * 4));
      for (int64_t token = 0; token < test.tokens; token += 83) {
        DGRT_TRY(run.launch_one(token, one.data()));
        DGRT_TRY(gpu->lab->synchronize());
        const float* row = run.out().as<float>() + token * run.out_stride();
        DGRT_ASSIGN(const int64_t at, lab::first_difference(*gpu->lab, one.data(), row, one.bytes()));
        if (at >= 0) return error(DGRT_INTERNAL, "token {} alone: byte {} differs", token, at);
      }
      return detail;
    });
  }
}

TEST_CASE("mqa_logits: graph replay with other inputs and ranges", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: graph replay with other inputs and ranges");
  if (!gpu) return;
  const LogitsCase test{.heads = 32, .tokens = 130, .keys = 2049, .flags = DGRT_LOGITS_CLEAN | DGRT_FLAG_PDL};
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(*gpu, test, causal(test)));
    DGRT_TRY(gpu->lab->synchronize());
    Graph graph(gpu->lab->driver());
    const CUstream stream = gpu->lab->stream();
    DGRT_TRY(capture(&graph, stream, [&] { return run.launch(); }));
    std::string detail;
    for (uint64_t round = 0; round < 5; ++round) {
      DGRT_TRY(run.fill(round + 9));
      DGRT_TRY(run.set_ranges(any(test, round)));
      DGRT_TRY(run.out().poison());
      DGRT_TRY(gpu->lab->synchronize());
      for (int repeat = 0; repeat < 3; ++repeat) DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
      DGRT_ASSIGN(detail, run.check());
    }
    return detail;
  });
}

TEST_CASE("mqa_logits: more than 2^31 logits", "[gpu]") {
  Gpu* gpu = gpu_for("mqa_logits: more than 2^31 logits");
  if (!gpu) return;
  const LogitsCase test{.heads = 8, .head_dim = 32, .tokens = 40000, .keys = 65537, .dtype_out = DGRT_BF16};
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const LogitsRun run, LogitsRun::make(*gpu, test, causal(test)));
    return run.run(20);
  });
}

TEST_CASE("mqa_logits: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("mqa_logits: small sizes");
  if (!gpu) return;
  LogitsCase test{.heads = 8, .head_dim = 64, .tokens = 13, .keys = 203};
  run_ranges(*gpu, test, any(test, 3), "any");
  test.heads = 64, test.head_dim = 128, test.tokens = 5, test.flags |= DGRT_LOGITS_COMPRESSED, test.max_k = 190;
  run_ranges(*gpu, test, causal(test), "causal");
}

}  // namespace dgrt::test
