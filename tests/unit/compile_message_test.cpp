// What processes and compile workers say to each other: every field arrives, and a payload that is
// cut short, too long or out of range is refused.
#include "runtime/compile/compile_message.h"

#include "tests/support/catch.h"
#include "tests/support/temp_kernels.h"

namespace dgrt {
namespace {

std::span<const std::byte> payload(const std::vector<std::byte>& frame) {
  return std::span(frame).subspan(frame_header_bytes);
}

CompileReply sample_reply() {
  CompileReply reply;
  reply.peak_rss_bytes = uint64_t{5} << 33;
  reply.compiled.cubin = {1, 2, 0, 255};
  reply.compiled.log = "a log";
  reply.compiled.num_registers = 168;
  reply.compiled.stack_bytes = 8;
  reply.compiled.spill_store_bytes = 16;
  reply.compiled.spill_load_bytes = 24;
  reply.compiled.total_ms = 123.25;
  reply.compiled.phases = CompilePhases{20.5, 80.25, 22.5};
  return reply;
}

TEST_CASE("compile messages: every field arrives", "[unit]") {
  CompileRequest request;
  request.key.bytes[31] = 9;
  request.instance = toy_instance();
  request.instance.cfg.set("low", -3);
  request.instance.allow_spills = true;
  const auto frame = encode(request);
  REQUIRE(decode_header(frame).is_ok());
  CHECK(decode_header(frame).value() == frame.size() - frame_header_bytes);
  const Result<CompileRequest> got = decode_request(payload(frame));
  REQUIRE(got.is_ok());
  CHECK(got.value().key == request.key);
  CHECK(got.value().instance == request.instance);

  const CompileReply reply = sample_reply();
  const Result<CompileReply> back = decode_reply(payload(encode(reply)));
  REQUIRE(back.is_ok());
  CHECK(back.value().status.is_ok());
  CHECK(back.value().peak_rss_bytes == reply.peak_rss_bytes);
  CHECK(back.value().compiled.cubin == reply.compiled.cubin);
  CHECK(back.value().compiled.log == "a log");
  CHECK(back.value().compiled.num_registers == 168);
  CHECK(back.value().compiled.stack_bytes == 8);
  CHECK(back.value().compiled.spill_store_bytes == 16);
  CHECK(back.value().compiled.spill_load_bytes == 24);
  CHECK(back.value().compiled.total_ms == 123.25);
  REQUIRE(back.value().compiled.phases.has_value());
  CHECK(back.value().compiled.phases->front_ms == 20.5);
  CHECK(back.value().compiled.phases->nvvm_ms == 80.25);
  CHECK(back.value().compiled.phases->ptxas_ms == 22.5);

  CompileReply failed;
  failed.status = error(DGRT_COMPILE_FAILED, "line 3: no");
  failed.is_other_build = true;
  const Result<CompileReply> why = decode_reply(payload(encode(failed)));
  REQUIRE(why.is_ok());
  CHECK(why.value().status.code() == DGRT_COMPILE_FAILED);
  CHECK(why.value().status.message() == "line 3: no");
  CHECK(why.value().is_other_build);
  CHECK_FALSE(why.value().compiled.phases.has_value());

  Hello hello;
  hello.compiler.major = 13;
  hello.compiler.build_id[0] = 1;
  CHECK(decode_hello(payload(encode(hello))).value().compiler == hello.compiler);
}

TEST_CASE("compile messages: payloads of any wrong length are refused", "[unit]") {
  CompileRequest request;
  request.instance = toy_instance();
  const auto asked = encode(request), told = encode(sample_reply());
  for (size_t n = 0; n < asked.size() - frame_header_bytes; ++n)
    CHECK_FALSE(decode_request(payload(asked).first(n)).is_ok());
  for (size_t n = 0; n < told.size() - frame_header_bytes; ++n)
    CHECK_FALSE(decode_reply(payload(told).first(n)).is_ok());
  auto longer = told;
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode_reply(payload(longer)).is_ok());
}

TEST_CASE("compile messages: headers and numbers out of range are refused", "[unit]") {
  auto frame = encode(sample_reply());
  frame[frame_header_bytes] = std::byte{200};  // no such status
  CHECK(decode_reply(payload(frame)).status().message().find("status=200") != std::string::npos);
  frame = encode(sample_reply());
  frame[frame_header_bytes + 16] = std::byte{2};  // is_other_build, a truth value
  CHECK_FALSE(decode_reply(payload(frame)).is_ok());
  frame[7] = std::byte{0x7f};
  CHECK(decode_header(frame).status().message().find("size=") != std::string::npos);
  frame[0] ^= std::byte{1};
  CHECK(decode_header(frame).status().message().find("magic=") != std::string::npos);
}

}  // namespace
}  // namespace dgrt
