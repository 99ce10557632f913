#include "tools/prewarm_input.h"

#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

namespace dgrt {
namespace {

using ParseFn = Result<std::vector<DescBytes>> (*)(std::string_view text);

Status add_file(const std::string& path, ParseFn parse, std::vector<DescBytes>* descs) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return error(DGRT_IO_ERROR, "{}: {}", path, std::strerror(errno));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return error(DGRT_IO_ERROR, "{}: {}", path, std::strerror(errno));
  Result<std::vector<DescBytes>> parsed = parse(text);
  if (!parsed.is_ok())
    return {parsed.status().code(), fmt::format("{}: {}", path, parsed.status().message())};
  for (DescBytes& desc : parsed.value()) descs->push_back(std::move(desc));
  return ok();
}

}  // namespace

std::vector<const dgrt_desc*> PrewarmInput::pointers() const {
  std::vector<const dgrt_desc*> pointers;
  for (const DescBytes& desc : descs) pointers.push_back(desc.get());
  return pointers;
}

Result<PrewarmInput> read_prewarm_input(PrewarmSources* sources) {
  if (sources->config.empty() && sources->manifests.empty() && sources->recordings.empty())
    return invalid("nothing to make: give --config, --manifest or --recording");
  PrewarmInput input;
  DGRT_ASSIGN(sources->profile.engine, engine_from_name(sources->engine));
  if (!sources->config.empty()) {
    DGRT_ASSIGN(input.needs, model_needs_of_file(sources->config, sources->profile));
    const DescList list(*input.needs, sources->profile);
    for (const dgrt_desc* desc : list.pointers()) input.descs.emplace_back(desc);
  }
  for (const std::string& path : sources->manifests)
    DGRT_TRY(add_file(path, parse_manifest, &input.descs));
  for (const std::string& path : sources->recordings)
    DGRT_TRY(add_file(path, parse_recording, &input.descs));
  return input;
}

Result<Shard> parse_shard(const std::string& text) {
  Shard shard;
  const char* const end = text.data() + text.size();
  const auto [slash, index_error] = std::from_chars(text.data(), end, shard.index);
  if (index_error == std::errc() && slash != end && *slash == '/') {
    const auto [stop, count_error] = std::from_chars(slash + 1, end, shard.count);
    if (count_error == std::errc() && stop == end && shard.index < shard.count) return shard;
  }
  return invalid("shard={}: must be i/n with 0 <= i < n, e.g. 0/4", text);
}

}  // namespace dgrt
