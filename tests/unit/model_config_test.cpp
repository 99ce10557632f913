// Which linear layers a model needs: the files in examples/models/ against shapes that were worked
// out by hand from the models' definitions, and what happens when ranks, schemes or fields do not
// fit.
#include "tools/model_config.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/example_model.h"

namespace dgrt {
bool operator==(const Linear& a, const Linear& b) {
  return a.name == b.name && a.n == b.n && a.k == b.k && a.dtype == b.dtype &&
         a.dtype_d == b.dtype_d;
}
std::ostream& operator<<(std::ostream& out, const Linear& l) {
  return out << fmt::format("{} n={} k={} dtype={} d={}", l.name, l.n, l.k, l.dtype, l.dtype_d);
}
}  // namespace dgrt

namespace {

using dgrt::DescList;
using dgrt::Engine;
using dgrt::Experts;
using dgrt::Linear;
using dgrt::ModelNeeds;
using dgrt::Profile;
using dgrt::test::example_model;
using Json = nlohmann::json;

Profile profile(Engine engine, int64_t tp = 1, int64_t ep = 1) {
  Profile p;
  p.engine = engine;
  p.tp = tp;
  p.ep = ep;
  return p;
}

ModelNeeds needs_of(const Json& config, const Profile& p) {
  auto needs = dgrt::model_needs(config.dump(), p);
  INFO(needs.status().message());
  REQUIRE(needs.is_ok());
  return needs.value();
}

std::string message_of(const Json& config, const Profile& p) {
  auto needs = dgrt::model_needs(config.dump(), p);
  REQUIRE_FALSE(needs.is_ok());
  return needs.status().message();
}

const Linear* find(const ModelNeeds& needs, const std::string& name) {
  const auto it = std::find_if(needs.layers.begin(), needs.layers.end(),
                               [&](const Linear& l) { return l.name == name; });
  return it == needs.layers.end() ? nullptr : &*it;
}

// gate_up_proj as given, and down_proj, which turns its halves back.
void check_experts(const ModelNeeds& needs, int64_t num_experts, int64_t n, int64_t k,
                   int64_t top_k, dgrt_dtype dtype) {
  REQUIRE(needs.experts.size() == 2);
  const Experts &up = needs.experts[0], &down = needs.experts[1];
  CHECK((up.name == "mlp.experts.gate_up_proj" && down.name == "mlp.experts.down_proj"));
  CHECK((up.n == n && up.k == k && down.n == k && down.k == n / 2));
  for (const Experts& experts : needs.experts)
    CHECK((experts.num_experts == num_experts && experts.top_k == top_k && experts.dtype == dtype));
}

std::string missing_reason(const ModelNeeds& needs, const std::string& name) {
  for (const auto& missing : needs.missing)
    if (missing.name == name) return missing.reason;
  return "";
}

Linear fp8(const char* name, int64_t n, int64_t k) { return {name, n, k, DGRT_E4M3, DGRT_BF16}; }
Linear bf16(const char* name, int64_t n, int64_t k) { return {name, n, k, DGRT_BF16, DGRT_BF16}; }

const std::vector<Linear> deepseek_fused = {fp8("self_attn.fused_qkv_a_proj", 2112, 7168),
                                            fp8("self_attn.q_b_proj", 24576, 1536),
                                            fp8("self_attn.kv_b_proj", 32768, 512),
                                            fp8("self_attn.o_proj", 7168, 16384),
                                            fp8("mlp.gate_up_proj", 36864, 7168),
                                            fp8("mlp.down_proj", 7168, 18432),
                                            {"mlp.gate", 256, 7168, DGRT_BF16, DGRT_FP32},
                                            fp8("mlp.shared_experts.gate_up_proj", 4096, 7168),
                                            fp8("mlp.shared_experts.down_proj", 7168, 2048),
                                            bf16("mtp.eh_proj", 7168, 14336),
                                            bf16("lm_head", 129280, 7168)};

const std::vector<Linear> deepseek_plain = {fp8("self_attn.q_a_proj", 1536, 7168),
                                            fp8("self_attn.kv_a_proj_with_mqa", 576, 7168),
                                            fp8("self_attn.q_b_proj", 24576, 1536),
                                            fp8("self_attn.kv_b_proj", 32768, 512),
                                            fp8("self_attn.o_proj", 7168, 16384),
                                            fp8("mlp.gate_proj", 18432, 7168),
                                            fp8("mlp.up_proj", 18432, 7168),
                                            fp8("mlp.down_proj", 7168, 18432),
                                            {"mlp.gate", 256, 7168, DGRT_BF16, DGRT_FP32},
                                            fp8("mlp.shared_experts.gate_proj", 2048, 7168),
                                            fp8("mlp.shared_experts.up_proj", 2048, 7168),
                                            fp8("mlp.shared_experts.down_proj", 7168, 2048),
                                            bf16("mtp.eh_proj", 7168, 14336),
                                            bf16("lm_head", 129280, 7168)};

// A dense transformer with 4096 hidden, 32 query and 8 key-value heads of 128.
std::vector<Linear> dense_4096(bool fused, Linear (*make)(const char*, int64_t, int64_t),
                               int64_t intermediate, int64_t vocab) {
  if (fused)
    return {make("self_attn.qkv_proj", 6144, 4096), make("self_attn.o_proj", 4096, 4096),
            make("mlp.gate_up_proj", 2 * intermediate, 4096),
            make("mlp.down_proj", 4096, intermediate), bf16("lm_head", vocab, 4096)};
  return {make("self_attn.q_proj", 4096, 4096),      make("self_attn.k_proj", 1024, 4096),
          make("self_attn.v_proj", 1024, 4096),      make("self_attn.o_proj", 4096, 4096),
          make("mlp.gate_proj", intermediate, 4096), make("mlp.up_proj", intermediate, 4096),
          make("mlp.down_proj", 4096, intermediate), bf16("lm_head", vocab, 4096)};
}

}  // namespace

