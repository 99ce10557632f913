// attn_extend and attn_decode whose sequences' own keys are not in the cache, attn_extend whose page tables begin
// late, against a reference in fp64; and bit for bit against itself. Cases' lengths are queries and keys in the
// cache.
#include <tuple>

#include "tests/gpu/attn_decode_case.h"
#include "tests/gpu/graph.h"
#include "tools/lib/lab_attn_check.h"
#include "tools/lib/lab_fill.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {
namespace {

struct NewKeysCase {
  DecodeCase paged;
  std::vector<int32_t> starts = {};  // kv_start; empty: NULL
  int64_t padding = 0;               // columns between heads, and between tokens, of new keys
  bool no_pages = false;

  bool has_new() const { return (paged.flags & DGRT_ATTN_NEW_KEYS) != 0; }
  std::string name() const {
    return paged.name() + (has_new() ? " new-keys" : "") + (starts.empty() ? "" : " starts") +
           (padding > 0 ? " padded-new" : "") + (no_pages ? " no-pages" : "");
  }
};

NewKeysCase sized_new(std::pair<int64_t, int64_t> head_size, Lens lens, uint32_t flags = DGRT_ATTN_NEW_KEYS) {
  NewKeysCase test;
  test.paged = sized(head_size, std::move(lens));
  test.paged.op_id = DGRT_OP_ATTN_EXTEND;
  test.paged.most_checked = 700;
  test.paged.flags = flags;
  return test;
}

NewKeysCase verify(std::pair<int64_t, int64_t> head_size, Lens lens, uint32_t flags = DGRT_ATTN_NEW_KEYS) {
  NewKeysCase test = sized_new(head_size, std::move(lens), flags);
  test.paged.op_id = DGRT_OP_ATTN_DECODE;
  return test;
}

// A paged run, whose cache ends where new keys begin: what it has behind that is NaN.
class NewKeysRun {
 public:
  static Result<NewKeysRun> make(Gpu& gpu, const NewKeysCase& test) {
    NewKeysRun run;
    run.gpu_ = &gpu, run.test_ = test;
    DGRT_ASSIGN(run.paged_, DecodeRun::make(gpu, test.paged));
    DGRT_ASSIGN(run.seq_lens_, run.integers({}));
    DGRT_ASSIGN(run.starts_, run.integers(test.starts));
    if (test.has_new()) {
      DGRT_ASSIGN(run.k_, run.keys(test.paged.head_dim_qk, 5));
      DGRT_ASSIGN(run.v_, run.keys(test.paged.head_dim_v, 6));
    }
    DGRT_ASSIGN(run.page_error_, lab::DeviceBuffer::make(*gpu.lab, 16));
    DGRT_TRY(lab::fill_words(*gpu.lab, run.page_error_.data(), 4, 0));
    DGRT_TRY(run.set_cached(test.paged.lens));
    if (test.paged.mask != MaskShape::none) DGRT_TRY(run.make_mask());
    return run;
  }

  // Other numbers of keys in the cache, none above the case's.
  Status set_cached(const Lens& lens) const {
    DGRT_TRY(gpu_->lab->synchronize());
    std::vector<int32_t> all;
    for (size_t b = 0; b < lens.size(); ++b)
      all.push_back(static_cast<int32_t>(num_keys(lens, b)));
    return seq_lens_.upload(all.data(), all.size() * sizeof(int32_t));
  }

