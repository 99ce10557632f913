// PTX text to numbered instructions. Two passes: variables of the module, whose addresses instructions contain,
// then the kernels.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "tests/emulator/ptx_cursor.h"

namespace dgrt::emulator {
namespace {

constexpr int64_t of_dynamic_shared = -1;  // value of its symbol: known only where it is used

struct Symbol {
  int64_t value = 0;
  uint32_t align = 1;
};

struct RegRange {
  std::string_view prefix;
  uint32_t first = 0, count = 0, stride = 1;
  uint8_t bits = 0;
};

// What { } holds.
struct Scope {
  size_t parent = 0;
  std::map<std::string_view, Operand> regs;
  std::vector<RegRange> ranges;
  std::map<std::string_view, uint32_t> labels;
};

struct Variable {
  std::string_view name;
  uint32_t align = 1, bytes = 0;
  bool unsized = false;
  std::vector<std::byte> init;
};

uint32_t align_up(uint32_t value, uint32_t align) { return (value + align - 1) / align * align; }

uint32_t type_bits(std::string_view type, const Cursor& at) {
  if (type == "pred") return 1;
  uint32_t bits = 0;
  if (!type.empty()) std::from_chars(type.data() + 1, type.data() + type.size(), bits);
  if (bits == 0 || std::string_view("busf").find(type[0]) == std::string_view::npos)
    at.fail("unknown type ." + std::string(type));
  return bits;
}

// Of an integer or a float; `is_double`: of a float without 0f or 0d.
int64_t parse_number(Cursor& at, bool is_double) {
  const bool negative = at.take('-');
  std::string_view word = at.word(".");
  uint64_t bits = 0;
  const auto parse = [&](std::string_view digits, int base) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, base);
    const std::string_view rest(end, digits.data() + digits.size() - end);
    if (error != std::errc() || !(rest.empty() || rest == "U")) at.fail("not a number: " + std::string(word));
  };
  if (word.starts_with("0f") || word.starts_with("0F") || word.starts_with("0d") || word.starts_with("0D")) {
    parse(word.substr(2), 16);
    if (negative) at.fail("a sign before the bits of a float");
  } else if (word.starts_with("0x") || word.starts_with("0X")) {
    parse(word.substr(2), 16);
  } else if (word.find('.') != word.npos) {
    const double value = std::stod(std::string(word)) * (negative ? -1 : 1);
    return is_double ? std::bit_cast<int64_t>(value) : std::bit_cast<uint32_t>(static_cast<float>(value));
  } else {
    parse(word, 10);
  }
  return static_cast<int64_t>(negative ? 0 - bits : bits);
}

// After the state space: [.align n] .type name[n][m] [= init]
Variable parse_variable(Cursor& at) {
  Variable result;
  uint32_t element = 0;
  while (at.take('.')) {
    const std::string_view word = at.word();
    if (word == "align")
      result.align = static_cast<uint32_t>(parse_number(at, false));
    else
      element = type_bits(word, at) / 8;
  }
  if (element == 0) at.fail("a variable without a type");
  result.align = std::max(result.align, element);
  result.name = at.word();
  result.bytes = element;
  while (at.take('[')) {
    if (at.peek() == ']')
      result.unsized = true;
    else
      result.bytes *= static_cast<uint32_t>(parse_number(at, false));
    at.expect(']');
  }
  if (at.take('=')) {
    const bool braces = at.take('{');
    do {
      const int64_t value = parse_number(at, element == 8);
      const auto* bytes = reinterpret_cast<const std::byte*>(&value);
      result.init.insert(result.init.end(), bytes, bytes + element);
    } while (braces && at.take(','));
    if (braces) at.expect('}');
  }
  result.init.resize(result.bytes);
  return result;
}

