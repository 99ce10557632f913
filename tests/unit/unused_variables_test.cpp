// Variables that no instruction needs, taken out of an image: golden files (NVRTC 13.0, of a toy kernel with
// four constants), and damaged ones.
#include "runtime/compile/unused_variables.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace dgrt {
namespace {

using Bytes = std::vector<uint8_t>;

std::string read_golden(const std::string& name) {
  std::ifstream file(std::string(DGRT_SOURCE_DIR) + "/tests/golden/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Bytes golden_image() {
  const std::string file = read_golden("variables.cubin");
  return {file.begin(), file.end()};
}

template <class T>
T read(const Bytes& bytes, uint64_t offset) {
  T value;
  REQUIRE(offset + sizeof(T) <= bytes.size());
  memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

Elf64_Shdr section(const Bytes& image, size_t i) {
  return read<Elf64_Shdr>(image, read<Elf64_Ehdr>(image, 0).e_shoff + i * sizeof(Elf64_Shdr));
}

// Names of the sections that are in use.
std::set<std::string> section_names(const Bytes& image) {
  const auto header = read<Elf64_Ehdr>(image, 0);
  const uint64_t strings = section(image, header.e_shstrndx).sh_offset;
  std::set<std::string> names;
  for (size_t i = 0; i < header.e_shnum; ++i)
    if (const Elf64_Shdr s = section(image, i); s.sh_type != SHT_NULL)
      names.insert(reinterpret_cast<const char*>(image.data()) + strings + s.sh_name);
  return names;
}

TEST_CASE("unused variables: they go, and everything else stays", "[unit]") {
  const Bytes before = golden_image();
  Bytes image = before;
  REQUIRE(remove_unused_variables(image, read_golden("variables.ptx")));
  std::set<std::string> wanted = section_names(before);
  for (const char* name : {".nv.global", ".nv.global.init", ".nv.constant4", ".rela.nv.constant4"})
    CHECK(wanted.erase(name) == 1);
  CHECK(section_names(image) == wanted);

  // Only headers of sections and symbols of what went differ.
  const auto header = read<Elf64_Ehdr>(before, 0);
  Bytes restored = image;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr s = section(before, i);
    if (s.sh_type == SHT_SYMTAB)
      for (uint64_t at = s.sh_offset; at < s.sh_offset + s.sh_size; at += sizeof(Elf64_Sym)) {
        const auto old = read<Elf64_Sym>(before, at), now = read<Elf64_Sym>(image, at);
        if (memcmp(&old, &now, sizeof(old)) == 0) continue;
        CHECK(section(image, old.st_shndx).sh_type == SHT_NULL);
        CHECK(now.st_shndx == SHN_UNDEF);
        memcpy(restored.data() + at, &old, sizeof(old));
      }
    memcpy(restored.data() + header.e_shoff + i * sizeof(s), &s, sizeof(s));
  }
  CHECK(restored == before);

  CHECK_FALSE(remove_unused_variables(image, read_golden("variables.ptx")));  // there are none now
}

TEST_CASE("unused variables: one that the code names keeps them all", "[unit]") {
  const std::string ptx = read_golden("variables.ptx");
  const Bytes before = golden_image();
  const auto keeps = [&](const std::string& more) {
    Bytes image = before;
    const bool removed = remove_unused_variables(image, ptx + more);
    return !removed && image == before;
  };
  CHECK(keeps("\tmov.u64 %rd1, _ZN3toy3Cfg6factorE;\n"));
  CHECK(keeps("\tld.global.u32 %r1, [_ZN3toy3Cfg6factorE+4];\n"));
  CHECK(keeps(".global .align 8 .u64 _ZN3toy5tableE[1] = {_ZN3toy3Cfg6factorE};\n"));
  CHECK(keeps(".global .align 4 .u32 counter;\n"));
  CHECK(keeps(".visible .global .align 4 .u32 counter = 3;\n"));
  CHECK_FALSE(keeps("\tmov.u64 %rd1, _ZN3toy3Cfg6factorE2;\n"));  // another name
  CHECK_FALSE(keeps("\tmov.u64 %rd1, k_ZN3toy3Cfg6factorE;\n"));
}

TEST_CASE("unused variables: an image that refers to one stays as it is", "[unit]") {
  const Bytes before = golden_image();
  const auto header = read<Elf64_Ehdr>(before, 0);
  for (size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr s = section(before, i);
    if (s.sh_type != SHT_RELA || s.sh_size == 0) continue;
    Bytes image = before;  // the first relocation names another symbol: an address of code, or a variable for code
    auto relocation = read<Elf64_Rela>(before, s.sh_offset);
    const auto symbols = section(before, s.sh_link);
    uint64_t other = 0;
    const auto shndx = [&](uint64_t symbol) {
      return read<Elf64_Sym>(before, symbols.sh_offset + symbol * sizeof(Elf64_Sym)).st_shndx;
    };
    while (shndx(other) == shndx(ELF64_R_SYM(relocation.r_info)) || shndx(other) >= header.e_shnum) ++other;
    const std::string name = reinterpret_cast<const char*>(before.data()) +
                             section(before, header.e_shstrndx).sh_offset + s.sh_name;
    if (name != ".rela.nv.constant4") {  // .rela.debug_frame: make it refer to a variable
      other = 0;
      while (true) {
        const Elf64_Half at = shndx(++other);
        if (at < header.e_shnum && section(before, at).sh_type == SHT_NOBITS &&
            read<Elf64_Sym>(before, symbols.sh_offset + other * sizeof(Elf64_Sym)).st_size == 4)
          break;
      }
    }
    relocation.r_info = ELF64_R_INFO(other, ELF64_R_TYPE(relocation.r_info));
    memcpy(image.data() + s.sh_offset, &relocation, sizeof(relocation));
    const Bytes changed = image;
    INFO(name << ", symbol " << other);
    CHECK_FALSE(remove_unused_variables(image, read_golden("variables.ptx")));
    CHECK(image == changed);
  }
}

TEST_CASE("unused variables: images that are cut or damaged", "[unit]") {
  const std::string ptx = read_golden("variables.ptx");
  const Bytes golden = golden_image();
  for (size_t size = 0; size < golden.size(); ++size) {
    Bytes image(golden.begin(), golden.begin() + static_cast<ptrdiff_t>(size));
    (void)remove_unused_variables(image, ptx);  // reads and writes within it, as sanitizers see
  }
  for (size_t bit = 0; bit < golden.size() * 8; ++bit) {
    Bytes image = golden;
    image[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    (void)remove_unused_variables(image, ptx);
  }
  Bytes other = golden;
  other[0] = 'M';  // no ELF file
  CHECK_FALSE(remove_unused_variables(other, ptx));
  CHECK_FALSE(remove_unused_variables({}, ptx));
}

TEST_CASE("unused variables: images of a format that no driver was tried with stay as they are", "[unit]") {
  for (const auto& [at, value] : {std::pair{EI_OSABI, 0x33}, std::pair{EI_ABIVERSION, 7}}) {
    Bytes image = golden_image();
    image[static_cast<size_t>(at)] = static_cast<uint8_t>(value);
    const Bytes before = image;
    CHECK_FALSE(remove_unused_variables(image, read_golden("variables.ptx")));
    CHECK(image == before);
  }
}

}  // namespace
}  // namespace dgrt
