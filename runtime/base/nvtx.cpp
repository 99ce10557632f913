#include "runtime/base/nvtx.h"

#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace dgrt {
namespace {

// The injection protocol of NVTX 2 and 3 (nvtxDetail/nvtxTypes.h of the CUDA toolkit): a profiler's
// library exports InitializeInjectionNvtx2, which asks the caller for tables by number and writes
// its functions where a module's table points. Functions keep their numbers for good.
using Function = void (*)();
using GetExportTable = const void* (*)(uint32_t table_id);
using InitializeInjection = int (*)(GetExportTable);

constexpr uint32_t callbacks_table = 1, version_table = 3;
constexpr uint32_t core_module = 1, range_push_a = 9, range_pop = 11;
// Functions of each module, and one for number 0, which no function has: core, cuda, opencl, cudart,
// core2, sync. A profiler may fill them all; two are called here.
constexpr std::array<uint32_t, 7> module_sizes = {0, 16, 9, 15, 7, 16, 7};
constexpr size_t most_functions = 16;

struct Module {
  std::array<Function, most_functions> functions{};
  std::array<Function*, most_functions> table{};
};
std::array<Module, module_sizes.size()> modules;

int get_module_table(uint32_t module_id, Function*** table, uint32_t* size) {
  if (module_id == 0 || module_id >= modules.size()) return 0;
  Module& module = modules[module_id];
  for (size_t i = 1; i < module_sizes[module_id]; ++i) module.table[i] = &module.functions[i];
  if (table != nullptr) *table = module.table.data();
  if (size != nullptr) *size = module_sizes[module_id];
  return 1;
}

struct Callbacks {
  size_t struct_size = sizeof(Callbacks);
  decltype(&get_module_table) get_module_function_table = get_module_table;
};
struct VersionInfo {
  size_t struct_size = sizeof(VersionInfo);
  uint32_t version = 3;
  uint32_t reserved = 0;
  void (*set_injection_version)(uint32_t) = [](uint32_t) {};
};

const void* get_export_table(uint32_t table_id) {
  static const Callbacks callbacks;
  static const VersionInfo version;
  if (table_id == callbacks_table) return &callbacks;
  return table_id == version_table ? &version : nullptr;
}

template <class F>
F core_function(uint32_t number) {
  return reinterpret_cast<F>(modules[core_module].functions[number]);
}

Status attach(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return error(DGRT_IO_ERROR, "no NVTX ranges: {}", why != nullptr ? why : path.c_str());
  }
  const auto initialize =
      reinterpret_cast<InitializeInjection>(dlsym(library, "InitializeInjectionNvtx2"));
  if (initialize == nullptr || initialize(get_export_table) == 0)
    return error(DGRT_IO_ERROR, "no NVTX ranges: {} {}", path,
                 initialize == nullptr ? "has no InitializeInjectionNvtx2" : "does not attach");
  return ok();
}

}  // namespace

Status open_nvtx(const std::string& path) {
  if (path.empty()) return ok();
  static const Status outcome = [&] {
    Status status = attach(path);
    const bool is_complete = core_function<Function>(range_push_a) != nullptr &&
                             core_function<Function>(range_pop) != nullptr;
    if (status.is_ok() && is_complete)  // it may listen to other calls alone
      NvtxRange::is_listening_.store(true, std::memory_order_release);
    return status;
  }();
  return outcome;
}

void NvtxRange::push(const char* name) {
  core_function<int (*)(const char*)>(range_push_a)(name);
  is_open_ = true;
}

void NvtxRange::pop() { core_function<int (*)()>(range_pop)(); }

}  // namespace dgrt