  struct Outputs {
    DecodeRun::Outputs paged;
    dgrt_attn_extend_args args = DGRT_ATTN_EXTEND_ARGS;
  };
  Result<Outputs> outputs() const {
    Outputs out;
    DGRT_ASSIGN(out.paged, paged_.outputs());
    dgrt_attn_extend_args& x = out.args;
    x = to_extend(out.paged.args);
    x.seq_lens = seq_lens_.as<int32_t>();
    if (!test_.starts.empty()) x.kv_start = starts_.as<int32_t>();
    if (test_.no_pages) x.num_pages = 0, x.k = x.v = nullptr, x.page_table = nullptr;
    if (mask_.bytes() > 0) {
      x.mask = mask_.data(), x.mask_indptr = mask_indptr_.as<int64_t>();
      x.mask_bytes = static_cast<int64_t>(mask_.bytes());
    }
    if ((test_.paged.flags & DGRT_ATTN_CHECK_PAGES) != 0) x.page_error = page_error_.as<int32_t>();
    if (!test_.has_new()) return out;
    x.k_new = k_.data(), x.v_new = v_.data();
    x.k_new_head_stride = test_.paged.head_dim_qk + test_.padding;
    x.v_new_head_stride = test_.paged.head_dim_v + test_.padding;
    x.k_new_token_stride = token_stride(test_.paged.head_dim_qk);
    x.v_new_token_stride = token_stride(test_.paged.head_dim_v);
    return out;
  }
  Status launch(const Outputs& out) const {
    if (test_.paged.op_id == DGRT_OP_ATTN_EXTEND) return paged_.plan().launch(&out.args.op, gpu_->lab->stream());
    const dgrt_attn_decode_args args = to_decode(out.args);
    return paged_.plan().launch(&args.op, gpu_->lab->stream());
  }
  Result<std::string> check(const Outputs& out) const {
    DGRT_TRY(gpu_->lab->synchronize());
    for (const lab::DeviceBuffer* buffer : {&k_, &v_, &out.paged.o, &out.paged.lse})
      if (buffer->bytes() > 0) DGRT_TRY(buffer->check_guards());
    DGRT_TRY(paged_.check_state());
    DGRT_ASSIGN(const std::vector<int32_t> page_error, page_error_.download_all<int32_t>());
    for (const int32_t word : page_error)
      if (word != 0) return error(DGRT_INTERNAL, "page_error is {{{}}}", fmt::join(page_error, ", "));
    const DecodeCase& t = test_.paged;
    dgrt_attn_extend_desc desc = DGRT_ATTN_EXTEND_DESC;
    desc.num_q_heads = t.num_q_heads, desc.num_kv_heads = t.num_kv_heads;
    desc.head_dim_qk = t.head_dim_qk, desc.head_dim_v = t.head_dim_v;
    desc.dtype = t.dtype, desc.flags = t.flags | (t.softcap > 0 ? DGRT_ATTN_SOFTCAP : 0);
    const lab::AttnProblem problem = lab::problem_of(desc, out.args);
    DGRT_ASSIGN(const lab::AttnError found,
                lab::check_attn(*gpu_->lab, problem, out.args.total_q, t.most_checked));
    DGRT_TRY(lab::check_attn_untouched(*gpu_->lab, problem, out.args.total_q, out.paged.o, out.paged.lse));
    return found.to_string();
  }

