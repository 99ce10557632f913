// Lanes that part and meet, barriers, and what the emulator says of kernels that break a rule or never end.
#include <map>

#include "tests/support/emulated_kernel.h"

namespace dgrt::emulator {
namespace {

using Catch::Matchers::Contains;

// Thread i of block b writes %r10 to word 256 b + i.
const std::string write_result =
    "mov.u32 %r60, %ctaid.x;\nmad.lo.u32 %r60, %r60, 256, %r1;\nmul.wide.u32 %rd20, %r60, 4;\n"
    "add.s64 %rd20, %rd2, %rd20;\nst.global.u32 [%rd20], %r10;\n";

class Words {
 public:
  explicit Words(const std::string& body, uint32_t threads = 32, uint32_t ctas = 1, uint32_t cluster = 1)
      : kernel_(body + write_result), out_(256 * ctas), y_(64), threads_(threads), ctas_(ctas), cluster_(cluster) {}

  // Words of block 0, then of the others.
  const uint32_t* run(uint64_t seed = 0) {
    std::fill_n(y_.data, y_.size, 0u);
    Launch launch;
    launch.grid[0] = ctas_, launch.cluster[0] = cluster_, launch.block[0] = threads_;
    launch.dynamic_shared_bytes = 4096;
    launch.seed = seed;
    launch.params.resize(144);
    std::memcpy(launch.params.data() + 128, &out_.data, 8);
    std::memcpy(launch.params.data() + 136, &y_.data, 8);
    emulator::run(kernel_.module->kernels.at("test"), launch);
    return out_.data;
  }
  std::string fault() {
    try {
      run();
    } catch (const Fault& fault) {
      return fault.what();
    }
    return "";
  }

