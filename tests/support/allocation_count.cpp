// Counts heap allocations through operator new, for tests of code that promises to make none.
#include "tests/support/allocation_count.h"

#include <cstdlib>
#include <new>

namespace {
thread_local size_t num_allocations = 0;
}

size_t dgrt::test::allocations_of_this_thread() { return num_allocations; }

void* operator new(size_t bytes) {
  ++num_allocations;
  if (void* memory = std::malloc(bytes != 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
// Sanitizers replace every form by itself, so the forms that share a delete have to be replaced
// together.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++num_allocations;
  return std::malloc(bytes != 0 ? bytes : 1);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
