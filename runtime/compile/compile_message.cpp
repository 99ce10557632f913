#include "runtime/compile/compile_message.h"

#include <cstring>

namespace dgrt {
namespace {

constexpr uint32_t frame_magic = 0x31574744;  // "DGW1"

class Writer {
 public:
  Writer() : bytes_(frame_header_bytes) {}

  template <class T>
  Writer& number(T value) {
    const auto bits = static_cast<uint64_t>(value);
    for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<std::byte>(bits >> (8 * i)));
    return *this;
  }
  Writer& raw(std::span<const uint8_t> bytes) {
    const auto view = std::as_bytes(bytes);
    bytes_.insert(bytes_.end(), view.begin(), view.end());
    return *this;
  }
  Writer& text(std::string_view text) {
    number(text.size());
    return raw({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  Writer& compiler(const CompilerId& id) {
    return number(id.major).number(id.minor).raw(id.build_id);
  }
  std::vector<std::byte> frame() {
    const uint32_t words[2] = {frame_magic,
                               static_cast<uint32_t>(bytes_.size() - frame_header_bytes)};
    for (size_t i = 0; i < frame_header_bytes; ++i)
      bytes_[i] = static_cast<std::byte>(words[i / 4] >> (8 * (i % 4)));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
};

// Reads what Writer wrote. After the first field that does not fit, everything is zero and done()
// says so.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // Numbers are 8 bytes on the wire; one that does not fit T is refused.
  template <class T>
  Reader& number(T* out) {
    uint64_t bits = 0;
    const std::span<const std::byte> bytes = take(8);
    for (size_t i = 0; i < bytes.size(); ++i)
      bits |= static_cast<uint64_t>(std::to_integer<uint8_t>(bytes[i])) << (8 * i);
    *out = static_cast<T>(bits);
    if (static_cast<uint64_t>(*out) != bits) is_good_ = false;
    return *this;
  }
  Reader& raw(std::span<uint8_t> out) {
    const std::span<const std::byte> bytes = take(out.size());
    if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return *this;
  }
  template <class Bytes>  // std::string or a vector of bytes
  Reader& text(Bytes* out) {
    uint64_t size = 0;
    number(&size);
    const std::span<const std::byte> bytes = take(size);
    out->resize(bytes.size());
    if (!bytes.empty()) std::memcpy(out->data(), bytes.data(), bytes.size());
    return *this;
  }
  Reader& compiler(CompilerId* id) {
    return number(&id->major).number(&id->minor).raw(id->build_id);
  }
  Status done(const char* what) const {
    return is_good_ && bytes_.empty() ? ok()
                                      : invalid("worker protocol: {}: damaged payload", what);
  }
  bool is_good() const { return is_good_; }

 private:
  std::span<const std::byte> take(uint64_t size) {
    if (!is_good_ || size > bytes_.size()) {
      is_good_ = false;
      return {};
    }
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }

  std::span<const std::byte> bytes_;
  bool is_good_ = true;
};

uint64_t bits_of(double value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

}  // namespace

std::vector<std::byte> encode(const Hello& hello) {
  return Writer().compiler(hello.compiler).frame();
}

std::vector<std::byte> encode(const CompileRequest& request) {
  const Instance& in = request.instance;
  Writer writer;
  writer.raw(request.key.bytes).text(in.stem).text(in.header).text(in.name_space).text(in.entry);
  writer.text(in.arch).number(in.num_threads).number(in.min_blocks).number(in.params_bytes);
  writer.number(in.allow_spills).number(in.cfg.fields().size());
  for (const Config::Field& field : in.cfg.fields()) writer.text(field.first).number(field.second);
  return writer.frame();
}

std::vector<std::byte> encode(const CompileReply& reply) {
  const Compiled& made = reply.compiled;
  Writer writer;
  writer.number(reply.status.code()).text(reply.status.message()).number(reply.is_other_build);
  writer.number(reply.peak_rss_bytes).number(bits_of(made.total_ms));
  writer.number(made.num_registers).number(made.stack_bytes).number(made.spill_store_bytes);
  writer.number(made.spill_load_bytes).number(made.phases.has_value());
  const CompilePhases phases = made.phases.value_or(CompilePhases());
  for (const double ms : {phases.front_ms, phases.nvvm_ms, phases.ptxas_ms})
    writer.number(bits_of(ms));
  writer.text(made.log).number(made.cubin.size()).raw(made.cubin);
  return writer.frame();
}

Result<size_t> decode_header(std::span<const std::byte> header) {
  uint32_t words[2] = {0, 0};
  for (size_t i = 0; i < frame_header_bytes && i < header.size(); ++i)
    words[i / 4] |= static_cast<uint32_t>(std::to_integer<uint8_t>(header[i])) << (8 * (i % 4));
  if (words[0] != frame_magic)
    return invalid("worker protocol: magic={:08x}: must be {:08x}", words[0], frame_magic);
  if (words[1] > max_message_bytes)
    return invalid("worker protocol: size={}: must be at most {}", words[1], max_message_bytes);
  return size_t{words[1]};
}

Result<Hello> decode_hello(std::span<const std::byte> payload) {
  Hello hello;
  DGRT_TRY(Reader(payload).compiler(&hello.compiler).done("hello"));
  return hello;
}

Result<CompileRequest> decode_request(std::span<const std::byte> payload) {
  CompileRequest request;
  Instance& in = request.instance;
  Reader reader(payload);
  reader.raw(request.key.bytes).text(&in.stem).text(&in.header).text(&in.name_space);
  reader.text(&in.entry).text(&in.arch).number(&in.num_threads).number(&in.min_blocks);
  uint64_t num_fields = 0;
  reader.number(&in.params_bytes).number(&in.allow_spills).number(&num_fields);
  for (uint64_t i = 0; i < num_fields && reader.is_good(); ++i) {
    Config::Field field;
    reader.text(&field.first).number(&field.second);
    in.cfg.set(field.first, field.second);
  }
  DGRT_TRY(reader.done("request"));
  return request;
}

Result<CompileReply> decode_reply(std::span<const std::byte> payload) {
  CompileReply reply;
  Compiled& made = reply.compiled;
  Reader reader(payload);
  dgrt_status code = DGRT_OK;
  std::string message;
  uint64_t ms_bits = 0;
  reader.number(&code).text(&message).number(&reply.is_other_build);
  reader.number(&reply.peak_rss_bytes).number(&ms_bits);
  reader.number(&made.num_registers).number(&made.stack_bytes).number(&made.spill_store_bytes);
  bool has_phases = false;
  CompilePhases phases;
  reader.number(&made.spill_load_bytes).number(&has_phases);
  for (double* ms : {&phases.front_ms, &phases.nvvm_ms, &phases.ptxas_ms}) {
    uint64_t bits = 0;
    reader.number(&bits);
    std::memcpy(ms, &bits, sizeof(bits));
  }
  reader.text(&made.log).text(&made.cubin);
  DGRT_TRY(reader.done("reply"));
  std::memcpy(&made.total_ms, &ms_bits, sizeof(ms_bits));
  if (has_phases) made.phases = phases;
  if (code < DGRT_OK || code > DGRT_INTERNAL)
    return invalid("worker protocol: status={}: no such status", code);
  reply.status = Status(code, std::move(message));
  return reply;
}

}  // namespace dgrt
