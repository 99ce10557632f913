#include "runtime/compile/unused_variables.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace dgrt {
namespace {

constexpr uint16_t machine_cuda = 190;  // EM_CUDA
// What CUDA 13 writes into EI_OSABI and EI_ABIVERSION; CUDA 12.8 writes 0x33 and 7.
constexpr uint8_t os_abi = 0x41, abi_version = 8;
// What ptxas gives a symbol that names nothing: the ABI has visibility "internal" for it.
constexpr uint8_t no_visibility = STV_INTERNAL;

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}

std::string_view name_at(std::string_view text) {
  size_t length = 0;
  while (length < text.size() && is_name_char(text[length])) ++length;
  return text.substr(0, length);
}

// Is each variable of `ptx` named where it is declared, and nowhere else? Names that are not mangled count as used:
// they could not be told from other words.
bool names_no_variable(std::string_view ptx) {
  std::unordered_set<std::string_view> declared, seen;
  // A declaration is a line: .global .align 4 .u32 _ZN3Cfg1xE = 3;
  for (size_t begin = 0; begin < ptx.size();) {
    const size_t end = std::min(ptx.find('\n', begin), ptx.size());
    const std::string_view line = ptx.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with('.') || line.find(".global ") == line.npos) continue;
    const std::string_view front = line.substr(0, line.find_first_of("[=;"));
    const size_t at = front.find(" _Z");
    if (at == front.npos) return false;
    declared.insert(name_at(front.substr(at + 1)));
  }
  for (size_t at = ptx.find("_Z"); at != ptx.npos; at = ptx.find("_Z", at)) {
    const std::string_view name = name_at(ptx.substr(at));
    const bool whole = at == 0 || !is_name_char(ptx[at - 1]);
    at += name.size();
    if (whole && declared.contains(name) && !seen.insert(name).second) return false;
  }
  return true;
}

// Reads and writes of one image within its bounds.
class Image {
 public:
  explicit Image(std::span<uint8_t> bytes) : bytes_(bytes) {}

  template <class T>
  bool read(uint64_t offset, T* value) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return false;
    memcpy(value, bytes_.data() + offset, sizeof(T));
    return true;
  }

  // Of what was read from there before.
  template <class T>
  void write(uint64_t offset, const T& value) {
    memcpy(bytes_.data() + offset, &value, sizeof(T));
  }

  // Entries of a section that is a table of T; nullopt if it does not lie within the image.
  template <class T>
  std::optional<std::vector<T>> table(const Elf64_Shdr& section) const {
    std::vector<T> entries;
    if (section.sh_size > bytes_.size() || section.sh_size % sizeof(T) != 0) return std::nullopt;
    entries.resize(section.sh_size / sizeof(T));
    for (size_t i = 0; i < entries.size(); ++i)
      if (!read(section.sh_offset + i * sizeof(T), &entries[i])) return std::nullopt;
    return entries;
  }

  std::string_view text(const Elf64_Shdr& strings, uint64_t offset) const {
    if (strings.sh_offset > bytes_.size() || strings.sh_size > bytes_.size() - strings.sh_offset ||
        offset >= strings.sh_size)
      return {};
    const char* begin = reinterpret_cast<const char*>(bytes_.data()) + strings.sh_offset + offset;
    return {begin, strnlen(begin, strings.sh_size - offset)};
  }

 private:
  std::span<uint8_t> bytes_;
};

bool holds_variables(std::string_view section) {
  return section == ".nv.global" || section == ".nv.global.init" || section == ".nv.constant4" ||
         section == ".rela.nv.constant4";
}

}  // namespace

bool remove_unused_variables(std::span<uint8_t> bytes, std::string_view ptx) {
  Image image(bytes);
  Elf64_Ehdr header;
  if (!image.read(0, &header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_OSABI] != os_abi ||
      header.e_ident[EI_ABIVERSION] != abi_version || header.e_machine != machine_cuda ||
      header.e_shstrndx >= header.e_shnum)
    return false;
  Elf64_Shdr all = {};  // the table of sections, as if it were one
  all.sh_offset = header.e_shoff, all.sh_size = uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
  const auto sections = image.table<Elf64_Shdr>(all);
  if (!sections) return false;

  std::vector<bool> gone(sections->size());
  const Elf64_Shdr* symbols_at = nullptr;
  bool any = false;
  for (size_t i = 0; i < sections->size(); ++i) {
    const Elf64_Shdr& section = (*sections)[i];
    gone[i] = holds_variables(image.text((*sections)[header.e_shstrndx], section.sh_name));
    any |= gone[i];
    if (section.sh_type == SHT_SYMTAB) symbols_at = &section;
  }
  if (!any || symbols_at == nullptr || !names_no_variable(ptx)) return false;
  const auto symbols = image.table<Elf64_Sym>(*symbols_at);
  if (!symbols) return false;
  const auto is_gone = [&](const Elf64_Sym& symbol) { return symbol.st_shndx < gone.size() && gone[symbol.st_shndx]; };

  // Nothing that stays may refer to what goes, and addresses that go may be of nothing else.
  for (size_t i = 0; i < sections->size(); ++i) {
    const Elf64_Shdr& section = (*sections)[i];
    if (section.sh_type == SHT_REL && section.sh_size > 0) return false;
    if (section.sh_type != SHT_RELA) continue;
    const auto relocations = image.table<Elf64_Rela>(section);
    if (!relocations) return false;
    for (const Elf64_Rela& relocation : *relocations) {
      const uint64_t symbol = ELF64_R_SYM(relocation.r_info);
      if (symbol >= symbols->size() || is_gone((*symbols)[symbol]) != gone[i]) return false;
    }
  }

  Elf64_Sym no_symbol = {};
  no_symbol.st_other = no_visibility;
  for (size_t i = 0; i < symbols->size(); ++i)
    if (is_gone((*symbols)[i])) image.write(symbols_at->sh_offset + i * sizeof(Elf64_Sym), no_symbol);
  for (size_t i = 0; i < sections->size(); ++i)
    if (gone[i]) image.write(header.e_shoff + i * sizeof(Elf64_Shdr), Elf64_Shdr{});
  return true;
}

}  // namespace dgrt
