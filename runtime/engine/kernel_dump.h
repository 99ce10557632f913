// DGRT_DUMP: the source, image and compiler log of each kernel that is compiled, for people.
#pragma once
#include <string>

#include "runtime/base/kernel_id.h"
#include "runtime/base/status.h"
#include "runtime/compile/instance.h"
#include "runtime/compile/nvrtc.h"

namespace dgrt {

// Writes <dir>/<entry>.<first 8 digits of the key>.{cu,cubin,log}, replacing what is there. Creates
// the directory; its parent must exist. IO_ERROR names the file.
Status dump_kernel(const std::string& dir, const Key& key, const Instance& instance,
                   const Compiled& compiled);

}  // namespace dgrt
