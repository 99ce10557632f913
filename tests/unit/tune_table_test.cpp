// What `dgrt tune` writes into tables, on measurements made up for the purpose.
#include "tools/tune_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include "dgrt/attention.h"
#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "runtime/compile/sources.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

const Target target{"sm_90a", 132};

const OpImpl& op_of(const std::string& stem) {
  const auto it = std::find_if(all_ops().begin(), all_ops().end(),
                               [&](const OpImpl* op) { return op->stem == stem; });
  REQUIRE(it != all_ops().end());
  return **it;
}

dgrt_gemm_desc fp8_desc() {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = 7168, desc.k = 2048, desc.max_m = 4096;
  desc.dtype_ab = DGRT_E4M3, desc.dtype_d = DGRT_BF16, desc.scale_mode = DGRT_SCALE_BLOCK;
  return desc;
}

TuneVerdict verdict(int64_t value, IntRange range, std::optional<Config> use) {
  TuneVerdict verdict;
  verdict.family = "sm90";
  verdict.sm_count = 132;
  verdict.ranges = {{"m", value, range}};
  verdict.fields = {{"n", 7168}, {"k", 2048}};
  verdict.use = std::move(use);
  verdict.why = "new";
  verdict.measured = "device, day: 1.0 us";
  return verdict;
}

std::string row(const std::string& when, const std::string& why,
                const std::string& head = R"("arch": "sm90", "sm_count": [132, 132])") {
  return "  {" + head + R"(, "when": {)" + when + R"(}, "use": {"block": 1}, "why": ")" + why +
         R"(", "measured": "untested"})";
}

std::string new_row(const std::string& m) {
  return R"(  {"arch": "sm90", "sm_count": [132, 132], "when": {"m": )" + m +
         R"(, "n": 7168, "k": 2048}, "use": {"block": 2}, "why": "new", "measured": "device, day: 1.0 us"})";
}

std::string table_of(const std::vector<std::string>& rows) {
  std::string text = R"({"op": "toy", "schema": 1, "rules": [)";
  for (size_t i = 0; i < rows.size(); ++i) text += (i == 0 ? "\n" : ",\n") + rows[i];
  return text + (rows.empty() ? "]}\n" : "\n]}\n");
}

MergedTable must_merge(const std::string& text, const std::vector<TuneVerdict>& verdicts) {
  Result<MergedTable> merged = merge_verdicts("toy", text, verdicts);
  if (!merged.is_ok()) FAIL(merged.status().message());
  return std::move(merged).value();
}

const Config winner{{"block", 2}};
const std::string decode = row(R"("m": [1, 64], "n": 7168, "k": 2048)", "decode");
const std::string prefill = row(R"("m": [2049, 4096], "k": 2048, "n": 7168)", "prefill");
const std::string other_n = row(R"("m": [1, 64], "n": 4096, "k": 2048)", "other n");

TEST_CASE("tune: a challenger must win by 2 %", "[unit]") {
  CHECK(choose_config({10.0, 10.15}, 1, 1) == 1);
  CHECK(choose_config({10.0, 10.25}, 1, 1) == 0);
  CHECK(choose_config({10.0, 10.15, 11.0}, 2, 1) == 1);  // the table's pick has won before
  CHECK(choose_config({10.0, 10.25, 11.0}, 2, 1) == 0);
  CHECK(choose_config({10.0, 10.1, 10.15}, 2, 1) == 2);  // the table's pick has not
  CHECK(choose_config({10.0, 11.0}, 0, 1) == 0);
  CHECK(choose_config({10.0}, 0, 0) == 0);
}

TEST_CASE("tune: a row speaks for the cell of its measurement", "[unit]") {
  const dgrt_gemm_desc desc = fp8_desc();
  const OpImpl& op = op_of("gemm_fp8");
  const auto range = [&](int64_t low, int64_t high, bool is_largest) {
    const auto result = row_ranges(op, &desc.op, target, {low}, {high}, is_largest);
    REQUIRE(result.is_ok());
    REQUIRE(result.value().size() == 1);
    CHECK((result.value()[0].var == "m" && result.value()[0].value == high));
    return result.value()[0].range;
  };
  CHECK(range(1, 1, false) == IntRange{1, 8});
  CHECK(range(64, 64, false) == IntRange{49, 64});
  CHECK(range(64, 76, false) == IntRange{49, 96});
  CHECK(range(4096, 4096, false) == IntRange{3585, 4096});
  const IntRange largest = range(4096, 4096, true);
  CHECK(largest.lo == 3585);
  CHECK(largest.hi >= 4096);
  CHECK(largest.hi <= 8192);
}

