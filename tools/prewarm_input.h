// What `dgrt prewarm` is asked to make: the descs of a model's layers, of manifests and of
// recordings, as one list.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/desc_json.h"
#include "runtime/engine/prepare.h"
#include "tools/model_config.h"

namespace dgrt {

struct PrewarmSources {
  std::string config;  // a model's config.json, "" for none
  std::string engine = "plain";
  Profile profile;  // its engine is that of `engine`
  std::vector<std::string> manifests, recordings;
};

struct PrewarmInput {
  std::optional<ModelNeeds> needs;  // of the config, if there is one
  std::vector<DescBytes> descs;
  std::vector<const dgrt_desc*> pointers() const;
};

// INVALID_ARGUMENT: no source at all, or one that is wrong; the message names it.
Result<PrewarmInput> read_prewarm_input(PrewarmSources* sources);

// "2/8": the third of eight. INVALID_ARGUMENT unless 0 <= i < n.
Result<Shard> parse_shard(const std::string& text);

}  // namespace dgrt
