#include "tools/lib/lab_tree_mask.h"

namespace dgrt::lab {

std::vector<uint8_t> tree_mask(int64_t queries, int64_t prefix, bool is_bits) {
  const int64_t keys = prefix + queries, elements = queries * keys;
  std::vector<uint8_t> mask(static_cast<size_t>(is_bits ? (elements + 7) / 8 : elements));
  const auto set = [&](int64_t query, int64_t key) {
    const int64_t at = query * keys + key;
    mask[static_cast<size_t>(is_bits ? at / 8 : at)] |= static_cast<uint8_t>(is_bits ? 1 << at % 8 : 1);
  };
  for (int64_t query = 0; query < queries; ++query) {
    for (int64_t key = 0; key < prefix; ++key) set(query, key);
    for (int64_t node = query + 1; node > 0; node /= 2) set(query, prefix + node - 1);
  }
  return mask;
}

}  // namespace dgrt::lab