TEST_CASE("tune: a row of several variables speaks for the cell along each of them", "[unit]") {
  dgrt_attn_decode_desc desc = DGRT_ATTN_DECODE_DESC;
  desc.num_q_heads = 8, desc.num_kv_heads = 4, desc.head_dim_qk = desc.head_dim_v = 256;
  desc.max_batch = desc.max_q_len = desc.max_kv_len = 1 << 20;
  desc.dtype = DGRT_BF16;
  const OpImpl& op = op_of("attn_decode");
  const auto found = row_ranges(op, &desc.op, target, {32, 4, 1004}, {32, 4, 1004}, false);
  REQUIRE(found.is_ok());
  const std::vector<TuneRange>& ranges = found.value();
  REQUIRE(ranges.size() == 3);
  CHECK((ranges[0].var == "batch" && ranges[0].value == 32));
  CHECK((ranges[1].var == "max_q_len" && ranges[1].value == 4));
  CHECK((ranges[2].var == "max_kv_len" && ranges[2].value == 1004));
  CHECK(ranges[0].range == IntRange{17, 32});
  CHECK(ranges[1].range == IntRange{4, 4});
  CHECK(ranges[2].range == IntRange{513, 1024});

  // hc_prenorm's num_splits 0, which asks for sums, is a cell of its own.
  dgrt_hc_prenorm_desc hc = DGRT_HC_PRENORM_DESC;
  hc.n = 24, hc.k = 28672, hc.max_m = 8192;
  const auto sums = row_ranges(op_of("hc_prenorm"), &hc.op, target, {13, 0}, {13, 0}, false);
  REQUIRE(sums.is_ok());
  CHECK(sums.value()[0].range == IntRange{1, 16});
  CHECK(sums.value()[1].range == IntRange{0, 0});
}

TEST_CASE("tune: a row tests the sizes of its shape", "[unit]") {
  const dgrt_gemm_desc dense = fp8_desc();
  CHECK(row_fields(op_of("gemm_fp8"), &dense.op) == Config{{"n", 7168}, {"k", 2048}, {"plain", 1}});

  dgrt_gemm_batched_desc batched = DGRT_GEMM_BATCHED_DESC;
  batched.n = 512, batched.k = 128, batched.max_m = 4096, batched.num_batches = 128;
  batched.dtype_ab = batched.dtype_d = DGRT_BF16;
  batched.b_major = DGRT_MN_MAJOR;
  CHECK(row_fields(op_of("gemm_batched_bf16"), &batched.op) ==
        Config{{"n", 512}, {"k", 128}, {"num_groups", 128}, {"plain", 2}});

  dgrt_gemm_grouped_k_desc wgrad = DGRT_GEMM_GROUPED_K_DESC;
  wgrad.m = 4096, wgrad.n = 7168, wgrad.max_k = 65536, wgrad.num_groups = 4;
  wgrad.dtype_ab = DGRT_BF16, wgrad.dtype_d = DGRT_FP32;
  const Config fields = row_fields(op_of("gemm_grouped_k_bf16"), &wgrad.op);
  CHECK(fields["m"] == 4096);
  CHECK(fields.find("k") == nullptr);  // the selector variable
}

TEST_CASE("tune: a verdict replaces what the table said of its point, and nothing else", "[unit]") {
  const MergedTable replaced =
      must_merge(table_of({decode, other_n, prefill}), {verdict(64, {49, 64}, winner)});
  CHECK(replaced.text == table_of({new_row("[49, 64]"), other_n, prefill}));
  CHECK(replaced.replaced == 1);
  CHECK(replaced.added + replaced.removed == 0);

  const MergedTable added =
      must_merge(table_of({decode, other_n, prefill}), {verdict(512, {449, 512}, winner)});
  CHECK(added.text == table_of({decode, other_n, new_row("[449, 512]"), prefill}));
  CHECK(added.added == 1);

  const MergedTable removed =
      must_merge(table_of({decode, other_n, prefill}), {verdict(4096, {3585, 4096}, {})});
  CHECK(removed.text == table_of({decode, other_n}));
  CHECK(removed.removed == 1);

  const MergedTable kept = must_merge(table_of({decode, other_n}), {verdict(512, {449, 512}, {})});
  CHECK(kept.text == table_of({decode, other_n}));
  CHECK(kept.added + kept.replaced + kept.removed == 0);
}

