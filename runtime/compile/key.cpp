#include "runtime/compile/key.h"

#include <span>

#include "runtime/base/hash.h"

namespace dgrt {

std::vector<std::string> compile_options(const Instance& instance) {
  return {
      fmt::format("--gpu-architecture={}", instance.arch),
      "-std=c++20",
      // No texture and CUDA runtime declarations: 3 of the 23 ms of an empty kernel (NVRTC 13.0,
      // 2-core EPYC VM, 2025-11).
      "--minimal",
  };
}

Result<Key> kernel_key(const Instance& instance, const Sources& sources) {
  DGRT_ASSIGN(const Closure* closure, sources.closure(instance.header));
  Blake2b hash;
  hash.add("dgrt kernel").add(key_version).add(source_text(instance));
  hash.add(std::as_bytes(std::span(closure->digest))).add(instance.arch);
  const std::vector<std::string> options = compile_options(instance);
  hash.add(uint64_t{options.size()});
  for (const std::string& option : options) hash.add(option);
  return Key{hash.digest()};
}

}  // namespace dgrt
