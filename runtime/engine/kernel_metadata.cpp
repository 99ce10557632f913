#include "runtime/engine/kernel_metadata.h"

#include <nlohmann/json.hpp>

#include "runtime/compile/key.h"

namespace dgrt {

std::string make_metadata(const Instance& instance, uint32_t smem_bytes, const Compiled& compiled) {
  nlohmann::json json;  // objects are ordered by name
  json["stem"] = instance.stem;
  json["kernel"] = instance.entry;
  json["config"] = instance.cfg.to_string();
  json["arch"] = instance.arch;
  json["options"] = compile_options(instance);
  json["num_registers"] = compiled.num_registers;
  json["stack_bytes"] = compiled.stack_bytes;
  json["spill_store_bytes"] = compiled.spill_store_bytes;
  json["spill_load_bytes"] = compiled.spill_load_bytes;
  json["params_bytes"] = instance.params_bytes;
  json["smem_bytes"] = smem_bytes;
  json["num_threads"] = instance.num_threads;
  json["producer"] =
      fmt::format("dgrt {}.{}.{}", DGRT_VERSION_MAJOR, DGRT_VERSION_MINOR, DGRT_VERSION_PATCH);
  return json.dump();
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
