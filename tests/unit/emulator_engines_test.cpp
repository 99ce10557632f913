// Copy engines and mbarriers of the emulator, in kernels of a few lines of PTX: what they compute, and that it
// comes as late as it may.
#include <numeric>

#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

using Catch::Matchers::Contains;

// A barrier at 32768 whose phase 0 is waited for by all threads.
const std::string wait_for_barrier =
    "bar.sync 0;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r9], 0;\n@!%p1 bra WAIT;\n";
const std::string init_barrier =
    "mov.u32 %r9, 32768;\nsetp.eq.u32 %p0, %r1, 0;\n@!%p0 bra READY;\nmbarrier.init.shared::cta.b64 [%r9], 1;\n"
    "fence.mbarrier_init.release.cluster;\n";
// Thread i writes word i of shared memory to x[i].
const std::string write_words =
    "shl.b32 %r2, %r1, 2;\nld.shared.u32 %r3, [%r2];\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\n"
    "st.global.u32 [%rd6], %r3;\n";
const std::string load_box_of_map =
    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 128;\nmov.u32 %r4, 0;\n"
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd1, {%r4, %r4}], [%r9];\n"
    "READY:\n";

TEST_CASE("a TMA load lands before its barrier's phase ends, and not at once", "[unit]") {
  Global<uint32_t> matrix(32), out(32);
  std::iota(matrix.data, matrix.data + 32, 100u);
  const CUtensorMap map = matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, matrix.data, 1, 32, 128, 1, 32,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  TestKernel waits(init_barrier + load_box_of_map + wait_for_barrier + write_words);
  TestKernel hurries(init_barrier + load_box_of_map + "bar.sync 0;\n" + unchecked(write_words) + wait_for_barrier);
  uint32_t late = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    waits.run(seed, map, out.data, nullptr);
    for (uint32_t i = 0; i < 32; ++i) REQUIRE(out[i] == 100 + i);
    hurries.run(seed, map, out.data, nullptr);
    late += out[31] == 0xffffffff;
  }
  CHECK(late > 0);
  TestKernel leaves(init_barrier + load_box_of_map);
  CHECK_THAT(fault_of(leaves, map, out.data, nullptr), Contains("have all returned"));
}

TEST_CASE("a multicast reaches each CTA and its barrier", "[unit]") {
  Global<uint32_t> matrix(32), out(64);
  std::iota(matrix.data, matrix.data + 32, 100u);
  const CUtensorMap map = matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, matrix.data, 1, 32, 128, 1, 32,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  const std::string body =
      init_barrier +
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 128;\nREADY:\n"
      "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n"
      "mov.u32 %r7, %cluster_ctarank;\nsetp.eq.u32 %p2, %r7, 1;\nand.pred %p2, %p2, %p0;\n@!%p2 bra SKIP;\n"
      "mov.u32 %r4, 0;\nmov.u32 %r5, 3;\ncvt.u16.u32 %rs1, %r5;\n"
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r4], "
      "[%rd1, {%r4, %r4}], [%r9], %rs1;\nSKIP:\n" +
      wait_for_barrier +
      "mul.wide.u32 %rd7, %r7, 128;\nadd.s64 %rd2, %rd2, %rd7;\n" + write_words +
      "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
  TestKernel kernel(".reg .b16 %rs<4>;\n" + body);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    std::fill_n(out.data, 64, 0u);
    kernel.run(seed, map, out.data, nullptr, 32, 2);
    for (uint32_t i = 0; i < 64; ++i) REQUIRE(out[i] == 100 + i % 32);
  }
}

// Thread i writes 100 + i to word i; thread 0 stores the row.
const std::string fill_and_store =
    "shl.b32 %r2, %r1, 2;\nadd.u32 %r3, %r1, 100;\nst.shared.u32 [%r2], %r3;\nfence.proxy.async.shared::cta;\n"
    "bar.sync 0;\nsetp.eq.u32 %p0, %r1, 0;\nmov.u32 %r4, 0;\n@!%p0 bra STORED;\n";

