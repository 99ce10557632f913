// Inputs: random but reproducible contents of device memory. Element i depends on (seed, i) alone,
// by a counter-based hash, so that a reference on the CPU can draw the same numbers. All calls are
// asynchronous on the device's own stream.
#pragma once
#include <cstdint>
#include <vector>

#include "tools/lib/lab_device.h"

namespace dgrt::lab {

// Close to the normal distribution with mean 0 and standard deviation `sigma`; at most 3.5 sigma.
Status fill_normal_bf16(const Device& device, void* to, uint64_t count, uint64_t seed,
                        float sigma = 1.0f);
Status fill_normal_fp16(const Device& device, void* to, uint64_t count, uint64_t seed,
                        float sigma = 1.0f);
Status fill_normal_f32(const Device& device, float* to, uint64_t count, uint64_t seed,
                       float sigma = 1.0f);
// Finite e4m3 codes, distributed like normal numbers quantised with amax 448: no NaN, both signs.
Status fill_normal_e4m3(const Device& device, void* to, uint64_t count, uint64_t seed);
// Positive scales, log-uniform in [low, high).
Status fill_scales(const Device& device, float* to, uint64_t count, uint64_t seed,
                   float low = 0.001f, float high = 0.02f);
// Every 32-bit word is `word`; count counts words.
Status fill_words(const Device& device, void* to, uint64_t count, uint32_t word);

// 0 to count - 1 in random order: pages or slots that lie anywhere.
std::vector<int32_t> shuffled(int64_t count, uint64_t seed);

}  // namespace dgrt::lab
