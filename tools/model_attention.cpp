#include "tools/model_attention.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace dgrt {
namespace {

using Json = nlohmann::json;

constexpr int64_t most_tokens = (int64_t{1} << 30) - 1;  // include/dgrt/attention.h
constexpr int64_t most_draft_tokens = 16;                // of a sequence, for attn_decode
constexpr int64_t merged_parts = 2;  // a shared or cached prefix, and what follows it

// 0: no layer has one. Qwen's configs name a size and say that it is not used.
Result<int64_t> read_window(const Json& config) {
  const auto found = config.find("sliding_window");
  if (found == config.end() || found->is_null()) return int64_t{0};
  if (!found->is_number_integer() || *found < 0)
    return invalid("sliding_window={}: must be an integer from 0", found->dump());
  return config.value("use_sliding_window", true) ? found->get<int64_t>() : 0;
}

// Of the layers' windows, those that differ: {0}, {window}, or both.
Result<std::vector<int64_t>> read_windows(const Json& config) {
  DGRT_ASSIGN(const int64_t window, read_window(config));
  if (window == 0) return std::vector<int64_t>{0};
  const Json types = config.value("layer_types", Json());
  if (!types.is_array() || types.empty()) return std::vector<int64_t>{window, 0};
  std::vector<int64_t> windows;
  for (const Json& type : types) {
    if (type != "sliding_attention" && type != "full_attention")
      return error(DGRT_UNSUPPORTED, "layers of type {}: no attention kernel", type.dump());
    const int64_t own = type == "sliding_attention" ? window : 0;
    if (std::find(windows.begin(), windows.end(), own) == windows.end()) windows.push_back(own);
  }
  return windows;
}

Status check_heads(int64_t num_q_heads, int64_t num_kv_heads, int64_t head_dim) {
  const auto unsupported = [&](const char* rule) {
    return error(DGRT_UNSUPPORTED, "attention, {} query and {} key-value heads of {}: {}",
                 num_q_heads, num_kv_heads, head_dim, rule);
  };
  if (head_dim % 8 != 0 || head_dim > 512) return unsupported("heads are multiples of 8 up to 512");
  if (num_q_heads % num_kv_heads != 0) return unsupported("key heads must divide query heads");
  if (num_q_heads > 65535) return unsupported("at most 65535 heads");
  return ok();
}

template <class Desc>
void add_once(const Desc& desc, std::deque<Desc>* descs) {
  const bool known = std::any_of(descs->begin(), descs->end(), [&](const Desc& other) {
    return std::memcmp(&other, &desc, sizeof(desc)) == 0;
  });
  if (!known) descs->push_back(desc);
}

// What the descs of attention over keys have. Every sequence of a pass has a token of its own.
template <class Desc>
Desc over_keys(const Attention& attention, int64_t max_tokens, int64_t max_positions, Desc desc) {
  desc.num_q_heads = attention.num_q_heads;
  desc.num_kv_heads = attention.num_kv_heads;
  desc.head_dim_qk = desc.head_dim_v = attention.head_dim;
  desc.max_batch = max_tokens;
  desc.max_q_len = std::min(max_tokens, max_positions);
  desc.max_kv_len = max_positions;
  desc.dtype = attention.dtype;
  desc.flags = attention.softcap ? DGRT_ATTN_SOFTCAP : 0;
  return desc;
}

}  // namespace

Result<dgrt_dtype> read_attention_dtype(const Json& config) {
  const std::string name = config.value("torch_dtype", config.value("dtype", "bfloat16"));
  if (name == "bfloat16") return dgrt_dtype{DGRT_BF16};
  if (name == "float16") return dgrt_dtype{DGRT_FP16};
  return error(DGRT_UNSUPPORTED, "attention in {}: dgrt has bfloat16 and float16", name);
}

Result<std::vector<Attention>> read_attention(const Json& config, int64_t num_q_heads,
                                              int64_t num_kv_heads, int64_t head_dim) {
  DGRT_TRY(check_heads(num_q_heads, num_kv_heads, head_dim));
  DGRT_ASSIGN(const dgrt_dtype dtype, read_attention_dtype(config));
  const Json cap = config.value("attn_logit_softcapping", Json());
  if (!cap.is_null() && !cap.is_number())
    return invalid("attn_logit_softcapping={}: must be a number", cap.dump());
  DGRT_ASSIGN(const std::vector<int64_t> windows, read_windows(config));
  std::vector<Attention> layers;
  for (const int64_t window : windows)
    layers.push_back({"self_attn.attn", num_q_heads, num_kv_heads, head_dim, window,
                      cap.is_number() && cap != 0, dtype});
  return layers;
}

void AttentionDescs::add(const Attention& attention, const Profile& profile,
                         int64_t max_positions) {
  const int64_t tokens = std::min(profile.max_tokens, most_tokens);
  const int64_t positions = std::min(max_positions, most_tokens);
  add_once(over_keys<dgrt_attn_extend_desc>(attention, tokens, positions, DGRT_ATTN_EXTEND_DESC),
           &extends_);
  auto decode =
      over_keys<dgrt_attn_decode_desc>(attention, tokens, positions, DGRT_ATTN_DECODE_DESC);
  decode.max_q_len = std::min(decode.max_q_len, most_draft_tokens);
  add_once(decode, &decodes_);
  // vLLM reads new keys, too, from the cache; the others give them contiguously.
  if (profile.engine != Engine::vllm) {
    auto prefill =
        over_keys<dgrt_attn_prefill_desc>(attention, tokens, positions, DGRT_ATTN_PREFILL_DESC);
    prefill.max_kv_len = prefill.max_q_len;
    add_once(prefill, &prefills_);
  }
  if (profile.engine != Engine::plain) {
    dgrt_attn_merge_desc merge = DGRT_ATTN_MERGE_DESC;
    merge.num_heads = attention.num_q_heads;
    merge.head_dim = attention.head_dim;
    merge.max_tokens = tokens;
    merge.max_parts = merged_parts;
    merge.dtype_part = merge.dtype_o = attention.dtype;
    add_once(merge, &merges_);
  }
  dgrt_kv_append_desc append = DGRT_KV_APPEND_DESC;
  append.num_kv_heads = attention.num_kv_heads;
  append.head_dim_qk = append.head_dim_v = attention.head_dim;
  append.max_tokens = tokens;
  append.dtype = append.dtype_cache = attention.dtype;
  append.flags = profile.engine == Engine::plain ? 0 : DGRT_KV_SLOTS_INT64;  // as both have them
  add_once(append, &appends_);
}

void AttentionDescs::append_to(std::vector<const dgrt_desc*>* pointers) const {
  for (const auto& desc : prefills_) pointers->push_back(&desc.op);
  for (const auto& desc : extends_) pointers->push_back(&desc.op);
  for (const auto& desc : decodes_) pointers->push_back(&desc.op);
  for (const auto& desc : merges_) pointers->push_back(&desc.op);
  for (const auto& desc : appends_) pointers->push_back(&desc.op);
}

}  // namespace dgrt