std::optional<Special> special_of(std::string_view name) {
  using enum Special;
  static const std::map<std::string_view, Special> names = {
      {"%tid", tid},
      {"%ntid", ntid},
      {"%ctaid", ctaid},
      {"%nctaid", nctaid},
      {"%clusterid", clusterid},
      {"%nclusterid", nclusterid},
      {"%cluster_ctaid", cluster_ctaid},
      {"%cluster_nctaid", cluster_nctaid},
      {"%cluster_ctarank", cluster_ctarank},
      {"%cluster_nctarank", cluster_nctarank},
      {"%laneid", laneid},
      {"%warpid", warpid},
      {"%nwarpid", nwarpid},
      {"%smid", smid},
      {"%nsmid", nsmid},
      {"%gridid", gridid},
      {"%clock", clock},
      {"%clock64", clock64},
      {"%globaltimer", globaltimer},
      {"%lanemask_eq", lanemask_eq},
      {"%lanemask_le", lanemask_le},
      {"%lanemask_lt", lanemask_lt},
      {"%lanemask_ge", lanemask_ge},
      {"%lanemask_gt", lanemask_gt},
      {"%dynamic_smem_size", dynamic_smem_size},
      {"%total_smem_size", total_smem_size},
  };
  const size_t dot = name.find('.');
  const auto found = names.find(name.substr(0, dot));
  if (found == names.end()) return std::nullopt;
  const auto index = static_cast<uint8_t>(found->second);
  const bool has_axes = index < static_cast<uint8_t>(cluster_ctarank);
  if (!has_axes) return dot == name.npos ? std::optional(found->second) : std::nullopt;
  const std::string_view axis = dot == name.npos ? "" : name.substr(dot + 1);
  if (axis != "x" && axis != "y" && axis != "z") return std::nullopt;
  return static_cast<Special>(index + (axis[0] - 'x'));
}

class KernelParser {
 public:
  KernelParser(Cursor& at, Module& module, const std::map<std::string_view, Symbol>& symbols)
      : at_(at), module_(module), symbols_(symbols) {}

  // From the name on.
  void parse() {
    kernel_.name = at_.word();
    parse_params();
    while (at_.take('.')) parse_bound();
    at_.expect('{');
    scopes_.emplace_back();
    while (!scopes_.empty() && !ended_) parse_statement();
    for (const auto& [index, name, scope] : jumps_) {
      Instr& instr = kernel_.code[index];
      instr.operands[0].value = find_label(name, scope, instr.line);
    }
    kernel_.code.push_back(end_of_code());
    kernel_.registers = registers_at_start(kernel_);
    share_registers(kernel_, bits_);
    kernel_.static_shared_bytes = shared_bytes_;
    module_.kernels.emplace(kernel_.name, std::move(kernel_));
  }

 private:
  struct Jump {
    size_t instr;
    std::string_view label;
    size_t scope;
  };

  void parse_params() {
    if (!at_.take('(')) return;
    uint32_t offset = 0;
    while (!at_.take(')')) {
      at_.expect('.');
      if (at_.word() != "param") at_.fail("expected .param");
      const Variable param = parse_variable(at_);
      offset = align_up(offset, param.align);
      kernel_.params.push_back({offset, param.bytes});
      symbols_[param.name] = {offset, param.align};
      offset += param.bytes;
      at_.take(',');
    }
  }

  // .maxntid 128, 1, 1 and others
  void parse_bound() {
    const std::string_view name = at_.word();
    uint32_t product = 1;
    if (std::isdigit(static_cast<unsigned char>(at_.peek()))) {
      do {
        product *= static_cast<uint32_t>(parse_number(at_, false));
      } while (at_.take(','));
    }
    if (name == "maxntid" || name == "reqntid") kernel_.max_threads = product;
    if (name == "minnctapersm") kernel_.min_ctas = product;
    if (name == "maxnreg") kernel_.max_registers = product;
  }

  Instr end_of_code() {
    Instr instr;
    instr.parts = {"exit"};
    instr.control = Control::exit;
    instr.line = at_.line();
    instr.text = "the end of the kernel";
    return instr;
  }

