// Masks that callers give: which flags ask for them, what is accepted, what reaches the kernel.
#pragma once
#include "device/common/attn_mask.cuh"
#include "runtime/ops/attention_common.h"
#include "runtime/ops/op.h"

namespace dgrt::attention {

inline int mask_form(uint32_t flags) {
  if ((flags & DGRT_ATTN_MASK_BYTES) != 0) return attn_mask_bytes;
  return (flags & DGRT_ATTN_MASK_BITS) != 0 ? attn_mask_bits : attn_mask_none;
}

inline bool skips_prefix(uint32_t flags) { return (flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0; }

// Of an op over a paged cache.
template <class Desc>
Status check_paged_desc(const char* op, const Desc& d) {
  DGRT_TRY(check_desc(op, d,
                      DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX | DGRT_ATTN_NEW_KEYS |
                          DGRT_ATTN_CHECK_PAGES,
                      ", MASK_BYTES, MASK_BITS, MASK_SKIP_PREFIX, NEW_KEYS and CHECK_PAGES"));
  const uint32_t flags = d.flags;
  constexpr uint32_t both = DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS;
  if ((flags & both) == both)
    return invalid("flags={:#x}: MASK_BYTES or MASK_BITS, not both", flags);
  if (skips_prefix(flags) && (flags & both) == 0)
    return invalid("flags={:#x}: MASK_SKIP_PREFIX needs MASK_BYTES or MASK_BITS", flags);
  return ok();
}

// Requires: nothing is empty. What masks of sequences need is known on the device alone.
template <class Args>
Status check_mask(uint32_t flags, const Args& x) {
  if (mask_form(flags) == attn_mask_none) {
    for (const auto& [name, pointer] :
         {std::pair<const char*, const void*>{"mask", x.mask}, {"mask_indptr", x.mask_indptr}})
      if (pointer != nullptr)
        return invalid("{}={}: must be NULL without MASK_BYTES and MASK_BITS", name, pointer);
    if (x.mask_bytes != 0)
      return invalid("mask_bytes={}: must be 0 without MASK_BYTES and MASK_BITS", x.mask_bytes);
    return ok();
  }
  if (x.window_right != 0 && x.window_right != -1)
    return invalid("window_right={}: must be 0 or -1 with a mask, which takes its place", x.window_right);
  DGRT_TRY(check_pointer("mask_indptr", x.mask_indptr, 8));
  if (x.mask_bytes < 0) return invalid("mask_bytes={}: must be 0 or more", x.mask_bytes);
  if (!has_pages(x) && (flags & DGRT_ATTN_NEW_KEYS) == 0) return ok();  // no keys
  if (x.mask_bytes == 0) return invalid("mask_bytes=0: must be at least 1 where there are keys");
  return check_pointer("mask", x.mask, 1);
}

template <class Args>
AttnMask make_mask(const Args& x) {
  return {static_cast<const uint8_t*>(x.mask), x.mask_indptr, static_cast<uint64_t>(x.mask_bytes)};
}

// Accumulators and weights that a thread of attn_extend may hold with a mask: beyond `spill_free` it spills up to
// 400 bytes (NVRTC 13.0). Tiles of fewer rows would not; which of the two is faster was not measured. New keys take
// some more.
struct MaskedRegisters {
  uint32_t most, spill_free;
};
inline MaskedRegisters masked_registers(const AttnConfig& c, bool new_keys) {
  if (c.split_v == 2) return {184, 0};
  const uint32_t more = new_keys ? 8 : 0;
  const MaskedRegisters of_warpgroups[] = {{188, 188 - more}, {188, 168 - more}, {104, 104}};
  return of_warpgroups[c.block_m / attn_slab_rows - 1];
}

// Constants and name of a kernel of an op that takes masks, or might.
inline void set_mask_constants(uint32_t flags, Instance* i) {
  constexpr const char* names[] = {"", "_bytes", "_bits"};
  const int form = mask_form(flags);
  i->cfg.set("mask", form);
  i->cfg.set("mask_skip_prefix", skips_prefix(flags));
  i->entry += names[form];
  if (skips_prefix(flags)) i->entry += "_skip";
}

}  // namespace dgrt::attention