TEST_CASE("a TMA store reads its box late, and is waited for", "[unit]") {
  Global<uint32_t> out(32);
  const CUtensorMap map =
      matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out.data, 1, 32, 128, 1, 32, CU_TENSOR_MAP_SWIZZLE_NONE);
  const std::string store =
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r4, %r4}], [%r4];\n"
      "cp.async.bulk.commit_group;\n";
  const std::string wait_read = "cp.async.bulk.wait_group.read 0;\n";
  const std::string overwrite = "STORED:\nbar.sync 0;\nst.shared.u32 [%r2], 7;\n";
  TestKernel waits(fill_and_store + store + wait_read + overwrite);
  TestKernel hurries(fill_and_store + store + unchecked(overwrite) + "@%p0 " + wait_read + "bar.sync 0;\n");
  uint32_t spoilt = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    std::fill_n(out.data, 32, 0u);
    waits.run(seed, map, nullptr, nullptr);
    for (uint32_t i = 0; i < 32; ++i) REQUIRE(out[i] == 100 + i);
    hurries.run(seed, map, nullptr, nullptr);
    spoilt += out[0] == 7;
  }
  CHECK(spoilt > 0);
  TestKernel leaves(fill_and_store + store + "STORED:\n");
  CHECK_THAT(fault_of(leaves, map, nullptr, nullptr), Contains("have all returned"));

  // wait_group without .read: the writes are done.
  TestKernel complete(fill_and_store + store + "cp.async.bulk.wait_group 0;\nld.global.u32 %r5, [%rd2+124];\n"
                      "st.global.u32 [%rd3], %r5;\nSTORED:\n");
  Global<uint32_t> seen(1);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    out[31] = 0;
    complete.run(seed, map, out.data, seen.data);
    REQUIRE(seen[0] == 131);
  }
}

TEST_CASE("wait_group.read lets the latest groups run on", "[unit]") {
  // Two stores of the same box, of which the first is waited for: then the word is changed.
  Global<uint32_t> out(64);
  const CUtensorMap map =
      matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out.data, 2, 32, 128, 1, 32, CU_TENSOR_MAP_SWIZZLE_NONE);
  TestKernel kernel(fill_and_store +
                    "mov.u32 %r6, 1;\ncp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r4, %r4}], [%r4];\n"
                    "cp.async.bulk.commit_group;\n"
                    "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r4, %r6}], [%r4];\n"
                    "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 1;\nst.shared.u32 [%r4], 7;\n"
                    "cp.async.bulk.wait_group.read 0;\nSTORED:\n");
  uint32_t spoilt = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    kernel.run(seed, map, nullptr, nullptr);
    REQUIRE(out[0] == 100);
    REQUIRE(out[63] == 131);
    spoilt += out[32] == 7;
  }
  CHECK(spoilt > 0);
  CHECK(spoilt < num_seeds);
}

TEST_CASE("a reduction adds to what is there", "[unit]") {
  Global<float> out(32);
  std::iota(out.data, out.data + 32, 0.f);
  const CUtensorMap map =
      matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out.data, 1, 32, 128, 1, 32, CU_TENSOR_MAP_SWIZZLE_NONE);
  TestKernel kernel("shl.b32 %r2, %r1, 2;\nst.shared.u32 [%r2], 0x3f800000;\nfence.proxy.async.shared::cta;\n"
                    "bar.sync 0;\nsetp.eq.u32 %p0, %r1, 0;\nmov.u32 %r4, 0;\n@!%p0 bra STORED;\n"
                    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%rd1, {%r4, %r4}], [%r4];\n"
                    "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nSTORED:\n");
  kernel.run(3, map, nullptr, nullptr);
  for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == static_cast<float>(i) + 1);
}

