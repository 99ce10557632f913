// attn_merge against sums in fp64: types, sizes, strides, sinks, empty parts whose o is NaN; bit for bit
// against itself.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/gpu/gpu_test.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_attn_memory_check.h"

namespace dgrt::test {
namespace {

struct MergeCase {
  int64_t tokens = 0, heads = 0, head_dim = 0, parts = 0;
  dgrt_dtype dtype_part = DGRT_FP32, dtype_o = DGRT_BF16;
  uint32_t flags = 0;
  bool sinks = false, padded = false, lse = true;
  bool parts_inside = false;  // [tokens, parts, heads, columns]

  std::string name() const {
    return fmt::format("attn_merge {}x{}x{} parts={} dtypes={},{} flags={:#x}{}{}{}{}", tokens,
                       heads, head_dim, parts, dtype_part, dtype_o, flags, sinks ? " sinks" : "",
                       padded ? " padded" : "", lse ? "" : " no lse",
                       parts_inside ? " parts inside" : "");
  }
};

int64_t bytes_of(dgrt_dtype dtype) { return dtype == DGRT_FP32 ? 4 : 2; }

// steps / 32, which every type holds exactly. Requires: |steps| <= 128.
void store_exact(lab::Bytes* to, dgrt_dtype dtype, int64_t index, int32_t steps) {
  const float value = static_cast<float>(steps) / 32;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (dtype == DGRT_FP32) {
    std::memcpy(to->data() + index * 4, &bits, 4);
    return;
  }
  uint16_t half = static_cast<uint16_t>(bits >> 16);
  if (dtype == DGRT_FP16 && steps != 0)
    half =
        static_cast<uint16_t>((bits >> 16 & 0x8000) | (((bits & 0x7fffffff) >> 13) - (112 << 10)));
  std::memcpy(to->data() + index * 2, &half, 2);
}

class MergeRun {
 public:
  struct Outputs {
    lab::DeviceBuffer o, lse;
    dgrt_attn_merge_args args;
  };

  static Result<MergeRun> make(Gpu& gpu, const MergeCase& test) {
    MergeRun run;
    run.gpu_ = &gpu, run.test_ = test;
    run.desc_.num_heads = test.heads, run.desc_.head_dim = test.head_dim;
    run.desc_.max_tokens = 1 << 20, run.desc_.max_parts = 64;
    run.desc_.dtype_part = test.dtype_part, run.desc_.dtype_o = test.dtype_o;
    run.desc_.flags = test.flags;
    DGRT_ASSIGN(run.plan_, Plan::make(gpu, &run.desc_.op));
    run.set_strides();
    const dgrt_attn_merge_args& x = run.args_;
    run.images_.part_o.resize(run.extent(x.part_o_part_stride, x.part_o_token_stride,
                                         x.part_o_head_stride, test.head_dim) *
                              bytes_of(test.dtype_part));
    run.images_.part_lse.resize(
        run.extent(x.part_lse_part_stride, x.part_lse_token_stride, x.part_lse_head_stride, 1));
    DGRT_ASSIGN(run.part_o_, lab::DeviceBuffer::make(*gpu.lab, run.images_.part_o.size()));
    DGRT_ASSIGN(run.part_lse_, lab::DeviceBuffer::make(*gpu.lab, run.images_.part_lse.size() * 4));
    DGRT_ASSIGN(run.sinks_, lab::DeviceBuffer::make(*gpu.lab, test.heads * 4));
    run.args_.part_o = run.part_o_.data(), run.args_.part_lse = run.part_lse_.as<float>();
    if (test.sinks) run.args_.sinks = run.sinks_.as<float>();
    DGRT_TRY(run.fill(1));
    return run;
  }