 private:
  TestKernel kernel_;
  Global<uint32_t> out_, y_;
  uint32_t threads_, ctas_, cluster_;
};

TEST_CASE("lanes that part at a branch meet where it joins", "[unit]") {
  Words words(
      "and.b32 %r2, %r1, 1;\nsetp.eq.u32 %p1, %r2, 0;\n@%p1 bra EVEN;\nactivemask.b32 %r3;\nbra JOIN;\n"
      "EVEN:\nactivemask.b32 %r3;\nJOIN:\nactivemask.b32 %r4;\nxor.b32 %r10, %r3, %r4;\n");
  const uint32_t* out = words.run();
  for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == (i % 2 ? 0x5555'5555 : 0xaaaa'aaaa));
}

TEST_CASE("lanes leave a loop one by one", "[unit]") {
  Words words(
      "mov.u32 %r10, 0;\nmov.u32 %r2, %r1;\nLOOP:\nadd.u32 %r10, %r10, %r2;\nsub.u32 %r2, %r2, 1;\n"
      "setp.gt.s32 %p1, %r2, 0;\n@%p1 bra LOOP;\nvote.sync.all.pred %p2, %p1, -1;\n@%p2 add.u32 %r10, %r10, 1000;\n");
  const uint32_t* out = words.run();
  for (uint32_t i = 0; i < 32; ++i) CHECK(out[i] == i * (i + 1) / 2);
}

TEST_CASE("a lane waits for a lane of its own warp", "[unit]") {
  Words words(
      "setp.ne.u32 %p1, %r1, 0;\nst.shared.u32 [0], 0;\nbar.warp.sync -1;\n@%p1 bra GIVE;\n"
      "WAIT:\nld.volatile.shared.u32 %r10, [0];\nsetp.eq.u32 %p2, %r10, 0;\n@%p2 bra WAIT;\nbra DONE;\n"
      "GIVE:\nmov.u32 %r10, 7;\nst.volatile.shared.u32 [0], 7;\nDONE:\n");
  for (uint64_t seed = 0; seed < num_seeds; ++seed) CHECK(words.run(seed)[0] == 7);
}

TEST_CASE("shuffles: four modes, in segments", "[unit]") {
  const auto from = [](const std::string& mode, uint32_t by, uint32_t control, uint32_t lane) {
    Words words("mov.u32 %r2, " + std::to_string(by) + ";\nshfl.sync." + mode + ".b32 %r10|%p1, %r1, %r2, " +
                std::to_string(control) + ", -1;\n@!%p1 add.u32 %r10, %r10, 100;\n");
    return words.run()[lane];
  };
  CHECK(from("idx", 5, 31, 17) == 5);
  CHECK(from("idx", 5, 0x181f, 17) == 21);
  CHECK(from("up", 3, 0, 17) == 14);
  CHECK(from("up", 3, 0, 2) == 102);
  CHECK(from("up", 3, 0x1800, 17) == 117);
  CHECK(from("down", 3, 31, 17) == 20);
  CHECK(from("down", 3, 31, 30) == 130);
  CHECK(from("bfly", 16, 31, 17) == 1);
}

TEST_CASE("members of a warp agree", "[unit]") {
  CHECK(Words("and.b32 %r2, %r1, 3;\nsetp.eq.u32 %p1, %r2, 1;\nvote.sync.ballot.b32 %r10, %p1, -1;\n").run()[9] ==
        0x2222'2222);
  CHECK(Words("redux.sync.add.u32 %r10, %r1, -1;\n").run()[3] == 496);
  CHECK(Words("redux.sync.min.s32 %r10, %r1, -1;\n").run()[3] == 0);
  CHECK(Words("and.b32 %r2, %r1, 3;\nmatch.any.sync.b32 %r10, %r2, -1;\n").run()[5] == 0x2222'2222);
  CHECK(Words("elect.sync %r10|%p1, -1;\n@%p1 add.u32 %r10, %r10, 50;\n").run()[0] == 50);
  // Two halves, each with its own members.
  CHECK(Words("setp.lt.u32 %p1, %r1, 16;\nselp.b32 %r2, 0xffff, 0xffff0000, %p1;\n"
              "redux.sync.add.u32 %r10, %r1, %r2;\n")
            .run()[20] == 376);
}

TEST_CASE("a block's barrier orders warps, whatever their order", "[unit]") {
  // A ring: each thread hands its number to the next warp.
  Words words(
      "shl.b32 %r2, %r1, 2;\nst.shared.u32 [%r2], %r1;\nbar.sync 0;\nadd.u32 %r3, %r1, 32;\nand.b32 %r3, %r3, 127;\n"
      "shl.b32 %r3, %r3, 2;\nld.shared.u32 %r10, [%r3];\n",
      128);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    const uint32_t* out = words.run(seed);
    for (uint32_t i = 0; i < 128; ++i) REQUIRE(out[i] == (i + 32) % 128);
  }
}

TEST_CASE("named barriers: one warp arrives, another waits; warps that have ended do not count", "[unit]") {
  Words words(
      "setp.ge.u32 %p1, %r1, 64;\n@%p1 ret;\nsetp.ge.u32 %p1, %r1, 32;\nmov.u32 %r10, 1;\n@%p1 bra GIVE;\n"
      "bar.sync 3, 64;\nld.shared.u32 %r10, [0];\nbra DONE;\nGIVE:\nst.shared.u32 [0], 5;\nbar.arrive 3, 64;\nDONE:\n"
      "bar.sync 0;\n",
      96);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) CHECK(words.run(seed)[0] == 5);
}

TEST_CASE("blocks of a cluster meet, and see each other's shared memory", "[unit]") {
  Words words(
      "mov.u32 %r2, %cluster_ctarank;\nadd.u32 %r3, %r2, 40;\nst.shared.u32 [8], %r3;\n"
      "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\nxor.b32 %r4, %r2, 1;\n"
      "mov.u32 %r5, 8;\nmapa.shared::cluster.u32 %r5, %r5, %r4;\nld.shared::cluster.u32 %r10, [%r5];\n"
      "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n",
      32, 4, 2);
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    const uint32_t* out = words.run(seed);
    for (uint32_t block = 0; block < 4; ++block) CHECK(out[256 * block] == 40 + (block ^ 1) % 2);
  }
  Words late(
      "mov.u32 %r2, %cluster_ctarank;\nsetp.eq.u32 %p1, %r2, 0;\n@%p1 ret;\nmov.u32 %r5, 8;\n"
      "mapa.shared::cluster.u32 %r5, %r5, 0;\nLOOP:\nld.volatile.shared::cluster.u32 %r10, [%r5];\nbra LOOP;\n",
      32, 2, 2);
  CHECK_THAT(late.fault(), Contains("has ended"));
}

TEST_CASE("as many blocks as the GPU has SMs wait for each other", "[unit]") {
  // Each adds 1 to y and waits until all have.
  Words words(
      "setp.ne.u32 %p1, %r1, 0;\n@%p1 bra WAIT;\nred.release.gpu.global.add.u32 [%rd3], 1;\nWAIT:\n"
      "ld.acquire.gpu.global.u32 %r10, [%rd3];\nmov.u32 %r2, %nctaid.x;\nsetp.lt.u32 %p2, %r10, %r2;\n@%p2 bra WAIT;\n",
      64, num_sms);
  const uint32_t* out = words.run();
  for (uint32_t block = 0; block < num_sms; ++block) CHECK(out[256 * block] == num_sms);
}

TEST_CASE("the same seed gives the same order, another a different one", "[unit]") {
  // Tickets in the order in which warps come.
  Words words("mov.u32 %r10, 0;\nsetp.eq.u32 %p1, %r1, 0;\nand.b32 %r2, %r1, 31;\nsetp.ne.u32 %p1, %r2, 0;\n"
              "@%p1 bra DONE;\natom.global.add.u32 %r10, [%rd3], 1;\nDONE:\n",
              256);
  std::map<std::vector<uint32_t>, uint32_t> orders;
  for (uint64_t seed = 0; seed < num_seeds; ++seed) {
    const uint32_t* out = words.run(seed);
    const std::vector<uint32_t> order(out, out + 256);
    out = words.run(seed);
    CHECK(order == std::vector<uint32_t>(out, out + 256));
    ++orders[order];
  }
  CHECK(orders.size() > 4);
}

