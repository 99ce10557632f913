// Tensor maps of the emulator: cuTensorMapEncodeTiled's rules, swizzles as the PTX ISA draws them, bounds.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#tensor-swizzling-modes
#include "tests/emulator/tensor_box.h"

#include <cstring>
#include <vector>

#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

struct Request {
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  uint32_t rank = 2;
  uint64_t base = 0x1000;
  uint64_t dims[5] = {64, 16, 1, 1, 1}, strides[4] = {128, 2048, 2048, 2048};
  uint32_t box[5] = {64, 8, 1, 1, 1}, element_strides[5] = {1, 1, 1, 1, 1};
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_NONE;

  CUresult encode(CUtensorMap* map) const {
    return encode_tensor_map(map, type, rank, reinterpret_cast<void*>(base), dims, strides, box, element_strides,
                             CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
};

CUresult encoded(void (*change)(Request&)) {
  Request request;
  change(request);
  CUtensorMap map;
  return request.encode(&map);
}

uint16_t word_at(const std::vector<std::byte>& bytes, size_t at) {
  uint16_t word;
  std::memcpy(&word, bytes.data() + at, 2);
  return word;
}

TEST_CASE("tensor maps obey the rules of cuTensorMapEncodeTiled", "[unit]") {
  CHECK(encoded([](Request&) {}) == CUDA_SUCCESS);
  CHECK(encoded([](Request& r) { r.rank = 5; }) == CUDA_SUCCESS);
  CHECK(encoded([](Request& r) { r.dims[1] = uint64_t{1} << 32; }) == CUDA_SUCCESS);
  CHECK(encoded([](Request& r) { r.box[0] = 8, r.box[1] = 256; }) == CUDA_SUCCESS);
  CHECK(encoded([](Request& r) { r.swizzle = CU_TENSOR_MAP_SWIZZLE_128B; }) == CUDA_SUCCESS);

  CHECK(encoded([](Request& r) { r.rank = 0; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.rank = 6; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.base = 0; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.base = 0x1008; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.dims[1] = 0; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.dims[0] = (uint64_t{1} << 32) + 1; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.strides[0] = 136; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.strides[0] = uint64_t{1} << 40; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.box[1] = 257; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.box[1] = 0; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.box[0] = 4; }) == CUDA_ERROR_INVALID_VALUE);  // 8 bytes
  CHECK(encoded([](Request& r) { r.element_strides[1] = 2; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; }) == CUDA_ERROR_INVALID_VALUE);
  CHECK(encoded([](Request& r) { r.type = static_cast<CUtensorMapDataType>(99); }) == CUDA_ERROR_INVALID_VALUE);
}

// Where the ISA's figures put 16 bytes `chunk` of row `row`, with rows of the swizzle's span.
size_t drawn_at(uint32_t span, size_t row, size_t chunk) {
  if (span == 128) return row * 128 + (chunk ^ row % 8) * 16;
  if (span == 64) return row * 64 + (chunk ^ row / 2 % 4) * 16;
  if (span == 32) return row * 32 + (chunk ^ row / 4 % 2) * 16;
  return row * 128 + chunk * 16;
}

TEST_CASE("boxes are loaded and stored as the swizzles are drawn", "[unit]") {
  Global<uint16_t> matrix(64 * 16), copy(64 * 16);
  for (size_t i = 0; i < matrix.size; ++i) matrix[i] = static_cast<uint16_t>(i);
  const auto mode = GENERATE(CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B,
                             CU_TENSOR_MAP_SWIZZLE_128B);
  const uint32_t span = mode == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << mode;
  Request request;
  request.base = reinterpret_cast<uint64_t>(matrix.data);
  request.swizzle = mode;
  request.box[0] = span ? span / 2 : 64;
  request.box[1] = 16;
  const size_t chunks = request.box[0] / 8, bytes = request.box[0] * 2 * 16;
  CUtensorMap map;
  REQUIRE(request.encode(&map) == CUDA_SUCCESS);
  CHECK(box_bytes(map) == bytes);

  const int32_t coordinates[] = {0, 0};
  std::vector<std::byte> shared(bytes);
  load_box(map, coordinates, shared.data(), 2048);
  for (size_t row = 0; row < 16; ++row)
    for (size_t chunk = 0; chunk < chunks; ++chunk)
      for (size_t e = 0; e < 8; ++e)
        REQUIRE(word_at(shared, drawn_at(span, row, chunk) + e * 2) == row * 64 + chunk * 8 + e);

  for (size_t i = 0; i < copy.size; ++i) copy[i] = 7;
  request.base = reinterpret_cast<uint64_t>(copy.data);
  REQUIRE(request.encode(&map) == CUDA_SUCCESS);
  store_box(map, coordinates, shared.data(), 2048);
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 64; ++column)
      REQUIRE(copy[row * 64 + column] == (column < request.box[0] ? row * 64 + column : 7));
}

TEST_CASE("a swizzle follows the shared address, not the box", "[unit]") {
  Global<uint16_t> matrix(64 * 16);
  for (size_t i = 0; i < matrix.size; ++i) matrix[i] = static_cast<uint16_t>(i);
  Request request;
  request.base = reinterpret_cast<uint64_t>(matrix.data);
  request.swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMap map;
  REQUIRE(request.encode(&map) == CUDA_SUCCESS);
  std::vector<std::byte> shared(1024);
  const int32_t coordinates[] = {0, 8};
  load_box(map, coordinates, shared.data(), 1024 + 3 * 128);
  for (size_t row = 0; row < 8; ++row)
    for (size_t chunk = 0; chunk < 8; ++chunk)
      REQUIRE(word_at(shared, row * 128 + (chunk ^ (row + 3) % 8) * 16) == (row + 8) * 64 + chunk * 8);
  CHECK_THROWS_AS(load_box(map, coordinates, shared.data(), 1024 + 64), Fault);
}

TEST_CASE("what lies outside of the tensor is read as zero and not written", "[unit]") {
  // Two pages of 6 rows of 8 columns, in memory for 10 columns; a box of 16 columns, 4 rows, 2 pages.
  Global<float> tensor(2 * 8 * 12);
  for (size_t i = 0; i < tensor.size; ++i) tensor[i] = static_cast<float>(i);
  Request request;
  request.type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  request.rank = 3;
  request.base = reinterpret_cast<uint64_t>(tensor.data);
  request.dims[0] = 8, request.dims[1] = 6, request.dims[2] = 2;
  request.strides[0] = 12 * 4, request.strides[1] = 8 * 12 * 4;
  request.box[0] = 16, request.box[1] = 4, request.box[2] = 2;
  CUtensorMap map;
  REQUIRE(request.encode(&map) == CUDA_SUCCESS);
  struct Case {
    int32_t at[3];
  };
  const auto at = GENERATE(Case{{0, 0, 0}}, Case{{-3, -2, -1}}, Case{{5, 4, 1}}, Case{{8, 0, 0}}, Case{{0, 6, 0}},
                           Case{{-16, 0, 0}}, Case{{-20, 100, -7}}, Case{{1, 0, 0}});
  const auto inside = [&](int32_t x, int32_t y, int32_t z) {
    return x >= 0 && x < 8 && y >= 0 && y < 6 && z >= 0 && z < 2;
  };
  std::vector<std::byte> shared(box_bytes(map), std::byte{0x55});
  load_box(map, at.at, shared.data(), 0);
  for (int32_t i = 0; i < 16 * 4 * 2; ++i) {
    const int32_t x = at.at[0] + i % 16, y = at.at[1] + i / 16 % 4, z = at.at[2] + i / 64;
    float value;
    std::memcpy(&value, shared.data() + i * 4, 4);
    REQUIRE(value == (inside(x, y, z) ? static_cast<float>(z * 96 + y * 12 + x) : 0.f));
  }
  for (int32_t i = 0; i < 16 * 4 * 2; ++i) {
    const float value = static_cast<float>(1000 + i);
    std::memcpy(shared.data() + i * 4, &value, 4);
  }
  const bool add = GENERATE(false, true);
  (add ? reduce_add_box : store_box)(map, at.at, shared.data(), 0);
  for (int32_t i = 0; i < static_cast<int32_t>(tensor.size); ++i) {
    const int32_t x = i % 12, y = i / 12 % 8, z = i / 96;
    const int32_t dx = x - at.at[0], dy = y - at.at[1], dz = z - at.at[2];
    const bool written =
        inside(x, y, z) && dx >= 0 && dx < 16 && dy >= 0 && dy < 4 && dz >= 0 && dz < 2;
    const float stored = static_cast<float>(1000 + dz * 64 + dy * 16 + dx);
    const float before = static_cast<float>(i);
    REQUIRE(tensor[static_cast<size_t>(i)] == (written ? stored + (add ? before : 0) : before));
  }
}

TEST_CASE("copies refuse what the engine would do wrong", "[unit]") {
  Global<uint16_t> matrix(64 * 16);
  Request request;
  request.base = reinterpret_cast<uint64_t>(matrix.data);
  CUtensorMap map;
  std::vector<std::byte> shared(1024);
  const int32_t first[] = {0, 0}, beyond[] = {0, 12};
  SECTION("rows that end within 16 bytes") {
    request.dims[0] = 60;
    REQUIRE(request.encode(&map) == CUDA_SUCCESS);
    CHECK_NOTHROW(load_box(map, first, shared.data(), 0));
    CHECK_THROWS_AS(store_box(map, first, shared.data(), 0), Fault);
  }
  SECTION("memory that nobody allocated") {
    request.dims[1] = 17;
    REQUIRE(request.encode(&map) == CUDA_SUCCESS);
    CHECK_NOTHROW(load_box(map, first, shared.data(), 0));
    CHECK_THROWS_AS(load_box(map, beyond, shared.data(), 0), Fault);
  }
  SECTION("sums of 16 bits") {
    REQUIRE(request.encode(&map) == CUDA_SUCCESS);
    CHECK_THROWS_AS(reduce_add_box(map, first, shared.data(), 0), Fault);
  }
  SECTION("what is no map") {
    map = {};
    CHECK_THROWS_AS(load_box(map, first, shared.data(), 0), Fault);
  }
}

TEST_CASE("an edited tensor map is what one encoded anew would be", "[unit]") {
  Global<float> tensor(64);
  for (size_t i = 0; i < tensor.size; ++i) tensor[i] = static_cast<float>(i);
  Request request;
  request.type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  request.base = reinterpret_cast<uint64_t>(tensor.data);
  request.dims[0] = 4, request.dims[1] = 4;
  request.strides[0] = 16;
  request.box[0] = 4, request.box[1] = 2;
  CUtensorMap edited, anew;
  REQUIRE(request.encode(&edited) == CUDA_SUCCESS);
  request.base += 64;
  request.dims[0] = 3, request.dims[1] = 2;
  request.strides[0] = 32;
  REQUIRE(request.encode(&anew) == CUDA_SUCCESS);
  CHECK(std::memcmp(&edited, &anew, sizeof anew) != 0);
  replace_map_address(edited, request.base);
  replace_map_dim(edited, 0, 3);
  replace_map_dim(edited, 1, 2);
  replace_map_stride(edited, 0, 32);
  CHECK(std::memcmp(&edited, &anew, sizeof anew) == 0);
  CHECK_THROWS_AS(replace_map_address(edited, request.base + 8), Fault);
  CHECK_THROWS_AS(replace_map_dim(edited, 2, 1), Fault);
  CHECK_THROWS_AS(replace_map_dim(edited, 0, 0), Fault);
  CHECK_THROWS_AS(replace_map_stride(edited, 1, 32), Fault);
  CHECK_THROWS_AS(replace_map_stride(edited, 0, 40), Fault);
}

}  // namespace
}  // namespace dgrt::emulator
