# Third-party code comes from the system's packages and is linked privately: header-only or static, so
# that no symbol of it leaves the shared library. libstdc++ stays the shared system library: a statically
# linked copy crashes beside PyTorch.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_path(SODIUM_INCLUDE_DIR sodium.h REQUIRED)
find_library(SODIUM_LIBRARY NAMES libsodium.a sodium REQUIRED)

add_library(dgrt_dependencies INTERFACE)
target_include_directories(dgrt_dependencies SYSTEM INTERFACE ${XXHASH_INCLUDE_DIR} ${SODIUM_INCLUDE_DIR})
target_link_libraries(dgrt_dependencies INTERFACE fmt::fmt-header-only spdlog::spdlog_header_only nlohmann_json::nlohmann_json ${SODIUM_LIBRARY})
