#include "tools/lib/lab_fill.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "tools/lib/lab_fill.cuh"

namespace dgrt::lab {
namespace {

Status fill_with(const Device& device, const fill::Params& params) {
  if (params.count == 0) return ok();
  constexpr uint32_t threads = 256;
  const uint64_t blocks = (params.count + threads - 1) / threads;
  const LabKernel kernel{"fill", 0, threads, sizeof(params)};
  const uint32_t grid = static_cast<uint32_t>(std::min<uint64_t>(blocks, 16384));
  return device.launch(kernel, &params, grid, 1, device.stream());
}

fill::Params make_params(void* to, uint64_t count, uint64_t seed, fill::Content content) {
  fill::Params params{};
  params.to = to;
  params.count = count;
  params.seed = seed;
  params.content = content;
  return params;
}

}  // namespace

Status fill_normal_bf16(const Device& device, void* to, uint64_t count, uint64_t seed,
                        float sigma) {
  fill::Params params = make_params(to, count, seed, fill::Content::normal_bf16);
  params.sigma = sigma;
  return fill_with(device, params);
}

Status fill_normal_fp16(const Device& device, void* to, uint64_t count, uint64_t seed,
                        float sigma) {
  fill::Params params = make_params(to, count, seed, fill::Content::normal_fp16);
  params.sigma = sigma;
  return fill_with(device, params);
}

Status fill_normal_f32(const Device& device, float* to, uint64_t count, uint64_t seed,
                       float sigma) {
  fill::Params params = make_params(to, count, seed, fill::Content::normal_f32);
  params.sigma = sigma;
  return fill_with(device, params);
}

Status fill_normal_e4m3(const Device& device, void* to, uint64_t count, uint64_t seed) {
  fill::Params params = make_params(to, count, seed, fill::Content::normal_e4m3);
  params.sigma = 448.0f / 3.4642f;  // the largest draw becomes the largest code
  return fill_with(device, params);
}

Status fill_scales(const Device& device, float* to, uint64_t count, uint64_t seed, float low,
                   float high) {
  fill::Params params = make_params(to, count, seed, fill::Content::scales);
  params.low = low;
  params.sigma = std::log2(high / low);
  return fill_with(device, params);
}

Status fill_words(const Device& device, void* to, uint64_t count, uint32_t word) {
  fill::Params params = make_params(to, count, 0, fill::Content::words);
  params.word = word;
  return fill_with(device, params);
}

std::vector<int32_t> shuffled(int64_t count, uint64_t seed) {
  std::vector<int32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), std::mt19937_64(seed));
  return numbers;
}

}  // namespace dgrt::lab
