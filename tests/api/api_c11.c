/* The public headers as C11, against the shared library alone, on whatever machine: initialisers,
 * the error paths that need no GPU, a compile-only context, enumeration. Exit status 0: all checks
 * held. */
#include <dgrt/dgrt.h>
#include <dgrt/gemm.h>
#include <dgrt/attention.h>
#include <dgrt/hyper.h>
#include <dgrt/indexer.h>
#include <dgrt/mla.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int num_failures = 0;

#define CHECK(condition)                                                                         \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, dgrt_last_error()); \
      ++num_failures;                                                                            \
    }                                                                                            \
  } while (0)

/* The status, and a piece of what dgrt_last_error() must say. */
#define CHECK_ERROR(call, expected, text)             \
  do {                                                \
    CHECK((call) == (expected));                      \
    CHECK(strstr(dgrt_last_error(), (text)) != NULL); \
  } while (0)

static dgrt_gemm_desc fp8_desc(void) {
  dgrt_gemm_desc desc = DGRT_GEMM_DESC;
  desc.n = 2112;
  desc.k = 7168;
  desc.max_m = 4096;
  desc.dtype_ab = DGRT_E4M3;
  desc.dtype_d = DGRT_BF16;
  desc.scale_mode = DGRT_SCALE_BLOCK;
  return desc;
}

static dgrt_context_options compile_only(void) {
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = DGRT_DEVICE_NONE;
  options.arch = "sm_90a";
  options.sm_count = 132;
  options.cache_dir = "";
  options.miss_policy = DGRT_MISS_ERROR;
  return options;
}

static void check_names(void) {
  CHECK(dgrt_version() == DGRT_VERSION);
  CHECK(strcmp(dgrt_last_error(), "") == 0);
  CHECK(strcmp(dgrt_status_string(DGRT_OK), "OK") == 0);
  CHECK(strcmp(dgrt_status_string(DGRT_WORKSPACE_TOO_SMALL), "WORKSPACE_TOO_SMALL") == 0);
  CHECK(strcmp(dgrt_status_string(DGRT_INTERNAL), "INTERNAL") == 0);
  CHECK(strcmp(dgrt_status_string(-1), "UNKNOWN") == 0);
  CHECK(strcmp(dgrt_status_string(13), "UNKNOWN") == 0);
}

/* A caller built before the options grew passes a shorter struct: what lies behind it is not read. */
static void check_older_options(void) {
  dgrt_context_options options = compile_only();
  dgrt_context* context = NULL;
  options.struct_size = offsetof(dgrt_context_options, cache_ro_path);
  options.cache_ro_path = options.bundle_path = options.bundle_digest = (const char*)8;
  CHECK(dgrt_context_create(&options, &context) == DGRT_OK);
  dgrt_context_destroy(context);
}

