// Images as the emulator's compiler makes them and its driver takes them: the header of an ELF file for the eye,
// marked in its padding, and the PTX of a kernel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace dgrt::emulator {

// What stands before the PTX; as long as the header of an ELF file.
struct ImageHeader {
  char magic[9] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0x33, 7};  // 64 bits, little-endian, of CUDA
  char mark[7] = {'P', 'T', 'X', 'o', 'n', 'l', 'y'};
  uint64_t ptx_bytes = 0;
  char zeros[40] = {};
};
static_assert(sizeof(ImageHeader) == 64);

// Nothing if the image is none of these.
inline std::optional<std::string_view> ptx_of(const void* image) {
  const ImageHeader own;
  if (std::memcmp(image, &own, offsetof(ImageHeader, ptx_bytes)) != 0) return std::nullopt;
  ImageHeader header;
  std::memcpy(&header, image, sizeof(header));
  return std::string_view(static_cast<const char*>(image) + sizeof(header), header.ptx_bytes);
}

}  // namespace dgrt::emulator
