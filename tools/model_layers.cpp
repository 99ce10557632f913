#include "tools/model_layers.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/model_attention.h"
#include "tools/model_latent.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;

constexpr int64_t scale_block = 128;   // rows and columns of the weight under one scale
constexpr int64_t vocab_padding = 64;  // sglang and vllm, VocabParallelEmbedding

// How tensor parallelism splits a weight [n, k]: not at all, by rows (column-parallel layers) or by
// columns (row-parallel ones).
enum class Split { none, rows, cols };

// One weight of the checkpoint, as rows of the product that the engine makes of it.
struct Part {
  std::string module;  // under "model.layers.<i>."
  int64_t rows;        // on one rank
};

struct Product {
  std::string name;
  std::vector<Part> parts;
  int64_t k;  // on one rank
  Split split = Split::none;
};

struct Layers {
  std::vector<int64_t> all, dense, moe;  // indices
};

class Builder {
 public:
  Builder(const Json& config, const Profile& profile, QuantConfig quant)
      : config_(config), profile_(profile), quant_(std::move(quant)) {}

  Result<ModelNeeds> build();

 private:
  Status build_deepseek();
  Status build_deepseek_attention();
  Result<std::optional<LatentAttention::Indexer>> build_indexer(int64_t q_rank);
  Status build_latent_attention(LatentAttention latent);
  Status build_transformer(bool moe);
  Status build_gqa_attention();
  Status build_attention(int64_t heads, int64_t kv_heads, int64_t head_dim);
  Status read_max_positions();
  Status build_mlp(const std::string& prefix, int64_t intermediate,
                   const std::vector<int64_t>& layers);
  Status build_lm_head();
  Status build_experts(const char* count_field);

  Result<int64_t> size(const char* field) const;
  Result<int64_t> size_or(const char* field, int64_t absent) const;
  Result<int64_t> shard(const char* field, int64_t value) const;
  Result<bool> flag(const char* field) const;

  void add(const Product& product, const std::vector<int64_t>& layers);
  void add_with_scheme(const Product& product, int64_t n, WeightScheme scheme);
  void add_linear(Linear linear);
  void add_missing(std::string name, std::string reason);
  bool splits_blocks(const Product& product) const;
  // Fuses products of equal k and split into one, or adds each, as the engine does.
  void add_fused(const std::string& name, const std::string& prefix, const std::vector<Part>& parts,
                 int64_t k, Split split, const std::vector<int64_t>& layers);
  bool fuses() const { return profile_.engine != Engine::plain; }

  const Json& config_;
  const Profile& profile_;
  QuantConfig quant_;
  Layers layers_;
  ModelNeeds needs_;
  int64_t hidden_ = 0;
};

Result<int64_t> Builder::size(const char* field) const {
  const auto found = config_.find(field);
  if (found == config_.end() || found->is_null())
    return invalid("{}: missing from the config", field);
  if (!found->is_number_integer() || *found < 1 || *found > max_dimension)
    return invalid("{}={}: must be an integer from 1 to {}", field, found->dump(), max_dimension);
  return found->get<int64_t>();
}

Result<int64_t> Builder::size_or(const char* field, int64_t absent) const {
  const auto found = config_.find(field);
  if (found == config_.end() || found->is_null() || *found == 0) return absent;
  return size(field);
}

Result<int64_t> Builder::shard(const char* field, int64_t value) const {
  if (value % profile_.tp != 0)
    return invalid("{}={} tp={}: tp must divide it", field, value, profile_.tp);
  return value / profile_.tp;
}

Result<bool> Builder::flag(const char* field) const {
  const auto found = config_.find(field);
  if (found == config_.end() || found->is_null()) return false;
  if (!found->is_boolean()) return invalid("{}={}: must be true or false", field, found->dump());
  return found->get<bool>();
}

void Builder::add_linear(Linear linear) {
  const bool known =
      std::any_of(needs_.layers.begin(), needs_.layers.end(), [&](const Linear& other) {
        return other.name == linear.name && other.n == linear.n && other.k == linear.k &&
               other.dtype == linear.dtype;
      });
  if (!known) needs_.layers.push_back(std::move(linear));
}

void Builder::add_missing(std::string name, std::string reason) {
  needs_.missing.push_back({std::move(name), std::move(reason)});
}

