// Rows that test several selector variables at once, on the ops that have them: the gate between the
// tiles of verify and of prefill that a public engine chose for heads of 129 to 256 (batch of 8 and
// more with at most 16 queries each), and the two ways of getting it wrong.
#include <string>
#include <vector>

#include "dgrt/attention.h"
#include "runtime/engine/selection.h"
#include "tests/support/catch.h"
#include "tests/support/table_text.h"

namespace dgrt {
namespace {

const Target target{"sm_90a", 132};

const OpImpl& extend_op() {
  for (const OpImpl* op : all_ops())
    if (op->op_id == DGRT_OP_ATTN_EXTEND) return *op;
  FAIL("no attn_extend");
  return *all_ops().front();
}

dgrt_attn_extend_desc extend_desc(int64_t head_dim) {
  dgrt_attn_extend_desc desc = DGRT_ATTN_EXTEND_DESC;
  desc.num_q_heads = 8, desc.num_kv_heads = 4;
  desc.head_dim_qk = desc.head_dim_v = head_dim;
  desc.max_batch = 4096, desc.max_q_len = 8192, desc.max_kv_len = 16384;
  desc.dtype = DGRT_BF16;
  return desc;
}

Table table_of(const std::string& rules) { return test::parse_table("attn_extend", rules); }

std::string row(const std::string& when, int64_t block_m, int64_t block_n, const std::string& why) {
  return fmt::format(R"({{"arch": "sm90", "when": {{{}}}, "use": {{"block_m": {}, "block_n": {}}},
                         "why": "{}", "measured": "untested"}})",
                     when, block_m, block_n, why);
}

const std::string heads = R"("head_dim_qk": [129, 256])";
const std::string gate_row =
    row(R"("batch": [8, null], "max_q_len": [null, 16], )" + heads, 64, 64, "verify");
const std::string default_row = row(heads, 128, 80, "prefill");

struct Call {
  const char* name;
  int64_t batch, max_q_len;
  bool is_verify;
};
const Call calls[] = {{"A", 1, 8192, false}, {"B", 1, 1000, false},  {"C", 4, 1000, false},
                      {"D", 8, 512, false},  {"E", 16, 1024, false}, {"F", 32, 512, false},
                      {"G, H, I", 32, 4, true}, {"least", 8, 16, true}, {"one less", 7, 16, false},
                      {"one more", 8, 17, false}, {"most", 4096, 1, true}, {"alone", 1, 1, false}};

int64_t block_m_of(const Selection& selection, const Call& call, int64_t page_rows) {
  const Point point{call.batch, call.max_q_len, page_rows};
  return selection.choices[selection.lookup(point)].config["block_m"];
}

Selection must_select(const dgrt_attn_extend_desc& desc, const Table& table) {
  Result<Selection> selection = select(extend_op(), &desc.op, target, table);
  if (!selection.is_ok()) FAIL(selection.status().message());
  return std::move(selection).value();
}

TEST_CASE("a row of two variables holds where both do", "[unit]") {
  const Table table = table_of(gate_row + "," + default_row);
  const dgrt_attn_extend_desc desc = extend_desc(256);
  const Selection selection = must_select(desc, table);
  CHECK(selection.warnings.empty());
  CHECK(selection.choices.size() == 8);  // two tiles, each for whole pages and for single rows, narrow windows and others
  for (const Call& call : calls)
    for (const int64_t page_rows : {1, 16}) {
      INFO(call.name);
      CHECK(block_m_of(selection, call, page_rows) == (call.is_verify ? 64 : 128));
    }
  const Result<Explanation> why = explain(extend_op(), &desc.op, target, table, {32, 4, 16});
  REQUIRE(why.is_ok());
  CHECK(why.value().reason == "t.json rule 0: verify");
}

TEST_CASE("a gate on the batch alone would catch chunks of prefill", "[unit]") {
  const Table wrong = table_of(row(R"("batch": [8, null], )" + heads, 64, 64, "batch alone") + "," +
                               default_row);
  const Selection selection = must_select(extend_desc(256), wrong);
  for (const Call& call : calls) {
    INFO(call.name);
    CHECK(block_m_of(selection, call, 16) == (call.batch >= 8 ? 64 : 128));
  }
}

TEST_CASE("a gate leaves other sizes of heads to the model", "[unit]") {
  for (const int64_t head_dim : {128, 512}) {
    const dgrt_attn_extend_desc desc = extend_desc(head_dim);
    const Selection with = must_select(desc, table_of(gate_row + "," + default_row));
    const Selection without = must_select(desc, Table());
    CHECK(with.cells == without.cells);
    for (const Choice& choice : with.choices) CHECK(choice.rule == "model");
  }
}

TEST_CASE("a gate chooses the same in every plan and every time", "[unit]") {
  const Table table = table_of(gate_row + "," + default_row);
  CHECK(table.digest() == table_of(gate_row + "," + default_row).digest());
  CHECK(table.digest() != table_of(default_row + "," + gate_row).digest());
  const Selection wide = must_select(extend_desc(256), table);
  CHECK(wide.cells == must_select(extend_desc(256), table).cells);
  dgrt_attn_extend_desc narrow_desc = extend_desc(256);
  narrow_desc.max_batch = 32, narrow_desc.max_q_len = 1024, narrow_desc.max_kv_len = 1024;
  const Selection narrow = must_select(narrow_desc, table);
  const Selection modelled = must_select(extend_desc(256), Table());
  const Selection narrow_modelled = must_select(narrow_desc, Table());
  for (const Call& call : calls) {
    if (call.batch > 32 || call.max_q_len > 1024) continue;
    INFO(call.name);
    CHECK(block_m_of(narrow, call, 16) == block_m_of(wide, call, 16));
    const Point point{call.batch, call.max_q_len, 16};
    CHECK(narrow_modelled.choices[narrow_modelled.lookup(point)].config ==
          modelled.choices[modelled.lookup(point)].config);
  }
}

TEST_CASE("a row's ranges may be anything that 64 bits hold", "[unit]") {
  for (const char* when :
       {R"("batch": [-9223372036854775808, 9223372036854775807])", R"("batch": [0, null])",
        R"("batch": [-9223372036854775808, 7], "max_q_len": [9223372036854775807, null])"}) {
    INFO(when);
    const Selection selection = must_select(extend_desc(256), table_of(row(when, 64, 64, "far")));
    CHECK(selection.warnings.empty());
  }
}

TEST_CASE("a row of a variable that the op does not have is named", "[unit]") {
  const Table table = table_of(row(R"("batch": [8, null], "queries": [null, 16])", 64, 64, "typo"));
  const Selection selection = must_select(extend_desc(256), table);
  REQUIRE(selection.warnings.size() == 1);
  CHECK(selection.warnings[0] ==
        "t.json rule 0 ignored: when.queries: attn_extend has no such variable or field");
}

}  // namespace
}  // namespace dgrt