  void parse_statement() {
    if (at_.done()) at_.fail("the kernel has no end");
    if (at_.take('{')) {
      scopes_.emplace_back().parent = scope_;
      scope_ = scopes_.size() - 1;
    } else if (at_.take('}')) {
      ended_ = scope_ == 0;
      scope_ = scopes_[scope_].parent;
    } else if (at_.take('.')) {
      parse_directive();
    } else if (!at_.take(';')) {
      Cursor ahead = at_;
      const std::string_view name = ahead.word();
      if (ahead.take(':') && ahead.peek() != ':') {
        scopes_[scope_].labels[name] = static_cast<uint32_t>(kernel_.code.size());
        at_ = ahead;
      } else {
        parse_instr();
      }
    }
  }

  void parse_directive() {
    const std::string_view name = at_.word();
    if (name == "reg") {
      at_.expect('.');
      const auto bits = static_cast<uint8_t>(type_bits(at_.word(), at_));
      do {
        add_reg(at_.word(), bits);
      } while (at_.take(','));
      at_.expect(';');
    } else if (name == "shared") {
      const Variable variable = parse_variable(at_);
      add_shared(variable);
      at_.expect(';');
    } else if (name == "pragma") {
      at_.until(';');
    } else if (name == "loc" || name == "file") {
      at_.until('\n');
    } else {
      at_.fail("unknown directive ." + std::string(name));
    }
  }

  uint32_t new_regs(uint32_t count, uint8_t bits) {
    const auto first = static_cast<uint32_t>(bits_.size());
    bits_.insert(bits_.end(), count * (bits == 128 ? 2 : 1), bits);
    return first;
  }

  void add_reg(std::string_view name, uint8_t bits) {
    if (at_.take('<')) {
      const auto count = static_cast<uint32_t>(parse_number(at_, false));
      at_.expect('>');
      scopes_[scope_].ranges.push_back({name, new_regs(count, bits), count, bits == 128 ? 2u : 1u, bits});
    } else {
      Operand reg;
      reg.kind = Operand::Kind::reg;
      reg.bits = bits;
      reg.reg = new_regs(1, bits);
      scopes_[scope_].regs[name] = reg;
    }
  }

 public:
  void add_shared(const Variable& variable) {
    if (variable.unsized) {
      symbols_[variable.name] = {of_dynamic_shared, variable.align};
      return;
    }
    if (dynamic_used_) at_.fail("static shared memory after the use of dynamic one");
    shared_bytes_ = align_up(shared_bytes_, variable.align);
    symbols_[variable.name] = {shared_bytes_, variable.align};
    shared_bytes_ += variable.bytes;
  }

 private:
  std::optional<Operand> find_reg(std::string_view name) const {
    const size_t digits = name.find_last_not_of("0123456789") + 1;
    uint32_t number = 0;
    const bool numbered =
        std::from_chars(name.data() + digits, name.data() + name.size(), number).ec == std::errc();
    for (size_t scope = scope_;; scope = scopes_[scope].parent) {
      const auto found = scopes_[scope].regs.find(name);
      if (found != scopes_[scope].regs.end()) return found->second;
      if (numbered) {
        for (const RegRange& range : scopes_[scope].ranges) {
          if (range.prefix != name.substr(0, digits) || number >= range.count) continue;
          Operand reg;
          reg.kind = Operand::Kind::reg;
          reg.bits = range.bits;
          reg.reg = range.first + number * range.stride;
          return reg;
        }
      }
      if (scope == 0) return std::nullopt;
    }
  }

  uint32_t find_label(std::string_view name, size_t scope, uint32_t line) const {
    for (;; scope = scopes_[scope].parent) {
      const auto found = scopes_[scope].labels.find(name);
      if (found != scopes_[scope].labels.end()) return found->second;
      if (scope == 0) throw Fault("PTX line " + std::to_string(line) + ": no label " + std::string(name));
    }
  }

  std::optional<int64_t> find_symbol(std::string_view name) {
    const auto found = symbols_.find(name);
    if (found == symbols_.end()) return std::nullopt;
    if (found->second.value != of_dynamic_shared) return found->second.value;
    if (!dynamic_used_) shared_bytes_ = align_up(shared_bytes_, found->second.align);
    dynamic_used_ = true;
    return shared_bytes_;
  }