TEST_CASE("cp.async comes with its group, zeros behind what it reads", "[unit]") {
  // Thread i copies 16 bytes of x from 16 i on, i % 17 of them; then 4 bytes, in a group of its own.
  Global<uint8_t> from(1024), out(1024);
  for (uint32_t i = 0; i < 1024; ++i) from[i] = static_cast<uint8_t>(i % 251 + 1);
  const std::string copy =
      "shl.b32 %r2, %r1, 4;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\nadd.s64 %rd7, %rd3, %rd5;\n"
      "rem.u32 %r3, %r1, 17;\ncp.async.cg.shared.global.L2::128B [%r2], [%rd6], 16, %r3;\ncp.async.commit_group;\n"
      "cp.async.ca.shared.global [%r2+512], [%rd6+512], 4;\ncp.async.commit_group;\n";
  const std::string write =
      "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r2];\nst.global.v4.u32 [%rd7], {%r10, %r11, %r12, %r13};\n";
  const std::string write_second = "ld.shared.u32 %r10, [%r2+512];\nst.global.u32 [%rd7+512], %r10;\n";
  TestKernel kernel(copy + "cp.async.wait_group 1;\n" + write + write_second + "cp.async.wait_group 0;\n");
  const CUtensorMap none{};
  uint32_t late = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    kernel.run(seed, none, from.data, out.data);
    for (uint32_t i = 0; i < 512; ++i) REQUIRE(out[i] == (i % 16 < i / 16 % 17 ? from[i] : 0));
    late += out[512] == 0xff;
  }
  CHECK(late > 0);
  TestKernel all(copy + "cp.async.wait_group 0;\n" + write_second);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    all.run(seed, none, from.data, out.data);
    for (uint32_t i = 512; i < 1024; ++i)
      if (i % 16 < 4) REQUIRE(out[i] == from[i]);
  }
  TestKernel unaligned("mov.u32 %r2, 8;\ncp.async.cg.shared.global.L2::128B [%r2], [%rd2], 16, 16;\n");
  CHECK_THAT(fault_of(unaligned, none, from.data, out.data), Contains("aligned"));
  TestKernel outside("mov.u32 %r2, 0;\ncp.async.cg.shared.global.L2::128B [%r2], [%rd2+1024], 16, %r2;\n"
                     "cp.async.cg.shared.global.L2::128B [%r2], [%rd2+1024], 16, 16;\n");
  CHECK_THAT(fault_of(outside, none, from.data, out.data), Contains("allocation") && Contains("line"));
}

TEST_CASE("cp.async may arrive at an mbarrier by itself", "[unit]") {
  // Every thread copies 4 bytes and arrives; then all wait, and write what their neighbour copied.
  Global<uint32_t> from(32), out(32);
  std::iota(from.data, from.data + 32, 1u);
  const std::string init =
      "setp.ne.u32 %p0, %r1, 0;\nmov.u32 %r9, 1024;\n@%p0 bra READY;\nmbarrier.init.shared::cta.b64 [%r9], 32;\n"
      "READY:\nbar.sync 0;\n";
  const std::string copy =
      "shl.b32 %r2, %r1, 2;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\nadd.s64 %rd7, %rd3, %rd5;\n"
      "cp.async.ca.shared.global [%r2], [%rd6], 4;\n";
  const std::string arrive = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r9];\n";
  const std::string wait = "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r9], 0;\n@!%p1 bra WAIT;\n";
  const std::string write = "xor.b32 %r2, %r2, 4;\nld.shared.u32 %r10, [%r2];\nst.global.u32 [%rd7], %r10;\n";
  TestKernel kernel(init + copy + arrive + wait + write);
  const CUtensorMap none{};
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    kernel.run(seed, none, from.data, out.data);
    for (uint32_t i = 0; i < 32; ++i) REQUIRE(out[i] == (i ^ 1) + 1);
  }
  TestKernel nowhere(copy + "mov.u32 %r9, 1024;\n" + arrive);
  CHECK_THAT(fault_of(nowhere, none, from.data, out.data), Contains("no mbarrier"));
}

TEST_CASE("barriers: what must not be done to them", "[unit]") {
  const CUtensorMap none{};
  const std::string one_thread = "setp.ne.u32 %p0, %r1, 0;\n@%p0 bra OUT;\nmov.u32 %r9, 1024;\n";
  const std::string init = "mbarrier.init.shared::cta.b64 [%r9], 1;\n";
  const std::string arrive = "mbarrier.arrive.shared::cta.b64 _, [%r9];\n";
  TestKernel fine(one_thread + init + arrive + arrive + "OUT:\n");
  CHECK(fault_of(fine, none, nullptr, nullptr) == "");
  TestKernel twice(one_thread + init + init + "OUT:\n");
  CHECK_THAT(fault_of(twice, none, nullptr, nullptr), Contains("initialised twice"));
  TestKernel nowhere(one_thread + arrive + "OUT:\n");
  CHECK_THAT(fault_of(nowhere, none, nullptr, nullptr), Contains("no mbarrier"));
  TestKernel too_many(one_thread + init + "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 16;\n" + arrive +
                      "OUT:\n");
  CHECK_THAT(fault_of(too_many, none, nullptr, nullptr), Contains("more arrivals"));
  TestKernel never(one_thread + init +
                   "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [%r9], 0;\n@!%p1 bra WAIT;\nOUT:\n");
  CHECK_THAT(fault_of(never, none, nullptr, nullptr), Contains("nothing can go on"));
}

