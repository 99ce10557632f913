// dgrt explain, of attention: descs from options.
#include <memory>
#include <numeric>
#include <set>
#include <string>

#include "dgrt/attention.h"
#include "dgrt/mla.h"
#include "tools/explain_desc.h"

namespace dgrt {
namespace {

struct AttentionOptions : ExplainTarget {
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0, head_dim_v = 0;
  int64_t m = 0, batch = 1, kv_len = 0, page_size = 16, num_parts = 2;
  std::string dtype = "bf16", dtype_part = "bf16", dtype_o = "bf16", dtype_cache = "same", dtype_kv = "same", dtype_q = "same";
  uint32_t sm_budget = 0;
  bool softcap = false, batch_invariant = false, slots_int64 = false;

  int64_t columns_v() const { return head_dim_v == 0 ? head_dim : head_dim_v; }
  int64_t keys() const { return kv_len == 0 ? m : kv_len; }
};

dgrt_dtype float_dtype(const std::string& name) {
  return name == "fp16" ? DGRT_FP16 : name == "fp32" ? DGRT_FP32 : DGRT_BF16;
}

dgrt_dtype e4m3_or_same(const std::string& name) { return name == "e4m3" ? DGRT_E4M3 : 0; }

// What the descs of attention over keys have.
template <class Desc>
Desc heads_desc(const AttentionOptions& options, Desc desc) {
  desc.num_q_heads = options.num_q_heads;
  desc.num_kv_heads = options.num_kv_heads;
  desc.head_dim_qk = options.head_dim;
  desc.head_dim_v = options.columns_v();
  desc.max_batch = options.batch;
  desc.max_q_len = options.m;
  desc.max_kv_len = options.keys();
  desc.dtype = float_dtype(options.dtype);
  desc.dtype_kv = e4m3_or_same(options.dtype_kv);
  desc.sm_budget = options.sm_budget;
  desc.flags = (options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0) |
               (options.softcap ? DGRT_ATTN_SOFTCAP : 0);
  return desc;
}

int run_explain_prefill(const AttentionOptions& options) {
  const auto desc = heads_desc<dgrt_attn_prefill_desc>(options, DGRT_ATTN_PREFILL_DESC);
  return run_desc(&desc.op, {options.batch, options.m, options.keys()}, options);
}

int run_explain_decode(const AttentionOptions& options) {
  const auto desc = heads_desc<dgrt_attn_decode_desc>(options, DGRT_ATTN_DECODE_DESC);
  return run_desc(&desc.op, {options.batch, options.m, options.keys()}, options);
}

int run_explain_mla_decode(const AttentionOptions& options) {
  dgrt_mla_decode_desc desc = DGRT_MLA_DECODE_DESC;
  desc.num_q_heads = options.num_q_heads, desc.num_kv_heads = options.num_kv_heads;
  desc.max_batch = options.batch, desc.max_q_len = options.m, desc.max_kv_len = options.keys();
  desc.dtype = float_dtype(options.dtype);
  desc.dtype_kv = e4m3_or_same(options.dtype_kv), desc.dtype_q = e4m3_or_same(options.dtype_q);
  desc.sm_budget = options.sm_budget;
  desc.flags = options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0;
  return run_desc(&desc.op, {options.batch, options.m, options.keys()}, options);
}

// The choice depends on what pages share with tiles of 16 keys, not on the keys.
int run_explain_extend(const AttentionOptions& options) {
  const auto desc = heads_desc<dgrt_attn_extend_desc>(options, DGRT_ATTN_EXTEND_DESC);
  const int64_t page_rows = std::gcd(options.page_size, int64_t{16});
  return run_desc(&desc.op, {options.batch, options.m, page_rows}, options);
}

int run_explain_merge(const AttentionOptions& options) {
  dgrt_attn_merge_desc desc = DGRT_ATTN_MERGE_DESC;
  desc.num_heads = options.num_q_heads;
  desc.head_dim = options.head_dim;
  desc.max_tokens = options.m;
  desc.max_parts = options.num_parts;
  desc.dtype_part = float_dtype(options.dtype_part);
  desc.dtype_o = float_dtype(options.dtype_o);
  desc.flags = options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0;
  return run_desc(&desc.op, {options.m, options.num_parts}, options);
}

int run_explain_append(const AttentionOptions& options) {
  dgrt_kv_append_desc desc = DGRT_KV_APPEND_DESC;
  desc.num_kv_heads = options.num_kv_heads;
  desc.head_dim_qk = options.head_dim;
  desc.head_dim_v = options.columns_v();
  desc.max_tokens = options.m;
  desc.dtype = float_dtype(options.dtype);
  desc.dtype_cache = options.dtype_cache == "e4m3" ? dgrt_dtype{DGRT_E4M3} : desc.dtype;
  desc.flags = options.slots_int64 ? DGRT_KV_SLOTS_INT64 : 0;
  return run_desc(&desc.op, {options.m}, options);
}

using RunAttention = int (*)(const AttentionOptions&);
using SharedOptions = std::shared_ptr<AttentionOptions>;

CLI::App* add_attention_op(CLI::App& explain, const char* op, const char* example, const char* m,
                           const SharedOptions& options, RunAttention run, int& exit_code) {
  CLI::App* command = explain.add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(fmt::format("Example: dgrt explain {} {}", op, example));
  command->add_option("--m", options->m, m)
      ->check(CLI::Range(int64_t{0}, int64_t{INT32_MAX}))
      ->required();
  add_explain_options(*command, *options);
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return command;
}

void add_type(CLI::App* command, const char* name, std::string& value, const char* text,
              std::set<std::string> types) {
  command->add_option(name, value, text)
      ->check(CLI::IsMember(std::move(types)))
      ->capture_default_str();
}

void add_head_dims(CLI::App* command, const SharedOptions& options) {
  command->add_option("--head-dim", options->head_dim, "Columns of a head of q and k")->required();
  command->add_option("--head-dim-v", options->head_dim_v, "Of v and o (default: those of q)");
}

// Attention over keys of any kind.
CLI::App* add_over_sequences(CLI::App& explain, const char* op, const char* example,
                             const SharedOptions& options, RunAttention run, int& exit_code) {
  CLI::App* command = add_attention_op(explain, op, example, "Queries of the longest sequence",
                                       options, run, exit_code);
  command->add_option("--num-q-heads", options->num_q_heads, "Query heads")->required();
  command->add_option("--batch", options->batch, "Sequences")->capture_default_str();
  command->add_option("--kv-len", options->kv_len, "Keys of the longest sequence (default: --m)");
  add_type(command, "--dtype", options->dtype, "Of q, k, v and o", {"bf16", "fp16"});
  add_type(command, "--dtype-kv", options->dtype_kv, "Of keys and values", {"same", "e4m3"});
  command->add_option("--sm-budget", options->sm_budget, "Most SMs to use (0: all)");
  command->add_flag("--batch-invariant", options->batch_invariant,
                    "With DGRT_FLAG_BATCH_INVARIANT");
  return command;
}

CLI::App* add_over_keys(CLI::App& explain, const char* op, const char* example,
                        const SharedOptions& options, RunAttention run, int& exit_code) {
  CLI::App* command = add_over_sequences(explain, op, example, options, run, exit_code);
  command->add_option("--num-kv-heads", options->num_kv_heads, "Key heads")->required();
  add_head_dims(command, options);
  command->add_flag("--softcap", options->softcap, "With DGRT_ATTN_SOFTCAP");
  return command;
}

void add_mla_decode(CLI::App& explain, int& exit_code) {
  const auto options = std::make_shared<AttentionOptions>();
  options->num_kv_heads = 1;
  CLI::App* command = add_over_sequences(explain, "mla_decode", "--num-q-heads 128 --batch 64 --m 1 --kv-len 4096",
                                         options, run_explain_mla_decode, exit_code);
  command->add_option("--num-kv-heads", options->num_kv_heads, "Key heads")->capture_default_str();
  add_type(command, "--dtype-q", options->dtype_q, "Of q", {"same", "e4m3"});
}

void add_merge(CLI::App& explain, int& exit_code) {
  const auto options = std::make_shared<AttentionOptions>();
  CLI::App* command =
      add_attention_op(explain, "attn_merge", "--num-heads 32 --head-dim 128 --parts 2 --m 64",
                       "Tokens", options, run_explain_merge, exit_code);
  command->add_option("--num-heads", options->num_q_heads, "Query heads")->required();
  command->add_option("--head-dim", options->head_dim, "Columns of a head of o")->required();
  command->add_option("--parts", options->num_parts, "Results that are merged")
      ->capture_default_str();
  const std::set<std::string> types = {"bf16", "fp16", "fp32"};
  add_type(command, "--dtype-part", options->dtype_part, "Of the parts", types);
  add_type(command, "--dtype-o", options->dtype_o, "Of o", types);
  command->add_flag("--batch-invariant", options->batch_invariant,
                    "With DGRT_FLAG_BATCH_INVARIANT");
}

void add_append(CLI::App& explain, int& exit_code) {
  const auto options = std::make_shared<AttentionOptions>();
  CLI::App* command =
      add_attention_op(explain, "kv_append", "--num-kv-heads 8 --head-dim 128 --m 64", "Tokens",
                       options, run_explain_append, exit_code);
  command->add_option("--num-kv-heads", options->num_kv_heads, "Key heads")->required();
  add_head_dims(command, options);
  add_type(command, "--dtype", options->dtype, "Of k and v", {"bf16", "fp16"});
  add_type(command, "--dtype-cache", options->dtype_cache, "Of the cache: that of k and v, or e4m3",
           {"same", "e4m3"});
  command->add_flag("--slots-int64", options->slots_int64, "With DGRT_KV_SLOTS_INT64");
}

}  // namespace

void add_explain_attention(CLI::App& explain, int& exit_code) {
  add_over_keys(explain, "attn_prefill",
                "--num-q-heads 8 --num-kv-heads 4 --head-dim 256 --batch 4 --m 1000",
                std::make_shared<AttentionOptions>(), run_explain_prefill, exit_code);
  add_over_keys(explain, "attn_decode",
                "--num-q-heads 32 --num-kv-heads 8 --head-dim 128 --batch 64 --m 1 --kv-len 4096",
                std::make_shared<AttentionOptions>(), run_explain_decode, exit_code);
  const auto options = std::make_shared<AttentionOptions>();
  add_over_keys(explain, "attn_extend",
                "--num-q-heads 8 --num-kv-heads 4 --head-dim 256 --batch 4 --m 1024 --kv-len 8192",
                options, run_explain_extend, exit_code)
      ->add_option("--page-size", options->page_size, "Keys of a page of the cache")
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}))
      ->capture_default_str();
  add_merge(explain, exit_code);
  add_append(explain, exit_code);
  add_mla_decode(explain, exit_code);
}

}  // namespace dgrt