  // New inputs. A quarter of the parts is empty and an eighth weighs nothing: their o is NaN.
  Status fill(uint64_t seed) {
    state_ = seed * 0x9e3779b97f4a7c15;
    std::fill(images_.part_o.begin(), images_.part_o.end(), std::byte{0xff});
    std::fill(images_.part_lse.begin(), images_.part_lse.end(),
              std::numeric_limits<float>::quiet_NaN());
    for (int64_t token = 0; token < test_.tokens; ++token)
      for (int64_t head = 0; head < test_.heads; ++head) fill_row(token, head);
    images_.sinks.clear();
    for (int64_t head = 0; test_.sinks && head < test_.heads; ++head)
      images_.sinks.push_back(head % 5 == 4 ? -INFINITY : static_cast<float>(draw(160)) / 10 - 8);
    DGRT_TRY(part_o_.upload(images_.part_o.data(), images_.part_o.size()));
    DGRT_TRY(part_lse_.upload(images_.part_lse.data(), images_.part_lse.size() * 4));
    return test_.sinks ? sinks_.upload(images_.sinks.data(), images_.sinks.size() * 4) : ok();
  }

  Result<Outputs> outputs() const {
    Outputs out{{}, {}, args_};
    const int64_t o = extent(0, args_.o_token_stride, args_.o_head_stride, test_.head_dim);
    DGRT_ASSIGN(out.o, lab::DeviceBuffer::make(*gpu_->lab, o * bytes_of(test_.dtype_o)));
    DGRT_ASSIGN(out.lse,
                lab::DeviceBuffer::make(
                    *gpu_->lab, extent(0, args_.lse_token_stride, args_.lse_head_stride, 1) * 4));
    out.args.o = out.o.data();
    if (test_.lse) out.args.lse = out.lse.as<float>();
    return out;
  }

  Status launch(const Outputs& out) const {
    return plan_.launch(&out.args.op, gpu_->lab->stream());
  }
  const Plan& plan() const { return plan_; }
  const dgrt_attn_merge_args& args() const { return args_; }

  Result<std::string> check(const Outputs& out) {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&part_o_, &part_lse_, &sinks_})
      DGRT_TRY(buffer->check_guards());
    for (const lab::DeviceBuffer* buffer : {&out.o, &out.lse}) DGRT_TRY(buffer->check_guards());
    DGRT_ASSIGN(images_.o, out.o.download_all<std::byte>());
    images_.lse.clear();
    if (test_.lse) {
      DGRT_ASSIGN(images_.lse, out.lse.download_all<float>());
    }
    DGRT_ASSIGN(const lab::MergeError error,
                lab::check_attn_merge(desc_, out.args, images_, 1 << 12));
    DGRT_TRY(check_gaps());
    if (test_.tokens == 0) return std::string("nothing to do");
    DGRT_ASSIGN(const std::string kernel, plan_.kernel_name(&out.args.op));
    return fmt::format("{} {} rows, worst {:.2f} of what is allowed", kernel, error.rows,
                       error.worst);
  }

