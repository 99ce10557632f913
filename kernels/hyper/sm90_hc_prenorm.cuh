// SM90 hc_prenorm: z[m, n] = sum_k x[m, k] * f[n, k] and q[m] = sum_k x[m, k]^2 in one pass over x.
// x bf16; f as two bf16 matrices, f = high + low, made once by hc_prenorm_weights. n is 24 in the
// models and 32 at most, so the kernel is a stream of x from memory: everything else hides behind.
//
// Products  few rows: hc_prenorm_registers.cuh, bound by the latency of memory. Many: hc_prenorm_tiles.cuh,
//           bound by its bandwidth.
// Split     k blocks of a row tile are dealt to num_groups CTAs. What several wrote is a result of its
//           own (the caller's split), or is added up as hc_prenorm_sums.cuh says.
// Source    PTX ISA: mma.m16n8k16, wgmma.mma_async, cp.async.bulk.tensor, ld.relaxed, atom.inc.
#pragma once
#include "hyper/hc_prenorm_params.cuh"

#ifdef __CUDACC_RTC__
#include "hyper/hc_prenorm_registers.cuh"
#include "hyper/hc_prenorm_tiles.cuh"

namespace dgrt::sm90::hc_prenorm {

// Cfg: block_m (16, 32 or 64), n, stages, warps (that multiply).
template <class Cfg>
__device__ void run(const Params& p) {
  static_assert(Cfg::block_m % 16 == 0 && Cfg::block_m <= 64, "whole slabs of 16 rows, or of 64");
  static_assert(Cfg::n % 4 == 0 && Cfg::n <= 32, "z is stored in groups of four columns");
  if constexpr (in_registers(Cfg::block_m))
    run_in_registers<Cfg>(p);
  else
    run_in_tiles<Cfg>(p);
}

}  // namespace dgrt::sm90::hc_prenorm
#endif