TEST_CASE("tune: rows of two variables are told apart by both", "[unit]") {
  const auto gate = [](IntRange batch, IntRange queries, std::optional<Config> use) {
    TuneVerdict result = verdict(0, {}, std::move(use));
    result.ranges = {{"batch", batch.hi, batch}, {"max_q_len", queries.hi, queries}};
    result.fields = {{"head_dim", 256}};
    return result;
  };
  const std::string when = R"("batch": [17, 32], "max_q_len": )", head_dim = R"(, "head_dim": 256)";
  const auto measured = [&](const std::string& queries) {
    std::string text = new_row("[1, 1]");
    const std::string from = R"("m": [1, 1], "n": 7168, "k": 2048)";
    return text.replace(text.find(from), from.size(), when + queries + head_dim);
  };
  const std::string chunk = row(when + "[257, 512]" + head_dim, "chunk");
  const std::string open = row(R"("batch": [8, null], "max_q_len": [null, 16])" + head_dim, "gate");
  const std::string one = row(R"("batch": [17, 32])" + head_dim, "by hand");

  // Of one batch and another length: beside it, in the order of both.
  CHECK(must_merge(table_of({chunk, one}), {gate({17, 32}, {4, 4}, winner)}).text ==
        table_of({measured("[4, 4]"), chunk, one}));
  CHECK(must_merge(table_of({chunk, one}), {gate({17, 32}, {513, 768}, winner)}).text ==
        table_of({chunk, measured("[513, 768]"), one}));
  // Of the same: in its place. A range without an end holds, too.
  CHECK(must_merge(table_of({chunk, one}), {gate({17, 32}, {257, 512}, winner)}).text ==
        table_of({measured("[257, 512]"), one}));
  const MergedTable closed = must_merge(table_of({open, one}), {gate({17, 32}, {4, 4}, winner)});
  CHECK(closed.text == table_of({measured("[4, 4]"), one}));
  CHECK(closed.replaced == 1);
  CHECK(must_merge(table_of({open, one}), {gate({4, 4}, {4, 4}, {})}).removed == 0);
  CHECK(must_merge(table_of({open, one}), {gate({17, 32}, {4, 4}, {})}).removed == 1);
}

TEST_CASE("tune: rows of other devices and forms are left alone", "[unit]") {
  const std::vector<std::string> others = {
      row(R"("m": [1, 64], "n": 7168, "k": 2048)", "other SMs",
          R"("arch": "sm90", "sm_count": [114, 114])"),
      row(R"("m": [1, 64], "n": 7168, "k": 2048)", "other arch",
          R"("arch": "sm100", "sm_count": [132, 132])"),
      row(R"("m": [1, 64], "n": 7168, "k": 2048)", "any SMs", R"("arch": "sm90")"),
      row(R"("m": [1, 64], "n": [4096, 8192], "k": 2048)", "by hand"),
      row(R"("m": [1, 64])", "of every size")};
  std::vector<std::string> expected = others;
  expected.push_back(new_row("[1, 8]"));
  CHECK(must_merge(table_of(others), {verdict(8, {1, 8}, winner)}).text == table_of(expected));
}

TEST_CASE("tune: a table that is not there is made, one that is no table is refused", "[unit]") {
  const MergedTable made = must_merge("", {verdict(8, {1, 8}, winner), verdict(64, {49, 64}, {})});
  CHECK(made.text == table_of({new_row("[1, 8]")}));
  std::vector<std::string> warnings;
  const Result<Table> table = Table::parse("toy", made.text, "toy.json", &warnings);
  REQUIRE(table.is_ok());
  CHECK(warnings.empty());
  CHECK(table.value().rules().size() == 1);

  CHECK(must_merge("", {}).text == table_of({}));
  CHECK(merge_verdicts("toy", "{", {}).status().code() == DGRT_INVALID_ARGUMENT);
  CHECK(merge_verdicts("other", table_of({}), {}).status().code() == DGRT_INVALID_ARGUMENT);
}

TEST_CASE("tune: nothing to merge leaves the built-in tables as they are", "[unit]") {
  const Sources sources("");
  for (const OpImpl* op : all_ops()) {
    INFO(op->stem);
    const Result<const std::string*> text =
        sources.text(fmt::format("heuristics/tables/{}.json", op->stem));
    REQUIRE(text.is_ok());
    const Result<MergedTable> merged = merge_verdicts(op->stem, *text.value(), {});
    REQUIRE(merged.is_ok());
    CHECK(merged.value().text == *text.value());
  }
}

}  // namespace
}  // namespace dgrt
