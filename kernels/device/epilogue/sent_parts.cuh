// Several CTAs send partial results through global memory; another one adds them as they come. Nobody
// counts, no fence: memory is zero before, and no four floats that are sent begin with zero, so each four tells
// by itself that it is there. Who has added the parts zeroes them again. Against a counter (last_arriver.cuh) this
// spares the way to it and back, the fence before, and one load from L2 behind.
//
// Who adds waits for others that may not have been started. It must be a CTA of a higher number than they, as
// CTAs start in the order of their numbers, and they must wait for nobody: then all of them end, whatever else
// runs on the device.
#pragma once
#include "device/ptx/atomic.cuh"

namespace dgrt {

// With -0 for a zero in front: to a sum that begins with +0 that is the same.
__device__ __forceinline__ void send(float* to, float4 v) {
  if (__float_as_uint(v.x) == 0) v.x = -0.0f;
  ptx::store_relaxed_b128(to, v);
}

// What was sent, once has_come().
__device__ __forceinline__ float4 receive(const float* from) {
  return ptx::load_relaxed_b128(from);
}
__device__ __forceinline__ bool has_come(float4 v) { return __float_as_uint(v.x) != 0; }

// Before the memory is used again.
__device__ __forceinline__ void forget(float* at) {
  ptx::store_relaxed_b128(at, make_float4(0, 0, 0, 0));
}

}  // namespace dgrt
