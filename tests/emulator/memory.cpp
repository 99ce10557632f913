// Memory that kernels may touch, and shared memory by its addresses.
#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

// Pages of their own, so that no two allocations touch and addresses do not depend on what else the process does.
constexpr size_t page = 4096;

struct Registry {
  std::mutex mutex;
  std::map<uintptr_t, size_t> sizes;     // as asked for
  std::atomic<uint64_t> generation = 1;  // of what threads remember
};

Registry& registry() {
  static Registry* const result = new Registry;  // streams may end after static objects
  return *result;
}

size_t mapped_bytes(size_t bytes) { return (bytes + 2 * page - 1) / page * page; }

struct Range {
  uint64_t first = 0, end = 0, generation = 0;
};

// The last allocations that this thread found, by some bits of the address.
thread_local std::array<Range, 64> found_ranges;

}  // namespace

std::byte* allocate(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  void* memory = mmap(nullptr, mapped_bytes(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  std::memset(memory, 0xff, bytes);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.sizes[reinterpret_cast<uintptr_t>(memory)] = bytes;
  return static_cast<std::byte*>(memory);
}

bool release(std::byte* memory) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.sizes.find(reinterpret_cast<uintptr_t>(memory));
  if (found == all.sizes.end()) return false;
  ++all.generation;
  munmap(memory, mapped_bytes(found->second));
  all.sizes.erase(found);
  return true;
}

bool is_global(uint64_t address, size_t bytes) {
  Registry& all = registry();
  Range& known = found_ranges[(address / page) % found_ranges.size()];
  if (known.generation == all.generation.load(std::memory_order_relaxed) && address >= known.first &&
      address < known.end)
    return bytes <= known.end - address;
  const std::lock_guard lock(all.mutex);
  auto next = all.sizes.upper_bound(address);
  if (next == all.sizes.begin()) return false;
  const auto& [first, size] = *--next;
  if (address - first >= size) return false;
  known = {first, first + size, all.generation};
  return bytes <= known.end - address;
}

void check_global(uint64_t address, size_t bytes) {
  if (is_global(address, bytes)) return;
  std::string message = fmt::format("{} bytes at {:#x} are in no allocation", bytes, address);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto next = all.sizes.upper_bound(address);
  if (next != all.sizes.begin()) {
    const auto& [first, size] = *std::prev(next);
    message += fmt::format("; {} bytes after the start of one of {} bytes", address - first, size);
  }
  if (next != all.sizes.end()) message += fmt::format("; {} bytes before the next", next->first - address);
  throw Fault(message);
}

std::byte* shared_at(Cta& cta, uint32_t address, size_t bytes) {
  Cta* owner = &cta;
  if (const uint32_t rank = address >> 24; rank > 0) {
    if (rank > cta.cluster->ctas.size()) throw Fault("shared memory of a CTA that the cluster has not");
    owner = cta.cluster->ctas[rank - 1].get();
    if (owner->live_warps == 0) throw Fault("shared memory of a CTA that has ended");
  }
  const uint32_t offset = address & 0xff'ffff;
  if (offset + bytes > owner->shared.size()) {
    throw Fault(std::to_string(bytes) + " bytes at shared address " + std::to_string(offset) + ": the CTA has " +
                std::to_string(owner->shared.size()));
  }
  return owner->shared.data() + offset;
}

std::byte* generic_at(Cta& cta, uint64_t address, size_t bytes) {
  if (in_shared_window(address)) return shared_at(cta, static_cast<uint32_t>(address), bytes);
  check_global(address, bytes);
  return reinterpret_cast<std::byte*>(address);
}

}  // namespace dgrt::emulator
