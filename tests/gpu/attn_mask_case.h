// Masks for the tests of attention over a paged cache: matrices of queries times keys, encoded as the op takes
// them.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dgrt::test {

enum class MaskShape {
  none,
  chain,   // causal
  tree,    // the prefix, ancestors and oneself
  random,  // half of all; every fifth query sees nothing
  full,
};

const char* name_of(MaskShape shape);

// Row by row, of `queries` times `keys`.
std::vector<bool> mask_matrix(MaskShape shape, int64_t queries, int64_t keys, uint64_t seed);

// Keys that no query sees.
std::vector<int64_t> dead_keys(const std::vector<bool>& matrix, int64_t queries, int64_t keys);

struct EncodedMask {
  std::vector<uint8_t> bytes;
  std::vector<int64_t> indptr;
};

// The last sequence comes first, and between two of them lie some bytes that are set. flags: the desc's. With
// MASK_SKIP_PREFIX elements of the prefix are noise.
EncodedMask encode_masks(MaskShape shape, uint32_t flags, const std::vector<std::pair<int64_t, int64_t>>& lens);

}  // namespace dgrt::test