TEST_CASE("DeepSeek-V3's layers", "[unit]") {
  const Json config = example_model("deepseek-v3.json");
  CHECK(needs_of(config, profile(Engine::sglang)).layers == deepseek_fused);
  CHECK(needs_of(config, profile(Engine::vllm)).layers == deepseek_fused);
  const ModelNeeds plain = needs_of(config, profile(Engine::plain));
  CHECK(plain.layers == deepseek_plain);
  CHECK(plain.quant_ks == std::vector<int64_t>{512, 1536, 2048, 7168, 16384, 18432});
  // Nothing that the model needs and dgrt lacks is hidden.
  for (const char* name : {"mlp.topk", "norms, rotary embedding, activations"})
    CHECK_FALSE(missing_reason(plain, name).empty());
  REQUIRE(plain.per_head.size() == 2);
  CHECK((plain.per_head[0].num_heads == 128 && plain.per_head[0].n == 512));
  CHECK((plain.per_head[0].k == 128 && plain.per_head[1].n == 128 && plain.per_head[1].k == 512));
}

TEST_CASE("Qwen3's and Llama's layers", "[unit]") {
  for (Engine engine : {Engine::sglang, Engine::vllm, Engine::plain}) {
    const bool fused = engine != Engine::plain;
    const Profile p = profile(engine);
    CHECK(needs_of(example_model("qwen3-8b.json"), p).layers == dense_4096(fused, bf16, 12288, 151936));
    CHECK(needs_of(example_model("qwen3-8b-fp8.json"), p).layers == dense_4096(fused, fp8, 12288, 151936));
    CHECK(needs_of(example_model("llama-3.1-8b.json"), p).layers == dense_4096(fused, bf16, 14336, 128256));
  }
  CHECK(needs_of(example_model("qwen3-8b.json"), profile(Engine::vllm)).quant_ks.empty());
  CHECK(needs_of(example_model("qwen3-8b-fp8.json"), profile(Engine::vllm)).quant_ks ==
        std::vector<int64_t>{4096, 12288});
}

