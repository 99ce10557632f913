#include "runtime/compile/nvrtc_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "runtime/base/hash.h"

namespace dgrt {
namespace {

// Older versions lack options that dgrt passes.
constexpr int min_major = 12, min_minor = 8;
constexpr const char* sonames[] = {"libnvrtc.so.13", "libnvrtc.so.12"};

// Paths that match, the last in the alphabet first: of several toolkits the newest.
std::vector<std::string> expand(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t matches{};
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0)
    paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  globfree(&matches);
  std::reverse(paths.begin(), paths.end());
  return paths;
}

template <class Function>
bool find(void* handle, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  return *function != nullptr;
}

bool find_all(void* handle, NvrtcLibrary* library) {
#define DGRT_FIND(name) find(handle, #name, &library->name)
  (void)(DGRT_FIND(nvrtcGetPTXSize) && DGRT_FIND(nvrtcGetPTX));
  return DGRT_FIND(nvrtcVersion) && DGRT_FIND(nvrtcGetErrorString) &&
         DGRT_FIND(nvrtcCreateProgram) && DGRT_FIND(nvrtcDestroyProgram) &&
         DGRT_FIND(nvrtcCompileProgram) && DGRT_FIND(nvrtcGetCUBINSize) &&
         DGRT_FIND(nvrtcGetCUBIN) && DGRT_FIND(nvrtcGetProgramLogSize) &&
         DGRT_FIND(nvrtcGetProgramLog);
#undef DGRT_FIND
}

std::string file_of(const void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

// NVRTC opens its other half at the first compile: too late if an upgrade has replaced both files since.
// What has no such file, or finds it elsewhere, opens it itself.
void open_builtins(const NvrtcLibrary& library) {
  const std::string folder = library.path.substr(0, library.path.rfind('/') + 1);
  (void)dlopen(
      fmt::format("{}libnvrtc-builtins.so.{}.{}", folder, library.id.major, library.id.minor)
          .c_str(),
      RTLD_LAZY | RTLD_LOCAL);
}

// Null, and one line more in `refused`, if the library is no usable NVRTC.
std::shared_ptr<const NvrtcLibrary> open_library(void* handle, const std::string& name,
                                                 std::string* refused) {
  auto library = std::make_shared<NvrtcLibrary>();
  int major = 0, minor = 0;
  if (!find_all(handle, library.get()) ||
      library->nvrtcVersion(&major, &minor) != NvrtcResult::success) {
    *refused += fmt::format("; {} is not a usable NVRTC", name);
    return nullptr;
  }
  const auto* address = reinterpret_cast<const void*>(library->nvrtcVersion);
  library->path = file_of(address);
  if (major < min_major || (major == min_major && minor < min_minor)) {
    *refused += fmt::format("; {} is version {}.{}", library->path, major, minor);
    return nullptr;
  }
  library->id.major = static_cast<uint32_t>(major);
  library->id.minor = static_cast<uint32_t>(minor);
  library->id.build_id = image_identity(address);
  open_builtins(*library);
  return library;
}

// ---- Identity ----

struct BuildIdSearch {
  uintptr_t address;
  std::array<uint8_t, 20> build_id{};
  bool is_found = false;
};

// Notes are {name size, descriptor size, type}, the name and the descriptor, both padded to 4
// bytes.
void read_notes(const std::byte* notes, size_t bytes, BuildIdSearch* search) {
  constexpr char gnu[] = "GNU";
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof(note));
    const size_t name_bytes = (size_t{note.n_namesz} + 3) & ~size_t{3};
    const size_t value_bytes = (size_t{note.n_descsz} + 3) & ~size_t{3};
    const size_t note_bytes = sizeof(note) + name_bytes + value_bytes;
    if (note_bytes > bytes) return;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(gnu) &&
        std::memcmp(notes + sizeof(note), gnu, sizeof(gnu)) == 0 && note.n_descsz > 0) {
      std::memcpy(search->build_id.data(), notes + sizeof(note) + name_bytes,
                  std::min<size_t>(note.n_descsz, search->build_id.size()));
      search->is_found = true;
      return;
    }
    notes += note_bytes;
    bytes -= note_bytes;
  }
}