  Operand imm(int64_t value) {
    Operand result;
    result.kind = Operand::Kind::imm;
    result.value = value;
    std::unique_ptr<Lanes>& splat = module_.splats[value];
    if (!splat) {
      splat = std::make_unique<Lanes>();
      splat->fill(static_cast<uint64_t>(value));
    }
    result.splat = splat.get();
    return result;
  }

  static bool starts_number(char c) { return std::isdigit(static_cast<unsigned char>(c)) || c == '-'; }

  // A register, number, symbol, label or special register.
  Operand parse_simple(const Instr& instr) {
    if (starts_number(at_.peek())) return imm(parse_number(at_, instr.parts.back() == "f64"));
    const std::string_view name = at_.word(".");
    if (name.empty()) at_.fail("expected an operand");
    if (name == "_") {
      Operand sink;
      sink.kind = Operand::Kind::reg;
      return sink;
    }
    if (const auto reg = find_reg(name)) return *reg;
    if (const auto symbol = find_symbol(name)) return imm(*symbol);
    Operand result;
    if (const auto special = special_of(name)) {
      result.kind = Operand::Kind::special;
      result.value = static_cast<int64_t>(*special);
    } else if (instr.control == Control::branch) {
      result.kind = Operand::Kind::label;
      jumps_.push_back({kernel_.code.size(), name, scope_});
    } else {
      at_.fail("unknown name " + std::string(name));
    }
    return result;
  }

  // After [; more operands than one if there are coordinates.
  void parse_address(Instr& instr) {
    Operand address = parse_simple(instr);
    if (address.kind != Operand::Kind::reg && address.kind != Operand::Kind::imm) at_.fail("not an address");
    address.kind = Operand::Kind::address;
    address.splat = nullptr;
    if (at_.take('+') || at_.peek() == '-') address.value += parse_number(at_, false);
    instr.operands.push_back(std::move(address));
    if (at_.take(',')) {
      at_.expect('{');
      parse_vector(instr);
    }
    at_.expect(']');
  }

  // After {
  void parse_vector(Instr& instr) {
    Operand vector;
    vector.kind = Operand::Kind::vector;
    do {
      vector.elements.push_back(parse_simple(instr));
    } while (at_.take(','));
    at_.expect('}');
    instr.operands.push_back(std::move(vector));
  }

  void parse_operand(Instr& instr) {
    if (at_.take('[')) return parse_address(instr);
    if (at_.take('{')) return parse_vector(instr);
    Operand first = parse_simple(instr);
    if (at_.take('|')) {
      Operand pair;
      pair.kind = Operand::Kind::vector;
      pair.elements = {std::move(first), parse_simple(instr)};
      first = std::move(pair);
    }
    instr.operands.push_back(std::move(first));
  }

  static Control control_of(const Instr& instr) {
    const std::string& name = instr.parts[0];
    if (name == "bra") return Control::branch;
    if (name == "ret" || name == "exit") return Control::exit;
    const bool is_barrier = name == "bar" || name == "barrier";
    if (is_barrier && !instr.has("warp")) return Control::barrier;
    if (instr.has("aligned")) return Control::aligned;
    return instr.has("sync") ? Control::members : Control::none;
  }

  // Whether what it does may end somebody's waiting. Handlers of atom tell by themselves.
  static bool is_event(const Instr& instr) {
    static const std::vector<std::string> names = {"st", "red", "mbarrier", "cp", "wgmma", "stmatrix", "tensormap"};
    return std::find(names.begin(), names.end(), instr.parts[0]) != names.end() && !instr.has("try_wait") &&
           !instr.has("test_wait") && !instr.has("wait_group") && !instr.has("wait_all");
  }

