// Tensor maps as the emulator's driver encodes them and its copy engine reads them: within the 128 bytes of a
// CUtensorMap, in a form of its own.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/driver/cuda_abi.h"

namespace dgrt::emulator {

// As cuTensorMapEncodeTiled, with its rules; CUDA_ERROR_INVALID_VALUE for what breaks one.
CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, uint32_t rank, void* base,
                           const uint64_t* dims, const uint64_t* strides_bytes, const uint32_t* box,
                           const uint32_t* element_strides, CUtensorMapInterleave interleave,
                           CUtensorMapSwizzle swizzle, CUtensorMapFloatOOBfill fill);

// Copies a box between global memory and `shared` (dense rows, then swizzled by the address bits of `offset`, the
// box's shared offset). Elements outside the tensor: zero when read, not written. Throw Fault for what the engine
// would refuse or do wrong.
void load_box(const CUtensorMap& map, const int32_t* coordinates, std::byte* shared, uint32_t offset);
void store_box(const CUtensorMap& map, const int32_t* coordinates, const std::byte* shared, uint32_t offset);
// Adds instead of storing.
void reduce_add_box(const CUtensorMap& map, const int32_t* coordinates, const std::byte* shared, uint32_t offset);
uint32_t box_bytes(const CUtensorMap& map);  // what an mbarrier counts
uint32_t map_rank(const CUtensorMap& map);

// As tensormap.replace. Throw Fault for what encode_tensor_map would refuse.
void replace_map_address(CUtensorMap& map, uint64_t base);
void replace_map_dim(CUtensorMap& map, uint32_t dimension, uint32_t elements);
void replace_map_stride(CUtensorMap& map, uint32_t index, uint64_t bytes);  // index 0: of dimension 1

}  // namespace dgrt::emulator
