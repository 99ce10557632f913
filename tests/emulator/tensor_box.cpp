#include "tests/emulator/tensor_box.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

constexpr uint32_t max_rank = 5;
constexpr uint32_t map_mark = 0x70616d74;  // set by encode_tensor_map alone

// What lies in a CUtensorMap.
struct Fields {
  uint64_t base;
  uint64_t strides[max_rank - 1];       // bytes, of all but the innermost
  uint32_t dims_less_one[max_rank];     // elements; a dimension may have 2^32
  uint16_t box[max_rank];               // elements
  uint8_t type, rank, swizzle, fill;
  uint32_t mark;
};
static_assert(sizeof(Fields) <= sizeof(CUtensorMap));

// 0: no type that the emulator knows.
uint32_t element_bytes(uint32_t type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    default:
      return 0;
  }
}

// 0: none.
uint32_t swizzle_span(uint32_t swizzle) {
  return swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle;
}

Fields read_fields(const CUtensorMap& map) {
  Fields fields;
  std::memcpy(&fields, &map, sizeof fields);
  if (fields.mark != map_mark) throw Fault("what should be a tensor map is none");
  return fields;
}

// 16 bytes at a time change places: bits 4.. of the address are xored with bits 7..
uint32_t swizzled(uint32_t address, uint32_t span) {
  return span == 0 ? address : address ^ ((address >> 7 & (span / 16 - 1)) << 4);
}

// Calls visit(global address, offset in the box, bytes) for every run of at most 16 bytes of the box, and
// visit(0, offset, bytes) for those outside the tensor.
template <class Visit>
void each_run(const Fields& map, const int32_t* coordinates, uint32_t offset, Visit visit) {
  const uint32_t size = element_bytes(map.type);
  const uint32_t span = swizzle_span(map.swizzle);
  const uint32_t row_bytes = map.box[0] * size;
  uint32_t rows = 1;
  for (uint32_t d = 1; d < map.rank; ++d) rows *= map.box[d];
  for (uint32_t row = 0; row < rows; ++row) {
    uint64_t address = map.base;
    bool inside = true;
    for (uint32_t d = 1, rest = row; d < map.rank; rest /= map.box[d], ++d) {
      const int64_t at = coordinates[d] + static_cast<int64_t>(rest % map.box[d]);
      inside = inside && at >= 0 && at <= map.dims_less_one[d];
      if (inside) address += static_cast<uint64_t>(at) * map.strides[d - 1];
    }
    // Elements [first, last) of the row lie in the tensor.
    const int64_t x = coordinates[0];
    const int64_t first = inside ? std::clamp<int64_t>(-x, 0, map.box[0]) : map.box[0];
    const int64_t last =
        inside ? std::clamp<int64_t>(map.dims_less_one[0] + int64_t{1} - x, first, map.box[0]) : map.box[0];
    const auto run = [&](int64_t begin, int64_t end, bool in_tensor) {
      if (in_tensor && begin < end)
        check_global(address + static_cast<uint64_t>((x + begin) * size), static_cast<size_t>(end - begin) * size);
      while (begin < end) {
        const int64_t next = std::min(end, (begin * size / 16 + 1) * 16 / size);
        const uint32_t linear = offset + row * row_bytes + static_cast<uint32_t>(begin) * size;
        visit(in_tensor ? address + static_cast<uint64_t>((x + begin) * size) : 0,
              swizzled(linear, span) - offset, static_cast<uint32_t>(next - begin) * size);
        begin = next;
      }
    };
    run(0, first, false);
    run(first, last, true);
    run(last, map.box[0], false);
  }
}

void check_box(uint32_t offset) {
  if (offset % 128) throw Fault("a box in shared memory must be 128-byte aligned");
}

// The engine writes whole 16 bytes: the rest of a row that ends within them would be overwritten.
void check_row_end(const Fields& map) {
  const uint64_t bytes = (uint64_t{map.dims_less_one[0]} + 1) * element_bytes(map.type);
  if (bytes % 16) throw Fault("a store's tensor map must have rows of a multiple of 16 bytes");
}

}  // namespace

CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, uint32_t rank, void* base, const uint64_t* dims,
                           const uint64_t* strides_bytes, const uint32_t* box, const uint32_t* element_strides,
                           CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapFloatOOBfill fill) {
  const uint32_t size = element_bytes(type);
  const auto address = reinterpret_cast<uintptr_t>(base);
  if (!map || !base || !dims || !box || !element_strides || size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (rank < 1 || rank > max_rank || (rank > 1 && !strides_bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (reinterpret_cast<uintptr_t>(map) % 64 || address % 16) return CUDA_ERROR_INVALID_VALUE;
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE ||
      swizzle > CU_TENSOR_MAP_SWIZZLE_128B)
    return CUDA_ERROR_INVALID_VALUE;
  Fields fields{};
  for (uint32_t d = 0; d < rank; ++d) {
    if (dims[d] < 1 || dims[d] > uint64_t{1} << 32) return CUDA_ERROR_INVALID_VALUE;
    if (box[d] < 1 || box[d] > 256 || element_strides[d] != 1) return CUDA_ERROR_INVALID_VALUE;
    fields.dims_less_one[d] = static_cast<uint32_t>(dims[d] - 1);
    fields.box[d] = static_cast<uint16_t>(box[d]);
    if (d == 0) continue;
    const uint64_t stride = strides_bytes[d - 1];
    if (stride % 16 || stride >= uint64_t{1} << 40) return CUDA_ERROR_INVALID_VALUE;
    fields.strides[d - 1] = stride;
  }
  const uint32_t row_bytes = box[0] * size, span = swizzle_span(swizzle);
  if (row_bytes % 16 || (span && row_bytes > span)) return CUDA_ERROR_INVALID_VALUE;
  fields.base = address;
  fields.type = static_cast<uint8_t>(type);
  fields.rank = static_cast<uint8_t>(rank);
  fields.swizzle = static_cast<uint8_t>(swizzle);
  fields.fill = static_cast<uint8_t>(fill);
  fields.mark = map_mark;
  *map = {};
  std::memcpy(map, &fields, sizeof fields);
  return CUDA_SUCCESS;
}

uint32_t map_rank(const CUtensorMap& map) { return read_fields(map).rank; }

uint32_t box_bytes(const CUtensorMap& map) {
  const Fields fields = read_fields(map);
  uint32_t bytes = element_bytes(fields.type);
  for (uint32_t d = 0; d < fields.rank; ++d) bytes *= fields.box[d];
  return bytes;
}

void load_box(const CUtensorMap& map, const int32_t* coordinates, std::byte* shared, uint32_t offset) {
  check_box(offset);
  each_run(read_fields(map), coordinates, offset, [&](uint64_t global, uint32_t at, uint32_t bytes) {
    if (global == 0) {
      std::memset(shared + at, 0, bytes);
      return;
    }
    std::memcpy(shared + at, reinterpret_cast<const void*>(global), bytes);
  });
}

void store_box(const CUtensorMap& map, const int32_t* coordinates, const std::byte* shared, uint32_t offset) {
  check_box(offset);
  const Fields fields = read_fields(map);
  check_row_end(fields);
  each_run(fields, coordinates, offset, [&](uint64_t global, uint32_t at, uint32_t bytes) {
    if (global == 0) return;
    std::memcpy(reinterpret_cast<void*>(global), shared + at, bytes);
  });
}

void reduce_add_box(const CUtensorMap& map, const int32_t* coordinates, const std::byte* shared, uint32_t offset) {
  check_box(offset);
  const Fields fields = read_fields(map);
  check_row_end(fields);
  if (fields.type != CU_TENSOR_MAP_DATA_TYPE_FLOAT32) throw Fault("only boxes of float32 are added");
  each_run(fields, coordinates, offset, [&](uint64_t global, uint32_t at, uint32_t bytes) {
    if (global == 0) return;
    for (uint32_t i = 0; i < bytes; i += 4) {
      float addend;
      std::memcpy(&addend, shared + at + i, 4);
      std::atomic_ref<float>(*reinterpret_cast<float*>(global + i)).fetch_add(addend);
    }
  });
}

void replace_map_address(CUtensorMap& map, uint64_t base) {
  Fields fields = read_fields(map);
  if (base % 16) throw Fault("a tensor map's address must be 16-byte aligned");
  fields.base = base;
  std::memcpy(&map, &fields, sizeof fields);
}

void replace_map_dim(CUtensorMap& map, uint32_t dimension, uint32_t elements) {
  Fields fields = read_fields(map);
  if (dimension >= fields.rank || elements == 0) throw Fault("a tensor map has no such dimension, or of no size");
  fields.dims_less_one[dimension] = elements - 1;
  std::memcpy(&map, &fields, sizeof fields);
}

void replace_map_stride(CUtensorMap& map, uint32_t index, uint64_t bytes) {
  Fields fields = read_fields(map);
  if (index + 1 >= fields.rank || bytes % 16) throw Fault("a tensor map's strides must be multiples of 16 bytes");
  fields.strides[index] = bytes;
  std::memcpy(&map, &fields, sizeof fields);
}

}  // namespace dgrt::emulator
