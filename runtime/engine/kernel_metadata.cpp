#include "runtime/engine/kernel_metadata.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "runtime/compile/key.h"

namespace dgrt {

Result<KeyFields> key_fields(const Instance& instance, const Sources& sources) {
  DGRT_ASSIGN(const Closure* closure, sources.closure(instance.header));
  KeyFields fields;
  fields.stem = instance.stem;
  fields.kernel = instance.entry;
  fields.config = instance.cfg.to_string();
  fields.arch = instance.arch;
  fields.options = fmt::format("{}", fmt::join(compile_options(instance), " "));
  fields.template_id = Key{closure->digest}.hex();
  fields.num_threads = instance.num_threads;
  fields.min_blocks = instance.min_blocks;
  fields.key_version = key_version;
  return fields;
}

std::string make_metadata(const Instance& instance, const KeyFields& fields, uint32_t smem_bytes,
                          const Compiled& compiled) {
  nlohmann::json json;  // objects are ordered by name
  json["stem"] = fields.stem;
  json["kernel"] = fields.kernel;
  json["config"] = fields.config;
  json["arch"] = fields.arch;
  json["options"] = compile_options(instance);
  json["template"] = fields.template_id;
  json["num_threads"] = fields.num_threads;
  json["min_blocks"] = fields.min_blocks;
  json["key_version"] = fields.key_version;
  json["num_registers"] = compiled.num_registers;
  json["stack_bytes"] = compiled.stack_bytes;
  json["spill_store_bytes"] = compiled.spill_store_bytes;
  json["spill_load_bytes"] = compiled.spill_load_bytes;
  json["params_bytes"] = instance.params_bytes;
  json["smem_bytes"] = smem_bytes;
  json["producer"] =
      fmt::format("dgrt {}.{}.{}", DGRT_VERSION_MAJOR, DGRT_VERSION_MINOR, DGRT_VERSION_PATCH);
  return json.dump();
}

KeyFields read_key_fields(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  KeyFields fields;
  if (!json.is_object()) return fields;
  const auto read_text = [&json](const char* name, std::string* value) {
    const auto it = json.find(name);
    if (it != json.end() && it->is_string()) *value = it->get<std::string>();
  };
  const auto read_number = [&json](const char* name, uint64_t* value) {
    const auto it = json.find(name);
    if (it != json.end() && it->is_number_unsigned()) *value = it->get<uint64_t>();
  };
  read_text("stem", &fields.stem);
  read_text("kernel", &fields.kernel);
  read_text("config", &fields.config);
  read_text("arch", &fields.arch);
  read_text("template", &fields.template_id);
  read_number("num_threads", &fields.num_threads);
  read_number("min_blocks", &fields.min_blocks);
  read_number("key_version", &fields.key_version);
  const auto options = json.find("options");
  if (options == json.end() || !options->is_array()) return fields;
  for (const nlohmann::json& option : *options) {
    if (!option.is_string()) continue;
    if (!fields.options.empty()) fields.options += ' ';
    fields.options += option.get<std::string>();
  }
  return fields;
}

Result<KernelFacts> read_metadata(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return invalid("metadata: not a JSON object");
  const auto number = [&json](const char* name, uint32_t* value) {
    const auto it = json.find(name);
    if (it == json.end() || !it->is_number_unsigned()) return false;
    *value = it->get<uint32_t>();
    return true;
  };
  KernelFacts facts;
  uint32_t stores = 0, loads = 0;
  const auto entry = json.find("kernel");
  if (entry == json.end() || !entry->is_string()) return invalid("metadata.kernel: missing");
  facts.entry = entry->get<std::string>();
  if (!number("num_registers", &facts.num_registers) || !number("spill_store_bytes", &stores) ||
      !number("spill_load_bytes", &loads))
    return invalid("metadata: num_registers and spill bytes must be numbers");
  facts.spill_bytes = stores + loads;
  return facts;
}

}  // namespace dgrt
