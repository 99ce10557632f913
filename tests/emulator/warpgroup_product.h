// The arithmetic of wgmma.mma_async on bytes of shared memory: descriptors, operand tiles, products.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace dgrt::emulator {

enum class Format : uint8_t { bf16, fp16, e4m3 };

constexpr uint32_t slab_rows = 64, most_columns = 256;
constexpr uint32_t step_bytes = 32;  // k of one instruction: 16 or 32 elements

constexpr uint32_t format_bytes(Format format) { return format == Format::e4m3 ? 1 : 2; }
constexpr uint32_t step_elements(Format format) { return step_bytes / format_bytes(format); }

// A 64-bit matrix descriptor, its distances in bytes. span: of the swizzle, 16 (none), 32, 64 or 128.
struct Descriptor {
  uint32_t start, leading, stride, span;
};

// Throws Fault for what is reserved or not aligned as its swizzle demands.
Descriptor decode_descriptor(uint64_t bits);

// Shared address of the 16 bytes that hold element (row, k) of an operand, `row` along M or N, and, by the last
// four bits, of the element.
uint32_t element_address(const Descriptor& descriptor, bool mn_major, Format format, uint32_t row, uint32_t k);

// Reads rows x step_elements of an operand; to[row * row_step + k * k_step]. mn_major: 16-bit formats only.
// Throws Fault outside `shared`.
void unpack_operand(std::span<const std::byte> shared, const Descriptor& descriptor, bool mn_major, Format format,
                    uint32_t rows, float* to, uint32_t row_step, uint32_t k_step);

// Two (e4m3: four) elements of a register.
void unpack_register(uint32_t bits, Format format, float* to);

// d[rows][most_columns] += a[rows][depth] * b[depth][most_columns], of which `columns` are used. rows: a multiple
// of 4, columns of 8.
void multiply_add(float* d, const float* a, const float* b, uint32_t rows, uint32_t columns, uint32_t depth);

}  // namespace dgrt::emulator
