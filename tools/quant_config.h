// How a checkpoint stores its weights: reads `quantization_config` and `torch_dtype` of a Hugging
// Face config.json and says which modules are FP8 in 128 x 128 blocks, which are BF16, and which
// are something that dgrt has no kernel for.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace dgrt {

enum class WeightScheme { bf16, fp8_block, unsupported };

struct QuantConfig {
  WeightScheme scheme = WeightScheme::bf16;  // of the modules that are quantised
  WeightScheme rest = WeightScheme::bf16;    // of those that are not
  std::string reason;                        // why either is unsupported
  std::vector<std::string> skipped;          // patterns of modules that are not quantised

  // `module` is a full name in the checkpoint: "model.layers.0.self_attn.q_proj".
  WeightScheme scheme_of(std::string_view module) const;
};

Result<QuantConfig> read_quant_config(const nlohmann::json& config);

}  // namespace dgrt