static void check_sizes(void) {
  const dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  const dgrt_stats stats = DGRT_STATS;
  const dgrt_plan_info info = DGRT_PLAN_INFO;
  const dgrt_call_info call = DGRT_CALL_INFO;
  const dgrt_target target = DGRT_TARGET;
  const dgrt_gemm_args gemm = DGRT_GEMM_ARGS;
  const dgrt_quant_fp8_desc quant = DGRT_QUANT_FP8_DESC;
  const dgrt_quant_fp8_args quant_args = DGRT_QUANT_FP8_ARGS;
  const dgrt_scale_layout_desc layout = DGRT_SCALE_LAYOUT_DESC;
  const dgrt_scale_layout_args layout_args = DGRT_SCALE_LAYOUT_ARGS;
  const dgrt_scale_pack_ue8m0_desc pack = DGRT_SCALE_PACK_UE8M0_DESC;
  const dgrt_scale_pack_ue8m0_args pack_args = DGRT_SCALE_PACK_UE8M0_ARGS;
  CHECK(options.struct_size == sizeof options && options.device == 0);
  CHECK(stats.struct_size == sizeof stats);
  CHECK(info.struct_size == sizeof info);
  CHECK(call.struct_size == sizeof call);
  CHECK(target.struct_size == sizeof target && strcmp(target.arch, "sm_90a") == 0);
  CHECK(gemm.op.id == DGRT_OP_GEMM && gemm.op.struct_size == sizeof gemm);
  CHECK(quant.op.id == DGRT_OP_QUANT_FP8 && quant.op.struct_size == sizeof quant);
  CHECK(quant_args.op.struct_size == sizeof quant_args);
  CHECK(layout.op.id == DGRT_OP_SCALE_LAYOUT && layout.op.struct_size == sizeof layout);
  CHECK(layout_args.op.struct_size == sizeof layout_args);
  CHECK(layout.num_groups == 1 && pack.num_groups == 1);
  CHECK(pack.op.id == DGRT_OP_SCALE_PACK_UE8M0 && pack.op.struct_size == sizeof pack);
  CHECK(pack_args.op.struct_size == sizeof pack_args);
  CHECK(dgrt_tma_aligned_rows(4097, 4) == 4100 && dgrt_tma_aligned_rows(4096, 4) == 4096);
  CHECK(dgrt_tma_aligned_rows(1, 1) == 16 && dgrt_tma_aligned_rows(0, 2) == 0);
  CHECK(dgrt_tma_aligned_rows(9, 2) == 16 && dgrt_tma_aligned_rows(9, 16) == 9);
  const dgrt_hc_prenorm_desc hc = DGRT_HC_PRENORM_DESC;
  const dgrt_hc_prenorm_args hc_args = DGRT_HC_PRENORM_ARGS;
  const dgrt_hc_prenorm_weights_desc hc_weights = DGRT_HC_PRENORM_WEIGHTS_DESC;
  const dgrt_hc_prenorm_weights_args hc_weights_args = DGRT_HC_PRENORM_WEIGHTS_ARGS;
  CHECK(hc.op.id == DGRT_OP_HC_PRENORM && hc.op.struct_size == sizeof hc);
  CHECK(hc_args.op.struct_size == sizeof hc_args);
  CHECK(hc_weights.op.id == DGRT_OP_HC_PRENORM_WEIGHTS);
  CHECK(hc_weights_args.op.struct_size == sizeof hc_weights_args);
  const dgrt_topk_transform_desc topk = DGRT_TOPK_TRANSFORM_DESC;
  const dgrt_topk_transform_args topk_args = DGRT_TOPK_TRANSFORM_ARGS;
  const dgrt_mla_kv_append_desc append = DGRT_MLA_KV_APPEND_DESC;
  const dgrt_kv_dequant_paged_desc dequant = DGRT_KV_DEQUANT_PAGED_DESC;
  const dgrt_build_swa_token_ids_args ids_args = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  const dgrt_combine_topk_swa_indices_desc combine = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  CHECK(topk.op.id == DGRT_OP_TOPK_TRANSFORM && topk_args.op.struct_size == sizeof topk_args);
  CHECK(append.op.id == DGRT_OP_MLA_KV_APPEND && append.op.struct_size == sizeof append);
  CHECK(dequant.op.id == DGRT_OP_KV_DEQUANT_PAGED && dequant.max_batch == 0);
  CHECK(ids_args.op.id == DGRT_OP_BUILD_SWA_TOKEN_IDS && ids_args.op.struct_size == sizeof ids_args);
  CHECK(combine.op.id == DGRT_OP_COMBINE_TOPK_SWA_INDICES && combine.ratio == 1);
  const dgrt_mla_sparse_prefill_desc prefill = DGRT_MLA_SPARSE_PREFILL_DESC;
  const dgrt_mla_sparse_prefill_args prefill_args = DGRT_MLA_SPARSE_PREFILL_ARGS;
  CHECK(prefill.op.id == DGRT_OP_MLA_SPARSE_PREFILL && prefill.op.struct_size == sizeof prefill);
  CHECK(prefill_args.op.struct_size == sizeof prefill_args && prefill_args.scale == 0.0f);
  const dgrt_mqa_logits_desc logits = DGRT_MQA_LOGITS_DESC;
  const dgrt_mqa_logits_args logits_args = DGRT_MQA_LOGITS_ARGS;
  const dgrt_paged_mqa_logits_desc paged = DGRT_PAGED_MQA_LOGITS_DESC;
  const dgrt_paged_mqa_logits_args paged_args = DGRT_PAGED_MQA_LOGITS_ARGS;
  CHECK(logits.op.id == DGRT_OP_MQA_LOGITS && logits.op.struct_size == sizeof logits);
  CHECK(logits_args.op.struct_size == sizeof logits_args);
  CHECK(paged.op.id == DGRT_OP_PAGED_MQA_LOGITS && paged.op.struct_size == sizeof paged);
  CHECK(paged_args.op.struct_size == sizeof paged_args);
}

