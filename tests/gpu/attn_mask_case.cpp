#include "tests/gpu/attn_mask_case.h"

#include <algorithm>
#include <random>

#include "dgrt/attention.h"

namespace dgrt::test {
namespace {

// Queries of a tree of draft tokens see their parent's ancestors and themselves.
void set_tree(int64_t queries, int64_t keys, std::mt19937_64& rng, std::vector<bool>* matrix) {
  const int64_t prefix = keys - queries;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < prefix; ++j) (*matrix)[static_cast<size_t>(i * keys + j)] = true;
    const int64_t parent = i == 0 ? -1 : static_cast<int64_t>(rng() % static_cast<uint64_t>(i));
    for (int64_t j = std::max<int64_t>(prefix, 0); parent >= 0 && j < keys; ++j)
      (*matrix)[static_cast<size_t>(i * keys + j)] = (*matrix)[static_cast<size_t>(parent * keys + j)];
    if (prefix + i >= 0) (*matrix)[static_cast<size_t>(i * keys + prefix + i)] = true;
  }
}

void append(const std::vector<bool>& matrix, bool is_bits, std::vector<uint8_t>* bytes) {
  if (!is_bits) {
    for (const bool set : matrix) bytes->push_back(set ? 1 : 0);
    return;
  }
  const size_t first = bytes->size();
  bytes->resize(first + (matrix.size() + 7) / 8);
  for (size_t i = 0; i < matrix.size(); ++i)
    if (matrix[i]) (*bytes)[first + i / 8] |= static_cast<uint8_t>(1 << i % 8);
}

}  // namespace

const char* name_of(MaskShape shape) {
  constexpr const char* names[] = {"", "chain", "tree", "random", "full"};
  return names[static_cast<int>(shape)];
}

std::vector<bool> mask_matrix(MaskShape shape, int64_t queries, int64_t keys, uint64_t seed) {
  std::vector<bool> matrix(static_cast<size_t>(queries * keys), shape == MaskShape::full);
  std::mt19937_64 rng(seed);
  if (shape == MaskShape::tree) set_tree(queries, keys, rng, &matrix);
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t j = 0; j < keys; ++j) {
      const auto at = static_cast<size_t>(i * keys + j);
      if (shape == MaskShape::chain) matrix[at] = j <= keys - queries + i;
      if (shape == MaskShape::random) matrix[at] = i % 5 != 3 && rng() % 2 != 0;
    }
  return matrix;
}

std::vector<int64_t> dead_keys(const std::vector<bool>& matrix, int64_t queries, int64_t keys) {
  std::vector<int64_t> dead;
  for (int64_t j = 0; j < keys; ++j) {
    bool seen = false;
    for (int64_t i = 0; i < queries; ++i) seen |= matrix[static_cast<size_t>(i * keys + j)];
    if (!seen) dead.push_back(j);
  }
  return dead;
}

EncodedMask encode_masks(MaskShape shape, uint32_t flags, const std::vector<std::pair<int64_t, int64_t>>& lens) {
  EncodedMask mask;
  mask.indptr.resize(lens.size());
  std::mt19937_64 rng(17);
  for (size_t b = lens.size(); b-- > 0;) {
    const auto& [queries, keys] = lens[b];
    std::vector<bool> matrix = mask_matrix(shape, queries, keys, b);
    if ((flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0)
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t j = 0; j < keys - queries; ++j) matrix[static_cast<size_t>(i * keys + j)] = rng() % 2 != 0;
    mask.indptr[b] = static_cast<int64_t>(mask.bytes.size());
    append(matrix, (flags & DGRT_ATTN_MASK_BITS) != 0, &mask.bytes);
    mask.bytes.insert(mask.bytes.end(), b % 4, 0xff);
  }
  mask.bytes.push_back(0xff);  // never empty
  return mask;
}

}  // namespace dgrt::test
