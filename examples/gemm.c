/* A BF16 product on device 0: context, plan, launch. The caller owns the memory; here it comes from
 * the CUDA driver, looked up by hand so that the example needs no CUDA headers. d = a *
 * transpose(b) of ones must be k everywhere. Build: cc gemm.c -ldgrt -ldl */
#include "dgrt/gemm.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { m = 64, n = 512, k = 1024 };

static void check(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, dgrt_last_error());
  exit(1);
}

int main(void) {
  /* A context retains the device's primary CUDA context; memory must come from the same one. */
  dgrt_context* context = NULL;
  check(dgrt_context_create(NULL, &context) == DGRT_OK, "context");

  int (*retain)(void**, int), (*make_current)(void*), (*wait)(void);
  int (*allocate)(unsigned long long*, size_t), (*fill)(unsigned long long, unsigned short, size_t);
  int (*to_host)(void*, unsigned long long, size_t);
  void* cuda = dlopen("libcuda.so.1", RTLD_NOW);
  check(cuda != NULL, "libcuda");
  *(void**)&retain = dlsym(cuda, "cuDevicePrimaryCtxRetain");
  *(void**)&make_current = dlsym(cuda, "cuCtxSetCurrent");
  *(void**)&allocate = dlsym(cuda, "cuMemAlloc_v2");
  *(void**)&fill = dlsym(cuda, "cuMemsetD16_v2");
  *(void**)&to_host = dlsym(cuda, "cuMemcpyDtoH_v2");
  *(void**)&wait = dlsym(cuda, "cuCtxSynchronize");
  void* primary = NULL;
  unsigned long long a, b, d;
  check(retain(&primary, 0) == 0 && make_current(primary) == 0, "primary context");
  check(!allocate(&a, m * k * 2) && !allocate(&b, n * k * 2) && !allocate(&d, m * n * 2), "memory");
  check(!fill(a, 0x3f80, m * k) && !fill(b, 0x3f80, n * k), "fill"); /* 0x3f80: 1.0 in BF16 */

  dgrt_gemm_desc desc = DGRT_GEMM_DESC; /* once, at model load: may compile */
  desc.n = n;
  desc.k = k;
  desc.max_m = m;
  desc.dtype_ab = DGRT_BF16;
  desc.dtype_d = DGRT_BF16;
  dgrt_plan* plan = NULL;
  check(dgrt_gemm_plan_create(context, &desc, &plan) == DGRT_OK, "plan");
  dgrt_plan_info info = DGRT_PLAN_INFO;
  check(dgrt_plan_get_info(plan, &info) == DGRT_OK, "plan info");
  unsigned long long workspace = 0;
  check(!info.workspace_bytes || !allocate(&workspace, info.workspace_bytes), "workspace");
  check(!info.state_bytes || !fill(workspace, 0, info.state_bytes / 2), "zero the state");

  dgrt_gemm_args args = DGRT_GEMM_ARGS; /* per call: never compiles, allocates or waits */
  args.a = (const void*)a;
  args.b = (const void*)b;
  args.d = (void*)d;
  args.m = m;
  args.lda = args.ldb = k;
  args.ldd = n;
  check(dgrt_gemm_launch(plan, &args, (void*)workspace, info.workspace_bytes, NULL) == DGRT_OK,
        "launch");
  static unsigned short result[m * n];
  check(wait() == 0 && to_host(result, d, sizeof(result)) == 0, "read back");
  for (int i = 0; i < m * n; ++i) check(result[i] == 0x4480, "result"); /* 0x4480: 1024.0 */
  printf("%d x %d x %d is right; %u kernels serve m up to %d\n", m, n, k, info.num_kernels, m);
  dgrt_plan_destroy(plan);
  dgrt_context_destroy(context);
  return 0;
}