int visit_image(dl_phdr_info* image, size_t, void* user) {
  auto* search = static_cast<BuildIdSearch*>(user);
  bool is_here = false;
  for (int i = 0; i < image->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = image->dlpi_phdr[i];
    const uintptr_t begin = image->dlpi_addr + segment.p_vaddr;
    is_here |= segment.p_type == PT_LOAD && search->address >= begin &&
               search->address < begin + segment.p_memsz;
  }
  if (!is_here) return 0;
  for (int i = 0; i < image->dlpi_phnum && !search->is_found; ++i) {
    const ElfW(Phdr)& segment = image->dlpi_phdr[i];
    if (segment.p_type == PT_NOTE)
      read_notes(reinterpret_cast<const std::byte*>(image->dlpi_addr + segment.p_vaddr),
                 segment.p_memsz, search);
  }
  return 1;  // stop
}

std::array<uint8_t, 20> file_identity(const std::string& path) {
  std::vector<char> head(64 * 1024);
  size_t bytes = 0;
  if (FILE* file = fopen(path.c_str(), "rbe"); file != nullptr) {
    bytes = fread(head.data(), 1, head.size(), file);
    fclose(file);
  }
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) info.st_size = 0;
  Blake2b hash;
  hash.add(static_cast<uint64_t>(info.st_size)).add(std::string_view(head.data(), bytes));
  const std::array<uint8_t, 32> digest = hash.digest();
  std::array<uint8_t, 20> identity{};
  std::copy_n(digest.begin(), identity.size(), identity.begin());
  return identity;
}

}  // namespace

std::array<uint8_t, 20> image_identity(const void* address) {
  BuildIdSearch search{.address = reinterpret_cast<uintptr_t>(address)};
  dl_iterate_phdr(visit_image, &search);
  return search.is_found ? search.build_id : file_identity(file_of(address));
}

std::vector<std::string> nvrtc_candidates() {
  std::vector<std::string> folders;
  const auto add = [&folders](const std::vector<std::string>& more) {
    folders.insert(folders.end(), more.begin(), more.end());
  };
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* root = secure_getenv(name); root != nullptr && root[0] == '/')
      folders.push_back(fmt::format("{}/lib64", root));
  folders.push_back("/usr/local/cuda/lib64");
  add(expand("/usr/local/cuda-*/lib64"));
  if (const char* root = secure_getenv("VIRTUAL_ENV"); root != nullptr && root[0] == '/') {
    const std::string packages = fmt::format("{}/lib/python3*/site-packages/nvidia", root);
    add(expand(packages + "/cu13/lib"));        // CUDA 13 packages
    add(expand(packages + "/cuda_nvrtc/lib"));  // CUDA 12 packages
  }
  std::vector<std::string> names(std::begin(sonames), std::end(sonames));
  for (const std::string& folder : folders)
    for (const char* soname : sonames) names.push_back(fmt::format("{}/{}", folder, soname));
  return names;
}

Result<std::shared_ptr<const NvrtcLibrary>> load_nvrtc_library() {
  std::string refused;
  // One that the process has loaded is preferred: two copies cost 100 MB more.
  for (const char* soname : sonames)
    if (void* handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD); handle != nullptr)
      if (auto library = open_library(handle, soname, &refused)) return library;
  return open_nvrtc_library(nvrtc_candidates(), std::move(refused));
}

Result<std::shared_ptr<const NvrtcLibrary>> open_nvrtc_library(
    const std::vector<std::string>& names, std::string refused) {
  for (const std::string& name : names)
    if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL); handle != nullptr)
      if (auto library = open_library(handle, name, &refused)) return library;
  return error(DGRT_NO_COMPILER,
               "no libnvrtc {}.{} or newer{}: install a CUDA toolkit or the pip package "
               "nvidia-cuda-nvrtc, and set CUDA_HOME or VIRTUAL_ENV if it is in an unusual place",
               min_major, min_minor, refused);
}

}  // namespace dgrt
