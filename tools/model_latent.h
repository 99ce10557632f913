// The plans of a model's latent attention, dense or with an indexer, by the shapes of its config.json and the
// engine: what dgrt has kernels for, and by name what it has none for.
#pragma once
#include <vector>

#include "runtime/engine/desc_json.h"
#include "tools/model_config.h"

namespace dgrt {

struct LatentPlans {
  std::vector<DescBytes> descs;
  std::vector<Missing> missing;
};

// Requires: a checked profile, sizes from 1 to INT32_MAX.
LatentPlans latent_plans(const LatentAttention& latent, const Profile& profile, int64_t max_positions);

}  // namespace dgrt
