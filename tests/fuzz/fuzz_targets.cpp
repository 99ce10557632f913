#include "tests/fuzz/fuzz_targets.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cache/bundle.h"
#include "cache/file_bytes.h"
#include "heuristics/table.h"
#include "runtime/base/fs.h"
#include "runtime/base/hash.h"
#include "runtime/engine/desc_copy.h"
#include "runtime/engine/desc_json.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/selection.h"
#include "tools/model_config.h"

namespace dgrt::fuzz {
namespace {

// A broken promise ends the process, as a fuzzer wants it.
void require(bool is_true) {
  if (!is_true) std::abort();
}

std::string_view text_of(Bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// Offsets as in cache/entry.h and cache/bundle.h.
void repair_entry(std::vector<std::byte>* file) {
  constexpr size_t header = 128, checksum_at = 112;
  if (file->size() < header) return;
  const std::span<const std::byte> bytes = *file;
  const Checksum checksum = xxh3_128({bytes.first(checksum_at), bytes.subspan(header)});
  std::memcpy(file->data() + checksum_at, checksum.data(), checksum.size());
}

void repair_bundle(std::vector<std::byte>* file) {
  constexpr size_t header = 64, record = 80, digest_bytes = 32, checksum_at = 48;
  if (file->size() < header + digest_bytes) return;
  put<uint64_t>(*file, 24, file->size());
  const std::span<const std::byte> bytes = *file;
  const auto entries = std::min<uint64_t>(get<uint64_t>(bytes, 16), bytes.size() / record);
  const size_t index = std::min<size_t>(entries * record, bytes.size() - header);
  const Checksum checksum = xxh3_128({bytes.first(checksum_at), bytes.subspan(header, index)});
  std::memcpy(file->data() + checksum_at, checksum.data(), checksum.size());
  const Digest digest = blake2b_256(bytes.first(bytes.size() - digest_bytes));
  std::memcpy(file->data() + file->size() - digest_bytes, digest.data(), digest.size());
}

void parse_one_entry(Bytes file) {
  const Result<Entry> entry = parse_entry(file);
  require(entry.is_ok() != !entry.status().is_ok());
  // Exactly what is written is accepted.
  if (entry.is_ok()) require(std::ranges::equal(serialize(entry.value()), file));
}

void open_one_bundle(Bytes file) {
  static const std::string path = [] {
    std::string name = "/tmp/dgrt_fuzz_bundle_XXXXXX";
    if (::access("/dev/shm", W_OK) == 0) name = "/dev/shm/dgrt_fuzz_bundle_XXXXXX";
    require(::mkdtemp(name.data()) != nullptr);
    return name + "/b.dgb";
  }();
  require(write_bundle(path, file).is_ok());
  ::chmod(path.c_str(), 0600);
  Result<std::unique_ptr<Bundle>> opened = Bundle::open(path);
  ::unlink(path.c_str());
  if (!opened.is_ok()) return;
  const Bundle& bundle = *opened.value();
  bool are_all_good = true;
  for (size_t i = 0; i < bundle.num_entries(); ++i) {
    const Bundle::Item item = bundle.item(i);
    require(bundle.entry_bytes(i).size() == item.bytes);
    are_all_good &= bundle.read(i).is_ok();
    require(bundle.find(item.key, {&item.compiler, true}) == i);
  }
  require(!bundle.verify().is_ok() || are_all_good);
}

// What was read can be written and read again, and is planned or refused.
void check_descs(const std::vector<DescBytes>& descs) {
  for (size_t i = 0; i < descs.size(); ++i) {
    const Result<std::string> line = desc_to_json(descs[i].get());
    require(line.is_ok());
    const auto again = parse_recording(line.value());
    require(again.is_ok() && again.value().size() == 1 && again.value()[0] == descs[i]);
    const Result<DescCopy> copy = DescCopy::make(descs[i].get(), all_ops());
    if (!copy.is_ok() || i > 0) continue;  // a choice takes milliseconds
    (void)select(copy.value().op(), copy.value().get(), {"sm_90a", 132}, Table()).is_ok();
  }
}

}  // namespace

void entry(Bytes input) {
  parse_one_entry(input);
  std::vector<std::byte> repaired(input.begin(), input.end());
  repair_entry(&repaired);
  parse_one_entry(repaired);
}

void bundle(Bytes input) {
  std::vector<std::byte> repaired(input.begin(), input.end());
  repair_bundle(&repaired);
  open_one_bundle(repaired);
}

void table(Bytes input) {
  std::vector<std::string> warnings;
  const Result<Table> parsed = Table::parse("gemm_fp8", text_of(input), "fuzz.json", &warnings);
  if (parsed.is_ok())
    require(Table::stack(parsed.value(), Table()).digest() == parsed.value().digest());
}

void manifest(Bytes input) {
  for (const auto parse : {parse_manifest, parse_recording})
    if (const auto descs = parse(text_of(input)); descs.is_ok()) check_descs(descs.value());
}

void model(Bytes input) {
  for (const Engine engine : {Engine::sglang, Engine::plain})
    for (const int64_t ranks : {1, 8}) {
      Profile profile;
      profile.engine = engine;
      profile.tp = profile.ep = ranks;
      const Result<ModelNeeds> needs = model_needs(text_of(input), profile);
      if (!needs.is_ok()) continue;
      const DescList list(needs.value(), profile);
      for (const dgrt_desc* desc : list.pointers())
        require(DescCopy::make(desc, all_ops()).is_ok());
    }
}

std::span<const Target> targets() {
  static constexpr Target all[] = {{"entry", entry},
                                   {"bundle", bundle},
                                   {"table", table},
                                   {"manifest", manifest},
                                   {"model", model}};
  return all;
}

}  // namespace dgrt::fuzz