// Where ranks or fused parts meet inside a scale block, the block's scale would belong to two
// weights. The last part of a product that is not split may end inside a block: nothing follows it.
bool Builder::splits_blocks(const Product& product) const {
  if (product.split == Split::cols && profile_.tp > 1 && product.k % scale_block != 0) return true;
  const bool split_rows = product.split == Split::rows && profile_.tp > 1;
  const size_t checked = product.parts.size() - (split_rows ? 0 : 1);
  return std::any_of(product.parts.begin(), product.parts.begin() + static_cast<ptrdiff_t>(checked),
                     [](const Part& part) { return part.rows % scale_block != 0; });
}

void Builder::add_with_scheme(const Product& product, int64_t n, WeightScheme scheme) {
  const std::string shape = fmt::format("n={} k={}", n, product.k);
  if (scheme == WeightScheme::unsupported)
    return add_missing(product.name, fmt::format("{}: {}", shape, quant_.reason));
  if (scheme == WeightScheme::fp8_block && splits_blocks(product))
    return add_missing(
        product.name,
        fmt::format("{} at tp={}: a rank's part of an FP8 weight must be a multiple of "
                    "128, the size of a scale block",
                    shape, profile_.tp));
  const bool fp8 = scheme == WeightScheme::fp8_block;
  add_linear({product.name, n, product.k, static_cast<dgrt_dtype>(fp8 ? DGRT_E4M3 : DGRT_BF16),
              DGRT_BF16});
}

// A checkpoint may leave a module unquantised in some layers only: each scheme that occurs is
// added.
void Builder::add(const Product& product, const std::vector<int64_t>& layers) {
  int64_t n = 0;
  for (const Part& part : product.parts) n += part.rows;
  std::vector<WeightScheme> seen;
  bool mixed = false;
  for (int64_t layer : layers) {
    const auto scheme_of = [&](const Part& part) {
      return quant_.scheme_of(fmt::format("model.layers.{}.{}", layer, part.module));
    };
    const WeightScheme scheme = scheme_of(product.parts.front());
    if (std::any_of(product.parts.begin(), product.parts.end(),
                    [&](const Part& part) { return scheme_of(part) != scheme; }))
      mixed = true;
    else if (std::find(seen.begin(), seen.end(), scheme) == seen.end())
      seen.push_back(scheme);
  }
  for (WeightScheme scheme : seen) add_with_scheme(product, n, scheme);
  if (mixed)
    add_missing(product.name, "its fused weights are quantised differently in the same layer");
}

void Builder::add_fused(const std::string& name, const std::string& prefix,
                        const std::vector<Part>& parts, int64_t k, Split split,
                        const std::vector<int64_t>& layers) {
  std::vector<Part> full;
  for (const Part& part : parts) full.push_back({prefix + part.module, part.rows});
  if (fuses()) return add({prefix + name, full, k, split}, layers);
  for (const Part& part : full) add({part.module, {part}, k, split}, layers);
}

Status Builder::build_mlp(const std::string& prefix, int64_t intermediate,
                          const std::vector<int64_t>& layers) {
  add_fused("gate_up_proj", prefix, {{"gate_proj", intermediate}, {"up_proj", intermediate}},
            hidden_, Split::rows, layers);
  add({prefix + "down_proj", {{prefix + "down_proj", hidden_}}, intermediate, Split::cols}, layers);
  return ok();
}

// Engines keep the head in BF16 whatever the checkpoint's scheme: quantisers leave it out.
Status Builder::build_lm_head() {
  DGRT_ASSIGN(int64_t vocab, size("vocab_size"));
  if (fuses()) vocab = (vocab + vocab_padding - 1) / vocab_padding * vocab_padding;
  DGRT_ASSIGN(const int64_t rows, shard("vocab_size", vocab));
  add_with_scheme({"lm_head", {{"lm_head", rows}}, hidden_, Split::rows}, rows, quant_.rest);
  return ok();
}

