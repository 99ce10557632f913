// What the ops of every family say of their arguments in the same words.
#pragma once
#include <cstdint>

#include "runtime/base/status.h"

namespace dgrt {

// Of numbers that are not negative.
constexpr int64_t div_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

// `alignment`: bytes, a power of two.
inline Status check_pointer(const char* name, const void* pointer, uint32_t alignment) {
  if (pointer == nullptr) return invalid("{}=NULL: must point to device memory", name);
  if ((reinterpret_cast<uintptr_t>(pointer) & (alignment - 1)) != 0)
    return invalid("{}={}: must be {}-byte aligned", name, pointer, alignment);
  return ok();
}

}  // namespace dgrt
