#include "tools/model_latent.h"

#include <algorithm>

#include "dgrt/attention.h"
#include "dgrt/indexer.h"
#include "dgrt/mla.h"
#include "runtime/ops/op.h"

namespace dgrt {
namespace {

constexpr int64_t most_tokens = (int64_t{1} << 30) - 1;  // include/dgrt/mla.h
constexpr int64_t merged_parts = 2;                      // keys of the cache, and the chunk's own
constexpr int64_t index_page_size = 64;                  // of both engines' caches of index keys

class Planner {
 public:
  Planner(const LatentAttention& latent, const Profile& profile, int64_t max_positions)
      : latent_(latent),
        engine_(profile.engine),
        tokens_(std::min(profile.max_tokens, most_tokens)),
        positions_(std::min(max_positions, most_tokens)) {}

  LatentPlans plan() {
    if (latent_.indexer) {
      add_indexer(*latent_.indexer);
      add_sparse(*latent_.indexer);
    } else {
      add_decode();
      add_prefill(tokens_, engine_ == Engine::plain ? std::min(tokens_, positions_) : positions_);
      add_cache();
    }
    return std::move(plans_);
  }

 private:
  template <class Desc>
  void add(const char* name, const Desc& desc) {
    const Result<const OpImpl*> op = find_op(&desc.op);
    const Status status = op.is_ok() ? op.value()->check_desc(&desc.op) : op.status();
    if (status.is_ok())
      plans_.descs.emplace_back(&desc.op);
    else
      add_missing(name, fmt::format("{} heads of {} + {}, values of {}, rows of {} + {}: {}", latent_.num_heads,
                                    latent_.nope_dim, latent_.rope_dim, latent_.v_dim, latent_.rank,
                                    latent_.rope_dim, status.message()));
  }
  void add_missing(const char* name, std::string reason) {
    plans_.missing.push_back({name, std::move(reason)});
  }

  void add_decode();
  void add_prefill(int64_t max_q_len, int64_t max_kv_len);
  void add_cache();
  void add_indexer(const LatentAttention::Indexer& indexer);
  void add_sparse(const LatentAttention::Indexer& indexer);
  void add_chosen(const LatentAttention::Indexer& indexer);

  bool holds_v32() const { return latent_.rank == 512 && latent_.rope_dim == 64; }  // the format's columns
  uint32_t slot_flags() const { return engine_ == Engine::plain ? 0 : DGRT_KV_SLOTS_INT64; }