TEST_CASE("Qwen3-MoE's layers", "[unit]") {
  const ModelNeeds fused = needs_of(example_model("qwen3-30b-a3b.json"), profile(Engine::sglang));
  CHECK(fused.layers == std::vector<Linear>{bf16("self_attn.qkv_proj", 5120, 2048),
                                            bf16("self_attn.o_proj", 2048, 4096),
                                            bf16("mlp.gate", 128, 2048),
                                            bf16("lm_head", 151936, 2048)});
  check_experts(fused, 128, 1536, 2048, 8, DGRT_BF16);
  CHECK(
      needs_of(example_model("qwen3-30b-a3b.json"), profile(Engine::plain)).layers ==
      std::vector<Linear>{bf16("self_attn.q_proj", 4096, 2048), bf16("self_attn.k_proj", 512, 2048),
                          bf16("self_attn.v_proj", 512, 2048), bf16("self_attn.o_proj", 2048, 4096),
                          bf16("mlp.gate", 128, 2048), bf16("lm_head", 151936, 2048)});
  Json some_dense = example_model("qwen3-30b-a3b.json");
  some_dense["mlp_only_layers"] = {0};
  const ModelNeeds with_dense = needs_of(some_dense, profile(Engine::sglang));
  REQUIRE(find(with_dense, "mlp.down_proj"));
  CHECK(*find(with_dense, "mlp.down_proj") == bf16("mlp.down_proj", 2048, 6144));
}

TEST_CASE("Tensor parallelism divides n of column-parallel and k of row-parallel layers",
          "[unit]") {
  const ModelNeeds needs = needs_of(example_model("deepseek-v3.json"), profile(Engine::sglang, 8));
  const std::vector<Linear> expected = {fp8("self_attn.fused_qkv_a_proj", 2112, 7168),
                                        fp8("self_attn.q_b_proj", 3072, 1536),
                                        fp8("self_attn.kv_b_proj", 4096, 512),
                                        fp8("self_attn.o_proj", 7168, 2048),
                                        fp8("mlp.gate_up_proj", 4608, 7168),
                                        fp8("mlp.down_proj", 7168, 2304),
                                        {"mlp.gate", 256, 7168, DGRT_BF16, DGRT_FP32},
                                        fp8("mlp.shared_experts.gate_up_proj", 512, 7168),
                                        fp8("mlp.shared_experts.down_proj", 7168, 256),
                                        bf16("mtp.eh_proj", 7168, 14336),
                                        bf16("lm_head", 16160, 7168)};
  CHECK(needs.layers == expected);

  // Eight key-value heads on 16 ranks: two ranks hold a copy of each.
  const ModelNeeds copies = needs_of(example_model("qwen3-8b.json"), profile(Engine::vllm, 16));
  CHECK(*find(copies, "self_attn.qkv_proj") == bf16("self_attn.qkv_proj", 4 * 128, 4096));
}

TEST_CASE("Expert parallelism changes the experts alone", "[unit]") {
  const Json config = example_model("deepseek-v3.json");
  const ModelNeeds one = needs_of(config, profile(Engine::sglang, 8));
  const ModelNeeds many = needs_of(config, profile(Engine::sglang, 8, 8));
  CHECK(one.layers == many.layers);
  check_experts(one, 256, 512, 7168, 8, DGRT_E4M3);
  check_experts(many, 32, 4096, 7168, 8, DGRT_E4M3);
  CHECK(missing_reason(needs_of(config, profile(Engine::sglang, 32)), "mlp.experts.down_proj")
            .find("multiple of 128") != std::string::npos);
  Profile bounded = profile(Engine::sglang, 8, 8);
  bounded.max_tokens = 1024;
  const DescList descs(many, bounded);
  int contiguous = 0, masked = 0;
  for (const dgrt_desc* desc : descs.pointers()) {
    contiguous += desc->id == DGRT_OP_GEMM_GROUPED_CONTIGUOUS;
    masked += desc->id == DGRT_OP_GEMM_GROUPED_MASKED;
  }
  CHECK((contiguous == 2 && masked == 2));
  CHECK(message_of(config, profile(Engine::sglang, 1, 3)) ==
        "n_routed_experts=256 ep=3: ep must divide it");
}