static void check_grouped_sizes(void) {
  const dgrt_gemm_grouped_contiguous_desc sorted = DGRT_GEMM_GROUPED_CONTIGUOUS_DESC;
  const dgrt_gemm_grouped_contiguous_args sorted_args = DGRT_GEMM_GROUPED_CONTIGUOUS_ARGS;
  const dgrt_gemm_grouped_masked_desc counted = DGRT_GEMM_GROUPED_MASKED_DESC;
  const dgrt_gemm_grouped_masked_args counted_args = DGRT_GEMM_GROUPED_MASKED_ARGS;
  const dgrt_gemm_batched_desc batched = DGRT_GEMM_BATCHED_DESC;
  const dgrt_gemm_batched_args batched_args = DGRT_GEMM_BATCHED_ARGS;
  CHECK(sorted.op.id == DGRT_OP_GEMM_GROUPED_CONTIGUOUS && sorted.max_block_n == 0);
  CHECK(sorted.op.struct_size == sizeof sorted);
  CHECK(sorted_args.op.struct_size == sizeof sorted_args && sorted_args.b_scale_group_stride == 0);
  CHECK(counted.op.id == DGRT_OP_GEMM_GROUPED_MASKED && counted.reserved == 0);
  CHECK(counted.op.struct_size == sizeof counted);
  CHECK(counted_args.op.struct_size == sizeof counted_args);
  CHECK(batched.op.id == DGRT_OP_GEMM_BATCHED && batched.op.struct_size == sizeof batched);
  CHECK(batched_args.op.struct_size == sizeof batched_args);
}