TEST_CASE("an arrival reaches another CTA's barrier", "[unit]") {
  Global<uint32_t> out(1);
  TestKernel kernel(init_barrier +
                    "READY:\nbarrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n"
                    "mov.u32 %r7, %cluster_ctarank;\nsetp.eq.u32 %p2, %r7, 0;\n@%p2 bra WAITS;\n"
                    "mapa.shared::cluster.u32 %r8, %r9, 0;\n"
                    "@%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];\nbra OUT;\nWAITS:\n" +
                    wait_for_barrier +
                    "@%p0 st.global.u32 [%rd2], 5;\nOUT:\nbarrier.cluster.arrive.release.aligned;\n"
                    "barrier.cluster.wait.acquire.aligned;\n");
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    out[0] = 0;
    kernel.run(seed, CUtensorMap{}, out.data, nullptr, 32, 2);
    REQUIRE(out[0] == 5);
  }
}

std::string without(std::string text, const std::string& part) {
  const size_t at = text.find(part);
  REQUIRE(at != text.npos);
  return text.erase(at, part.size());
}

TEST_CASE("a bulk copy takes shared memory to another CTA, late", "[unit]") {
  Global<uint32_t> out(32);
  const std::string sync = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
  const std::string send =
      init_barrier + "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 128;\nREADY:\n" + sync +
      "mov.u32 %r7, %cluster_ctarank;\nsetp.eq.u32 %p2, %r7, 0;\n@%p2 bra WAITS;\n"
      "shl.b32 %r2, %r1, 2;\nadd.u32 %r3, %r1, 100;\nst.shared.u32 [%r2+256], %r3;\n"
      "fence.proxy.async.shared::cta;\nbar.sync 0;\nmov.u32 %r4, 0;\nmov.u32 %r5, 256;\n"
      "mapa.shared::cluster.u32 %r8, %r9, 0;\nmapa.shared::cluster.u32 %r4, %r4, 0;\n"
      "@%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r4], [%r5], 128, [%r8];\n"
      "bar.sync 0;\n";
  const std::string receive = "bra OUT;\nWAITS:\n" + wait_for_barrier + write_words + "OUT:\n" + sync;
  TestKernel kernel(send + receive), spoils(send + "st.shared.u32 [%r2+256], 7;\n" + receive);
  uint32_t spoilt = 0;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    std::fill_n(out.data, 32, 0u);
    kernel.run(seed, CUtensorMap{}, out.data, nullptr, 32, 2);
    for (uint32_t i = 0; i < 32; ++i) REQUIRE(out[i] == 100 + i);
    spoils.run(seed, CUtensorMap{}, out.data, nullptr, 32, 2);
    spoilt += out[0] == 7;
  }
  CHECK(spoilt > 0);
  TestKernel unfenced(without(send, "fence.proxy.async.shared::cta;\n") + receive);
  CHECK_THAT(fault_of(unfenced, CUtensorMap{}, out.data, nullptr, 32, 2), Contains("fence.proxy.async"));
}

