// Which attention a model needs: heads that ranks divide, windows and caps of the config, and the plans
// that each engine makes of them.
#include "tools/model_attention.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "runtime/engine/selection.h"
#include "tests/support/catch.h"
#include "tests/support/example_model.h"

namespace dgrt {
namespace {

using test::example_model;
using Json = nlohmann::json;

Json gemma2() {
  return {{"model_type", "gemma2"},        {"hidden_size", 3584},
          {"num_hidden_layers", 4},        {"num_attention_heads", 16},
          {"num_key_value_heads", 8},      {"head_dim", 256},
          {"intermediate_size", 14336},    {"vocab_size", 256000},
          {"sliding_window", 4096},        {"attn_logit_softcapping", 50.0},
          {"torch_dtype", "bfloat16"},     {"max_position_embeddings", 8192}};
}

Profile profile(Engine engine, int64_t tp = 1) {
  Profile p;
  p.engine = engine;
  p.tp = tp;
  return p;
}

ModelNeeds needs_of(const Json& config, const Profile& p) {
  Result<ModelNeeds> needs = model_needs(config.dump(), p);
  INFO(needs.status().message());
  REQUIRE(needs.is_ok());
  return std::move(needs).value();
}

std::string missing_reason(const ModelNeeds& needs, const std::string& name) {
  for (const Missing& missing : needs.missing)
    if (missing.name == name) return missing.reason;
  return "";
}

// The descs of attention, by op; each op at most once.
template <class Desc>
const Desc* find(const DescList& descs, uint32_t id) {
  const Desc* found = nullptr;
  for (const dgrt_desc* desc : descs.pointers()) {
    if (desc->id != id) continue;
    CHECK(found == nullptr);
    found = reinterpret_cast<const Desc*>(desc);
  }
  return found;
}

TEST_CASE("attention: ranks divide the heads, and share copies of key heads", "[unit]") {
  const struct {
    const char* file;
    int64_t tp, q_heads, kv_heads;
  } cases[] = {{"qwen3-8b.json", 1, 32, 8},      {"qwen3-8b.json", 2, 16, 4},
               {"qwen3-8b.json", 16, 2, 1},      {"llama-3.1-8b.json", 8, 4, 1},
               {"qwen3-30b-a3b.json", 1, 32, 4}, {"qwen3-8b-fp8.json", 4, 8, 2}};
  for (const auto& c : cases) {
    INFO(c.file << " tp " << c.tp);
    const ModelNeeds needs = needs_of(example_model(c.file), profile(Engine::sglang, c.tp));
    REQUIRE(needs.attention.size() == 1);
    const Attention& attention = needs.attention[0];
    CHECK((attention.num_q_heads == c.q_heads && attention.num_kv_heads == c.kv_heads));
    CHECK((attention.head_dim == 128 && attention.window == 0 && !attention.softcap));
    CHECK(attention.dtype == DGRT_BF16);
    CHECK(missing_reason(needs, "self_attn.attn").empty());
  }
  CHECK(needs_of(example_model("qwen3-8b.json"), profile(Engine::vllm)).max_positions == 40960);
  CHECK(needs_of(example_model("deepseek-v3.json"), profile(Engine::vllm)).attention.empty());
}

TEST_CASE("attention: each engine's plans", "[unit]") {
  for (const Engine engine : {Engine::sglang, Engine::vllm, Engine::plain}) {
    const Profile p = profile(engine, 2);
    const DescList descs(needs_of(example_model("qwen3-8b.json"), p), p);
    const auto* prefill = find<dgrt_attn_prefill_desc>(descs, DGRT_OP_ATTN_PREFILL);
    const auto* extend = find<dgrt_attn_extend_desc>(descs, DGRT_OP_ATTN_EXTEND);
    const auto* decode = find<dgrt_attn_decode_desc>(descs, DGRT_OP_ATTN_DECODE);
    const auto* merge = find<dgrt_attn_merge_desc>(descs, DGRT_OP_ATTN_MERGE);
    const auto* append = find<dgrt_kv_append_desc>(descs, DGRT_OP_KV_APPEND);
    REQUIRE((extend && decode && append));
    CHECK((prefill != nullptr) == (engine != Engine::vllm));
    CHECK((merge != nullptr) == (engine != Engine::plain));
    CHECK((extend->num_q_heads == 16 && extend->num_kv_heads == 4 && extend->head_dim_v == 128));
    CHECK((extend->max_q_len == 8192 && extend->max_kv_len == 40960 && extend->flags == 0));
    CHECK((decode->max_batch == 8192 && decode->max_q_len == 16 && decode->max_kv_len == 40960));
    if (prefill) CHECK((prefill->max_q_len == 8192 && prefill->max_kv_len == 8192));
    if (merge) CHECK((merge->num_heads == 16 && merge->max_parts == 2 && merge->max_tokens == 8192));
    CHECK((append->num_kv_heads == 4 && append->dtype_cache == DGRT_BF16));
    CHECK(append->flags == (engine == Engine::plain ? 0 : DGRT_KV_SLOTS_INT64));
  }
}

TEST_CASE("attention: windows and sinks share a plan, a cap has its own", "[unit]") {
  const Profile p = profile(Engine::sglang, 2);
  const ModelNeeds needs = needs_of(gemma2(), p);
  REQUIRE(needs.attention.size() == 2);
  CHECK((needs.attention[0].window == 4096 && needs.attention[1].window == 0));
  CHECK((needs.attention[0].softcap && needs.attention[1].softcap));
  CHECK((needs.attention[0].head_dim == 256 && needs.attention[0].num_kv_heads == 4));
  const DescList descs(needs, p);
  const auto* decode = find<dgrt_attn_decode_desc>(descs, DGRT_OP_ATTN_DECODE);
  REQUIRE(decode);
  CHECK(decode->flags == DGRT_ATTN_SOFTCAP);
  const auto* extend = find<dgrt_attn_extend_desc>(descs, DGRT_OP_ATTN_EXTEND);
  REQUIRE(extend);
  CHECK(extend->max_kv_len == 8192);

  Json config = gemma2();
  config["model_type"] = "gemma3_text";
  config["attn_logit_softcapping"] = nullptr;
  config["layer_types"] = {"sliding_attention", "sliding_attention"};
  const ModelNeeds local = needs_of(config, p);
  REQUIRE(local.attention.size() == 1);
  CHECK((local.attention[0].window == 4096 && !local.attention[0].softcap));
  config["use_sliding_window"] = false;
  CHECK(needs_of(config, p).attention[0].window == 0);
}

TEST_CASE("attention: what dgrt has no kernel for is listed, what is wrong is named", "[unit]") {
  const Profile p = profile(Engine::vllm);
  const auto reason = [&](const char* field, Json value) {
    Json config = gemma2();
    config[field] = std::move(value);
    const ModelNeeds needs = needs_of(config, p);
    CHECK(needs.attention.empty());
    return missing_reason(needs, "self_attn.attn");
  };
  CHECK(reason("head_dim", 100) ==
        "attention, 16 query and 8 key-value heads of 100: heads are multiples of 8 up to 512");
  CHECK(reason("num_key_value_heads", 5).find("must divide") != std::string::npos);
  CHECK(reason("torch_dtype", "float32").find("float32") != std::string::npos);
  CHECK(reason("layer_types", {"chunked_attention"}).find("chunked") != std::string::npos);

  const auto message = [&](const char* field, Json value) {
    Json config = gemma2();
    config[field] = std::move(value);
    return model_needs(config.dump(), p).status().message();
  };
  CHECK(message("sliding_window", "far") ==
        "sliding_window=\"far\": must be an integer from 0");
  CHECK(message("attn_logit_softcapping", "soft") ==
        "attn_logit_softcapping=\"soft\": must be a number");
  CHECK(message("max_position_embeddings", -1).starts_with("max_position_embeddings=-1: must be"));
  Json half = gemma2();
  half["torch_dtype"] = "float16";
  CHECK(needs_of(half, p).attention[0].dtype == DGRT_FP16);
}

std::set<std::string> kernels_of(const dgrt_desc* desc) {
  const Target target{"sm_90a", 132};
  const Result<const OpImpl*> op = find_op(desc);
  REQUIRE(op.is_ok());
  const Result<Selection> selection = select(*op.value(), desc, target, Table());
  REQUIRE(selection.is_ok());
  std::set<std::string> kernels;
  for (const Choice& choice : selection.value().choices)
    kernels.insert(op.value()->instance(desc, target, choice.config).entry);
  return kernels;
}

// An engine's bounds are its own: fewer sequences, shorter ones.
TEST_CASE("attention: the plans of narrower bounds need no other kernels", "[unit]") {
  const Profile p = profile(Engine::sglang);
  const DescList descs(needs_of(gemma2(), p), p);
  const auto check = [](const auto* wide) {
    REQUIRE(wide);
    const std::set<std::string> all = kernels_of(&wide->op);
    CHECK(all.size() <= max_plan_kernels);
    auto narrow = *wide;
    narrow.max_batch = 48, narrow.max_kv_len = 3000;
    narrow.max_q_len = std::min<int64_t>(narrow.max_q_len, 600);
    const std::set<std::string> some = kernels_of(&narrow.op);
    CHECK(std::includes(all.begin(), all.end(), some.begin(), some.end()));
  };
  check(find<dgrt_attn_prefill_desc>(descs, DGRT_OP_ATTN_PREFILL));
  check(find<dgrt_attn_extend_desc>(descs, DGRT_OP_ATTN_EXTEND));
  check(find<dgrt_attn_decode_desc>(descs, DGRT_OP_ATTN_DECODE));
}

}  // namespace
}  // namespace dgrt