// The router stays in BF16; the experts are one grouped product each.
Status Builder::build_experts(const char* count_field) {
  DGRT_ASSIGN(const int64_t experts, size(count_field));
  DGRT_ASSIGN(int64_t intermediate, size("moe_intermediate_size"));
  if (experts % profile_.ep != 0)
    return invalid("{}={} ep={}: ep must divide it", count_field, experts, profile_.ep);
  if (profile_.ep == 1) {
    DGRT_ASSIGN(intermediate, shard("moe_intermediate_size", intermediate));
  }
  const WeightScheme scheme =
      quant_.scheme_of(fmt::format("model.layers.{}.mlp.experts.0.up_proj", layers_.moe.front()));
  DGRT_ASSIGN(const int64_t top_k, size("num_experts_per_tok"));
  const bool fp8 = scheme == WeightScheme::fp8_block;
  const auto grouped = [&](const char* name, int64_t n, int64_t k) {
    const int64_t num_experts = experts / profile_.ep;
    if (scheme != WeightScheme::bf16 && !fp8)
      return add_missing(name, fmt::format("grouped GEMM of {} experts, n={} k={}, whose weights "
                                           "are quantised in a way that dgrt does not know",
                                           num_experts, n, k));
    if (fp8 && intermediate % scale_block != 0)
      return add_missing(name,
                         fmt::format("grouped GEMM of {} experts, n={} k={}: a rank's part of "
                                     "moe_intermediate_size must be a multiple of 128, the "
                                     "size of a scale block",
                                     num_experts, n, k));
    needs_.experts.push_back({name, num_experts, n, k, top_k, fp8 ? DGRT_E4M3 : DGRT_BF16});
  };
  grouped("mlp.experts.gate_up_proj", 2 * intermediate, hidden_);
  grouped("mlp.experts.down_proj", hidden_, intermediate);
  add_missing("mlp.topk",
              fmt::format("choice of experts of {} and the shuffling of tokens to them: "
                          "no kernel",
                          experts));
  return ok();
}

Status Builder::build_deepseek_attention() {
  DGRT_ASSIGN(const int64_t num_heads, size("num_attention_heads"));
  DGRT_ASSIGN(const int64_t heads, shard("num_attention_heads", num_heads));
  DGRT_ASSIGN(const int64_t nope, size("qk_nope_head_dim"));
  DGRT_ASSIGN(const int64_t rope, size("qk_rope_head_dim"));
  DGRT_ASSIGN(const int64_t v_dim, size("v_head_dim"));
  DGRT_ASSIGN(const int64_t kv_rank, size("kv_lora_rank"));
  DGRT_ASSIGN(const int64_t q_rank, size_or("q_lora_rank", 0));
  const std::string prefix = "self_attn.";
  const Part kv_a{"kv_a_proj_with_mqa", kv_rank + rope};
  const auto column_parallel = [&](const std::string& name, int64_t rows, int64_t k) {
    add({prefix + name, {{prefix + name, rows}}, k, Split::rows}, layers_.all);
  };
  // The projections down to the latent vectors are whole on every rank.
  if (q_rank > 0) {
    add_fused("fused_qkv_a_proj", prefix, {{"q_a_proj", q_rank}, kv_a}, hidden_, Split::none,
              layers_.all);
    column_parallel("q_b_proj", heads * (nope + rope), q_rank);
  } else {
    column_parallel("q_proj", heads * (nope + rope), hidden_);
    add({prefix + kv_a.module, {{prefix + kv_a.module, kv_a.rows}}, hidden_, Split::none},
        layers_.all);
  }
  column_parallel("kv_b_proj", heads * (nope + v_dim), kv_rank);  // prefill; decode absorbs it
  add({prefix + "o_proj", {{prefix + "o_proj", hidden_}}, heads * v_dim, Split::cols}, layers_.all);
  // Decode multiplies with the two halves of kv_b_proj head by head; engines keep them in BF16.
  needs_.per_head.push_back({"self_attn.kv_b_proj (absorbed, q)", heads, kv_rank, nope});
  needs_.per_head.push_back({"self_attn.kv_b_proj (absorbed, v)", heads, v_dim, kv_rank});
  LatentAttention latent = {heads, kv_rank, rope, nope, v_dim};
  DGRT_ASSIGN(latent.indexer, build_indexer(q_rank));
  return build_latent_attention(std::move(latent));
}

Status Builder::build_latent_attention(LatentAttention latent) {
  DGRT_TRY(read_max_positions());
  DGRT_ASSIGN(latent.num_draft_tokens, size_or("num_nextn_predict_layers", 0));
  const Result<dgrt_dtype> dtype = read_attention_dtype(config_);
  if (!dtype.is_ok()) {
    add_missing("self_attn.mla", dtype.status().message());
    return ok();
  }
  latent.dtype = dtype.value();
  for (Missing& missing : latent_plans(latent, profile_, needs_.max_positions).missing)
    needs_.missing.push_back(std::move(missing));
  needs_.latent = std::move(latent);
  return ok();
}