 private:
  // A table without keys begins behind all of its sequence's.
  int64_t num_keys(const Lens& lens, size_t b) const {
    const int64_t start = test_.starts.empty() ? 0 : test_.starts[b];
    return lens[b].second + (test_.has_new() ? lens[b].first : 0) + (lens[b].second > 0 ? start : start / 2);
  }
  int64_t token_stride(int64_t columns) const {
    return test_.paged.num_kv_heads * (columns + test_.padding) + test_.padding;
  }
  // Over all keys; the paged run's own is of those in the cache.
  Status make_mask() {
    Lens lens = test_.paged.lens;
    for (size_t b = 0; b < lens.size(); ++b) lens[b].second = num_keys(lens, b);
    const EncodedMask mask = encode_masks(test_.paged.mask, test_.paged.flags, lens);
    DGRT_ASSIGN(mask_, lab::DeviceBuffer::make(*gpu_->lab, mask.bytes.size()));
    DGRT_ASSIGN(mask_indptr_, lab::DeviceBuffer::make(*gpu_->lab, mask.indptr.size() * sizeof(int64_t)));
    DGRT_TRY(mask_.upload(mask.bytes.data(), mask.bytes.size()));
    return mask_indptr_.upload(mask.indptr.data(), mask_indptr_.bytes());
  }
  Result<lab::DeviceBuffer> integers(const std::vector<int32_t>& values) const {
    DGRT_ASSIGN(lab::DeviceBuffer buffer,
                lab::DeviceBuffer::make(*gpu_->lab, test_.paged.lens.size() * sizeof(int32_t)));
    if (!values.empty()) DGRT_TRY(buffer.upload(values.data(), buffer.bytes()));
    return buffer;
  }
  Result<lab::DeviceBuffer> keys(int64_t columns, uint64_t seed) const {
    const int64_t elements = test_.paged.num_q() * token_stride(columns);
    DGRT_ASSIGN(lab::DeviceBuffer buffer, lab::DeviceBuffer::make(*gpu_->lab, elements * 2));
    DGRT_TRY(test_.paged.dtype == DGRT_FP16
                 ? lab::fill_normal_fp16(*gpu_->lab, buffer.data(), elements, seed)
                 : lab::fill_normal_bf16(*gpu_->lab, buffer.data(), elements, seed));
    return buffer;
  }

  Gpu* gpu_ = nullptr;
  NewKeysCase test_;
  DecodeRun paged_;
  lab::DeviceBuffer seq_lens_, starts_, k_, v_, mask_, mask_indptr_, page_error_;
};

void run_new_keys(Gpu& gpu, const NewKeysCase& test) {
  run_case(test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const NewKeysRun run, NewKeysRun::make(gpu, test));
    DGRT_ASSIGN(const NewKeysRun::Outputs out, run.outputs());
    DGRT_TRY(run.launch(out));
    return run.check(out);
  });
}

const Lens mixed = {{1, 1}, {17, 37}, {0, 70}, {300, 0}, {129, 777}, {200, 3001}, {64, 128}, {1, 0}};
const Lens drafts = {{1, 1}, {4, 37}, {0, 70}, {16, 0}, {7, 777}, {5, 9001}, {16, 128}, {1, 0}, {3, 62}, {2, 63}};

void run_repeats(Gpu& gpu, const NewKeysCase& test) {
  run_case("repeats: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const NewKeysRun run, NewKeysRun::make(gpu, test));
    DGRT_ASSIGN(const NewKeysRun::Outputs want, run.outputs());
    DGRT_ASSIGN(const NewKeysRun::Outputs got, run.outputs());
    DGRT_TRY(run.launch(want));
    for (int round = 0; round < 8; ++round) {
      for (int i = 0; i < 3; ++i) DGRT_TRY(run.launch(got));
      DGRT_TRY(gpu.lab->synchronize());
      DGRT_ASSIGN(const int64_t differs, lab::first_difference(*gpu.lab, want.paged.o.data(), got.paged.o.data(),
                                                               want.paged.o.bytes()));
      if (differs >= 0) return error(DGRT_INTERNAL, "byte {} of o differs", differs);
      DGRT_TRY(got.paged.o.poison());
    }
    return run.check(want);
  });
}

// replays: keys in the cache, of every sequence.
void run_graph_replay(Gpu& gpu, const NewKeysCase& test, const std::vector<std::vector<int64_t>>& replays) {
  run_case("graph replay: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const NewKeysRun run, NewKeysRun::make(gpu, test));
    DGRT_ASSIGN(const NewKeysRun::Outputs out, run.outputs());
    Graph graph(gpu.lab->driver());
    const CUstream stream = gpu.lab->stream();
    DGRT_TRY(capture(&graph, stream, [&] { return run.launch(out); }));
    std::string details;
    for (const std::vector<int64_t>& cached : replays) {
      Lens lens = test.paged.lens;
      for (size_t b = 0; b < lens.size(); ++b) lens[b].second = cached[b];
      DGRT_TRY(run.set_cached(lens));
      for (const lab::DeviceBuffer* buffer : {&out.paged.o, &out.paged.lse}) DGRT_TRY(buffer->poison());
      DGRT_CU(gpu.lab->driver(), cuGraphLaunch(graph.exec, stream));
      DGRT_ASSIGN(const std::string detail, run.check(out));
      details += (details.empty() ? "" : "; ") + detail;
    }
    return details;
  });
}

}  // namespace

