// The C entry points: null checks, struct sizes, the last error. Exceptions of libraries stop here.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "dgrt/dgrt.h"
#include "runtime/engine/context.h"
#include "runtime/engine/enumerate.h"
#include "runtime/engine/plan.h"
#include "runtime/engine/prepare.h"

namespace dgrt {
namespace {

// This thread's last failure. Fixed when memory runs out, so that reporting cannot fail.
thread_local std::string last_error_text;
thread_local const char* last_error_fixed = nullptr;

dgrt_status fail(const Status& status) noexcept {
  try {
    last_error_text = status.message();
    last_error_fixed = nullptr;
  } catch (...) {
    last_error_fixed = "out of memory";
  }
  return status.code();
}

// Runs fn() -> Status as the body of an entry point.
template <class Fn>
dgrt_status guarded(Fn&& fn) noexcept {
  try {
    const Status status = fn();
    return status.is_ok() ? dgrt_status{DGRT_OK} : fail(status);
  } catch (const std::bad_alloc&) {
    last_error_fixed = "out of memory";
    return DGRT_INTERNAL;
  } catch (const std::exception& exception) {
    try {
      return fail({DGRT_INTERNAL, fmt::format("unexpected exception: {}", exception.what())});
    } catch (...) {
      last_error_fixed = "out of memory";
      return DGRT_INTERNAL;
    }
  } catch (...) {
    last_error_fixed = "unexpected exception";
    return DGRT_INTERNAL;
  }
}

Status null_argument(const char* name) { return invalid("{}=NULL: must not be NULL", name); }

constexpr uint32_t max_struct_bytes = 4096;

Status check_size(uint32_t size, const char* what) {
  if (size >= 2 * sizeof(uint32_t) && size <= max_struct_bytes && size % sizeof(uint32_t) == 0)
    return ok();
  return invalid("{}.struct_size={}: must be the struct's size; start from its initialiser macro",
                 what, size);
}

// Reads a struct of the caller's, which may be shorter or longer than ours.
template <class T>
Status read_struct(const T* in, const char* what, T* out) {
  DGRT_TRY(check_size(in->struct_size, what));
  const auto* bytes = reinterpret_cast<const unsigned char*>(in);
  for (size_t i = sizeof(T); i < in->struct_size; ++i)
    if (bytes[i] != 0)
      return invalid("{}: byte {} is not zero; this library knows {} bytes", what, i, sizeof(T));
  std::memcpy(out, in, std::min<size_t>(sizeof(T), in->struct_size));
  out->struct_size = sizeof(T);
  return ok();
}

// Fills a struct of the caller's as far as both sides know it.
template <class T>
void write_struct(const T& value, T* out) {
  const uint32_t size = out->struct_size;
  std::memcpy(out, &value, std::min<size_t>(sizeof(T), size));
  out->struct_size = size;
}

Plan* from_c(dgrt_plan* plan) { return reinterpret_cast<Plan*>(plan); }
const Plan* from_c(const dgrt_plan* plan) { return reinterpret_cast<const Plan*>(plan); }
Context* from_c(dgrt_context* context) { return reinterpret_cast<Context*>(context); }
const Context* from_c(const dgrt_context* context) {
  return reinterpret_cast<const Context*>(context);
}

Status create_context(const dgrt_context_options* options, dgrt_context** context) {
  if (!context) return null_argument("context");
  *context = nullptr;
  dgrt_context_options copy = DGRT_CONTEXT_OPTIONS;
  if (options) DGRT_TRY(read_struct(options, "options", &copy));
  DGRT_ASSIGN(std::unique_ptr<Context> made, Context::create(copy));
  *context = reinterpret_cast<dgrt_context*>(made.release());
  return ok();
}

Status create_plan(dgrt_context* context, const dgrt_desc* desc, dgrt_plan** plan) {
  if (!plan) return null_argument("plan");
  *plan = nullptr;
  if (!context) return null_argument("context");
  if (!desc) return null_argument("desc");
  DGRT_ASSIGN(std::unique_ptr<Plan> made, Plan::create(*from_c(context), desc));
  *plan = reinterpret_cast<dgrt_plan*>(made.release());
  return ok();
}

Status get_plan_info(const dgrt_plan* plan, dgrt_plan_info* info) {
  if (!plan) return null_argument("plan");
  if (!info) return null_argument("info");
  DGRT_TRY(check_size(info->struct_size, "info"));
  dgrt_plan_info value = DGRT_PLAN_INFO;
  value.num_kernels = static_cast<uint32_t>(from_c(plan)->kernels().size());
  value.kernels = from_c(plan)->kernels().data();
  value.workspace_bytes = from_c(plan)->workspace_bytes();
  value.state_bytes = from_c(plan)->state_bytes();
  write_struct(value, info);
  return ok();
}

Status enumerate_kernels(const dgrt_desc* desc, const dgrt_target* target, dgrt_key_fn fn,
                         void* user) {
  if (!desc) return null_argument("desc");
  if (!target) return null_argument("target");
  if (!fn) return null_argument("fn");
  dgrt_target copy = DGRT_TARGET;
  DGRT_TRY(read_struct(target, "target", &copy));
  if (!copy.arch) return null_argument("target.arch");
  DGRT_ASSIGN(const std::vector<PlannedKernel> kernels,
              enumerate(desc, {copy.arch, copy.sm_count}));
  for (const PlannedKernel& kernel : kernels) {
    const std::string key = kernel.key.hex(), config = kernel.config.to_string();
    const dgrt_key_info info = {sizeof(info), 0, key.c_str(), kernel.instance.entry.c_str(),
                                config.c_str()};
    if (fn(&info, user) != 0) break;
  }
  return ok();
}

}  // namespace
}  // namespace dgrt

