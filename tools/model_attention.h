// Which attention a model's layers do, by its config.json: heads of one rank, windows, a cap on the
// logits, sinks; and the plans that an engine makes for it. Knows nothing of linear layers.
#pragma once
#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "dgrt/attention.h"
#include "tools/model_config.h"

namespace dgrt {

// The type of queries, keys and values. UNSUPPORTED: dgrt has no attention in it.
Result<dgrt_dtype> read_attention_dtype(const nlohmann::json& config);

// One entry for each kind of layer: what has a window, and what has none. UNSUPPORTED: heads that dgrt
// has no kernel for. Requires: heads of one rank; `config` an object. May throw json exceptions.
Result<std::vector<Attention>> read_attention(const nlohmann::json& config, int64_t num_q_heads,
                                              int64_t num_kv_heads, int64_t head_dim);

// Pointers to these stay valid while the object lives. Windows, sinks and pages are a call's, so
// layers that differ in them alone share plans.
class AttentionDescs {
 public:
  void add(const Attention& attention, const Profile& profile, int64_t max_positions);
  void append_to(std::vector<const dgrt_desc*>* pointers) const;

 private:
  std::deque<dgrt_attn_prefill_desc> prefills_;
  std::deque<dgrt_attn_extend_desc> extends_;
  std::deque<dgrt_attn_decode_desc> decodes_;
  std::deque<dgrt_attn_merge_desc> merges_;
  std::deque<dgrt_kv_append_desc> appends_;
};

}  // namespace dgrt
