// wgmma: products of a warpgroup's four warps, which run between their issue and the wait for their group.
#include <algorithm>
#include <charconv>

#include "tests/emulator/tensor_state.h"
#include "tests/emulator/warpgroup_product.h"

namespace dgrt::emulator {
namespace {

constexpr uint32_t warp_rows = slab_rows / Warpgroup::num_warps;

Format format_of(const Instr& instr) {
  const std::string& name = instr.parts.back();
  return name == "bf16" ? Format::bf16 : name == "f16" ? Format::fp16 : Format::e4m3;
}

bool in_registers(const Instr& instr) { return instr.operands[1].kind == Operand::Kind::vector; }

// The transposes are the last immediates: of a, if it is in shared memory, and b.
bool mn_major(const Instr& instr, bool of_a) {
  if (instr.operands.size() <= 6) return false;
  return instr.operands[instr.operands.size() - (of_a ? 2 : 1)].value == 1;
}

// What a thread holds: rows lane / 4 and 8 further on of pairs of columns.
uint32_t row_of(uint32_t lane, size_t index) { return lane / 4 + index / 2 % 2 * 8; }
uint32_t column_of(uint32_t lane, size_t index) {
  return static_cast<uint32_t>(index / 4 * 8 + lane % 4 * 2 + index % 2);
}

// Accumulators of all four warps, kept from one product to the next of the same registers.
class Accumulators {
 public:
  explicit Accumulators(Warp* warps) : warps_(warps) {}

  float* of(const Operand& registers, bool keep_values) {
    if (registers_ && !same(*registers_, registers)) write_back();
    if (!keep_values)
      std::fill_n(&values_[0][0], slab_rows * most_columns, 0.f);
    else if (!registers_)
      each(registers, [](uint64_t& bits, float& value) { value = std::bit_cast<float>(static_cast<uint32_t>(bits)); });
    registers_ = &registers;
    return &values_[0][0];
  }
  void write_back() {
    if (registers_) each(*registers_, [](uint64_t& bits, float& value) { bits = std::bit_cast<uint32_t>(value); });
    registers_ = nullptr;
  }

 private:
  static bool same(const Operand& x, const Operand& y) {
    return std::equal(x.elements.begin(), x.elements.end(), y.elements.begin(), y.elements.end(),
                      [](const Operand& one, const Operand& other) { return one.reg == other.reg; });
  }
  template <class Do>
  void each(const Operand& registers, Do work) {
    for (uint32_t warp = 0; warp < Warpgroup::num_warps; ++warp)
      for (size_t i = 0; i < registers.elements.size(); ++i) {
        auto& lanes = warps_[warp].regs[registers.elements[i].reg];
        for (uint32_t lane = 0; lane < 32; ++lane)
          work(lanes[lane], values_[warp * warp_rows + row_of(lane, i)][column_of(lane, i)]);
      }
  }