TEST_CASE("Shapes that ranks do not divide are errors that name the field", "[unit]") {
  const Json qwen = example_model("qwen3-8b.json");
  CHECK(message_of(qwen, profile(Engine::vllm, 3)) ==
        "num_attention_heads=32 tp=3: tp must divide it");
  Json heads = qwen;
  heads["num_key_value_heads"] = 6;
  CHECK(message_of(heads, profile(Engine::vllm, 4)) ==
        "num_key_value_heads=6 tp=4: tp must divide it");
  CHECK(message_of(heads, profile(Engine::vllm, 16)) ==
        "num_key_value_heads=6 tp=16: one must divide the other");
  Json vocab = qwen;
  vocab["vocab_size"] = 151937;
  CHECK(message_of(vocab, profile(Engine::plain, 2)) ==
        "vocab_size=151937 tp=2: tp must divide it");
  // Engines pad the vocabulary to a multiple of 64 first.
  CHECK(find(needs_of(vocab, profile(Engine::vllm, 2)), "lm_head")->n == 152000 / 2);
  CHECK(message_of(qwen, profile(Engine::vllm, 0)).starts_with("tp=0: must be from 1"));
}

TEST_CASE("A scale block that two ranks would share is listed as missing", "[unit]") {
  const ModelNeeds needs = needs_of(example_model("deepseek-v3.json"), profile(Engine::vllm, 32));
  CHECK(find(needs, "mlp.down_proj") == nullptr);
  CHECK(missing_reason(needs, "mlp.down_proj").find("k=576 at tp=32") != std::string::npos);
  CHECK(missing_reason(needs, "mlp.gate_up_proj").find("multiple of 128") != std::string::npos);
  // 2112 rows are no multiple of 128 either, but nothing follows the last block.
  CHECK(find(needs, "self_attn.fused_qkv_a_proj") != nullptr);
}

TEST_CASE("Weights that dgrt has no kernel for are listed with the reason", "[unit]") {
  Json config = example_model("llama-3.1-8b.json");
  const auto reason = [&](Json quantization) {
    config["quantization_config"] = std::move(quantization);
    const ModelNeeds needs = needs_of(config, profile(Engine::vllm));
    CHECK(needs.layers == std::vector<Linear>{bf16("lm_head", 128256, 4096)});
    return missing_reason(needs, "self_attn.o_proj");
  };
  CHECK(reason({{"quant_method", "fp8"}}).find("per-tensor") != std::string::npos);
  CHECK(reason({{"quant_method", "fbgemm_fp8"}}).find("per-channel") != std::string::npos);
  CHECK(reason({{"quant_method", "awq"}}).find("awq") != std::string::npos);
  CHECK(reason({{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}}).find("[64,64]") !=
        std::string::npos);
  CHECK(reason({{"quant_method", "fp8"},
                {"weight_block_size", {128, 128}},
                {"activation_scheme", "static"}})
            .find("static") != std::string::npos);
  CHECK(reason({{"quant_method", "compressed-tensors"},
                {"config_groups",
                 {{"group_0",
                   {{"weights", {{"type", "float"}, {"num_bits", 8}, {"strategy", "channel"}}},
                    {"input_activations", {{"strategy", "token"}, {"dynamic", true}}}}}}}})
            .find("per channel") != std::string::npos);
  config = example_model("llama-3.1-8b.json");
  config["torch_dtype"] = "float16";
  CHECK(needs_of(config, profile(Engine::vllm)).layers.empty());
}

TEST_CASE("compressed-tensors in 128 x 128 blocks is the same FP8", "[unit]") {
  Json config = example_model("qwen3-8b.json");
  config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"ignore", {"lm_head"}},
      {"config_groups",
       {{"group_0",
         {{"weights",
           {{"type", "float"},
            {"num_bits", 8},
            {"strategy", "block"},
            {"block_structure", {128, 128}}}},
          {"input_activations",
           {{"strategy", "group"}, {"group_size", 128}, {"dynamic", true}}}}}}}};
  CHECK(needs_of(config, profile(Engine::vllm)).layers == dense_4096(true, fp8, 12288, 151936));
}