TEST_CASE("a fault names the instruction, its line, the thread and the block", "[unit]") {
  Words words("setp.ne.u32 %p1, %r1, 33;\n@%p1 bra DONE;\nst.global.u32 [%rd3+256], 1;\nDONE:\n", 64);
  CHECK_THAT(words.fault(), Contains("`st.global.u32 [%rd3+256], 1` (PTX line 18)") &&
                                Contains("256 bytes after the start of one of 256 bytes") &&
                                Contains("thread (33, 0, 0) of block (0, 0, 0)"));
}

TEST_CASE("what a GPU would refuse is a fault", "[unit]") {
  const std::map<std::string, std::string> faults = {
      {"ld.shared.u32 %r10, [4096];", "4 bytes at shared address 4096: the CTA has 4096"},
      {"ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [8];", "address 0x8 is not aligned to 16"},
      {"ld.global.u16 %r10, [%rd3+1];", "is not aligned to 2"},
      {"ld.param.u64 %rd10, [y+8];", "beyond the parameters"},
      {"trap;", "the kernel gave up"},
      {"bar.sync 16;", "barrier 16 of 16"},
      {"bar.sync 1, 40;", "40 threads: must be a multiple of 32"},
      {"mov.u32 %r5, 1;\nmapa.shared::cluster.u32 %r5, %r5, 1;", "rank 1: the cluster has 1 blocks"},
      {"mov.u32 %r2, 3;\nsetp.eq.u32 %p1, %r1, 3;\n@%p1 bra END;\n"
       "shfl.sync.idx.b32 %r10, %r1, %r2, 31, 0xfffffff7;\nEND:",
       "lane 3, which does not take part"}};
  for (const auto& [body, message] : faults) CHECK_THAT(Words(body + "\n").fault(), Contains(message));
  const std::string other_count =
      "setp.lt.u32 %p1, %r1, 32;\n@%p1 bar.sync 2, 64;\n@!%p1 bar.sync 2, 96;\n";
  CHECK_THAT(Words(other_count, 64).fault(), Contains("barrier 2 counts"));
}

TEST_CASE("what never ends says where each warp stands", "[unit]") {
  Words words("setp.lt.u32 %p1, %r1, 32;\n@%p1 bar.sync 2, 64;\n@%p1 bra DONE;\nWAIT:\n"
              "ld.volatile.shared.u32 %r10, [4];\nsetp.ne.u32 %p2, %r10, 3;\n@%p2 bra WAIT;\nDONE:\n",
              64);
  CHECK_THAT(words.fault(), Contains("nothing can go on") &&
                                Contains("warp 0 lanes ffffffff wait in `@%p1 bar.sync 2, 64` (PTX line 17)") &&
                                Contains("warp 1 lanes ffffffff at "));
  Words parted("setp.lt.u32 %p1, %r1, 16;\n@%p1 bra LOW;\nbar.warp.sync -1;\nbra DONE;\nLOW:\n"
               "bar.warp.sync -1;\nDONE:\n");
  CHECK_THAT(parted.fault(), Contains("lanes 0000ffff at ") && Contains("lanes ffff0000 at "));
}

TEST_CASE("a text that the parser does not know is refused with its line", "[unit]") {
  const auto fault_of_text = [](const std::string& body) {
    try {
      TestKernel kernel(body);
    } catch (const Fault& fault) {
      return std::string(fault.what());
    }
    return std::string();
  };
  CHECK_THAT(fault_of_text("add.s32 %r2, %r3, %r99;"), Contains("PTX line 16: unknown name %r99"));
  CHECK_THAT(fault_of_text("fly.s32 %r2, %r3;"), Contains("unknown instruction fly.s32 %r2, %r3"));
  CHECK_THAT(fault_of_text("bra NOWHERE;"), Contains("no label NOWHERE"));
  CHECK_THAT(fault_of_text("add.s32 %r2, %r3, 1 2;"), Contains("expected , or ;"));
  CHECK_THAT(fault_of_text(".local .b8 depot[8];"), Contains("unknown directive .local"));
  // Names of inner braces end with them.
  CHECK_THAT(fault_of_text("{ .reg .b32 own; mov.u32 own, 1; }\nmov.u32 own, 2;"), Contains("unknown name own"));
  CHECK(fault_of_text("{ .reg .b32 a; L: mov.u32 a, 1; }\n{ .reg .pred a; L: mov.pred a, 1; @a bra L; }").empty());
}

}  // namespace
}  // namespace dgrt::emulator
