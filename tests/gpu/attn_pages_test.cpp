// Page tables whose entries name no page: attn_decode and attn_extend take them for pages of zeros, bit for bit, and
// with CHECK_PAGES tell of the first that matters.
#include <algorithm>
#include <array>

#include "tests/gpu/attn_decode_case.h"
#include "tools/lib/lab_gemm_check.h"  // first_difference()

namespace dgrt::test {
namespace {

using PageError = std::array<int32_t, 4>;

DecodeCase sized_pages(uint32_t op_id, uint32_t flags, int64_t page_size, int64_t window_left) {
  DecodeCase test = sized({128, 128}, {{4, 1003}, {16, 164}, {0, 90}, {7, 777}});
  test.op_id = op_id, test.page_size = page_size, test.window_left = window_left;
  // Of one tile size, so that there are few kernels.
  test.flags = flags | DGRT_FLAG_BATCH_INVARIANT;
  return test;
}

// At the places of keys.
std::vector<PageEntry> at_keys(const DecodeCase& test, std::vector<PageEntry> entries) {
  for (PageEntry& entry : entries) entry.column /= test.page_size;
  return entries;
}

// What the call must say: of the entries for keys that some query sees, the first.
PageError first_of(const DecodeCase& test, const std::vector<PageEntry>& entries) {
  PageError first = {};
  if ((test.flags & DGRT_ATTN_CHECK_PAGES) == 0) return first;
  for (const PageEntry& entry : entries) {
    const auto& [queries, keys] = test.lens[static_cast<size_t>(entry.sequence)];
    const int64_t seen = test.window_left < 0 ? 0 : std::max<int64_t>(keys - queries - test.window_left, 0);
    if (queries == 0 || (entry.column + 1) * test.page_size <= seen || entry.column * test.page_size >= keys) continue;
    const PageError error = {1, static_cast<int32_t>(entry.sequence), static_cast<int32_t>(entry.column), entry.page};
    if (first[0] == 0 || error < first) first = error;
  }
  return first;
}

class PagesRun {
 public:
  static Result<PagesRun> make(Gpu& gpu, const DecodeCase& test) {
    PagesRun run;
    run.gpu_ = &gpu, run.test_ = test;
    DGRT_ASSIGN(run.run_, DecodeRun::make(gpu, test));
    DGRT_ASSIGN(run.want_, run.run_.outputs());
    DGRT_ASSIGN(run.got_, run.run_.outputs());
    DGRT_ASSIGN(run.error_, lab::DeviceBuffer::make(*gpu.lab, sizeof(PageError)));
    DGRT_TRY(run.clear());
    return run;
  }

  int32_t num_pages() const { return static_cast<int32_t>(run_.num_pages()); }
  Status clear() const { return error_.upload(PageError{}.data(), sizeof(PageError)); }

  // One call with these entries: its outputs are those with pages of zeros in their places. Then page_error is
  // `want`.
  Status check(const std::vector<PageEntry>& entries, const PageError& want) const {
    std::vector<PageEntry> zeros = entries;
    for (PageEntry& entry : zeros) entry.page = 0;
    DGRT_TRY(launch(want_, zeros));
    DGRT_TRY(launch(got_, entries));
    for (const auto& [x, y] : {std::pair{&want_.o, &got_.o}, {&want_.lse, &got_.lse}}) {
      DGRT_ASSIGN(const int64_t byte, lab::first_difference(*gpu_->lab, x->data(), y->data(), x->bytes()));
      if (byte >= 0) return error(DGRT_INTERNAL, "byte {} differs from that of pages of zeros", byte);
    }
    DGRT_TRY(error_.check_guards());
    PageError found;
    DGRT_TRY(error_.download(found.data(), sizeof(found)));
    if (found == want) return ok();
    return error(DGRT_INTERNAL, "page_error is {{{}}}, must be {{{}}}", fmt::join(found, ", "), fmt::join(want, ", "));
  }
  Result<std::string> check_against_reference() const {
    DGRT_TRY(launch(want_, {}));
    return run_.check(want_);
  }

 private:
  Status launch(const DecodeRun::Outputs& out, const std::vector<PageEntry>& entries) const {
    DGRT_TRY(run_.set_entries(entries));
    dgrt_attn_decode_args x = out.args;
    if ((test_.flags & DGRT_ATTN_CHECK_PAGES) != 0) x.page_error = error_.as<int32_t>();
    if (test_.op_id == DGRT_OP_ATTN_DECODE) return run_.plan().launch(&x.op, gpu_->lab->stream());
    const dgrt_attn_extend_args extend = to_extend(x);
    return run_.plan().launch(&extend.op, gpu_->lab->stream());
  }

  Gpu* gpu_ = nullptr;
  DecodeCase test_;
  DecodeRun run_;
  DecodeRun::Outputs want_, got_;
  lab::DeviceBuffer error_;
};

void run_pages(Gpu& gpu, const DecodeCase& test) {
  run_case("no pages: " + test.name(), [&]() -> Result<std::string> {
    DGRT_ASSIGN(const PagesRun run, PagesRun::make(gpu, test));
    for (const std::vector<PageEntry>& at : std::vector<std::vector<PageEntry>>{
             {},
             {{2, 3, -1}},                       // of a sequence without queries
             {{0, 10, -1}, {1, 40, INT32_MAX}},  // before windows
             {{3, 776, INT32_MAX}},              // of the very last key
             {{3, 776, 7 << 24}, {3, 700, INT32_MIN}, {1, 130, run.num_pages()}, {3, 720, -1}},
             {{0, 1000, -3}, {0, 950, INT32_MAX - 1}, {3, 776, -1}}}) {
      const std::vector<PageEntry> entries = at_keys(test, at);
      DGRT_TRY(run.check(entries, first_of(test, entries)));
      DGRT_TRY(run.clear());
    }
    // Calls that share one page_error.
    const std::vector<PageEntry> late = at_keys(test, {{3, 700, -1}}), early = at_keys(test, {{1, 130, -2}});
    DGRT_TRY(run.check(late, first_of(test, late)));
    DGRT_TRY(run.check(early, first_of(test, early)));
    DGRT_TRY(run.check({}, first_of(test, early)));
    DGRT_TRY(run.check(late, first_of(test, early)));
    return run.check_against_reference();
  });
}

}  // namespace

TEST_CASE("attention: entries of page tables that name no page", "[gpu]") {
  Gpu* gpu = gpu_for("attention: entries of page tables that name no page");
  if (!gpu) return;
  for (const uint32_t op_id : {DGRT_OP_ATTN_DECODE, DGRT_OP_ATTN_EXTEND})
    for (const uint32_t flags : {0u, DGRT_ATTN_CHECK_PAGES})
      for (const int64_t page_size : {1, 16})
        for (const int64_t left : {-1, 100}) run_pages(*gpu, sized_pages(op_id, flags, page_size, left));
}

// A window leaves little to multiply.
TEST_CASE("attention, entries that name no page: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attention, entries that name no page: small sizes");
  if (!gpu) return;
  for (const uint32_t op_id : {DGRT_OP_ATTN_DECODE, DGRT_OP_ATTN_EXTEND})
    run_pages(*gpu, sized_pages(op_id, DGRT_ATTN_CHECK_PAGES, 16, 100));
}

}  // namespace dgrt::test