TEST_CASE("Modules that the checkpoint leaves unquantised stay BF16", "[unit]") {
  Json config = example_model("qwen3-8b-fp8.json");
  auto& skipped = config["quantization_config"]["modules_to_not_convert"];
  const auto o_proj_dtypes = [&] {
    std::set<uint32_t> dtypes;
    for (const Linear& l : needs_of(config, profile(Engine::vllm)).layers)
      if (l.name == "self_attn.o_proj") dtypes.insert(l.dtype);
    return dtypes;
  };
  skipped = {"o_proj"};
  CHECK(o_proj_dtypes() == std::set<uint32_t>{DGRT_BF16});
  skipped = {"re:.*o_proj$"};
  CHECK(o_proj_dtypes() == std::set<uint32_t>{DGRT_BF16});
  skipped = {"model.layers.0"};  // one layer: both are needed
  CHECK(o_proj_dtypes() == std::set<uint32_t>{DGRT_BF16, DGRT_E4M3});
  skipped = {"proj", "model.layers.99", "self_attn.o"};  // no whole component, no such layer
  CHECK(o_proj_dtypes() == std::set<uint32_t>{DGRT_E4M3});
  skipped = {"q_proj"};  // k and v are FP8: the engine cannot fuse them
  CHECK(missing_reason(needs_of(config, profile(Engine::vllm)), "self_attn.qkv_proj")
            .find("differently") != std::string::npos);
  skipped = {"re:("};
  CHECK(message_of(config, profile(Engine::vllm)).find("regular expression") != std::string::npos);
}

TEST_CASE("Bad configs name the field", "[unit]") {
  const Profile p = profile(Engine::vllm);
  Json config = example_model("qwen3-8b.json");
  config.erase("intermediate_size");
  CHECK(message_of(config, p) == "intermediate_size: missing from the config");
  config["intermediate_size"] = -5;
  CHECK(message_of(config, p).starts_with("intermediate_size=-5: must be an integer"));
  config["intermediate_size"] = "12288";
  CHECK(message_of(config, p).starts_with("intermediate_size=\"12288\""));
  config["model_type"] = "mamba";
  CHECK(message_of(config, p).find("deepseek_v3, deepseek_v32, kimi_k2, qwen3, qwen3_moe, llama") != std::string::npos);
  config["model_type"] = 7;
  CHECK_FALSE(message_of(config, p).empty());
  CHECK_FALSE(message_of(Json::array(), p).empty());
  CHECK_FALSE(dgrt::model_needs("{\"model_type\":", p).is_ok());
  CHECK(dgrt::model_needs_of_file("/nonexistent/config.json", p).status().code() == DGRT_IO_ERROR);
  CHECK_FALSE(dgrt::engine_from_name("tgi").is_ok());
}

TEST_CASE("Descs of a model are distinct and bounded by max-tokens", "[unit]") {
  Profile bounded = profile(Engine::plain);
  bounded.max_tokens = 4096;
  const ModelNeeds needs = needs_of(example_model("deepseek-v3.json"), bounded);
  const DescList descs(needs, bounded);
  // gate and up have one shape, twice: 14 layers make 12 products; 2 per head; 2 of experts, each
  // for prefill and decode; 6 rows to quantise; and attention's prefill, decode and cache.
  REQUIRE(descs.pointers().size() == 12 + 2 + 2 * 2 + 6 + 3);
  size_t num_fp8 = 0;
  for (const dgrt_desc* desc : descs.pointers()) {
    if (desc->id != DGRT_OP_GEMM) continue;
    const auto* gemm = reinterpret_cast<const dgrt_gemm_desc*>(desc);
    CHECK(gemm->max_m == 4096);
    CHECK(gemm->scale_mode == (gemm->dtype_ab == DGRT_E4M3 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE));
    num_fp8 += gemm->dtype_ab == DGRT_E4M3;
  }
  CHECK(num_fp8 == 9);
  for (const dgrt_desc* desc : descs.pointers()) {
    if (desc->id == DGRT_OP_GEMM_GROUPED_MASKED)
      CHECK(reinterpret_cast<const dgrt_gemm_grouped_masked_desc*>(desc)->max_m == 4096);
    // 8 experts of each token, and up to 128 rows of padding for each of the 256.
    if (desc->id == DGRT_OP_GEMM_GROUPED_CONTIGUOUS)
      CHECK(reinterpret_cast<const dgrt_gemm_grouped_contiguous_desc*>(desc)->max_m ==
            4096 * 8 + 256 * 128);
  }
  const auto* quant = reinterpret_cast<const dgrt_quant_fp8_desc*>(descs.pointers()[12 + 2 + 2 * 2 + 5]);
  CHECK(quant->op.id == DGRT_OP_QUANT_FP8);
  CHECK(quant->k == 18432);
  CHECK(quant->scale_major == DGRT_MN_MAJOR);
}