  const LatentAttention& latent_;
  const Engine engine_;
  const int64_t tokens_, positions_;  // of a pass, of a sequence
  LatentPlans plans_;
};

// Every sequence of a pass has a token of its own, and those that were drafted for it.
void Planner::add_decode() {
  dgrt_mla_decode_desc desc = DGRT_MLA_DECODE_DESC;
  desc.num_q_heads = latent_.num_heads;
  desc.head_dim_qk = latent_.rank + latent_.rope_dim, desc.head_dim_v = latent_.rank;
  desc.max_batch = tokens_;
  desc.max_q_len = std::min(1 + latent_.num_draft_tokens, tokens_);
  desc.max_kv_len = positions_;
  desc.dtype = latent_.dtype;
  add("self_attn.mla (decode)", desc);
}

// Keys and values of every head are made of the latent rows, and lie contiguously. Those of a long prefix come in
// chunks, whose results are merged.
void Planner::add_prefill(int64_t max_q_len, int64_t max_kv_len) {
  dgrt_attn_prefill_desc desc = DGRT_ATTN_PREFILL_DESC;
  desc.num_q_heads = desc.num_kv_heads = latent_.num_heads;
  desc.head_dim_qk = latent_.nope_dim + latent_.rope_dim, desc.head_dim_v = latent_.v_dim;
  desc.max_batch = tokens_;
  desc.max_q_len = std::min(max_q_len, max_kv_len), desc.max_kv_len = max_kv_len;
  desc.dtype = latent_.dtype;
  add("self_attn.mla (prefill)", desc);
}

// A row of a bf16 or fp16 cache is to kv_append one head's key and value, side by side.
void Planner::add_cache() {
  dgrt_kv_append_desc append = DGRT_KV_APPEND_DESC;
  append.num_kv_heads = 1;
  append.head_dim_qk = latent_.rank, append.head_dim_v = latent_.rope_dim;
  append.max_tokens = tokens_;
  append.dtype = append.dtype_cache = latent_.dtype;
  append.flags = slot_flags();
  add("self_attn.mla (cache)", append);
  if (engine_ == Engine::plain) return;
  dgrt_attn_merge_desc merge = DGRT_ATTN_MERGE_DESC;
  merge.num_heads = latent_.num_heads, merge.head_dim = latent_.v_dim;
  merge.max_tokens = tokens_, merge.max_parts = merged_parts;
  merge.dtype_part = merge.dtype_o = latent_.dtype;
  add("self_attn.mla (merge)", merge);
  add_missing("self_attn.mla (prefix)", "rows of a bf16 cache gathered for chunked prefill: no kernel");
}

// The rows of logits begin with a token's first key, as topk_transform reads them.
void Planner::add_indexer(const LatentAttention::Indexer& indexer) {
  dgrt_mqa_logits_desc prefill = DGRT_MQA_LOGITS_DESC;
  prefill.num_heads = indexer.num_heads, prefill.head_dim = indexer.head_dim;
  prefill.max_tokens = tokens_, prefill.max_kv_tokens = positions_;
  prefill.dtype_out = DGRT_FP32;
  prefill.flags = DGRT_LOGITS_COMPRESSED;
  add("self_attn.indexer (prefill)", prefill);
  dgrt_paged_mqa_logits_desc decode = DGRT_PAGED_MQA_LOGITS_DESC;
  decode.num_heads = indexer.num_heads, decode.head_dim = indexer.head_dim;
  decode.page_size = index_page_size;
  decode.max_batch = tokens_, decode.max_context_len = positions_;
  decode.dtype_out = DGRT_FP32;
  for (const int64_t next_n : {int64_t{1}, 1 + latent_.num_draft_tokens}) {
    if (next_n == decode.next_n) break;  // nothing is drafted
    decode.next_n = next_n;
    add("self_attn.indexer (decode)", decode);
  }
  dgrt_topk_transform_desc top = DGRT_TOPK_TRANSFORM_DESC;
  top.top_k = indexer.top_k;
  top.max_rows = tokens_, top.max_columns = positions_;
  add("self_attn.indexer (choice)", top);
  add_missing("self_attn.indexer (inputs)",
              "rotation and quantisation of index queries and keys, their cache: no kernel");
}

// Over a cache of DeepSeek-V3.2's 656-byte rows. Sequences no longer than the choice are dense for sglang.
void Planner::add_sparse(const LatentAttention::Indexer& indexer) {
  dgrt_mla_kv_append_desc append = DGRT_MLA_KV_APPEND_DESC;
  append.max_tokens = tokens_;
  append.format = DGRT_MLA_KV_V32;
  append.flags = slot_flags();
  dgrt_kv_dequant_paged_desc dequant = DGRT_KV_DEQUANT_PAGED_DESC;
  dequant.max_rows = positions_;
  dequant.max_batch = engine_ == Engine::vllm ? tokens_ : 0;
  dequant.format = DGRT_MLA_KV_V32;
  if (holds_v32()) {
    add("self_attn.mla (cache)", append);
    add("self_attn.mla (dequantisation)", dequant);
  } else {
    add_missing("self_attn.mla (cache)", fmt::format("rows of {} + {}: the format holds 512 + 64",
                                                     latent_.rank, latent_.rope_dim));
  }
  if (engine_ == Engine::sglang)
    add_prefill(tokens_, std::min(indexer.top_k, positions_));
  add_chosen(indexer);
}

// Decode reads the cache itself, prefill rows that were made bf16.
void Planner::add_chosen(const LatentAttention::Indexer& indexer) {
  dgrt_mla_sparse_decode_desc decode = DGRT_MLA_SPARSE_DECODE_DESC;
  decode.num_q_heads = latent_.num_heads;
  decode.max_tokens = tokens_, decode.max_keys = indexer.top_k;
  decode.format = DGRT_MLA_KV_V32;
  if (holds_v32())
    add("self_attn.mla (sparse decode)", decode);
  else
    add_missing("self_attn.mla (sparse decode)", "it reads rows of 512 + 64");
  dgrt_mla_sparse_prefill_desc prefill = DGRT_MLA_SPARSE_PREFILL_DESC;
  prefill.num_heads = latent_.num_heads;
  prefill.head_dim_qk = latent_.rank + latent_.rope_dim, prefill.head_dim_v = latent_.rank;
  prefill.max_tokens = tokens_, prefill.max_top_k = indexer.top_k;
  prefill.dtype = latent_.dtype;
  add("self_attn.mla (sparse prefill)", prefill);
}

}  // namespace

LatentPlans latent_plans(const LatentAttention& latent, const Profile& profile, int64_t max_positions) {
  return Planner(latent, profile, max_positions).plan();
}

}  // namespace dgrt