static void check_nulls(dgrt_context* context) {
  const dgrt_gemm_desc desc = fp8_desc();
  const dgrt_target target = DGRT_TARGET;
  const dgrt_gemm_args args = DGRT_GEMM_ARGS;
  dgrt_stats stats = DGRT_STATS;
  dgrt_plan_info info = DGRT_PLAN_INFO;
  dgrt_call_info call = DGRT_CALL_INFO;
  dgrt_plan* plan = NULL;
  CHECK_ERROR(dgrt_context_create(NULL, NULL), DGRT_INVALID_ARGUMENT, "context=NULL");
  CHECK_ERROR(dgrt_context_get_stats(NULL, &stats), DGRT_INVALID_ARGUMENT, "context=NULL");
  CHECK_ERROR(dgrt_context_get_stats(context, NULL), DGRT_INVALID_ARGUMENT, "stats=NULL");
  CHECK_ERROR(dgrt_prepare(NULL, NULL, 0, NULL, NULL), DGRT_INVALID_ARGUMENT, "context=NULL");
  CHECK_ERROR(dgrt_prepare(context, NULL, 1, NULL, NULL), DGRT_INVALID_ARGUMENT, "descs=NULL");
  CHECK_ERROR(dgrt_plan_create(NULL, &desc.op, &plan), DGRT_INVALID_ARGUMENT, "context=NULL");
  CHECK_ERROR(dgrt_plan_create(context, NULL, &plan), DGRT_INVALID_ARGUMENT, "desc=NULL");
  CHECK_ERROR(dgrt_gemm_plan_create(context, NULL, &plan), DGRT_INVALID_ARGUMENT, "desc=NULL");
  CHECK_ERROR(dgrt_plan_create(context, &desc.op, NULL), DGRT_INVALID_ARGUMENT, "plan=NULL");
  CHECK_ERROR(dgrt_plan_get_info(NULL, &info), DGRT_INVALID_ARGUMENT, "plan=NULL");
  CHECK_ERROR(dgrt_plan_query(NULL, &args.op, &call), DGRT_INVALID_ARGUMENT, "plan=NULL");
  CHECK_ERROR(dgrt_launch(NULL, &args.op, NULL, 0, NULL), DGRT_INVALID_ARGUMENT, "plan=NULL");
  CHECK_ERROR(dgrt_gemm_launch(NULL, &args, NULL, 0, NULL), DGRT_INVALID_ARGUMENT, "plan=NULL");
  CHECK_ERROR(dgrt_enumerate(NULL, &target, NULL, NULL), DGRT_INVALID_ARGUMENT, "desc=NULL");
  CHECK_ERROR(dgrt_enumerate(&desc.op, NULL, NULL, NULL), DGRT_INVALID_ARGUMENT, "target=NULL");
  CHECK_ERROR(dgrt_enumerate(&desc.op, &target, NULL, NULL), DGRT_INVALID_ARGUMENT, "fn=NULL");
  dgrt_context_destroy(NULL);
  dgrt_plan_destroy(NULL);
  dgrt_symm_destroy(NULL);
}

static void check_contexts(void) {
  struct {
    dgrt_context_options options;
    uint32_t tail[2];
  } longer = {compile_only(), {0, 0}};
  dgrt_context* context = NULL;
  dgrt_context_options options = compile_only();
  options.struct_size = 4;
  CHECK_ERROR(dgrt_context_create(&options, &context), DGRT_INVALID_ARGUMENT,
              "options.struct_size=4");
  CHECK(context == NULL);
  options = compile_only();
  options.arch = NULL;
  CHECK_ERROR(dgrt_context_create(&options, &context), DGRT_INVALID_ARGUMENT, "arch=NULL");
  options = compile_only();
  options.arch = "sm_80";
  CHECK_ERROR(dgrt_context_create(&options, &context), DGRT_UNSUPPORTED, "arch=sm_80");
  options = compile_only();
  options.sm_count = 0;
  CHECK_ERROR(dgrt_context_create(&options, &context), DGRT_INVALID_ARGUMENT, "sm_count=0");
  longer.options.struct_size = sizeof longer;
  longer.tail[0] = 1;
  CHECK_ERROR(dgrt_context_create(&longer.options, &context), DGRT_INVALID_ARGUMENT, "is not zero");
  longer.tail[0] = 0;
  CHECK(dgrt_context_create(&longer.options, &context) == DGRT_OK);
  dgrt_context_destroy(context);
}

static void check_stats(dgrt_context* context) {
  dgrt_stats stats = DGRT_STATS;
  stats.reserved = 5;
  CHECK(dgrt_context_get_stats(context, &stats) == DGRT_OK);
  CHECK(stats.struct_size == sizeof stats && stats.compiles == 0 && stats.lookups > 0);
  /* An older caller's struct ends after `lookups`: nothing past it is written. */
  stats.struct_size = offsetof(dgrt_stats, memory_hits);
  stats.memory_hits = 77;
  CHECK(dgrt_context_get_stats(context, &stats) == DGRT_OK);
  CHECK(stats.memory_hits == 77 && stats.struct_size == offsetof(dgrt_stats, memory_hits));
  stats.struct_size = 0;
  CHECK_ERROR(dgrt_context_get_stats(context, &stats), DGRT_INVALID_ARGUMENT,
              "stats.struct_size=0");
}

