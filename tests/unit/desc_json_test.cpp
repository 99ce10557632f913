// Descs as text: every op's every field has a name, what is written can be read back, and what is
// wrong with a manifest is named.
#include "runtime/engine/desc_json.h"

#include <algorithm>
#include <cstring>

#include "dgrt/gemm.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/ops/desc_fields.h"
#include "tests/support/catch.h"
#include "tests/support/random_desc.h"

namespace dgrt {
namespace {

TEST_CASE("desc fields: every byte of every op's desc belongs to a named field", "[unit]") {
  for (const OpImpl* op : all_ops()) {
    INFO(op->stem);
    const DescFields* of = find_desc_fields(op->op_id);
    REQUIRE(of);  // a new op adds its table to runtime/ops/desc_fields.cpp
    CHECK(std::string(of->op) == op->op);
    CHECK(of->desc_size == op->desc_size);
    std::vector<int> covered(op->desc_size, 0);
    std::fill_n(covered.begin(), ptrdiff_t{sizeof(dgrt_op)}, 1);
    for (const DescField& field : of->fields) {
      INFO(field.name);
      CHECK(field.bytes == (field.kind == DescField::Kind::int64 ? 8 : 4));
      CHECK((field.kind == DescField::Kind::reserved) == (std::string(field.name) == "reserved"));
      for (uint32_t i = 0; i < field.bytes; ++i) ++covered.at(field.offset + i);
    }
    // The compiler may pad the end to the alignment of int64.
    while (covered.size() > op->desc_size - 7 && covered.back() == 0) covered.pop_back();
    CHECK(std::count(covered.begin(), covered.end(), 1) == static_cast<int64_t>(covered.size()));
  }
}

TEST_CASE("desc json: random descs of every op survive the way out and back", "[unit]") {
  test::Rng rng(11);
  for (const OpImpl* op : all_ops())
    for (int i = 0; i < 50; ++i) {
      const std::optional<test::AnyDesc> any = test::random_desc(*op, rng);
      REQUIRE(any);
      const Result<std::string> line = desc_to_json(any->get());
      REQUIRE(line.is_ok());
      INFO(line.value());
      const auto from_line = parse_recording(line.value() + "\n");
      const auto from_list = parse_manifest("[" + line.value() + "]");
      REQUIRE(from_line.is_ok());
      REQUIRE(from_list.is_ok());
      REQUIRE(from_line.value().size() == 1);
      CHECK(from_line.value() == from_list.value());
      // Padding behind the last field holds anything.
      const DescField& last = find_desc_fields(op->op_id)->fields.back();
      CHECK(std::memcmp(from_line.value()[0].get(), any->get(), last.offset + last.bytes) == 0);
    }
}

TEST_CASE("desc json: values have the names of the public constants", "[unit]") {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = 7168, desc.k = 2048, desc.max_m = 8192;
  desc.dtype_ab = DGRT_E4M3, desc.dtype_d = DGRT_BF16, desc.scale_mode = DGRT_SCALE_BLOCK;
  desc.flags = DGRT_FLAG_PDL | DGRT_GEMM_WITH_C | 1u << 30;
  CHECK(desc_to_json(&desc.op).value() ==
        R"({"op":"gemm","n":7168,"k":2048,"max_m":8192,"dtype_ab":"e4m3","dtype_d":"bf16",)"
        R"("scale_mode":"block","flags":["pdl","with_c",1073741824]})");
  desc.op.id = 9001;
  CHECK(desc_to_json(&desc.op).status().code() == DGRT_UNSUPPORTED);
}

TEST_CASE("desc json: equal descs count once, blank lines not at all", "[unit]") {
  const std::string a = R"({"op": "scale_layout", "k_blocks": 56, "max_m": 5})";
  const std::string b = R"({"max_m": 5, "op": "scale_layout", "k_blocks": 57, "flags": 1})";
  CHECK(parse_recording(a + "\n\n" + b + "\n" + a).value().size() == 2);
  CHECK(parse_manifest("[" + a + "," + b + "," + a + "]").value().size() == 2);
  CHECK(parse_manifest("[]").value().empty());
  CHECK(parse_recording("").value().empty());
}

TEST_CASE("desc json: what is wrong is named", "[unit]") {
  const auto check_refused = [](const std::string& text, const std::string& words) {
    const auto descs = parse_manifest(text);
    INFO(text);
    REQUIRE_FALSE(descs.is_ok());
    INFO(descs.status().message());
    CHECK(descs.status().code() == DGRT_INVALID_ARGUMENT);
    CHECK(descs.status().message().find(words) != std::string::npos);
  };
  check_refused("", "manifest: ");
  check_refused("{}", "must be a JSON list");
  check_refused("[1]", "manifest[0]: 1: must be an object");
  check_refused("[{}]", "op: must be the name of an op");
  check_refused(R"([{"op": "conv"}])", R"(op="conv": must be one of gemm)");
  check_refused(R"([{"op": "gemm", "m": 1}])", R"("m": gemm has no such field)");
  check_refused(R"([{"op": "gemm", "n": "x"}])", R"(n="x": must be a whole number)");
  check_refused(R"([{"op": "gemm", "n": 1.5}])", "n=1.5");
  check_refused(R"([{"op": "gemm", "n": 9223372036854775808}])", "n=9223372036854775808");
  check_refused(R"([{"op": "gemm", "sm_budget": 4294967296}])", "sm_budget=4294967296");
  check_refused(R"([{"op": "gemm", "sm_budget": -1}])", "sm_budget=-1");
  check_refused(R"([{"op": "gemm", "dtype_ab": "e5m2"}])", "must be one of bf16, fp16, fp32, e4m3");
  check_refused(R"([{"op": "gemm"}, {"op": "gemm", "flags": ["now"]}])", "manifest[1]: flags");
  CHECK(parse_recording("{\"op\": \"gemm\"}\n{\"op\"").status().message().find("line 2") !=
        std::string::npos);
}

}  // namespace
}  // namespace dgrt
