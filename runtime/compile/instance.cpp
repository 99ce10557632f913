#include "runtime/compile/instance.h"

#include <limits>

#include "runtime/base/format.h"

namespace dgrt {
namespace {

bool fits_int(int64_t value) {
  return value >= std::numeric_limits<int32_t>::min() &&
         value <= std::numeric_limits<int32_t>::max();
}

}  // namespace

std::string source_text(const Instance& instance) {
  std::string text = fmt::format("#include \"{}\"\nstruct Cfg {{\n", instance.header);
  for (const Config::Field& field : instance.cfg.fields()) {
    text += fmt::format("  static constexpr {} {} = {};\n",
                        fits_int(field.second) ? "int" : "long long", field.first, field.second);
  }
  text += fmt::format(
      "}};\n"
      "extern \"C\" __global__ void __launch_bounds__({}, {})\n"
      "{}(const __grid_constant__ {}::Params p) {{\n"
      "  {}::run<Cfg>(p);\n"
      "}}\n",
      instance.num_threads, instance.min_blocks, instance.entry, instance.name_space,
      instance.name_space);
  return text;
}

}  // namespace dgrt
