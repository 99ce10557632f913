// The public headers as C++20, against the shared library alone: the same initialisers and
// wrappers, used from several threads, each of which has its own last error.
#include <dgrt/dgrt.h>
#include <dgrt/gemm.h>
#include <dgrt/attention.h>
#include <dgrt/hyper.h>
#include <dgrt/indexer.h>
#include <dgrt/mla.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

int num_failures = 0;

void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s; last error: %s\n", what, dgrt_last_error());
  ++num_failures;
}

dgrt_scale_layout_desc layout_desc(int64_t max_m) {
  dgrt_scale_layout_desc desc = DGRT_SCALE_LAYOUT_DESC;
  desc.k_blocks = 56;
  desc.max_m = max_m;
  return desc;
}

// The keys of one desc, by a callback without captures.
std::vector<std::string> keys_of(const dgrt_desc* desc) {
  std::vector<std::string> keys;
  const dgrt_target target = DGRT_TARGET;
  const auto collect = [](const dgrt_key_info* info, void* user) -> int {
    static_cast<std::vector<std::string>*>(user)->emplace_back(info->key);
    return 0;
  };
  check(dgrt_enumerate(desc, &target, collect, &keys) == DGRT_OK, "enumerate");
  return keys;
}

void check_last_error_is_per_thread(dgrt_context* context) {
  dgrt_plan* plan = nullptr;
  const dgrt_scale_layout_desc bad = layout_desc(-1);
  check(dgrt_scale_layout_plan_create(context, &bad, &plan) == DGRT_INVALID_ARGUMENT, "bad max_m");
  const std::string here = dgrt_last_error();
  check(here.find("max_m=-1") != std::string::npos, "message names max_m=-1");
  std::thread other([context] {
    check(std::strcmp(dgrt_last_error(), "") == 0, "a new thread has no error");
    check(dgrt_plan_create(context, nullptr, nullptr) == DGRT_INVALID_ARGUMENT, "null plan");
    check(std::strcmp(dgrt_last_error(), "plan=NULL: must not be NULL") == 0, "its own error");
  });
  other.join();
  check(here == dgrt_last_error(), "this thread's error stays");
}

void check_keys() {
  dgrt_quant_fp8_desc quant = DGRT_QUANT_FP8_DESC;
  quant.k = 7168;
  quant.max_m = 8192;
  const dgrt_scale_layout_desc layout = layout_desc(8192);
  const std::vector<std::string> keys = keys_of(&quant.op);
  check(!keys.empty() && keys == keys_of(&quant.op), "equal keys again");
  check(keys_of(&layout.op) != keys, "other ops have other keys");
}

}  // namespace

int main() {
  dgrt_context_options options = DGRT_CONTEXT_OPTIONS;
  options.device = DGRT_DEVICE_NONE;
  options.arch = "sm_90a";
  options.sm_count = 132;
  options.cache_dir = "";
  dgrt_context* context = nullptr;
  check(dgrt_context_create(&options, &context) == DGRT_OK, "compile-only context");
  if (context == nullptr) return EXIT_FAILURE;
  check_last_error_is_per_thread(context);
  check_keys();
  dgrt_context_destroy(context);
  if (num_failures != 0) return EXIT_FAILURE;
  std::puts("api_cpp20: all checks held");
  return EXIT_SUCCESS;
}
