#include "tools/bench_shapes.h"

#include <algorithm>
#include <climits>
#include <nlohmann/json.hpp>

#include "runtime/compile/sources.h"

namespace dgrt {
namespace {

using Json = nlohmann::json;

Result<int64_t> read_size(const Json& json, const char* field) {
  const int64_t value = json.at(field).get<int64_t>();
  if (value < 1 || value > INT32_MAX)
    return invalid("{}={}: must be from 1 to {}", field, value, INT32_MAX);
  return value;
}

Status read_desc(const Json& json, dgrt_gemm_desc* desc) {
  *desc = DGRT_GEMM_DESC;
  const std::string ab = json.at("dtype_ab").get<std::string>();
  const std::string d = json.at("dtype_d").get<std::string>();
  if (ab != "e4m3" && ab != "bf16") return invalid("dtype_ab={}: must be e4m3 or bf16", ab);
  if (d != "bf16" && d != "fp32") return invalid("dtype_d={}: must be bf16 or fp32", d);
  desc->dtype_ab = ab == "e4m3" ? DGRT_E4M3 : DGRT_BF16;
  desc->dtype_d = d == "bf16" ? DGRT_BF16 : DGRT_FP32;
  desc->scale_mode = ab == "e4m3" ? DGRT_SCALE_BLOCK : DGRT_SCALE_NONE;
  return ok();
}

Status read_model(const Json& json, std::vector<BenchShape>* shapes) {
  const std::string model = json.at("model").get<std::string>();
  for (const Json& layer : json.at("layers")) {
    BenchShape shape{model, layer.at("name").get<std::string>()};
    DGRT_ASSIGN(shape.n, read_size(layer, "n"));
    DGRT_ASSIGN(shape.k, read_size(layer, "k"));
    const bool known = std::any_of(shapes->begin(), shapes->end(), [&](const BenchShape& other) {
      return other.n == shape.n && other.k == shape.k;
    });
    if (!known) shapes->push_back(std::move(shape));
  }
  return ok();
}

// May throw json exceptions on missing fields and wrong types.
Result<BenchShapes> read_shapes(const Json& json) {
  BenchShapes result;
  const std::string op = json.at("op").get<std::string>();
  if (op != "gemm") return error(DGRT_UNSUPPORTED, "op={}: bench runs gemm alone", op);
  result.stem = json.at("stem").get<std::string>();
  DGRT_TRY(read_desc(json.at("desc"), &result.desc));
  for (const Json& m : json.at("m")) {
    result.m.push_back(m.get<int64_t>());
    if (result.m.back() < 1 || result.m.back() > INT32_MAX)
      return invalid("m={}: must be from 1 to {}", result.m.back(), INT32_MAX);
  }
  for (const Json& model : json.at("models")) DGRT_TRY(read_model(model, &result.shapes));
  if (result.m.empty() || result.shapes.empty()) return invalid("no m or no layers");
  return result;
}

}  // namespace

Result<BenchShapes> parse_bench_shapes(std::string_view json) {
  try {
    return read_shapes(Json::parse(json));
  } catch (const Json::exception& e) {
    return invalid("bench shapes: {}", e.what());
  }
}

Result<BenchShapes> builtin_bench_shapes(std::string_view stem) {
  const std::string path = fmt::format("bench/shapes/{}.json", stem);
  for (const EmbeddedFile& file : embedded_files())
    if (file.path == path) return parse_bench_shapes(file.text);
  return error(DGRT_UNSUPPORTED, "op={}: no bench/shapes/{}.json", stem, stem);
}

}  // namespace dgrt
