// Fills memory with hashed random numbers. Built for the laboratory alone; simple before fast.
#pragma once
#include "device/common/interface.cuh"

namespace dgrt::lab::fill {

enum class Content : uint32_t { normal_bf16, normal_f32, normal_e4m3, scales, words, normal_fp16 };

struct Params {
  void* to;
  uint64_t count;  // elements
  uint64_t seed;
  Content content;
  uint32_t word;  // words
  float sigma;    // normal_*; scales: log2 of high / low
  float low;      // scales
};

#ifdef __CUDACC_RTC__

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over seed and counter.
__device__ __forceinline__ uint64_t hash(uint64_t seed, uint64_t i) {
  uint64_t z = (seed + 1) * 0x9e3779b97f4a7c15ull + i * 0xd1342543de82ef95ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

// Sum of four uniform 16-bit numbers, centred and scaled to variance 1.
__device__ __forceinline__ float normal(uint64_t bits) {
  const int sum = static_cast<int>(bits & 0xffff) + static_cast<int>(bits >> 16 & 0xffff) +
                  static_cast<int>(bits >> 32 & 0xffff) + static_cast<int>(bits >> 48);
  return static_cast<float>(sum - 2 * 65535) * (1.0f / 37837.2f);
}

// Nearest even. Requires: finite.
__device__ __forceinline__ uint16_t bf16_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

__device__ __forceinline__ uint16_t fp16_bits(float x) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ uint8_t e4m3_bits(float x) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
  return pair & 0xff;
}

template <class Cfg>
__device__ void run(const Params& p) {
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.count; i += stride) {
    const uint64_t bits = hash(p.seed, i);
    switch (p.content) {
      case Content::normal_bf16:
        static_cast<uint16_t*>(p.to)[i] = bf16_bits(normal(bits) * p.sigma);
        break;
      case Content::normal_fp16:
        static_cast<uint16_t*>(p.to)[i] = fp16_bits(normal(bits) * p.sigma);
        break;
      case Content::normal_f32:
        static_cast<float*>(p.to)[i] = normal(bits) * p.sigma;
        break;
      case Content::normal_e4m3:
        static_cast<uint8_t*>(p.to)[i] = e4m3_bits(normal(bits) * p.sigma);
        break;
      case Content::scales:
        static_cast<float*>(p.to)[i] =
            p.low * exp2f(p.sigma * static_cast<float>(bits >> 40) * (1.0f / 16777216.0f));
        break;
      case Content::words:
        static_cast<uint32_t*>(p.to)[i] = p.word;
        break;
    }
  }
}

#endif
}  // namespace dgrt::lab::fill
