#include "tools/model_config.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tools/model_attention.h"
#include "tools/model_latent.h"
#include "tools/model_layers.h"
#include "tools/quant_config.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;

Status check_profile(const Profile& profile) {
  const auto check = [](const char* field, int64_t value) {
    return value >= 1 && value <= max_dimension
               ? ok()
               : invalid("{}={}: must be from 1 to {}", field, value, max_dimension);
  };
  DGRT_TRY(check("tp", profile.tp));
  DGRT_TRY(check("ep", profile.ep));
  return check("max_tokens", profile.max_tokens);
}

}  // namespace

Result<Engine> engine_from_name(std::string_view name) {
  if (name == "sglang") return Engine::sglang;
  if (name == "vllm") return Engine::vllm;
  if (name == "plain") return Engine::plain;
  return invalid("engine={}: must be sglang, vllm or plain", name);
}

Result<ModelNeeds> model_needs(std::string_view config_json, const Profile& profile) {
  DGRT_TRY(check_profile(profile));
  try {
    const Json config = Json::parse(config_json);
    if (!config.is_object()) return invalid("config: must be a JSON object");
    DGRT_ASSIGN(QuantConfig quant, read_quant_config(config));
    return derive_needs(config, profile, std::move(quant));
  } catch (const nlohmann::json::exception& e) {
    return invalid("config: {}", e.what());
  }
}

Result<ModelNeeds> model_needs_of_file(const std::string& path, const Profile& profile) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return error(DGRT_IO_ERROR, "config={}: {}", path, std::strerror(errno));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return error(DGRT_IO_ERROR, "config={}: {}", path, std::strerror(errno));
  auto needs = model_needs(text, profile);
  if (!needs.is_ok())
    return Status(needs.status().code(), fmt::format("{}: {}", path, needs.status().message()));
  return needs;
}

namespace {

// What both grouped ops say alike of a rank's experts.
template <class Desc>
void set_experts(const Experts& experts, Desc* desc) {
  desc->n = experts.n;
  desc->k = experts.k;
  desc->num_groups = static_cast<uint32_t>(experts.num_experts);
  desc->dtype_ab = experts.dtype;
  desc->dtype_d = DGRT_BF16;
  desc->scale_mode = experts.dtype == DGRT_E4M3 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  desc->b_scale_major = DGRT_K_MAJOR;  // as checkpoints store weight_scale_inv
}

}  // namespace

DescList::~DescList() = default;

DescList::DescList(const ModelNeeds& needs, const Profile& profile)
    : attention_(std::make_unique<AttentionDescs>()) {
  constexpr int64_t alignment = 128;  // of groups, as the engines pad them
  const int64_t max_tokens = profile.max_tokens;
  for (const Experts& experts : needs.experts) {
    dgrt_gemm_grouped_contiguous_desc contiguous = DGRT_GEMM_GROUPED_CONTIGUOUS_DESC;
    set_experts(experts, &contiguous);
    contiguous.alignment = alignment;
    const int64_t most = std::min(experts.top_k, experts.num_experts);
    contiguous.max_m =
        std::min<int64_t>(max_tokens * most + experts.num_experts * alignment, INT32_MAX);
    contiguous_.push_back(contiguous);
    dgrt_gemm_grouped_masked_desc masked = DGRT_GEMM_GROUPED_MASKED_DESC;
    set_experts(experts, &masked);
    masked.max_m = max_tokens;
    masked_.push_back(masked);
  }
  for (const PerHead& product : needs.per_head) {
    dgrt_gemm_batched_desc desc = DGRT_GEMM_BATCHED_DESC;
    desc.n = product.n;
    desc.k = product.k;
    desc.max_m = max_tokens;
    desc.num_batches = static_cast<uint32_t>(product.num_heads);
    desc.dtype_ab = desc.dtype_d = DGRT_BF16;
    desc.b_major = DGRT_MN_MAJOR;
    batched_.push_back(desc);
  }
  for (const Linear& linear : needs.layers) {
    dgrt_gemm_desc desc = DGRT_GEMM_DESC;
    const bool fp8 = linear.dtype == DGRT_E4M3;
    desc.n = linear.n;
    desc.k = linear.k;
    desc.max_m = max_tokens;
    desc.dtype_ab = linear.dtype;
    desc.dtype_d = linear.dtype_d;
    desc.scale_mode = fp8 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
    desc.b_scale_major = DGRT_K_MAJOR;  // as checkpoints store weight_scale_inv
    const bool known = std::any_of(gemms_.begin(), gemms_.end(), [&](const dgrt_gemm_desc& other) {
      return std::memcmp(&other, &desc, sizeof(desc)) == 0;
    });
    if (!known) gemms_.push_back(desc);
  }
  for (int64_t k : needs.quant_ks) {
    dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
    desc.k = k;
    desc.max_m = max_tokens;
    desc.block = DGRT_QUANT_1X128;
    desc.scale_major = DGRT_MN_MAJOR;  // as gemm wants a_scale
    quants_.push_back(desc);
  }
  for (const dgrt_gemm_desc& desc : gemms_) pointers_.push_back(&desc.op);
  for (const dgrt_gemm_batched_desc& desc : batched_) pointers_.push_back(&desc.op);
  for (const dgrt_gemm_grouped_contiguous_desc& desc : contiguous_) pointers_.push_back(&desc.op);
  for (const dgrt_gemm_grouped_masked_desc& desc : masked_) pointers_.push_back(&desc.op);
  for (const dgrt_quant_fp8_desc& desc : quants_) pointers_.push_back(&desc.op);
  for (const Attention& attention : needs.attention)
    attention_->add(attention, profile, needs.max_positions);
  attention_->append_to(&pointers_);
  if (needs.latent) latent_ = latent_plans(*needs.latent, profile, needs.max_positions).descs;
  for (const DescBytes& desc : latent_) pointers_.push_back(desc.get());
}

}  // namespace dgrt