 private:
  void set_strides() {
    const int64_t pad = test_.padded ? 16 : 0, odd = test_.padded ? 3 : 0;
    dgrt_attn_merge_args& x = args_;
    x.tokens = test_.tokens, x.num_parts = test_.parts;
    x.part_o_head_stride = x.o_head_stride = test_.head_dim + pad;
    const int64_t row = test_.heads * x.o_head_stride + pad;
    x.o_token_stride = row;
    x.part_o_token_stride = test_.parts_inside ? test_.parts * row : row;
    x.part_o_part_stride =
        test_.parts_inside ? row : std::max<int64_t>(test_.tokens, 1) * row + pad;
    x.lse_head_stride = 1 + odd, x.lse_token_stride = test_.heads * x.lse_head_stride + odd;
    // Of the parts: tokens side by side.
    x.part_lse_token_stride = 1, x.part_lse_head_stride = std::max<int64_t>(test_.tokens, 1) + odd;
    x.part_lse_part_stride = test_.heads * x.part_lse_head_stride + odd;
  }
  int64_t extent(int64_t part, int64_t token, int64_t head, int64_t columns) const {
    if (test_.tokens == 0) return 0;
    return (test_.parts - 1) * part + (test_.tokens - 1) * token + (test_.heads - 1) * head +
           columns;
  }
  uint32_t draw(uint32_t below) {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(state_ >> 33) % below;
  }
  void fill_row(int64_t token, int64_t head) {
    const float base = static_cast<float>(draw(120)) - 60;
    const bool empty = draw(11) == 0;
    const int64_t sure = draw(static_cast<uint32_t>(test_.parts));
    for (int64_t part = 0; part < test_.parts; ++part) {
      const uint32_t kind =
          part == sure ? 7 : draw(8);  // the sure part is what the others compare to
      float& lse =
          images_.part_lse[part * args_.part_lse_part_stride + token * args_.part_lse_token_stride +
                           head * args_.part_lse_head_stride];
      lse = base + static_cast<float>(draw(1 << 12)) / 256 - 8;
      if (kind == 2) lse = -2000;
      if (empty || kind < 2) lse = -INFINITY;
      if (empty || kind <= 2) continue;
      const int64_t at = part * args_.part_o_part_stride + token * args_.part_o_token_stride +
                         head * args_.part_o_head_stride;
      for (int64_t column = 0; column < test_.head_dim; ++column)
        store_exact(&images_.part_o, test_.dtype_part, at + column,
                    static_cast<int32_t>(draw(257)) - 128);
    }
  }
  // Between rows nothing is written.
  Status check_gaps() const {
    std::vector<bool> written(images_.o.size());
    const int64_t bytes = bytes_of(test_.dtype_o);
    for (int64_t token = 0; token < test_.tokens; ++token)
      for (int64_t head = 0; head < test_.heads; ++head) {
        const int64_t at = (token * args_.o_token_stride + head * args_.o_head_stride) * bytes;
        std::fill_n(written.begin() + at, test_.head_dim * bytes, true);
      }
    for (size_t i = 0; i < written.size(); ++i)
      if (!written[i] && images_.o[i] != std::byte{0xff})
        return error(DGRT_INTERNAL, "byte {} of o, between rows, was written", i);
    return ok();
  }

  Gpu* gpu_ = nullptr;
  MergeCase test_;
  uint64_t state_ = 0;
  dgrt_attn_merge_desc desc_ = DGRT_ATTN_MERGE_DESC;
  dgrt_attn_merge_args args_ = DGRT_ATTN_MERGE_ARGS;
  Plan plan_;
  lab::MergeImages images_;
  lab::DeviceBuffer part_o_, part_lse_, sinks_;
};

void run_merge(Gpu& gpu, const MergeCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(MergeRun run, MergeRun::make(gpu, test));
    DGRT_ASSIGN(const MergeRun::Outputs out, run.outputs());
    DGRT_TRY(gpu.lab->synchronize());
    DGRT_TRY(run.launch(out));
    return run.check(out);
  });
}

Status check_equal(const lab::DeviceBuffer& want, const lab::DeviceBuffer& got, size_t bytes,
                   size_t at) {
  std::vector<std::byte> a(bytes), b(bytes);
  DGRT_TRY(want.download(a.data(), bytes, at));
  DGRT_TRY(got.download(b.data(), bytes, at));
  return a == b ? ok() : error(DGRT_INTERNAL, "{} bytes at {} differ", bytes, at);
}

}  // namespace

TEST_CASE("attn_merge: types, head sizes, numbers of parts", "[gpu]") {
  Gpu* gpu = gpu_for("attn_merge: types, head sizes, numbers of parts");
  if (!gpu) return;
  for (const dgrt_dtype part : {DGRT_FP32, DGRT_BF16, DGRT_FP16})
    for (const dgrt_dtype o : {DGRT_BF16, DGRT_FP16, DGRT_FP32})
      for (const int64_t parts : {1, 2, 7, 33, 64})
        run_merge(*gpu, {.tokens = 37,
                         .heads = 5,
                         .head_dim = 128,
                         .parts = parts,
                         .dtype_part = part,
                         .dtype_o = o});
  for (const int64_t head_dim : {8, 16, 64, 72, 96, 192, 200, 256, 512})
    for (const dgrt_dtype part : {DGRT_FP32, DGRT_BF16}) {
      MergeCase test{
          .tokens = 19, .heads = 7, .head_dim = head_dim, .parts = 5, .dtype_part = part};
      run_merge(*gpu, test);
      test.padded = test.sinks = test.parts_inside = true, test.parts = 40;
      run_merge(*gpu, test);
    }
}

