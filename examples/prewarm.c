/* Compiles a layer's kernels on a machine without a GPU, into a cache that the serving hosts share:
 * a compile-only context, dgrt_prepare, and a line per kernel. Build: cc prewarm.c -ldgrt Run:
 * ./a.out CACHE_DIR */
#include <stdio.h>

#include "dgrt/gemm.h"

static void show(const dgrt_progress* p, void* user) {
  static const char* const sources[] = {"none", "memory", "cache", "compiled"};
  (void)user;
  printf("%3u/%u  %-44s %-8s %6.1f ms %s\n", p->done, p->total, p->kernel, sources[p->source & 3],
         p->ms, p->message);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s CACHE_DIR\n", argv[0]);
    return 2;
  }
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = DGRT_DEVICE_NONE;
  options.arch = "sm_90a";
  options.sm_count = 132; /* H100 and H200 SXM */
  options.cache_dir = argv[1];
  dgrt_context* context = NULL;
  if (dgrt_context_create(&options, &context) != DGRT_OK) {
    fprintf(stderr, "context: %s\n", dgrt_last_error());
    return 1;
  }

  /* The shared expert's down projection of DeepSeek-V3: FP8 weights, and the activations'
   * quantiser. */
  dgrt_gemm_desc gemm = DGRT_GEMM_DESC;
  gemm.n = 7168;
  gemm.k = 2048;
  gemm.max_m = 64;
  gemm.dtype_ab = DGRT_E4M3;
  gemm.dtype_d = DGRT_BF16;
  gemm.scale_mode = DGRT_SCALE_BLOCK;
  dgrt_quant_fp8_desc quant = DGRT_QUANT_FP8_DESC;
  quant.k = 2048;
  quant.max_m = 64;
  quant.block = DGRT_QUANT_1X128;
  quant.scale_major = DGRT_MN_MAJOR;
  const dgrt_desc* descs[] = {&gemm.op, &quant.op};
  const dgrt_status status = dgrt_prepare(context, descs, 2, show, NULL);
  if (status != DGRT_OK) fprintf(stderr, "prepare: %s\n", dgrt_last_error());
  dgrt_context_destroy(context);
  return status == DGRT_OK ? 0 : 1;
}