TEST_CASE("attn_extend new keys: head sizes and pages", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: head sizes and pages");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {96, 96}, {128, 128}, {192, 128},
                                {256, 256}, {512, 512}, {24, 40}})
    for (const int64_t page_size : {1, 16, 80}) {
      NewKeysCase test = sized_new(head_size, mixed);
      test.paged.page_size = page_size, test.padding = page_size == 80 ? 8 : 0;
      test.paged.dtype = page_size == 16 ? DGRT_FP16 : DGRT_BF16;
      test.paged.flags |= few_kernels_unless(head_size.first == 128 && page_size != 16);
      run_new_keys(*gpu, test);
    }
}

TEST_CASE("attn_extend new keys: chunks and prefixes", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: chunks and prefixes");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256})
    for (const int64_t page_size : {1, 64}) {
      for (const auto& one : Lens{{1, 20000}, {300, 20000}, {4096, 4096}, {4096, 0}, {4096, 129}}) {
        NewKeysCase test = sized_new({head_dim, head_dim}, {one});
        test.paged.page_size = page_size, test.paged.most_checked = 300;
        run_new_keys(*gpu, test);
      }
      NewKeysCase test = sized_new({head_dim, head_dim}, {{300, 0}, {0, 0}, {1000, 0}});
      test.paged.page_size = page_size, test.no_pages = true;
      run_new_keys(*gpu, test);
    }
}

TEST_CASE("attn_extend new keys: windows that start in the prefix or the chunk", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: windows that start in the prefix or the chunk");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256})
    for (const int64_t left : {0, 1, 33, 127, 1024, 100000})
      for (const int64_t page_size : {1, 16}) {
        NewKeysCase test = sized_new({head_dim, head_dim}, {{40, 1004}, {300, 8004}, {700, 68}, {90, 0}, {1, 2500}});
        test.paged.window_left = left, test.paged.page_size = page_size;
        run_new_keys(*gpu, test);
      }
  for (const int64_t right : {3, -1}) {
    NewKeysCase test = sized_new({128, 128}, {{140, 1004}, {160, 400}});
    test.paged.window_right = right, test.paged.sinks = true;
    run_new_keys(*gpu, test);
  }
}

// Lengths and the flag keep a plan to a kernel for each way to load pages.
TEST_CASE("attn_extend new keys, late page tables: masks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys, late page tables: masks");
  if (!gpu) return;
  constexpr uint32_t new_keys = DGRT_ATTN_NEW_KEYS, skip = DGRT_ATTN_MASK_SKIP_PREFIX;
  for (const auto& [head_dim, shape, flags] :
       {std::tuple{128, MaskShape::tree, new_keys | DGRT_ATTN_MASK_BITS | skip},
        {256, MaskShape::random, new_keys | DGRT_ATTN_MASK_BYTES},
        {128, MaskShape::random, uint32_t{DGRT_ATTN_MASK_BITS}}})
    for (const int64_t page_size : {1, 16})
      for (const int64_t left : {-1, 100})
        for (const std::vector<int32_t>& starts : std::vector<std::vector<int32_t>>{{}, {500, 0, 17, 30001, 63}}) {
          NewKeysCase test = sized_new({head_dim, head_dim}, {{40, 1004}, {130, 804}, {7, 68}, {16, 129}, {90, 0}},
                                       flags | DGRT_FLAG_BATCH_INVARIANT);
          test.paged.page_size = page_size, test.paged.mask = shape, test.paged.window_left = left;
          test.paged.layout = CacheLayout::heads_first;  // keys that a mask over the cache would hide are not NaN
          test.starts = starts;
          run_new_keys(*gpu, test);
        }
}

