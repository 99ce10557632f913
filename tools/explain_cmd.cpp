// dgrt explain, of products and what makes their inputs: descs from options.
#include <algorithm>
#include <memory>
#include <set>

#include "dgrt/gemm.h"
#include "dgrt/hyper.h"
#include "tools/explain_desc.h"

namespace dgrt {
namespace {

struct ExplainOptions : ExplainTarget {
  std::string dtype = "bf16", dtype_d = "bf16", block = "1x128", scale_major = "mn";
  std::string group_layout = "rows";
  std::vector<int64_t> widths;
  int64_t n = 0, k = 0, k_blocks = 0, m = 0;
  uint32_t sm_budget = 0, num_groups = 1, alignment = 128;
  bool with_c = false, batch_invariant = false, b_mn = false, sum_batches = false;
};

// What the descs of all products have.
template <class Desc>
Desc product_desc(const ExplainOptions& options, Desc desc) {
  const bool fp8 = options.dtype == "fp8";
  desc.n = options.n;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.dtype_ab = fp8 ? DGRT_E4M3 : options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  if (options.dtype_d == "fp32")
    desc.dtype_d = DGRT_FP32;
  else
    desc.dtype_d = options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.scale_mode = fp8 ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  desc.b_major = options.b_mn ? DGRT_MN_MAJOR : DGRT_K_MAJOR;
  desc.sm_budget = options.sm_budget;
  desc.flags = options.with_c ? DGRT_GEMM_WITH_C : 0;
  return desc;
}

int run_gemm(const ExplainOptions& options) {
  const auto desc = product_desc<dgrt_gemm_desc>(options, DGRT_GEMM_DESC);
  return run_desc(&desc.op, {options.m}, options);
}

int run_contiguous(const ExplainOptions& options) {
  auto desc =
      product_desc<dgrt_gemm_grouped_contiguous_desc>(options, DGRT_GEMM_GROUPED_CONTIGUOUS_DESC);
  desc.num_groups = options.num_groups;
  desc.alignment = options.alignment;
  desc.group_layout = options.group_layout == "ends" ? DGRT_GROUP_END_ROW : DGRT_GROUP_OF_ROW;
  return run_desc(&desc.op, {options.m}, options);
}

int run_masked(const ExplainOptions& options) {
  auto desc = product_desc<dgrt_gemm_grouped_masked_desc>(options, DGRT_GEMM_GROUPED_MASKED_DESC);
  desc.num_groups = options.num_groups;
  return run_desc(&desc.op, {options.m}, options);
}

int run_batched(const ExplainOptions& options) {
  auto desc = product_desc<dgrt_gemm_batched_desc>(options, DGRT_GEMM_BATCHED_DESC);
  desc.num_batches = options.num_groups;
  if (options.sum_batches) desc.flags |= DGRT_GEMM_SUM_BATCHES;
  return run_desc(&desc.op, {options.m}, options);
}

// Here k varies by call.
int run_grouped_k(const ExplainOptions& options) {
  dgrt_gemm_grouped_k_desc desc = DGRT_GEMM_GROUPED_K_DESC;
  const bool fp8 = options.dtype == "fp8";
  desc.m = options.m;
  desc.n = options.n;
  desc.max_k = std::max<int64_t>(options.k, 1);
  desc.num_groups = options.num_groups;
  desc.dtype_ab = fp8 ? DGRT_E4M3 : options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.dtype_d = DGRT_FP32;
  desc.scale_mode = fp8 ? DGRT_SCALE_ROW : DGRT_SCALE_NONE;
  desc.sm_budget = options.sm_budget;
  desc.flags = options.with_c ? DGRT_GEMM_WITH_C : 0;
  return run_desc(&desc.op, {options.k}, options);
}

int run_fused_linear(const ExplainOptions& options) {
  dgrt_gemm_fused_linear_desc desc = DGRT_GEMM_FUSED_LINEAR_DESC;
  if (options.widths.size() > DGRT_MAX_SEGMENTS)
    return report(invalid("n={} widths: must be 1 to {}", options.widths.size(), DGRT_MAX_SEGMENTS),
                  options.json);
  desc.num_segments = static_cast<uint32_t>(options.widths.size());
  std::copy(options.widths.begin(), options.widths.end(), desc.n);
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.dtype_ab = options.dtype == "fp16" ? DGRT_FP16 : DGRT_BF16;
  desc.dtype_d = desc.dtype_ab;
  if (options.dtype_d == "fp32") desc.dtype_d = DGRT_FP32;
  desc.sm_budget = options.sm_budget;
  return run_desc(&desc.op, {options.m}, options);
}

int run_quant_fp8(const ExplainOptions& options) {
  dgrt_quant_fp8_desc desc = DGRT_QUANT_FP8_DESC;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.block = options.block == "128x128" ? DGRT_QUANT_128X128 : DGRT_QUANT_1X128;
  desc.scale_major = options.scale_major == "k" ? DGRT_K_MAJOR : DGRT_MN_MAJOR;
  return run_desc(&desc.op, {options.m}, options);
}

int run_scale_layout(const ExplainOptions& options) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = options.k_blocks;
  desc.max_m = std::max<int64_t>(options.m, 1);
  return run_desc(&desc.op, {options.m}, options);
}

int run_scale_pack(const ExplainOptions& options) {
  dgrt_scale_pack_ue8m0_desc desc = DGRT_SCALE_PACK_UE8M0_DESC;
  desc.k_blocks = options.k_blocks;
  desc.max_m = std::max<int64_t>(options.m, 1);
  return run_desc(&desc.op, {options.m}, options);
}

int run_hc_prenorm(const ExplainOptions& options) {
  dgrt_hc_prenorm_desc desc = DGRT_HC_PRENORM_DESC;
  desc.n = options.n;
  desc.k = options.k;
  desc.max_m = std::max<int64_t>(options.m, 1);
  desc.flags = options.batch_invariant ? DGRT_FLAG_BATCH_INVARIANT : 0;
  return run_desc(&desc.op, {options.m}, options);
}

using RunOp = int (*)(const ExplainOptions&);

CLI::App* add_op(CLI::App* explain, const char* op, const char* example,
                 const std::shared_ptr<ExplainOptions>& options, RunOp run, int& exit_code) {
  CLI::App* command = explain->add_subcommand(op, std::string("Explain a call of ") + op);
  command->footer(std::string("Example: ") + example);
  command
      ->add_option("--m", options->m,
                   "Rows of this call; of masked groups, expected_m; of gemm_grouped_k, of d")
      ->check(CLI::Range(int64_t{0}, int64_t{INT32_MAX}))
      ->required();
  add_explain_options(*command, *options);
  command->callback([options, run, &exit_code] { exit_code = run(*options); });
  return command;
}

void add_dtype(CLI::App* product, std::set<std::string> dtypes,
               const std::shared_ptr<ExplainOptions>& options) {
  product->add_option("--dtype", options->dtype, "Of a and b; fp8: E4M3 with scales per block")
      ->check(CLI::IsMember(std::move(dtypes)))
      ->capture_default_str();
  product->add_option("--sm-budget", options->sm_budget, "Most SMs to use (0: all)");
}

void add_dtype_d(CLI::App* product, const std::shared_ptr<ExplainOptions>& options) {
  product->add_option("--dtype-d", options->dtype_d, "Of d: bf16 (fp16 where a and b are) or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
}

void add_groups(CLI::App* product, const char* name,
                const std::shared_ptr<ExplainOptions>& options) {
  product->add_option(name, options->num_groups, "How many")->required();
}

// A product, with the options that most of them have.
CLI::App* add_product(CLI::App* explain, const char* op, const char* example, RunOp run,
                      const std::shared_ptr<ExplainOptions>& options, int& exit_code) {
  CLI::App* command = add_op(explain, op, example, options, run, exit_code);
  command->add_option("--n", options->n, "Columns of d")->required();
  command->add_option("--k", options->k, "Columns of a and b")->required();
  add_dtype(command, {"bf16", "fp16", "fp8"}, options);
  add_dtype_d(command, options);
  command->add_flag("--b-mn", options->b_mn, "b is MN-major");
  return command;
}

// Products whose sizes are cut into parts: k by groups, n by outputs.
void add_segmented(CLI::App* explain, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* grouped_k =
      add_op(explain, "gemm_grouped_k",
             "dgrt explain gemm_grouped_k --dtype fp8 --num-groups 4 --m 4096 --n 7168 --k 32768",
             options, run_grouped_k, exit_code);
  add_groups(grouped_k, "--num-groups", options);
  grouped_k->add_option("--n", options->n, "Columns of d")->required();
  grouped_k->add_option("--k", options->k, "Of this call, all groups together")->required();
  add_dtype(grouped_k, {"bf16", "fp16", "fp8"}, options);
  grouped_k->add_flag("--with-c", options->with_c, "c is added");

  options = std::make_shared<ExplainOptions>();
  CLI::App* fused = add_op(explain, "gemm_fused_linear",
                           "dgrt explain gemm_fused_linear --n 4096,1024,1024 --k 4096 --m 64",
                           options, run_fused_linear, exit_code);
  fused->add_option("--n", options->widths, "Columns of each output")->delimiter(',')->required();
  fused->add_option("--k", options->k, "Columns of a and b")->required();
  add_dtype(fused, {"bf16", "fp16"}, options);
  add_dtype_d(fused, options);
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("explain", "Say which kernel a call gets, and why");
  command->require_subcommand(1);
  command->footer("Example: dgrt explain gemm --dtype fp8 --n 7168 --k 2048 --m 64");

  auto options = std::make_shared<ExplainOptions>();
  CLI::App* gemm =
      add_product(command, "gemm", "dgrt explain gemm --dtype fp8 --n 7168 --k 2048 --m 64",
                  run_gemm, options, exit_code);
  gemm->add_flag("--with-c", options->with_c, "c is added");

  options = std::make_shared<ExplainOptions>();
  CLI::App* contiguous =
      add_product(command, "gemm_grouped_contiguous",
                  "dgrt explain gemm_grouped_contiguous --dtype fp8 --num-groups 8 --n 4096 "
                  "--k 7168 --m 32768",
                  run_contiguous, options, exit_code);
  add_groups(contiguous, "--num-groups", options);
  contiguous->add_option("--alignment", options->alignment, "Of the groups' first rows")
      ->check(CLI::IsMember({64, 128}))
      ->capture_default_str();
  contiguous->add_option("--group-layout", options->group_layout, "A group per row, or end rows")
      ->check(CLI::IsMember({"rows", "ends"}))
      ->capture_default_str();

  options = std::make_shared<ExplainOptions>();
  add_groups(add_product(command, "gemm_grouped_masked",
                         "dgrt explain gemm_grouped_masked --dtype fp8 --num-groups 32 --n 4096 "
                         "--k 7168 --m 20",
                         run_masked, options, exit_code),
             "--num-groups", options);

  options = std::make_shared<ExplainOptions>();
  CLI::App* batched = add_product(
      command, "gemm_batched", "dgrt explain gemm_batched --num-batches 128 --n 128 --k 512 --m 64",
      run_batched, options, exit_code);
  add_groups(batched, "--num-batches", options);
  batched->add_flag("--with-c", options->with_c, "c is added");
  batched->add_flag("--sum-batches", options->sum_batches, "d is the sum over all batches");
  add_segmented(command, exit_code);

  options = std::make_shared<ExplainOptions>();
  CLI::App* quant = add_op(command, "quant_fp8", "dgrt explain quant_fp8 --k 7168 --m 64", options,
                           run_quant_fp8, exit_code);
  quant->add_option("--k", options->k, "Columns of x")->required();
  quant->add_option("--block", options->block, "What one scale covers")
      ->check(CLI::IsMember({"1x128", "128x128"}))
      ->capture_default_str();
  quant->add_option("--scale-major", options->scale_major, "Contiguous axis of the scales")
      ->check(CLI::IsMember({"k", "mn"}))
      ->capture_default_str();

  options = std::make_shared<ExplainOptions>();
  CLI::App* layout =
      add_op(command, "scale_layout", "dgrt explain scale_layout --k-blocks 56 --m 64", options,
             run_scale_layout, exit_code);
  layout->add_option("--k-blocks", options->k_blocks, "Columns of src")->required();

  options = std::make_shared<ExplainOptions>();
  CLI::App* pack =
      add_op(command, "scale_pack_ue8m0", "dgrt explain scale_pack_ue8m0 --k-blocks 56 --m 64",
             options, run_scale_pack, exit_code);
  pack->add_option("--k-blocks", options->k_blocks, "Columns of src")->required();
  CLI::App* hc = add_op(command, "hc_prenorm", "dgrt explain hc_prenorm --n 24 --k 28672 --m 64",
                        options, run_hc_prenorm, exit_code);
  hc->add_option("--n", options->n, "Columns of z")->required();
  hc->add_option("--k", options->k, "Columns of x")->required();
  hc->add_flag("--batch-invariant", options->batch_invariant, "With DGRT_FLAG_BATCH_INVARIANT");
  add_explain_attention(*command, exit_code);
  add_explain_sparse(*command, exit_code);
  add_explain_indexer(*command, exit_code);
}

}  // namespace dgrt
