// Matrices of one warp: mma.sync, ldmatrix, stmatrix.
#include <cstring>
#include <map>

#include "tests/emulator/tensor_state.h"
#include "tests/emulator/warpgroup_product.h"

namespace dgrt::emulator {
namespace {

float f32_of(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

// d[16, 8] = a[16, 16] * b[16, 8] + c[16, 8].
template <Format format>
Step mma(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  const auto& operands = instr.operands;
  float a[16][16], b[8][16];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t group = lane / 4, column = lane % 4 * 2;
    for (uint32_t i = 0; i < 4; ++i)
      unpack_register(static_cast<uint32_t>(lane_value(warp, operands[1].elements[i], lane)), format,
                      &a[group + i % 2 * 8][column + i / 2 * 8]);
    for (uint32_t i = 0; i < 2; ++i)
      unpack_register(static_cast<uint32_t>(lane_value(warp, operands[2].elements[i], lane)), format,
                      &b[group][column + i * 8]);
  }
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t i = 0; i < 4; ++i) {
      const float* row = a[lane / 4 + i / 2 * 8];
      const float* column = b[lane % 4 * 2 + i % 2];
      float sum = 0;
      for (uint32_t k = 0; k < 16; ++k) sum += row[k] * column[k];
      sum += f32_of(lane_value(warp, operands[3].elements[i], lane));
      warp.regs[operands[0].elements[i].reg][lane] = std::bit_cast<uint32_t>(sum);
    }
  return Step::next;
}

// Of matrix i, row r: lane 8 i + r holds its address.
uint32_t row_address(const Warp& warp, const Operand& address, uint32_t matrix, uint32_t row) {
  return static_cast<uint32_t>(lane_address(warp, address, matrix * 8 + row));
}

std::byte* matrix_row(Warp& warp, const Operand& address, uint32_t matrix, uint32_t row) {
  const uint32_t at = row_address(warp, address, matrix, row);
  if (at % 16) throw Fault("a matrix row must be 16-byte aligned");
  return shared_at(*warp.cta, at, 16);
}

template <bool transposed>
Step load_matrices(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  const auto& to = instr.operands[0].elements;
  // The destination may be the address.
  std::array<uint64_t, 32> loaded[4];
  for (uint32_t i = 0; i < to.size(); ++i) {
    uint16_t matrix[8][8];
    for (uint32_t row = 0; row < 8; ++row) {
      std::memcpy(matrix[row], matrix_row(warp, instr.operands[1], i, row), sizeof matrix[row]);
      warp.cta->cluster->races.read(warp, row_address(warp, instr.operands[1], i, row), 16);
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t outer = lane / 4, inner = lane % 4 * 2;
      const uint16_t low = transposed ? matrix[inner][outer] : matrix[outer][inner];
      const uint16_t high = transposed ? matrix[inner + 1][outer] : matrix[outer][inner + 1];
      loaded[i][lane] = low | static_cast<uint32_t>(high) << 16;
    }
  }
  for (uint32_t i = 0; i < to.size(); ++i) warp.regs[to[i].reg] = loaded[i];
  return Step::next;
}

Step store_matrices(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  const auto& from = instr.operands[1].elements;
  for (uint32_t i = 0; i < from.size(); ++i) {
    for (uint32_t row = 0; row < 8; ++row)
      warp.cta->cluster->races.write(warp, row_address(warp, instr.operands[0], i, row), 16);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto pair = static_cast<uint32_t>(lane_value(warp, from[i], lane));
      std::byte* to = matrix_row(warp, instr.operands[0], i, lane / 4) + lane % 4 * 4;
      std::memcpy(to, &pair, sizeof pair);
      warp.cta->writes.add(warp.index * 32 + lane, static_cast<size_t>(to - warp.cta->shared.data()), sizeof pair, true);
    }
  }
  return Step::next;
}

}  // namespace

Handler warp_matrix_handler(std::string_view opcode) {
  static const std::map<std::string_view, Handler> handlers = {
      {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", mma<Format::bf16>},
      {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", mma<Format::fp16>},
      {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", load_matrices<false>},
      {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", load_matrices<true>},
      {"stmatrix.sync.aligned.m8n8.x4.shared.b16", store_matrices}};
  const auto found = handlers.find(opcode);
  return found == handlers.end() ? nullptr : found->second;
}

}  // namespace dgrt::emulator