TEST_CASE("a kernel edits a tensor map and loads through it", "[unit]") {
  Global<uint32_t> matrix(64), out(32);
  Global<CUtensorMap> built(1);
  std::iota(matrix.data, matrix.data + 64, 100u);
  const CUtensorMap map = matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, matrix.data, 1, 32, 128, 1, 32,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  // The map, word by word, to shared memory; then its second row, of 30 columns.
  TestKernel kernel(
      "shl.b32 %r2, %r1, 2;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd1, %rd5;\nld.u32 %r3, [%rd6];\n"
      "st.shared.u32 [%r2+1024], %r3;\nbar.warp.sync -1;\nmov.u32 %r10, 1024;\nadd.s64 %rd8, %rd2, 128;\n"
      "setp.eq.u32 %p0, %r1, 0;\nld.param.u64 %rd10, [y];\n"
      "@%p0 tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r10], %rd8;\n"
      "@%p0 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r10], 0, 30;\n"
      "@%p0 tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r10], 0, 256;\nbar.warp.sync -1;\n"
      "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd3], [%r10], 128;\n"
      "fence.proxy.tensormap::generic.acquire.gpu [%rd3], 128;\nmov.u64 %rd1, %rd3;\n" +
      init_barrier + load_box_of_map + wait_for_barrier + "add.s64 %rd2, %rd2, 256;\n" + write_words);
  Global<uint32_t> both(96);
  std::copy_n(matrix.data, 64, both.data);
  kernel.run(5, map, both.data, built.data);
  for (uint32_t i = 0; i < 32; ++i) CHECK(both[64 + i] == (i < 30 ? 132 + i : 0));
}

TEST_CASE("what ordinary stores wrote is fenced before an engine reads it", "[unit]") {
  Global<uint32_t> x(32), out(32);
  std::iota(x.data, x.data + 32, 100u);
  const CUtensorMap map =
      matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out.data, 1, 32, 128, 1, 32, CU_TENSOR_MAP_SWIZZLE_NONE);
  const std::string fence = "fence.proxy.async.shared::cta;\n";
  const std::string store =
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r4, %r4}], [%r4];\n"
      "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nSTORED:\n";
  const auto fault = [&](const std::string& body) {
    TestKernel kernel(body);
    return fault_of(kernel, map, x.data, nullptr);
  };
  CHECK(fault(fill_and_store + store) == "");
  CHECK_THAT(fault(without(fill_and_store, fence) + store), Contains("fence.proxy.async"));
  CHECK(fault(without(fill_and_store, fence) + fence + store) == "");  // by the thread that tells the engine
  CHECK_THAT(fault(without(fill_and_store, fence + "bar.sync 0;\n") +
                   "STORED:\nsetp.eq.u32 %p1, %r1, 5;\n@%p1 " + fence + "bar.sync 0;\n@!%p0 bra OUT;\n" +
                   without(store, "STORED:\n") + "OUT:\n"),
             Contains("fence.proxy.async"));
  CHECK_THAT(fault(fill_and_store + "st.shared.u32 [%r4+64], 7;\n" + store), Contains("shared address 64"));
  const std::string copied =
      "shl.b32 %r2, %r1, 2;\ncvt.u64.u32 %rd5, %r2;\nadd.s64 %rd6, %rd2, %rd5;\n"
      "cp.async.ca.shared.global [%r2], [%rd6], 4;\ncp.async.commit_group;\ncp.async.wait_group 0;\n";
  const std::string begin = fill_and_store.substr(fill_and_store.find(fence));
  CHECK(fault(copied + begin + store) == "");
  CHECK_THAT(fault(copied + without(begin, fence) + store), Contains("fence.proxy.async"));
}

TEST_CASE("engines are told of barriers and of tensor maps in memory by fences", "[unit]") {
  Global<uint32_t> matrix(32), out(32);
  Global<CUtensorMap> in_memory(1);
  const CUtensorMap map = matrix_map(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, matrix.data, 1, 32, 128, 1, 32,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  in_memory[0] = map;
  TestKernel no_fence(without(init_barrier, "fence.mbarrier_init.release.cluster;\n") + load_box_of_map +
                      wait_for_barrier);
  CHECK_THAT(fault_of(no_fence, map, out.data, nullptr), Contains("fence.mbarrier_init"));
  const std::string load = init_barrier + load_box_of_map + wait_for_barrier;
  TestKernel not_acquired("mov.u64 %rd1, %rd3;\n" + load);
  CHECK_THAT(fault_of(not_acquired, map, out.data, in_memory.data), Contains("fence.proxy.tensormap"));
  TestKernel acquired("mov.u64 %rd1, %rd3;\nfence.proxy.tensormap::generic.acquire.gpu [%rd1], 128;\n" + load);
  CHECK(fault_of(acquired, map, out.data, in_memory.data) == "");
}

}  // namespace
}  // namespace dgrt::emulator