// Of the cache alone: its scales are not the new keys'.
TEST_CASE("attn_extend new keys: a cache of e4m3", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: a cache of e4m3");
  if (!gpu) return;
  const auto sized_e4m3 = [](std::pair<int64_t, int64_t> head_size, Lens lens) {
    NewKeysCase test = sized_new(head_size, std::move(lens));
    test.paged.dtype_kv = DGRT_E4M3, test.paged.most_checked = 400;
    return test;
  };
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {96, 96}, {128, 128}, {192, 128},
                                {256, 256}, {512, 512}, {16, 48}})
    for (const int64_t page_size : {1, 16, 80}) {
      NewKeysCase test = sized_e4m3(head_size, mixed);
      test.paged.page_size = page_size, test.padding = page_size == 80 ? 8 : 0;
      test.paged.scale_per_head = page_size != 80, test.paged.sinks = page_size == 1;
      test.paged.flags |= few_kernels_unless(head_size.first == 128);
      run_new_keys(*gpu, test);
    }
  for (const int64_t head_dim : {128, 256}) {
    NewKeysCase test = sized_e4m3({head_dim, head_dim}, mixed);
    test.paged.softcap = 30, test.paged.sigma = 20, test.paged.dtype = DGRT_FP16;
    run_new_keys(*gpu, test);
  }
  for (const int64_t head_dim : {64, 128, 256})
    for (const int64_t left : {0, 127, 1024}) {
      NewKeysCase test = sized_e4m3({head_dim, head_dim}, {{40, 1004}, {300, 8004}, {700, 68}, {90, 0}, {1, 2500}});
      test.paged.window_left = left;
      run_new_keys(*gpu, test);
    }
  NewKeysCase large = sized_e4m3({128, 128}, {{300, 500}, {40, 5000}, {2, 90}});
  large.paged.sigma = 1000;
  run_new_keys(*gpu, large);
  NewKeysCase late = sized_e4m3({128, 128}, {{40, 1004}, {300, 804}, {70, 68}, {20, 120}, {1, 2500}});
  late.starts = {5000, 0, 17, 1, 100000};
  run_new_keys(*gpu, late);
}

TEST_CASE("attn_extend: page tables that begin late", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: page tables that begin late");
  if (!gpu) return;
  for (const uint32_t flags : {0u, DGRT_ATTN_NEW_KEYS})
    for (const int64_t page_size : {1, 16})
      for (const int64_t left : {-1, 100}) {
        NewKeysCase test = sized_new({128, 128}, {{40, 1004}, {300, 804}, {70, 68}, {20, 120}, {1, 2500}}, flags);
        test.paged.window_left = left, test.paged.page_size = page_size;
        test.starts = {5000, 0, 17, 1, 100000};
        run_new_keys(*gpu, test);
      }
}

