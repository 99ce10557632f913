// One kernel launch: plain numbers in, one driver call out.
#pragma once
#include <cstdint>

#include "runtime/base/status.h"
#include "runtime/driver/driver.h"

namespace dgrt {

struct KernelLaunch {
  CUkernel kernel = nullptr;
  const uint32_t* grid = nullptr;     // 3 numbers, blocks, all > 0
  const uint32_t* cluster = nullptr;  // 3 numbers, blocks; {1, 1, 1}: no cluster
  uint32_t num_threads = 0;           // per block
  uint32_t smem_bytes = 0;            // dynamic, per block
  bool pdl = false;                   // programmatic dependent launch
  const void* params = nullptr;       // the kernel's only parameter, a struct; copied by the driver
};

// Launches on `stream`, whose context decides the device; a null stream means the current context's
// legacy default stream. Neither allocates nor synchronises.
Status launch(const Driver& driver, const KernelLaunch& call, CUstream stream);

}  // namespace dgrt
