#include "tools/quant_config.h"

#include <regex.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace dgrt {
namespace {

using Json = nlohmann::json;

constexpr std::string_view regex_prefix = "re:";

// POSIX extended syntax, anchored at the front as Python's re.match is. `text` NULL only checks it.
bool matches_regex(std::string_view pattern, const char* text, bool* valid) {
  regex_t compiled;
  const std::string anchored = "^(" + std::string(pattern) + ")";
  *valid = regcomp(&compiled, anchored.c_str(), REG_EXTENDED | REG_NOSUB) == 0;
  if (!*valid) return false;
  const bool found = text != nullptr && regexec(&compiled, text, 0, nullptr, 0) == 0;
  regfree(&compiled);
  return found;
}

// A plain pattern names a module, one of its parents, or the end of its path: "lm_head",
// "model.layers.0", "mlp.gate". Only whole path components match.
bool matches_name(std::string_view pattern, std::string_view module) {
  if (pattern.empty() || pattern.size() > module.size()) return false;
  if (pattern.size() == module.size()) return pattern == module;
  const size_t rest = module.size() - pattern.size();
  return (module.substr(0, pattern.size()) == pattern && module[pattern.size()] == '.') ||
         (module.substr(rest) == pattern && module[rest - 1] == '.');
}

bool is_128x128(const Json& block) {
  return block.is_array() && block.size() == 2 && block[0] == 128 && block[1] == 128;
}

void refuse(QuantConfig& quant, std::string reason) {
  quant.scheme = WeightScheme::unsupported;
  quant.reason = std::move(reason);
}

// quant_method "fp8": weight_block_size present means blocks, absent means one scale per tensor.
void read_fp8(const Json& json, QuantConfig& quant) {
  const Json block = json.value("weight_block_size", Json());
  if (block.is_null())
    return refuse(quant, "per-tensor FP8 scales: dgrt has 128 x 128 blocks only");
  if (!is_128x128(block))
    return refuse(quant,
                  fmt::format("weight_block_size {}: dgrt has [128,128] only", block.dump()));
  if (json.value("fmt", "e4m3") != "e4m3")
    return refuse(quant, "FP8 format is not e4m3: dgrt has e4m3 only");
  if (json.value("activation_scheme", "dynamic") != "dynamic")
    return refuse(quant, "static activation scales: dgrt quantises activations as they come");
}

// quant_method "compressed-tensors": one group for all linear layers, or something we do not know.
void read_compressed_tensors(const Json& json, QuantConfig& quant) {
  const Json groups = json.value("config_groups", Json::object());
  if (!groups.is_object() || groups.size() != 1)
    return refuse(quant, "compressed-tensors with several groups of weights");
  const Json group = *groups.begin();
  const Json weights = group.value("weights", Json::object());
  const Json inputs = group.value("input_activations", Json::object());
  if (!weights.is_object() || !inputs.is_object())
    return refuse(quant, "compressed-tensors with unquantised weights or activations");
  const bool fp8 = weights.value("type", "") == "float" && weights.value("num_bits", 0) == 8;
  const std::string strategy = weights.value("strategy", "");
  if (!fp8 || strategy != "block" || !is_128x128(weights.value("block_structure", Json())))
    return refuse(quant,
                  fmt::format("compressed-tensors weights of {} bits per {}: dgrt has FP8 in "
                              "128 x 128 blocks only",
                              weights.value("num_bits", 0), strategy));
  if (inputs.value("strategy", "") != "group" || inputs.value("group_size", 0) != 128 ||
      inputs.value("dynamic", Json()) != true)
    return refuse(quant, "activations are not FP8 in dynamic groups of 128");
}

Status read_skipped(const Json& json, QuantConfig& quant) {
  for (const char* field : {"modules_to_not_convert", "ignored_layers", "ignore"}) {
    const Json list = json.value(field, Json());
    if (list.is_null()) continue;
    if (!list.is_array()) return invalid("quantization_config.{}: must be a list of names", field);
    for (const Json& entry : list) {
      if (!entry.is_string())
        return invalid("quantization_config.{}={}: must be a name", field, entry.dump());
      const std::string pattern = entry.get<std::string>();
      bool valid = true;
      if (pattern.starts_with(regex_prefix))
        matches_regex(pattern.substr(regex_prefix.size()), nullptr, &valid);
      if (!valid)
        return invalid("quantization_config.{}={}: not a regular expression", field, pattern);
      quant.skipped.push_back(pattern);
    }
  }
  return ok();
}

}  // namespace

WeightScheme QuantConfig::scheme_of(std::string_view module) const {
  const std::string name(module);
  bool valid = true;
  const bool skip = std::any_of(skipped.begin(), skipped.end(), [&](std::string_view pattern) {
    return pattern.starts_with(regex_prefix)
               ? matches_regex(pattern.substr(regex_prefix.size()), name.c_str(), &valid)
               : matches_name(pattern, module);
  });
  return skip ? rest : scheme;
}

Result<QuantConfig> read_quant_config(const nlohmann::json& config) {
  QuantConfig quant;
  try {
    // The field was renamed in 2025; a file may hold either.
    const std::string dtype = config.value("torch_dtype", config.value("dtype", "bfloat16"));
    if (dtype != "bfloat16") {
      quant.scheme = quant.rest = WeightScheme::unsupported;
      quant.reason = fmt::format("{} weights: dgrt has bfloat16 only", dtype);
    }
    const Json json = config.value("quantization_config", Json());
    if (json.is_null()) return quant;
    if (!json.is_object()) return invalid("quantization_config: must be an object");
    const std::string method = json.value("quant_method", "");
    quant.scheme = WeightScheme::fp8_block;
    if (method == "fp8") {
      read_fp8(json, quant);
    } else if (method == "compressed-tensors") {
      read_compressed_tensors(json, quant);
    } else if (method == "fbgemm_fp8") {
      refuse(quant, "per-channel FP8 scales: dgrt has 128 x 128 blocks only");
    } else {
      refuse(quant, fmt::format("quant_method \"{}\": no kernel", method));
    }
    DGRT_TRY(read_skipped(json, quant));
  } catch (const nlohmann::json::exception& e) {
    return invalid("quantization_config: {}", e.what());
  }
  return quant;
}

}  // namespace dgrt