// Engines keep the heads' weights in BF16 whatever the checkpoint's scheme. Nothing is divided among ranks: each
// chooses for all heads.
Result<std::optional<LatentAttention::Indexer>> Builder::build_indexer(int64_t q_rank) {
  DGRT_ASSIGN(const int64_t top_k, size_or("index_topk", 0));
  if (top_k == 0) return std::optional<LatentAttention::Indexer>();
  DGRT_ASSIGN(const int64_t heads, size("index_n_heads"));
  DGRT_ASSIGN(const int64_t head_dim, size("index_head_dim"));
  if (heads * head_dim > max_dimension)
    return invalid("index_n_heads={} index_head_dim={}: must be at most {} together", heads, head_dim,
                   max_dimension);
  if (q_rank == 0) return invalid("q_lora_rank: an indexer needs it");
  const std::string prefix = "self_attn.indexer.";
  const auto add_whole = [&](const std::string& name, int64_t rows, int64_t k) {
    add({prefix + name, {{prefix + name, rows}}, k, Split::none}, layers_.all);
  };
  add_whole("wq_b", heads * head_dim, q_rank);
  add_whole("wk", head_dim, hidden_);
  const Part weights{prefix + "weights_proj", heads};
  add_with_scheme({weights.module, {weights}, hidden_, Split::none}, heads, quant_.rest);
  return std::optional(LatentAttention::Indexer{heads, head_dim, top_k});
}

Status Builder::build_deepseek() {
  const int64_t num_layers = static_cast<int64_t>(layers_.all.size());
  DGRT_ASSIGN(const int64_t dense, size_or("first_k_dense_replace", 0));
  DGRT_ASSIGN(const int64_t freq, size_or("moe_layer_freq", 1));
  for (int64_t i = 0; i < num_layers; ++i)
    (i >= dense && i % freq == 0 ? layers_.moe : layers_.dense).push_back(i);
  DGRT_TRY(build_deepseek_attention());
  if (!layers_.dense.empty()) {
    DGRT_ASSIGN(const int64_t intermediate, size("intermediate_size"));
    DGRT_ASSIGN(const int64_t rows, shard("intermediate_size", intermediate));
    DGRT_TRY(build_mlp("mlp.", rows, layers_.dense));
  }
  if (!layers_.moe.empty()) {
    DGRT_ASSIGN(const int64_t experts, size("n_routed_experts"));
    DGRT_ASSIGN(const int64_t shared, size_or("n_shared_experts", 0));
    // FP32 logits: a bias is added to their sigmoid before the choice.
    if (quant_.rest == WeightScheme::bf16)
      add_linear({"mlp.gate", experts, hidden_, DGRT_BF16, DGRT_FP32});
    else
      add_missing("mlp.gate", quant_.reason);
    if (shared > 0) {
      DGRT_ASSIGN(const int64_t intermediate, size("moe_intermediate_size"));
      DGRT_ASSIGN(const int64_t rows, shard("moe_intermediate_size", shared * intermediate));
      DGRT_TRY(build_mlp("mlp.shared_experts.", rows, layers_.moe));
    }
    DGRT_TRY(build_experts("n_routed_experts"));
  }
  // The multi-token prediction module: its layer repeats the shapes above but for this projection.
  DGRT_ASSIGN(const int64_t num_mtp, size_or("num_nextn_predict_layers", 0));
  if (num_mtp > 0)
    add_with_scheme({"mtp.eh_proj", {{"eh_proj", hidden_}}, 2 * hidden_, Split::none}, hidden_,
                    quant_.rest);
  return ok();
}

// Grouped-query attention. With more ranks than key-value heads, ranks share copies of a head.
Status Builder::build_gqa_attention() {
  DGRT_ASSIGN(const int64_t num_heads, size("num_attention_heads"));
  DGRT_ASSIGN(const int64_t heads, shard("num_attention_heads", num_heads));
  DGRT_ASSIGN(const int64_t num_kv_heads, size_or("num_key_value_heads", num_heads));
  const int64_t tp = profile_.tp;
  if (tp > num_kv_heads && tp % num_kv_heads != 0)
    return invalid("num_key_value_heads={} tp={}: one must divide the other", num_kv_heads, tp);
  int64_t kv_heads = 1;
  if (tp <= num_kv_heads) {
    DGRT_ASSIGN(kv_heads, shard("num_key_value_heads", num_kv_heads));
  }
  DGRT_ASSIGN(const int64_t head_dim, size_or("head_dim", hidden_ / num_heads));
  add_fused("qkv_proj", "self_attn.",
            {{"q_proj", heads * head_dim},
             {"k_proj", kv_heads * head_dim},
             {"v_proj", kv_heads * head_dim}},
            hidden_, Split::rows, layers_.all);
  add({"self_attn.o_proj", {{"self_attn.o_proj", hidden_}}, heads * head_dim, Split::cols},
      layers_.all);
  DGRT_TRY(build_attention(heads, kv_heads, head_dim));
  DGRT_ASSIGN(const bool bias, flag("attention_bias"));
  if (bias) add_missing("self_attn bias", "gemm adds no bias vector");
  return ok();
}