static void check_descs(dgrt_context* context) {
  struct {
    dgrt_gemm_desc desc;
    uint32_t tail[2];
  } longer = {fp8_desc(), {0, 1}};
  dgrt_plan* plan = NULL;
  dgrt_gemm_desc desc = fp8_desc();
  desc.op.id = 99;
  CHECK_ERROR(dgrt_plan_create(context, &desc.op, &plan), DGRT_INVALID_ARGUMENT, "desc.op.id=99");
  desc = fp8_desc();
  desc.op.struct_size = 3;
  CHECK_ERROR(dgrt_plan_create(context, &desc.op, &plan), DGRT_INVALID_ARGUMENT,
              "desc.op.struct_size=3");
  longer.desc.op.struct_size = sizeof longer;
  CHECK_ERROR(dgrt_plan_create(context, &longer.desc.op, &plan), DGRT_INVALID_ARGUMENT,
              "is not zero");
  desc = fp8_desc();
  desc.dtype_ab = 77;
  CHECK_ERROR(dgrt_plan_create(context, &desc.op, &plan), DGRT_UNSUPPORTED,
              "dtype_ab=77 ");
  desc = fp8_desc();
  desc.max_m = -1;
  CHECK_ERROR(dgrt_plan_create(context, &desc.op, &plan), DGRT_INVALID_ARGUMENT, "max_m=-1");
  desc = fp8_desc();
  CHECK_ERROR(dgrt_gemm_plan_create(context, &desc, &plan), DGRT_MISS, "sm90_gemm_fp8");
  CHECK(plan == NULL);
  CHECK_ERROR(dgrt_symm_create(context, NULL, NULL), DGRT_UNSUPPORTED, "symm");
}

typedef struct {
  int num_seen, stop_after;
} seen_keys;

static int see_key(const dgrt_key_info* info, void* user) {
  seen_keys* seen = (seen_keys*)user;
  CHECK(info->struct_size == sizeof *info);
  CHECK(strlen(info->key) == 64);
  CHECK(strncmp(info->kernel, "sm90_gemm_fp8", 13) == 0);
  CHECK(strchr(info->config, '=') != NULL);
  return ++seen->num_seen == seen->stop_after;
}

static void check_enumerate(void) {
  const dgrt_gemm_desc desc = fp8_desc();
  dgrt_target target = DGRT_TARGET;
  seen_keys all = {0, 0}, first = {0, 1};
  CHECK(dgrt_enumerate(&desc.op, &target, see_key, &all) == DGRT_OK);
  CHECK(all.num_seen >= 1 && all.num_seen <= 16);
  CHECK(dgrt_enumerate(&desc.op, &target, see_key, &first) == DGRT_OK);
  CHECK(first.num_seen == 1);
  target.arch = NULL;
  CHECK_ERROR(dgrt_enumerate(&desc.op, &target, see_key, &all), DGRT_INVALID_ARGUMENT,
              "target.arch=NULL");
  target.arch = "sm_100a";
  CHECK_ERROR(dgrt_enumerate(&desc.op, &target, see_key, &all), DGRT_UNSUPPORTED, "sm_100a");
  target.struct_size = 0;
  CHECK_ERROR(dgrt_enumerate(&desc.op, &target, see_key, &all), DGRT_INVALID_ARGUMENT,
              "target.struct_size=0");
}

int main(void) {
  const dgrt_context_options options = compile_only();
  dgrt_context* context = NULL;
  check_names();
  check_sizes();
  check_grouped_sizes();
  check_older_options();
  check_contexts();
  CHECK(dgrt_context_create(&options, &context) == DGRT_OK);
  if (context == NULL) return EXIT_FAILURE;
  check_nulls(context);
  check_descs(context);
  check_stats(context);
  check_enumerate();
  dgrt_context_destroy(context);
  if (num_failures != 0) return EXIT_FAILURE;
  puts("api_c11: all checks held");
  return EXIT_SUCCESS;
}