TEST_CASE("attn_extend new keys: repeats, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: repeats, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const int64_t page_size : {1, 16})
      for (const uint32_t flags : {0u, DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
        NewKeysCase test = sized_new({head_dim, head_dim}, {{700, 9000}, {30, 77}, {0, 5}, {500, 0}, {2, 300}},
                                     flags | DGRT_ATTN_NEW_KEYS);
        if (flags == DGRT_FLAG_PDL) test.paged.dtype_kv = DGRT_E4M3;
        test.paged.page_size = page_size, test.paged.softcap = head_dim == 128 ? 30.0f : 0.0f;
        run_repeats(*gpu, test);
      }
}

TEST_CASE("attn_extend new keys: graph replay with other prefixes", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend new keys: graph replay with other prefixes");
  if (!gpu) return;
  run_graph_replay(*gpu, sized_new({128, 128}, {{40, 5000}, {140, 300}, {400, 20000}, {4, 16}}),
                   {{5000, 300, 20000, 16}, {0, 0, 0, 0}, {1, 127, 128, 15}, {4999, 64, 0, 5}});
}

TEST_CASE("attn_decode new keys: head sizes, pages, windows", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode new keys: head sizes, pages, windows");
  if (!gpu) return;
  for (const auto& head_size : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {256, 256}, {512, 512}, {24, 40}})
    for (const int64_t page_size : {1, 16, 80})
      for (const int64_t left : {-1, 2, 100}) {
        NewKeysCase test = verify(head_size, drafts);
        test.paged.flags |= few_kernels_unless(head_size.first == 128);
        test.paged.page_size = page_size, test.padding = page_size == 80 ? 8 : 0;
        test.paged.window_left = left, test.paged.sinks = left == 2;
        run_new_keys(*gpu, test);
      }
  NewKeysCase test = verify({128, 128}, drafts);
  test.paged.window_right = -1, test.paged.dtype = DGRT_FP16, test.paged.softcap = 20.0f;
  test.paged.flags |= DGRT_FLAG_BATCH_INVARIANT;
  run_new_keys(*gpu, test);
  test = verify({128, 128}, {{4, 0}, {0, 0}, {16, 0}, {9, 0}});
  test.no_pages = true;
  run_new_keys(*gpu, test);
}

TEST_CASE("attn_decode new keys: trees and random masks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode new keys: trees and random masks");
  if (!gpu) return;
  for (const auto& [head_dim, shape, flags] :
       {std::tuple{128, MaskShape::tree, DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX},
        {256, MaskShape::random, uint32_t{DGRT_ATTN_MASK_BYTES}}})
    for (const int64_t page_size : {1, 16})
      for (const int64_t left : {-1, 20}) {
        NewKeysCase test = verify({head_dim, head_dim}, drafts, DGRT_ATTN_NEW_KEYS | flags);
        test.paged.page_size = page_size, test.paged.mask = shape, test.paged.window_left = left;
        test.paged.layout = CacheLayout::heads_first;  // keys that a mask over the cache would hide are not NaN
        run_new_keys(*gpu, test);
      }
}

// What the page table has behind the prefix are no pages.
TEST_CASE("attn_decode and attn_extend new keys: pages checked", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode and attn_extend new keys: pages checked");
  if (!gpu) return;
  constexpr uint32_t flags = DGRT_ATTN_NEW_KEYS | DGRT_ATTN_CHECK_PAGES | DGRT_FLAG_BATCH_INVARIANT;
  for (NewKeysCase test : {verify({128, 128}, drafts, flags), sized_new({128, 128}, drafts, flags)})
    for (const int64_t page_size : {1, 16}) {
      test.paged.page_size = page_size;
      run_new_keys(*gpu, test);
    }
}

TEST_CASE("attn_decode new keys: repeats and graphs, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode new keys: repeats and graphs, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : {DGRT_FLAG_PDL, DGRT_FLAG_BATCH_INVARIANT}) {
    run_repeats(*gpu, verify({128, 128}, {{16, 20000}, {4, 77}, {0, 5}, {5, 0}, {2, 300}}, flags | DGRT_ATTN_NEW_KEYS));
    run_graph_replay(*gpu, verify({128, 128}, {{4, 5000}, {1, 300}, {16, 20000}, {4, 16}}, flags | DGRT_ATTN_NEW_KEYS),
                     {{5000, 300, 20000, 16}, {0, 0, 0, 0}, {1, 127, 128, 15}, {4999, 64, 0, 5}});
  }
}

TEST_CASE("attention new keys: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attention new keys: small sizes");
  if (!gpu) return;
  run_new_keys(*gpu, sized_new({64, 64}, {{1, 1}, {17, 37}, {0, 70}, {40, 0}, {33, 100}}));
  run_new_keys(*gpu, verify({128, 128}, {{1, 1}, {4, 37}, {16, 0}, {2, 130}}));
}

}  // namespace dgrt::test
