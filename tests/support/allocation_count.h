// See allocation_count.cpp.
#pragma once
#include <cstddef>

namespace dgrt::test {

size_t allocations_of_this_thread();

}  // namespace dgrt::test
