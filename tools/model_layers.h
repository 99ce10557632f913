// The layers of each model family, by its config.json: which weights there are, what an engine
// fuses, how ranks divide them. One class walks all families; a new one adds a branch in build()
// and its own attention.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "tools/model_config.h"
#include "tools/quant_config.h"

namespace dgrt {

constexpr int64_t max_dimension = INT32_MAX;  // of n, k and m, include/dgrt/gemm.h

// Requires: a checked profile, `config` an object. May throw json exceptions on wrong types.
Result<ModelNeeds> derive_needs(const nlohmann::json& config, const Profile& profile,
                                QuantConfig quant);

}  // namespace dgrt
