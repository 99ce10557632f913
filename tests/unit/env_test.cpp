#include "runtime/base/env.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/log.h"
#include "tests/support/catch.h"

namespace dgrt {
namespace {

Result<Env> env_of(std::map<std::string, std::string> values) {
  return read_env([values = std::move(values)](const char* name) -> const char* {
    const auto it = values.find(name);
    return it == values.end() ? nullptr : it->second.c_str();
  });
}

TEST_CASE("an empty environment leaves every default", "[unit]") {
  for (const auto& values : {std::map<std::string, std::string>{},
                             {{"DGRT_MISS", ""}, {"DGRT_LOG", ""}, {"DGRT_CACHE_DIR", ""}}}) {
    const Result<Env> env = env_of(values);
    REQUIRE(env.is_ok());
    CHECK(env.value().cache_dir.empty());
    CHECK(env.value().miss_policy == DGRT_MISS_DEFAULT);
    CHECK(env.value().compiler_policy == CompilerPolicy::automatic);
    CHECK(env.value().log_level == DGRT_LOG_DEFAULT);
    CHECK_FALSE(env.value().explain_misses);
  }
}

TEST_CASE("each variable lands in its field", "[unit]") {
  const Result<Env> env = env_of({{"DGRT_CACHE_DIR", "/c"},
                                  {"DGRT_CACHE_RO_PATH", "/r:/s"},
                                  {"DGRT_BUNDLE_PATH", "/a:/b"},
                                  {"DGRT_BUNDLE_DIGEST", "0:1"},
                                  {"DGRT_MISS", "error"},
                                  {"DGRT_COMPILER", "any"},
                                  {"DGRT_HEURISTICS_PATH", "/h"},
                                  {"DGRT_LOG", "debug"},
                                  {"DGRT_EXPLAIN", "miss"},
                                  {"DGRT_DUMP", "/d"},
                                  {"DGRT_RECORD", "/record"},
                                  {"DGRT_KERNELS_DIR", "/k"}});
  REQUIRE(env.is_ok());
  CHECK(env.value().cache_dir == "/c");
  CHECK(env.value().cache_ro_path == "/r:/s");
  CHECK(env.value().bundle_path == "/a:/b");
  CHECK(env.value().bundle_digest == "0:1");
  CHECK(env.value().miss_policy == DGRT_MISS_ERROR);
  CHECK(env.value().compiler_policy == CompilerPolicy::any);
  CHECK(env.value().heuristics_path == "/h");
  CHECK(env.value().log_level == DGRT_LOG_DEBUG);
  CHECK(env.value().explain_misses);
  CHECK(env.value().dump_dir == "/d");
  CHECK(env.value().record_path == "/record");
  CHECK(env.value().kernels_dir == "/k");
}

TEST_CASE("a bad value names variable, value and what is allowed", "[unit]") {
  const std::vector<std::pair<const char*, const char*>> variables = {
      {"DGRT_MISS", "compile, error"},
      {"DGRT_EXPLAIN", "miss"},
      {"DGRT_COMPILER", "exact, any"},
      {"DGRT_LOG", "debug, info, warn, error, off"}};
  for (const auto& [name, allowed] : variables) {
    const Result<Env> env = env_of({{name, "Error!"}});
    REQUIRE_FALSE(env.is_ok());
    CHECK(env.status().code() == DGRT_INVALID_ARGUMENT);
    CHECK(env.status().message() ==
          fmt::format("environment variable {}=Error!: must be one of {}", name, allowed));
  }
}

TEST_CASE("the log hands messages of its level and above to the callback", "[unit]") {
  using Lines = std::vector<std::pair<dgrt_log_level, std::string>>;
  const dgrt_log_fn collect = [](dgrt_log_level level, const char* text, void* user) {
    static_cast<Lines*>(user)->emplace_back(level, text);
  };
  Lines lines;
  Log log(DGRT_LOG_DEFAULT, collect, &lines);
  log.debug("d");
  log.info("i");
  log.warn("w {}", 1);
  log.error("e {{}}");
  CHECK(lines == Lines{{DGRT_LOG_WARN, "w 1"}, {DGRT_LOG_ERROR, "e {}"}});

  lines.clear();
  Log chatty(DGRT_LOG_DEBUG, collect, &lines);
  chatty.debug("d");
  chatty.info("100 %");
  CHECK(lines == Lines{{DGRT_LOG_DEBUG, "d"}, {DGRT_LOG_INFO, "100 %"}});

  lines.clear();
  Log silent(DGRT_LOG_OFF, collect, &lines);
  silent.error("e");
  CHECK(lines.empty());
}

}  // namespace
}  // namespace dgrt