using namespace dgrt;  // NOLINT: this file is the border

extern "C" {

const char* dgrt_status_string(dgrt_status status) {
  static constexpr const char* names[] = {
      "OK",       "INVALID_ARGUMENT", "UNSUPPORTED",  "NO_DEVICE",      "NO_COMPILER",
      "MISS",     "COMPILE_FAILED",   "DRIVER_ERROR", "DRIVER_TOO_OLD", "WORKSPACE_TOO_SMALL",
      "IO_ERROR", "PEER_LOST",        "INTERNAL"};
  static_assert(std::size(names) == DGRT_INTERNAL + 1);
  return status >= 0 && status <= DGRT_INTERNAL ? names[status] : "UNKNOWN";
}

const char* dgrt_last_error(void) {
  return last_error_fixed ? last_error_fixed : last_error_text.c_str();
}

uint32_t dgrt_version(void) { return DGRT_VERSION; }

dgrt_status dgrt_context_create(const dgrt_context_options* options, dgrt_context** context) {
  return guarded([&] { return create_context(options, context); });
}

void dgrt_context_destroy(dgrt_context* context) { delete from_c(context); }

dgrt_status dgrt_context_get_stats(const dgrt_context* context, dgrt_stats* stats) {
  return guarded([&]() -> Status {
    if (!context) return null_argument("context");
    if (!stats) return null_argument("stats");
    DGRT_TRY(check_size(stats->struct_size, "stats"));
    write_struct(from_c(context)->kernels().stats(), stats);
    return ok();
  });
}

dgrt_status dgrt_prepare(dgrt_context* context, const dgrt_desc* const* descs, size_t num_descs,
                         dgrt_progress_fn progress, void* user) {
  return guarded([&]() -> Status {
    if (!context) return null_argument("context");
    if (!descs && num_descs != 0) return null_argument("descs");
    return prepare(*from_c(context), descs, num_descs, progress, user);
  });
}

dgrt_status dgrt_plan_create(dgrt_context* context, const dgrt_desc* desc, dgrt_plan** plan) {
  return guarded([&] { return create_plan(context, desc, plan); });
}

void dgrt_plan_destroy(dgrt_plan* plan) { delete from_c(plan); }

dgrt_status dgrt_plan_get_info(const dgrt_plan* plan, dgrt_plan_info* info) {
  return guarded([&] { return get_plan_info(plan, info); });
}

dgrt_status dgrt_plan_query(const dgrt_plan* plan, const dgrt_args* args, dgrt_call_info* info) {
  return guarded([&]() -> Status {
    if (!plan) return null_argument("plan");
    if (!args) return null_argument("args");
    if (!info) return null_argument("info");
    DGRT_TRY(check_size(info->struct_size, "info"));
    dgrt_call_info value = DGRT_CALL_INFO;
    DGRT_TRY(from_c(plan)->query(args, &value));
    write_struct(value, info);
    return ok();
  });
}

dgrt_status dgrt_launch(const dgrt_plan* plan, const dgrt_args* args, void* workspace,
                        size_t workspace_bytes, CUstream stream) {
  return guarded([&]() -> Status {
    if (!plan) return null_argument("plan");
    if (!args) return null_argument("args");
    return from_c(plan)->launch(args, workspace, workspace_bytes, stream);
  });
}

dgrt_status dgrt_enumerate(const dgrt_desc* desc, const dgrt_target* target, dgrt_key_fn fn,
                           void* user) {
  return guarded([&] { return enumerate_kernels(desc, target, fn, user); });
}

dgrt_status dgrt_symm_create(dgrt_context*, const dgrt_symm_options*, dgrt_symm** symm) {
  return guarded([&]() -> Status {
    if (symm) *symm = nullptr;
    return error(DGRT_UNSUPPORTED, "symm: this version has no op that runs on several GPUs");
  });
}

void dgrt_symm_destroy(dgrt_symm*) {}

}  // extern "C"
