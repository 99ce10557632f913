// Which dgrt kernels does serving a model need? Reads a Hugging Face config.json and derives, for
// an engine's fusions and a parallel layout, the linear layers and the attention that one rank runs,
// and a named list of what dgrt has no kernel for. It reads shapes only: no weights, no network, no GPU.
//
// Families: DeepSeek-V3 and R1 (deepseek_v3), DeepSeek-V3.2 (deepseek_v32), Kimi-K2 (kimi_k2), Qwen3 (qwen3, qwen3_moe), Llama 3.x (llama), Gemma 2 and 3
// without their towers (gemma2, gemma3_text). Weights: BF16,
// and FP8 E4M3 with 128 x 128 blocks and dynamic activation scales.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dgrt/gemm.h"
#include "runtime/base/status.h"
#include "runtime/engine/desc_json.h"

namespace dgrt {

// What an engine fuses into one product. sglang and vllm: q, k, v; gate and up; DeepSeek's q_a and
// kv_a; both pad the vocabulary to a multiple of 64. plain: nothing.
enum class Engine { sglang, vllm, plain };
Result<Engine> engine_from_name(std::string_view name);

struct Profile {
  Engine engine = Engine::plain;
  int64_t tp = 1;  // tensor-parallel ranks
  int64_t ep = 1;  // expert-parallel ranks: divide the routed experts, nothing else
  // Most tokens in one forward pass: bounds m of every product. The default is the largest of the
  // engines' usual prefill chunks.
  int64_t max_tokens = 8192;
};

// One product of one rank: d [m, n] = a [m, k] * transpose(weight [n, k]).
struct Linear {
  std::string name;  // as the engine names the module: "self_attn.o_proj"
  int64_t n = 0, k = 0;
  dgrt_dtype dtype = DGRT_BF16;    // DGRT_BF16 or DGRT_E4M3
  dgrt_dtype dtype_d = DGRT_BF16;  // DGRT_BF16 or DGRT_FP32
};

// One product of every expert of one rank, over the tokens that were sent to it.
struct Experts {
  std::string name;  // "mlp.experts.gate_up_proj"
  int64_t num_experts = 0, n = 0, k = 0;
  int64_t top_k = 1;             // experts that a token goes to
  dgrt_dtype dtype = DGRT_BF16;  // DGRT_BF16 or DGRT_E4M3
};

// One BF16 product of every head, its weight stored [k, n] per head.
struct PerHead {
  std::string name;
  int64_t num_heads = 0, n = 0, k = 0;
};

// Attention of layers that are alike. Its desc has no window: that is a call's.
struct Attention {
  std::string name;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;  // of one rank
  int64_t window = 0;  // keys that a query sees, its own included; 0: all
  bool softcap = false;
  dgrt_dtype dtype = DGRT_BF16;
};

// Latent attention, as DeepSeek-V3 has it: keys and values of all heads are made of one cached row.
struct LatentAttention {
  struct Indexer {  // chooses the rows that a token attends to; whole on every rank
    int64_t num_heads = 0, head_dim = 0, top_k = 0;
  };
  int64_t num_heads = 0;            // of one rank
  int64_t rank = 0, rope_dim = 0;   // columns of a row
  int64_t nope_dim = 0, v_dim = 0;  // of a head's key, without rope_dim, and value
  int64_t num_draft_tokens = 0;     // by the model's own prediction of more than one token
  dgrt_dtype dtype = DGRT_BF16;
  std::optional<Indexer> indexer = {};
};

struct Missing {
  std::string name, reason;
};

struct ModelNeeds {
  std::string model_type;
  std::vector<Linear> layers;     // distinct in name, n, k and dtype
  std::vector<Experts> experts;   // prefill: gemm_grouped_contiguous, decode: gemm_grouped_masked
  std::vector<PerHead> per_head;  // gemm_batched
  std::vector<Attention> attention;
  std::optional<LatentAttention> latent;
  int64_t max_positions = 0;  // keys of the longest sequence
  std::vector<int64_t>
      quant_ks;  // row lengths of the E4M3 activations that quant_fp8 makes; ascending
  std::vector<Missing> missing;
};

// Errors name field, value and rule: a missing field, a shape that the ranks do not divide.
Result<ModelNeeds> model_needs(std::string_view config_json, const Profile& profile);
Result<ModelNeeds> model_needs_of_file(const std::string& path, const Profile& profile);

class AttentionDescs;

// The same as descs, each distinct one once, for the profile that they were derived for. Pointers stay
// valid while the object lives.
class DescList {
 public:
  DescList(const ModelNeeds& needs, const Profile& profile);
  ~DescList();
  DescList(const DescList&) = delete;
  DescList& operator=(const DescList&) = delete;
  const std::vector<const dgrt_desc*>& pointers() const { return pointers_; }

 private:
  std::deque<dgrt_gemm_desc> gemms_;
  std::deque<dgrt_gemm_grouped_contiguous_desc> contiguous_;
  std::deque<dgrt_gemm_grouped_masked_desc> masked_;
  std::deque<dgrt_gemm_batched_desc> batched_;
  std::deque<dgrt_quant_fp8_desc> quants_;
  std::unique_ptr<AttentionDescs> attention_;
  std::vector<DescBytes> latent_;
  std::vector<const dgrt_desc*> pointers_;
};

}  // namespace dgrt