Status Builder::read_max_positions() {
  constexpr int64_t usual_positions = 131072;
  DGRT_ASSIGN(needs_.max_positions, size_or("max_position_embeddings", usual_positions));
  return ok();
}

Status Builder::build_attention(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  DGRT_TRY(read_max_positions());
  Result<std::vector<Attention>> attention = read_attention(config_, heads, kv_heads, head_dim);
  if (attention.status().code() == DGRT_UNSUPPORTED)
    add_missing("self_attn.attn", attention.status().message());
  else if (!attention.is_ok())
    return attention.status();
  else
    needs_.attention = std::move(attention).value();
  return ok();
}

Status Builder::build_transformer(bool moe) {
  std::vector<int64_t> dense_only;
  int64_t step = 1;
  if (moe) {
    DGRT_ASSIGN(step, size_or("decoder_sparse_step", 1));
    const Json list = config_.value("mlp_only_layers", Json());
    if (!list.is_null()) dense_only = list.get<std::vector<int64_t>>();
  }
  for (int64_t i : layers_.all) {
    const bool sparse = moe && (i + 1) % step == 0 &&
                        std::find(dense_only.begin(), dense_only.end(), i) == dense_only.end();
    (sparse ? layers_.moe : layers_.dense).push_back(i);
  }
  DGRT_TRY(build_gqa_attention());
  if (!layers_.dense.empty()) {
    DGRT_ASSIGN(const int64_t intermediate, size("intermediate_size"));
    DGRT_ASSIGN(const int64_t rows, shard("intermediate_size", intermediate));
    DGRT_TRY(build_mlp("mlp.", rows, layers_.dense));
  }
  if (!layers_.moe.empty()) {
    DGRT_ASSIGN(const int64_t experts, size("num_experts"));
    add_with_scheme({"mlp.gate", {{"mlp.gate", experts}}, hidden_, Split::none}, experts,
                    quant_.rest);
    DGRT_TRY(build_experts("num_experts"));
  }
  DGRT_ASSIGN(const bool bias, flag("mlp_bias"));
  if (bias) add_missing("mlp bias", "gemm adds no bias vector");
  return ok();
}

Result<ModelNeeds> Builder::build() {
  needs_.model_type = config_.value("model_type", "");
  const std::string& type = needs_.model_type;
  const bool deepseek = type == "deepseek_v3" || type == "deepseek_v32" || type == "kimi_k2";
  const bool gemma = type == "gemma2" || type == "gemma3_text";
  if (!deepseek && !gemma && type != "qwen3" && type != "qwen3_moe" && type != "llama")
    return error(DGRT_UNSUPPORTED,
                 "model_type=\"{}\": must be one of deepseek_v3, deepseek_v32, kimi_k2, qwen3, "
                 "qwen3_moe, llama, gemma2, gemma3_text",
                 type);
  DGRT_ASSIGN(hidden_, size("hidden_size"));
  DGRT_ASSIGN(const int64_t num_layers, size("num_hidden_layers"));
  if (num_layers > 10000) return invalid("num_hidden_layers={}: must be at most 10000", num_layers);
  for (int64_t i = 0; i < num_layers; ++i) layers_.all.push_back(i);
  DGRT_TRY(deepseek ? build_deepseek() : build_transformer(type == "qwen3_moe"));
  DGRT_TRY(build_lm_head());
  add_missing("norms, rotary embedding, activations", "no kernel");
  for (const Linear& linear : needs_.layers)
    if (linear.dtype == DGRT_E4M3) needs_.quant_ks.push_back(linear.k);
  std::sort(needs_.quant_ks.begin(), needs_.quant_ks.end());
  needs_.quant_ks.erase(std::unique(needs_.quant_ks.begin(), needs_.quant_ks.end()),
                        needs_.quant_ks.end());
  return std::move(needs_);
}

}  // namespace

Result<ModelNeeds> derive_needs(const nlohmann::json& config, const Profile& profile,
                                QuantConfig quant) {
  return Builder(config, profile, std::move(quant)).build();
}

}  // namespace dgrt