  void parse_instr() {
    Instr instr;
    instr.line = at_.line();
    const size_t from = at_.at();
    if (at_.take('@')) {
      instr.guard_negated = at_.take('!');
      const std::string name(at_.word());
      const auto guard = find_reg(name);
      if (!guard || guard->bits != 1) at_.fail("not a predicate: " + name);
      instr.guard = guard->reg;
    }
    std::string_view opcode = at_.word(".:");
    while (!opcode.empty()) {
      const size_t dot = opcode.find('.');
      instr.parts.emplace_back(opcode.substr(0, dot));
      opcode.remove_prefix(dot == opcode.npos ? opcode.size() : dot + 1);
    }
    if (instr.parts.empty()) at_.fail("expected an instruction");
    instr.control = control_of(instr);
    instr.event = is_event(instr);
    while (at_.peek() != ';') {
      parse_operand(instr);
      if (!at_.take(',') && at_.peek() != ';') at_.fail("expected , or ;");
    }
    instr.text = at_.text().substr(from, at_.at() - from);
    at_.expect(';');
    if (instr.control != Control::branch && instr.control != Control::exit) {
      instr.run = tensor_handler(instr);
      if (!instr.run) instr.run = named_barrier_handler(instr);
      if (!instr.run) instr.run = register_pool_handler(instr);
      if (!instr.run) instr.run = scalar_handler(instr);
      if (!instr.run) at_.fail("unknown instruction " + std::string(instr.text));
    }
    kernel_.code.push_back(std::move(instr));
  }

  Cursor& at_;
  Module& module_;
  std::map<std::string_view, Symbol> symbols_;
  Kernel kernel_;
  std::vector<uint8_t> bits_;  // of each register
  std::vector<Scope> scopes_;
  size_t scope_ = 0;
  std::vector<Jump> jumps_;
  uint32_t shared_bytes_ = 0;
  bool dynamic_used_ = false, ended_ = false;
};

struct ModuleVariables {
  std::vector<Variable> constants, shared;
  std::vector<Cursor> kernels;  // after .entry
};

// Behind the body of a kernel.
void skip_body(Cursor& at) {
  at.until('{');
  for (uint32_t depth = 1; depth > 0;) {
    if (at.done()) at.fail("the kernel has no end");
    if (at.take('{'))
      ++depth;
    else if (at.take('}'))
      --depth;
    else if (at.word(".:").empty())
      at.take(at.peek());
  }
}

ModuleVariables find_variables(Cursor at) {
  ModuleVariables result;
  while (!at.done()) {
    at.expect('.');
    const std::string_view name = at.word();
    if (name == "global" || name == "const" || name == "shared") {
      Variable variable = parse_variable(at);
      (name == "shared" ? result.shared : result.constants).push_back(std::move(variable));
      at.expect(';');
    } else if (name == "entry") {
      result.kernels.push_back(at);
      skip_body(at);
    } else if (name == "version" || name == "target" || name == "address_size" || name == "file") {
      at.until('\n');
    } else if (name != "visible" && name != "extern" && name != "weak") {
      at.fail("unknown directive ." + std::string(name));
    }
  }
  return result;
}

}  // namespace

Constants::~Constants() {
  if (bytes) release(bytes);
}

std::unique_ptr<Module> parse_ptx(std::string_view text) {
  auto module = std::make_unique<Module>();
  module->text = text;
  ModuleVariables variables = find_variables(Cursor(module->text));
  uint32_t bytes = 0;
  for (const Variable& variable : variables.constants) bytes = align_up(bytes, variable.align) + variable.bytes;
  std::map<std::string_view, Symbol> symbols;
  if (bytes > 0) {
    module->constants.bytes = allocate(bytes);
    if (!module->constants.bytes) throw Fault("no memory for the module's constants");
    uint32_t offset = 0;
    for (const Variable& variable : variables.constants) {
      offset = align_up(offset, variable.align);
      std::byte* to = module->constants.bytes + offset;
      std::memcpy(to, variable.init.data(), variable.bytes);
      symbols[variable.name] = {static_cast<int64_t>(reinterpret_cast<uintptr_t>(to)), variable.align};
      offset += variable.bytes;
    }
  }
  for (Cursor& at : variables.kernels) {
    KernelParser parser(at, *module, symbols);
    for (const Variable& variable : variables.shared) parser.add_shared(variable);
    parser.parse();
  }
  return module;
}

}  // namespace dgrt::emulator