TEST_CASE("attn_merge: sinks, forms of lse, many and few tokens", "[gpu]") {
  Gpu* gpu = gpu_for("attn_merge: sinks, forms of lse, many and few tokens");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_ATTN_LSE_BASE2, DGRT_ATTN_LSE_WITH_SINK,
                               DGRT_ATTN_LSE_BASE2 | DGRT_ATTN_LSE_WITH_SINK | DGRT_FLAG_PDL})
    for (const int64_t tokens : {0, 1, 3, 64, 1000})
      for (const bool sinks : {true, false})
        run_merge(*gpu, {.tokens = tokens,
                         .heads = 16,
                         .head_dim = 128,
                         .parts = 6,
                         .flags = flags,
                         .sinks = sinks,
                         .lse = tokens != 3});
  run_merge(*gpu, {.tokens = 8192, .heads = 16, .head_dim = 128, .parts = 3, .sinks = true});
  run_merge(*gpu, {.tokens = 1, .heads = 8, .head_dim = 512, .parts = 64, .sinks = true});
}

TEST_CASE("attn_merge: repeats, graphs and other tokens, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_merge: repeats, graphs and other tokens, bitwise");
  if (!gpu) return;
  for (const int64_t tokens : {4, 700}) {
    const MergeCase test{.tokens = tokens,
                         .heads = 8,
                         .head_dim = 128,
                         .parts = 24,
                         .flags = DGRT_FLAG_BATCH_INVARIANT | DGRT_FLAG_PDL,
                         .sinks = true};
    run_case("bitwise: " + test.name(), [&]() -> Result<std::string> {
      DGRT_ASSIGN(MergeRun run, MergeRun::make(*gpu, test));
      DGRT_ASSIGN(const MergeRun::Outputs want, run.outputs());
      DGRT_ASSIGN(const MergeRun::Outputs got, run.outputs());
      DGRT_TRY(gpu->lab->synchronize());
      Graph graph(gpu->lab->driver());
      const CUstream stream = gpu->lab->stream();
      DGRT_TRY(capture(&graph, stream, [&] { return run.launch(got); }));
      for (uint64_t round = 0; round < 10; ++round) {
        DGRT_TRY(run.fill(round + 5));
        DGRT_TRY(run.launch(want));
        DGRT_TRY(got.o.poison());
        DGRT_CU(gpu->lab->driver(), cuGraphLaunch(graph.exec, stream));
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_TRY(check_equal(want.o, got.o, want.o.bytes(), 0));
        DGRT_TRY(check_equal(want.lse, got.lse, want.lse.bytes(), 0));
      }
      // Some tokens alone.
      DGRT_TRY(got.o.poison());
      DGRT_TRY(gpu->lab->synchronize());
      const int64_t row = want.args.o_token_stride;
      for (const int64_t token : {int64_t{0}, tokens / 2, tokens - 1}) {
        dgrt_attn_merge_args x = got.args;
        x.part_o = static_cast<const float*>(x.part_o) + token * x.part_o_token_stride;
        x.part_lse += token * x.part_lse_token_stride, x.lse += token * x.lse_token_stride;
        x.o = static_cast<uint16_t*>(x.o) + token * row;
        x.tokens = 1;
        DGRT_TRY(run.plan().launch(&x.op, stream));
        DGRT_TRY(gpu->lab->synchronize());
        DGRT_TRY(check_equal(want.o, got.o, row * 2, token * row * 2));
      }
      return run.check(want);
    });
  }
}

TEST_CASE("attn_merge: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attn_merge: small sizes");
  if (!gpu) return;
  run_merge(*gpu, {.tokens = 9, .heads = 5, .head_dim = 72, .parts = 7, .sinks = true});
}

}  // namespace dgrt::test