  Warp* warps_;
  const Operand* registers_ = nullptr;
  float values_[slab_rows][most_columns];
};

void unpack_a(Cta& cta, Warp* warps, const Product& product, Format format, float* a) {
  const uint32_t depth = step_elements(format);
  if (!in_registers(*product.instr))
    return unpack_operand(cta.shared, decode_descriptor(product.a), mn_major(*product.instr, true), format, slab_rows,
                          a, depth, 1);
  const auto& registers = product.instr->operands[1].elements;
  const uint32_t together = 4 / format_bytes(format);
  for (uint32_t warp = 0; warp < Warpgroup::num_warps; ++warp)
    for (uint32_t lane = 0; lane < 32; ++lane)
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = warp * warp_rows + lane / 4 + i % 2 * 8, k = (lane % 4 + i / 2 * 4) * together;
        unpack_register(static_cast<uint32_t>(lane_value(warps[warp], registers[i], lane)), format,
                        a + row * depth + k);
      }
}

// The first `count` products of the queue.
void execute(Cta& cta, uint32_t index, size_t count) {
  Warpgroup& group = tensor_state(cta).warpgroups[index];
  Warp* warps = &cta.warps[index * Warpgroup::num_warps];
  Accumulators accumulators(warps);
  float a[slab_rows * step_bytes], b[step_bytes * most_columns];
  for (; count > 0; --count) {
    const Product& product = group.queue.front();
    const Format format = format_of(*product.instr);
    const Operand& d = product.instr->operands[0];
    const auto columns = static_cast<uint32_t>(d.elements.size() * 2);
    unpack_a(cta, warps, product, format, a);
    unpack_operand(cta.shared, decode_descriptor(product.b), mn_major(*product.instr, false), format, columns, b, 1,
                   most_columns);
    multiply_add(accumulators.of(d, product.accumulate), a, b, slab_rows, columns, step_elements(format));
    group.queue.pop_front();
    ++group.executed;
  }
  accumulators.write_back();
}

// Calls work(address) for each 16 bytes of an operand.
template <class Do>
void each_piece(uint64_t bits, bool is_mn_major, Format format, uint32_t rows, Do work) {
  const Descriptor descriptor = decode_descriptor(bits);
  const uint32_t together = 16 / format_bytes(format), depth = step_elements(format);
  for (uint32_t row = 0; row < rows; row += is_mn_major ? together : 1)
    for (uint32_t k = 0; k < depth; k += is_mn_major ? 1 : together)
      work(element_address(descriptor, is_mn_major, format, row, k));
}

// Of both operands, as far as they are in shared memory, for a warp of the group and a quarter of the pieces: all are
// looked at once. Slabs of 32 rows are read on into what lies behind, and nobody looks at those sums.
template <class Do>
void each_piece_of_warp(const Warp& warp, const Product& product, Do work) {
  const Instr& instr = *product.instr;
  const Format format = format_of(instr);
  uint32_t count = warp.index;
  const auto own = [&](uint32_t at) {
    if (count++ % Warpgroup::num_warps == 0 && at + 16 <= warp.cta->shared.size()) work(at);
  };
  if (!in_registers(instr)) each_piece(product.a, mn_major(instr, true), format, slab_rows / 2, own);
  each_piece(product.b, mn_major(instr, false), format, static_cast<uint32_t>(instr.operands[0].elements.size() * 2),
             own);
}

uint64_t uniform_value(const Warp& warp, const Operand& operand) {
  const uint64_t value = lane_value(warp, operand, 0);
  for (uint32_t lane = 1; lane < 32; ++lane)
    if (lane_value(warp, operand, lane) != value) throw Fault("lanes differ in a descriptor or scale of wgmma");
  return value;
}

Warpgroup& group_of(const Warp& warp) {
  auto& groups = tensor_state(*warp.cta).warpgroups;
  const uint32_t index = warp.index / Warpgroup::num_warps;
  if (index >= groups.size()) throw Fault("wgmma in a warp of no whole warpgroup");
  return groups[index];
}

Step issue(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  Product product{&instr};
  if (!in_registers(instr)) product.a = uniform_value(warp, instr.operands[1]);
  product.b = uniform_value(warp, instr.operands[2]);
  product.accumulate = uniform_value(warp, instr.operands[3]) != 0;
  Warpgroup& group = group_of(warp);
  const uint64_t place = group.issued[warp.index % Warpgroup::num_warps]++ - group.executed;
  if (place == group.queue.size()) group.queue.push_back(product);
  Product& queued = group.queue[place];
  if (queued.instr != product.instr || queued.a != product.a || queued.b != product.b ||
      queued.accumulate != product.accumulate)
    throw Fault("the warps of a warpgroup issue different wgmma");
  ++queued.warps;
  each_piece_of_warp(warp, product, [&](uint32_t at) {
    require_fenced(*warp.cta, at, 16, warp.index * 32);
    warp.cta->cluster->races.begin_engine_read(warp, at, 16);
  });
  group.reading[warp.index % Warpgroup::num_warps].push_back(product);
  return Step::next;
}

Step commit(Warp& warp, const Instr&, uint32_t lanes) {
  require_whole_warp(lanes);
  Warpgroup& group = group_of(warp);
  const uint32_t own = warp.index % Warpgroup::num_warps;
  group.groups[own].push_back(group.issued[own]);
  if (warp.cta->cluster->async.random() % 2 == 0) {
    const auto ready = std::count_if(group.queue.begin(), group.queue.end(),
                                     [](const Product& one) { return one.warps == Warpgroup::num_warps; });
    execute(*warp.cta, warp.index / Warpgroup::num_warps, static_cast<size_t>(ready));
  }
  return Step::next;
}

Step wait(Warp& warp, const Instr& instr, uint32_t lanes) {
  require_whole_warp(lanes);
  Warpgroup& group = group_of(warp);
  auto& groups = group.groups[warp.index % Warpgroup::num_warps];
  const auto most = static_cast<size_t>(instr.operands[0].value);
  if (groups.size() <= most) return Step::next;
  const uint64_t needed = groups[groups.size() - most - 1];
  if (needed > group.executed) {
    const size_t count = needed - group.executed;
    if (group.queue[count - 1].warps < Warpgroup::num_warps) return Step::retry;
    execute(*warp.cta, warp.index / Warpgroup::num_warps, count);
  }
  groups.erase(groups.begin(), groups.end() - static_cast<std::ptrdiff_t>(most));
  auto& reading = group.reading[warp.index % Warpgroup::num_warps];
  while (group.issued[warp.index % Warpgroup::num_warps] - reading.size() < needed) {
    each_piece_of_warp(warp, reading.front(),
                       [&](uint32_t at) { warp.cta->cluster->races.end_engine_read(warp, at, 16); });
    reading.pop_front();
  }
  return Step::next;
}

// "m64n96k16": whether k is what the format's 32 bytes are, and d has as many registers as n needs.
bool known_shape(const Instr& instr) {
  const std::string& shape = instr.parts[4];
  const size_t k_at = shape.rfind('k');
  uint32_t n = 0;
  if (!shape.starts_with("m64n") || k_at == std::string::npos) return false;
  std::from_chars(shape.data() + 4, shape.data() + k_at, n);
  return n >= 8 && n <= most_columns && n % 8 == 0 && instr.operands[0].elements.size() * 2 == n &&
         shape.substr(k_at + 1) == std::to_string(step_elements(format_of(instr)));
}

bool known_product(const Instr& instr) {
  const auto& parts = instr.parts;
  const auto& operands = instr.operands;
  if (parts.size() != 8 || parts[5] != "f32" || parts[6] != parts[7] || operands.size() < 6) return false;
  if (parts[7] != "bf16" && parts[7] != "f16" && parts[7] != "e4m3") return false;
  return known_shape(instr) && operands[4].value == 1 && operands[5].value == 1;  // no operand is negated
}

}  // namespace

Handler wgmma_handler(std::string_view opcode, const Instr& instr) {
  if (opcode.starts_with("wgmma.mma_async.sync.aligned.")) return known_product(instr) ? issue : nullptr;
  if (opcode == "wgmma.fence.sync.aligned") return do_nothing;
  if (opcode == "wgmma.commit_group.sync.aligned") return commit;
  if (opcode == "wgmma.wait_group.sync.aligned") return wait;
  return nullptr;
}

}  // namespace dgrt::emulator
