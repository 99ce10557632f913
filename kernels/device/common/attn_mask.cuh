// Masks that callers give, say of a tree of draft tokens: a matrix of tokens times keys for each sequence.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt {

// Cfg::mask: none, a byte for each element, or a bit, the lowest first.
constexpr int attn_mask_none = 0, attn_mask_bytes = 1, attn_mask_bits = 2;

struct AttnMask {
  const uint8_t* elements;  // rows of as many elements as the sequence has keys, one behind the other
  const int64_t* indptr;    // [batch]: bytes before a sequence's matrix
  uint64_t bytes;           // of all; what lies past them is not read, and false
};

}  // namespace dgrt
