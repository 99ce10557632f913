// Accesses of shared memory that no barrier orders are told, whether or not they went wrong.
#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

using Catch::Matchers::Contains;

// Two warps; of 65536 bytes of dynamic shared memory those of the second begin at 4096.
std::string fault(const std::string& body, uint32_t ctas = 1) {
  Global<uint32_t> out(256);
  TestKernel kernel("shl.b32 %r2, %r1, 2;\nsetp.ge.u32 %p1, %r1, 32;\n" + body);
  return fault_of(kernel, CUtensorMap{}, out.data, out.data, 64, ctas);
}

const std::string write_own = "st.shared.u32 [%r2], %r1;\n";
const std::string read_others = "xor.b32 %r3, %r2, 128;\nld.shared.u32 %r4, [%r3];\n";

TEST_CASE("a block's barrier, or a named one, is what orders two warps", "[unit]") {
  CHECK(fault(write_own + "bar.sync 0;\n" + read_others) == "");
  CHECK_THAT(fault(write_own + read_others), Contains("a race: warp ") && Contains("no barrier is between"));
  // What is read must have been, before it is written anew.
  const std::string again = write_own + "bar.sync 0;\n" + read_others;
  const std::string write_anew = "st.shared.u32 [%r2], %r2;\n";
  CHECK(fault(again + "bar.sync 0;\n" + write_anew) == "");
  CHECK_THAT(fault(again + write_anew), Contains("a race"));
  // Barriers without one of both order nothing.
  const std::string give = "@%p1 bra TAKE;\n" + write_own + "bar.arrive 1, 64;\nbra DONE;\nTAKE:\n";
  CHECK(fault(give + "bar.sync 1, 64;\n" + read_others + "DONE:\n") == "");
  CHECK_THAT(fault(give + read_others + "bar.sync 1, 64;\nDONE:\n"), Contains("a race"));
  // Neighbours do not meet, even in one word.
  CHECK(fault(write_own + "ld.shared.u32 %r4, [%r2];\n") == "");
  CHECK(fault("mov.u32 %r3, 0;\n@%p1 mov.u32 %r3, 2;\nand.b32 %r4, %r1, 31;\nsetp.eq.u32 %p2, %r4, 0;\n"
              "@%p2 st.shared.u16 [%r3], %r1;\n") == "");
}

TEST_CASE("two warps may store the same, and each reads what it stored", "[unit]") {
  const std::string same = "st.shared.u32 [8192], 7;\nld.shared.u32 %r4, [8192];\n";
  CHECK(fault(same) == "");
  CHECK_THAT(fault("st.shared.u32 [8192], %r1;\n"), Contains("a race"));
  // Who stored nothing there has waited for nobody.
  const std::string none = "@%p1 bra READ;\nst.shared.u32 [8192], 7;\nREAD:\nld.shared.u32 %r4, [8192];\n";
  CHECK_THAT(fault(none), Contains("a race"));
  // What is other is no longer the same.
  CHECK_THAT(fault(same + "@%p1 st.shared.u32 [8192], 8;\n"), Contains("a race"));
}

TEST_CASE("flags order as well: atomics, releases and acquires", "[unit]") {
  const std::string body =
      "st.shared.u32 [%r2+4096], 0;\nbar.sync 0;\n@%p1 bra TAKE;\n" + write_own +
      "bar.warp.sync -1;\nsetp.eq.u32 %p2, %r1, 0;\n@%p2 st.release.cta.shared.u32 [4096], 1;\nbra DONE;\nTAKE:\n"
      "ld.acquire.cta.shared.u32 %r5, [4096];\nsetp.eq.u32 %p3, %r5, 0;\n@%p3 bra TAKE;\n" +
      read_others + "DONE:\n";
  CHECK(fault(body) == "");
  std::string plain = body;
  plain.replace(plain.find("st.release.cta"), 14, "st");
  CHECK_THAT(fault(plain), Contains("a race"));
}

TEST_CASE("a phase of an mbarrier orders those that arrive before those that wait", "[unit]") {
  const std::string init =
      "setp.eq.u32 %p2, %r1, 0;\n@%p2 mbarrier.init.shared::cta.b64 [8192], 32;\nbar.sync 0;\n@%p1 bra TAKE;\n" +
      write_own;
  const std::string rest =
      "bra DONE;\nTAKE:\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p3, [8192], 0;\n@!%p3 bra WAIT;\n" +
      read_others + "DONE:\n";
  const std::string arrive = "mbarrier.arrive.shared::cta.b64 _, [8192];\n";
  CHECK(fault(init + arrive + rest) == "");
  CHECK_THAT(fault(init.substr(0, init.size() - write_own.size()) + arrive + write_own + rest), Contains("a race"));
}

TEST_CASE("a load by the copy engine waits for readers, and readers for it", "[unit]") {
  Global<uint32_t> matrix(32), out(32);
  const CUtensorMap map = matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, matrix.data, 1, 32, 128, 1, 32,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  const std::string init =
      "shl.b32 %r2, %r1, 2;\nmov.u32 %r4, 0;\nmov.u32 %r9, 8192;\nsetp.eq.u32 %p2, %r1, 32;\n"
      "@%p2 mbarrier.init.shared::cta.b64 [%r9], 1;\n@%p2 fence.mbarrier_init.release.cluster;\nbar.sync 0;\n";
  const std::string load =
      "@%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 128;\n"
      "@%p2 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd1, {%r4, %r4}], "
      "[%r9];\n";
  const std::string wait = "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p3, [%r9], 0;\n@!%p3 bra WAIT;\n";
  const std::string read = "setp.lt.u32 %p1, %r1, 32;\n@%p1 ld.shared.u32 %r3, [%r2];\n";
  const auto fault_with_map = [&](const std::string& body) {
    TestKernel kernel(init + body);
    return fault_of(kernel, map, out.data, nullptr, 64);
  };
  CHECK(fault_with_map(load + wait + read) == "");
  CHECK_THAT(fault_with_map(load + read + wait), Contains("a race") || Contains("copy engine"));
  CHECK(fault_with_map(read + "bar.sync 0;\n" + load + wait) == "");
  CHECK_THAT(fault_with_map(read + load + wait), Contains("a race"));
}

TEST_CASE("blocks of a cluster are ordered by its barrier", "[unit]") {
  const std::string begin =
      "mov.u32 %r5, %cluster_ctarank;\nxor.b32 %r6, %r5, 1;\nmapa.shared::cluster.u32 %r7, %r2, %r6;\n"
      "st.shared::cluster.u32 [%r7], %r1;\n";
  const std::string meet = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
  CHECK(fault(begin + meet + "ld.shared.u32 %r8, [%r2];\n", 2) == "");
  CHECK_THAT(fault(begin + "bar.sync 0;\nld.shared.u32 %r8, [%r2];\n" + meet, 2), Contains("a race"));
}

}  // namespace
}  // namespace dgrt::emulator
