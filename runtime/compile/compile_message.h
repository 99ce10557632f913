// What a process and its compile workers say to each other: one frame each way per kernel, after
// one from the worker that says who it is. Both ends are builds of dgrt, perhaps different ones, so
// a frame is judged like a file: magic with the protocol's version, then a bounded length, then
// fields that are length-prefixed and must fill the payload exactly.
//
//   offset  size  field
//        0     4  magic: "DGW1"
//        4     4  payload size, at most max_message_bytes; integers are little-endian
//        8        payload
//
// Worker: Hello. Then, as often as asked: CompileRequest in, CompileReply out.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/nvrtc.h"

namespace dgrt {

inline constexpr size_t frame_header_bytes = 8;
inline constexpr size_t max_message_bytes = 64 << 20;  // cubins have kilobytes, logs too

struct Hello {
  CompilerId compiler;
};

struct CompileRequest {
  Key key;  // by the asking build's templates; the worker's must give the same
  Instance instance;
};

struct CompileReply {
  Status status;
  bool is_other_build = false;  // the worker's templates give another key; nothing was compiled
  Compiled compiled;            // if the status is OK
  uint64_t peak_rss_bytes = 0;  // of the worker so far
};

// Whole frames.
std::vector<std::byte> encode(const Hello& hello);
std::vector<std::byte> encode(const CompileRequest& request);
std::vector<std::byte> encode(const CompileReply& reply);

// Payload size from the frame's first frame_header_bytes. INVALID_ARGUMENT: not a frame of ours.
Result<size_t> decode_header(std::span<const std::byte> header);
// Payloads. INVALID_ARGUMENT: cut short, too long, or a field out of its range.
Result<Hello> decode_hello(std::span<const std::byte> payload);
Result<CompileRequest> decode_request(std::span<const std::byte> payload);
Result<CompileReply> decode_reply(std::span<const std::byte> payload);

}  // namespace dgrt
