// The worker's end of compile_message.h: answers compile requests on a descriptor until the other
// end closes it.
#pragma once
#include <functional>

#include "runtime/compile/compile_message.h"

namespace dgrt {

// Says hello, then answers one request after another. Returns when the peer has gone (OK) or speaks
// another protocol.
Status serve_compiles(int fd, const Hello& hello,
                      const std::function<CompileReply(const CompileRequest&)>& compile);

// Ends this process when its parent ends, even in the middle of a compile, which nothing else can
// interrupt. INTERNAL: `parent_pid` is not, or no more, the parent. Requires: descriptor 0 is the
// parent's socket.
Status die_with_parent(int parent_pid);

// A whole worker, the body of `dgrt worker`: serves descriptor 0 with NVRTC and dies with its
// parent. `nvrtc_path`: the library to compile with, the parent's own.
Status run_compile_worker(int parent_pid, const std::string& nvrtc_path);

}  // namespace dgrt
