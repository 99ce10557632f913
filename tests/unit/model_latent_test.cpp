// The plans of latent attention that a config.json asks for: dense, with an indexer, for each engine; and that
// what has no kernel is named.
#include "tools/model_latent.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "dgrt/attention.h"
#include "dgrt/indexer.h"
#include "dgrt/mla.h"
#include "tests/support/catch.h"
#include "tests/support/example_model.h"

namespace dgrt {
namespace {

using test::example_model;
using Json = nlohmann::json;

struct Model {
  ModelNeeds needs;
  std::unique_ptr<DescList> descs;

  Model(const Json& config, Engine engine, int64_t tp = 8) {
    Profile profile;
    profile.engine = engine, profile.tp = tp, profile.ep = tp;
    Result<ModelNeeds> made = model_needs(config.dump(), profile);
    INFO(made.status().message());
    REQUIRE(made.is_ok());
    needs = std::move(made).value();
    descs = std::make_unique<DescList>(needs, profile);
  }
  template <class Desc>
  std::vector<const Desc*> all(uint32_t id) const {
    std::vector<const Desc*> found;
    for (const dgrt_desc* desc : descs->pointers())
      if (desc->id == id) found.push_back(reinterpret_cast<const Desc*>(desc));
    return found;
  }
  template <class Desc>
  const Desc& one(uint32_t id) const {
    const auto found = all<Desc>(id);
    REQUIRE(found.size() == 1);
    return *found.front();
  }
  size_t count(uint32_t id) const { return all<dgrt_desc>(id).size(); }
  std::string missing(const std::string& name) const {
    for (const Missing& m : needs.missing)
      if (m.name == name) return m.reason;
    return "";
  }
};

TEST_CASE("latent attention: dense plans of each engine", "[unit]") {
  const struct {
    const char* file;
    int64_t heads, draft, positions;
  } cases[] = {{"deepseek-v3.json", 16, 1, 163840}, {"kimi-k2.json", 8, 0, 131072}};
  for (const auto& c : cases)
    for (const Engine engine : {Engine::sglang, Engine::vllm, Engine::plain}) {
      INFO(c.file << " engine " << static_cast<int>(engine));
      const Model m(example_model(c.file), engine);
      const bool chunked = engine != Engine::plain;
      const auto& decode = m.one<dgrt_mla_decode_desc>(DGRT_OP_MLA_DECODE);
      CHECK((decode.num_q_heads == c.heads && decode.num_kv_heads == 1));
      CHECK((decode.head_dim_qk == 576 && decode.head_dim_v == 512 && decode.dtype == DGRT_BF16));
      CHECK((decode.max_q_len == 1 + c.draft && decode.max_kv_len == c.positions));
      CHECK(decode.max_batch == 8192);
      const auto& prefill = m.one<dgrt_attn_prefill_desc>(DGRT_OP_ATTN_PREFILL);
      CHECK((prefill.num_q_heads == c.heads && prefill.num_kv_heads == c.heads));
      CHECK((prefill.head_dim_qk == 192 && prefill.head_dim_v == 128 && prefill.max_q_len == 8192));
      CHECK(prefill.max_kv_len == (chunked ? c.positions : 8192));
      const auto& append = m.one<dgrt_kv_append_desc>(DGRT_OP_KV_APPEND);
      CHECK((append.num_kv_heads == 1 && append.head_dim_qk == 512 && append.head_dim_v == 64));
      CHECK(append.flags == (chunked ? DGRT_KV_SLOTS_INT64 : 0));
      CHECK(m.count(DGRT_OP_ATTN_MERGE) == chunked);
      if (chunked) {
        const auto& merge = m.one<dgrt_attn_merge_desc>(DGRT_OP_ATTN_MERGE);
        CHECK((merge.num_heads == c.heads && merge.head_dim == 128 && merge.max_parts == 2));
      }
      CHECK(m.missing("self_attn.mla (prefix)").empty() == !chunked);
      CHECK(m.missing("self_attn.mla (decode)").empty());
      CHECK(m.count(DGRT_OP_MLA_KV_APPEND) + m.count(DGRT_OP_MQA_LOGITS) == 0);
    }
}

TEST_CASE("latent attention: the plans of an indexer and its cache", "[unit]") {
  for (const Engine engine : {Engine::sglang, Engine::vllm, Engine::plain}) {
    INFO("engine " << static_cast<int>(engine));
    const Model m(example_model("deepseek-v3.2.json"), engine);
    // Every rank scores with all 64 index heads.
    const auto& logits = m.one<dgrt_mqa_logits_desc>(DGRT_OP_MQA_LOGITS);
    CHECK((logits.num_heads == 64 && logits.head_dim == 128 && logits.dtype_out == DGRT_FP32));
    CHECK((logits.flags == DGRT_LOGITS_COMPRESSED && logits.max_kv_tokens == 163840));
    const auto paged = m.all<dgrt_paged_mqa_logits_desc>(DGRT_OP_PAGED_MQA_LOGITS);
    REQUIRE(paged.size() == 2);
    CHECK((paged[0]->next_n == 1 && paged[1]->next_n == 2));
    for (const auto* desc : paged) CHECK((desc->num_heads == 64 && desc->page_size == 64));
    const auto& top = m.one<dgrt_topk_transform_desc>(DGRT_OP_TOPK_TRANSFORM);
    CHECK((top.top_k == 2048 && top.max_columns == 163840 && top.max_rows == 8192));
    const auto& append = m.one<dgrt_mla_kv_append_desc>(DGRT_OP_MLA_KV_APPEND);
    CHECK(append.format == DGRT_MLA_KV_V32);
    CHECK(append.flags == (engine == Engine::plain ? 0 : DGRT_KV_SLOTS_INT64));
    const auto& dequant = m.one<dgrt_kv_dequant_paged_desc>(DGRT_OP_KV_DEQUANT_PAGED);
    CHECK(dequant.format == DGRT_MLA_KV_V32);
    CHECK(dequant.max_batch == (engine == Engine::vllm ? 8192 : 0));
    CHECK(m.count(DGRT_OP_MLA_DECODE) + m.count(DGRT_OP_KV_APPEND) == 0);
    CHECK(m.count(DGRT_OP_ATTN_PREFILL) == (engine == Engine::sglang));
    CHECK(m.count(DGRT_OP_ATTN_MERGE) == 0);
    if (engine == Engine::sglang)
      CHECK(m.one<dgrt_attn_prefill_desc>(DGRT_OP_ATTN_PREFILL).max_kv_len == 2048);
    CHECK_FALSE(m.missing("self_attn.indexer (inputs)").empty());
    const auto& decode = m.one<dgrt_mla_sparse_decode_desc>(DGRT_OP_MLA_SPARSE_DECODE);
    CHECK((decode.num_q_heads == 16 && decode.max_keys == 2048 && decode.max_tokens == 8192));
    CHECK(decode.format == DGRT_MLA_KV_V32);
    const auto& prefill = m.one<dgrt_mla_sparse_prefill_desc>(DGRT_OP_MLA_SPARSE_PREFILL);
    CHECK((prefill.num_heads == 16 && prefill.head_dim_qk == 576 && prefill.head_dim_v == 512));
    CHECK((prefill.max_top_k == 2048 && prefill.dtype == DGRT_BF16));

    const auto linear = [&](const std::string& name) -> Linear {
      for (const Linear& l : m.needs.layers)
        if (l.name == "self_attn.indexer." + name) return l;
      return {};
    };
    CHECK((linear("wq_b").n == 8192 && linear("wq_b").k == 1536 && linear("wq_b").dtype == DGRT_E4M3));
    CHECK((linear("wk").n == 128 && linear("wk").k == 7168 && linear("wk").dtype == DGRT_E4M3));
    CHECK((linear("weights_proj").n == 64 && linear("weights_proj").dtype == DGRT_BF16));
  }
}

TEST_CASE("latent attention: sizes that no kernel has are named, the rest is planned", "[unit]") {
  Json config = example_model("deepseek-v3.json");
  config["kv_lora_rank"] = 256;
  const Model narrow(config, Engine::vllm);
  CHECK(narrow.missing("self_attn.mla (decode)").find("rows of 256 + 64: ") != std::string::npos);
  CHECK(narrow.count(DGRT_OP_MLA_DECODE) == 0);
  CHECK(narrow.count(DGRT_OP_ATTN_PREFILL) == 1);

  config = example_model("deepseek-v3.2.json");
  config["index_n_heads"] = 48, config["index_topk"] = 4096, config["qk_rope_head_dim"] = 32;
  config["num_nextn_predict_layers"] = 0;
  const Model odd(config, Engine::vllm);
  CHECK(odd.missing("self_attn.indexer (prefill)").find("num_heads=48") != std::string::npos);
  CHECK(odd.missing("self_attn.indexer (decode)").find("num_heads=48") != std::string::npos);
  CHECK(odd.missing("self_attn.indexer (choice)").find("top_k=4096") != std::string::npos);
  CHECK(odd.missing("self_attn.mla (cache)").find("512 + 32") != std::string::npos);
  for (const char* name : {"self_attn.mla (sparse decode)", "self_attn.mla (sparse prefill)"})
    CHECK(odd.missing(name).find("512 + ") != std::string::npos);
  for (const uint32_t id : {DGRT_OP_MQA_LOGITS, DGRT_OP_TOPK_TRANSFORM, DGRT_OP_MLA_KV_APPEND,
                            DGRT_OP_KV_DEQUANT_PAGED, DGRT_OP_MLA_SPARSE_DECODE, DGRT_OP_MLA_SPARSE_PREFILL})
    CHECK(odd.count(id) == 0);

  config = example_model("deepseek-v3.2.json");
  config["torch_dtype"] = "float32";
  const Model wide(config, Engine::vllm);
  CHECK(wide.missing("self_attn.mla").find("float32") != std::string::npos);
  CHECK(wide.count(DGRT_OP_MQA_LOGITS) == 0);
}

TEST_CASE("latent attention: bad fields are errors that name them", "[unit]") {
  const auto message = [](const char* field, Json value) {
    Json config = example_model("deepseek-v3.2.json");
    config[field] = std::move(value);
    return model_needs(config.dump(), Profile()).status().message();
  };
  CHECK(message("index_topk", -1).starts_with("index_topk=-1: must be"));
  CHECK(message("index_n_heads", nullptr) == "index_n_heads: missing from the config");
  CHECK(message("index_head_dim", 1 << 30).starts_with("index_n_heads=64 index_head_dim=1073741824"));
  CHECK(message("q_lora_rank", nullptr) == "q_lora_rank: an indexer needs it");
  CHECK(message("num_nextn_predict_layers", "one").starts_with("num_nextn_predict_layers=\"one\""));
}

}  // namespace
}  // namespace dgrt
