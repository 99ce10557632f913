// Contexts, plans and where their kernels come from, without GPU and without compiler: caches are
// filled by hand, and a fake driver stands for CUDA's.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "runtime/engine/prepare.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/fake_cuda.h"

namespace dgrt {
namespace {

using test::base;
using test::EngineFixture;
using test::FakeArgs;
using test::FakeCuda;
using test::FakeDesc;
using test::ScopedEnv;

// A good call's pointer; nothing reads it.
int* const somewhere = reinterpret_cast<int*>(0x1000);

FakeArgs args_of(int64_t m) {
  FakeArgs args;
  args.out = somewhere;
  args.m = m;
  return args;
}

// Policy "any": entries of whichever compiler do.
struct WarmFixture : EngineFixture {
  explicit WarmFixture(const FakeDesc& of = {}) : desc(of) { fill_cache(desc); }
  ScopedEnv any{"DGRT_COMPILER", "any"};
  FakeDesc desc;
};

void check_status(const Status& status, dgrt_status code, const std::string& text) {
  INFO(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(text) != std::string::npos);
}

bool has_line(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

TEST_CASE("bad context options name field, value and rule", "[unit]") {
  const struct {
    void (*spoil)(dgrt_context_options*);
    dgrt_status code;
    const char* text;
  } cases[] = {
      {[](auto* o) { o->device = -2; }, DGRT_INVALID_ARGUMENT, "device=-2"},
      {[](auto* o) { o->arch = nullptr; }, DGRT_INVALID_ARGUMENT, "arch=NULL"},
      {[](auto* o) { o->arch = "hopper"; }, DGRT_INVALID_ARGUMENT, "arch=hopper"},
      {[](auto* o) { o->arch = "sm_"; }, DGRT_INVALID_ARGUMENT, "arch=sm_"},
      {[](auto* o) { o->arch = "sm_80"; }, DGRT_UNSUPPORTED, "arch=sm_80"},
      {[](auto* o) { o->sm_count = 0; }, DGRT_INVALID_ARGUMENT, "sm_count=0"},
      {[](auto* o) { o->sm_count = 1u << 20; }, DGRT_INVALID_ARGUMENT, "sm_count=1048576"},
      {[](auto* o) { o->miss_policy = 3; }, DGRT_INVALID_ARGUMENT, "miss_policy=3"},
      {[](auto* o) { o->log_level = 6; }, DGRT_INVALID_ARGUMENT, "log_level=6"},
  };
  for (const auto& bad : cases) {
    EngineFixture fixture;
    bad.spoil(&fixture.options);
    const auto context = Context::create(fixture.options, fixture.parts);
    REQUIRE_FALSE(context.is_ok());
    check_status(context.status(), bad.code, bad.text);
  }
  const ScopedEnv bad("DGRT_MISS", "never");
  EngineFixture fixture;
  check_status(Context::create(fixture.options, fixture.parts).status(), DGRT_INVALID_ARGUMENT,
               "DGRT_MISS=never");
}

TEST_CASE("a warm cache serves a plan without any compiler", "[unit]") {
  const auto is_mapped = [] {
    std::ifstream maps("/proc/self/maps");
    std::stringstream text;
    text << maps.rdbuf();
    return text.str().find("libnvrtc") != std::string::npos;
  };
  const bool was_mapped = is_mapped();  // by another test of this run
  WarmFixture fixture;
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, fixture.desc);
  const std::vector<PlannedKernel> expected = fixture.kernels_of(fixture.desc);
  REQUIRE(plan->kernels().size() == expected.size());
  CHECK(expected.size() == 8);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(plan->kernels()[i].key == expected[i].key.hex());
    CHECK(plan->kernels()[i].name == expected[i].instance.entry);
    CHECK(plan->kernels()[i].config == expected[i].config.to_string());
    CHECK(plan->kernels()[i].source == DGRT_SOURCE_DISK);
    CHECK(plan->kernels()[i].num_registers == 24);
  }
  CHECK(context->kernels().stats().disk_hits == 8);
  CHECK(context->kernels().stats().lookups == 8);
  CHECK(fixture.infos.size() == 8);
  CHECK(has_line(fixture.infos, "fake_big: kernel fake_big_b1 for sm_90a: disk in "));
  CHECK(fixture.warnings.empty());
  CHECK(is_mapped() == was_mapped);

  const auto again = fixture.plan(*context, fixture.desc);
  CHECK(again->kernels()[0].source == DGRT_SOURCE_MEMORY);
  CHECK(context->kernels().stats().memory_hits == 8);
  CHECK(fixture.infos.size() == 8);
}

TEST_CASE("a miss under the policy error names kernel and key", "[unit]") {
  for (const bool from_env : {true, false}) {
    EngineFixture fixture;
    const ScopedEnv miss("DGRT_MISS", from_env ? "error" : "compile");
    if (!from_env) fixture.options.miss_policy = DGRT_MISS_ERROR;  // options win
    const auto context = fixture.open();
    const FakeDesc desc;
    const auto plan = Plan::create(*context, base(desc));
    REQUIRE_FALSE(plan.is_ok());
    const PlannedKernel first = fixture.kernels_of(desc)[0];
    check_status(plan.status(), DGRT_MISS,
                 "kernel " + first.instance.entry + " (key " + first.key.hex() + ")");
    check_status(plan.status(), DGRT_MISS, "not in the cache directory " + fixture.cache_dir);
    CHECK(context->kernels().stats().compiles == 0);
  }
}

TEST_CASE("damaged entries are moved aside and are misses", "[unit]") {
  WarmFixture fixture;
  fixture.options.miss_policy = DGRT_MISS_ERROR;
  const std::vector<std::string> files = fixture.entry_files();
  REQUIRE(files.size() == 8);
  for (const std::string& file : files) EngineFixture::damage(file);
  const auto context = fixture.open();
  for (int i = 0; i < 2; ++i)
    check_status(Plan::create(*context, base(fixture.desc)).status(), DGRT_MISS, "fake_big_b1");
  CHECK(context->kernels().stats().quarantined == 1);
  CHECK(fixture.warnings.size() == 1);
  CHECK(fixture.entry_files().size() == 7);
}

TEST_CASE("an entry whose metadata is not of the kernel is moved aside", "[unit]") {
  for (const char* metadata : {"{}", "no json", R"({"kernel": "x", "num_registers": 1,
                               "spill_load_bytes": 0, "spill_store_bytes": 0})"}) {
    EngineFixture fixture;
    const ScopedEnv any("DGRT_COMPILER", "any");
    fixture.options.miss_policy = DGRT_MISS_ERROR;
    fixture.fill_cache({}, metadata);
    const auto context = fixture.open();
    check_status(Plan::create(*context, base(FakeDesc())).status(), DGRT_MISS, "fake_big_b1");
    CHECK(context->kernels().stats().quarantined == 1);
    CHECK(fixture.entry_files().size() == 7);
  }
}

TEST_CASE("an unusable cache directory is one warning, not an error", "[unit]") {
  EngineFixture fixture;
  const std::string file = fixture.dir.path() + "/file";
  std::ofstream(file) << "x";
  fixture.options.cache_dir = file.c_str();
  fixture.options.miss_policy = DGRT_MISS_ERROR;
  const auto context = fixture.open();
  REQUIRE(fixture.warnings.size() == 1);
  CHECK(fixture.warnings[0].find("memory only") != std::string::npos);
  check_status(Plan::create(*context, base(FakeDesc())).status(), DGRT_MISS, "no cache directory");
}

TEST_CASE("prepare tries everything, reports once per kernel and returns the first failure",
          "[unit]") {
  FakeDesc small_desc;
  small_desc.num_blocks = 3;
  WarmFixture fixture(small_desc);
  fixture.options.miss_policy = DGRT_MISS_ERROR;
  fixture.options.num_jobs = 4;
  const auto context = fixture.open();
  FakeDesc big_desc, bad_desc, unknown;
  bad_desc.max_m = -1;
  unknown.op.id = 77;
  struct Seen {
    std::set<std::string> kernels;
    std::vector<uint32_t> done;
    uint32_t num_failed = 0;
  } seen;
  const auto progress = [](const dgrt_progress* p, void* user) {
    auto* s = static_cast<Seen*>(user);
    s->kernels.insert(p->kernel);
    s->done.push_back(p->done);
    s->num_failed += p->status != DGRT_OK;
    CHECK(p->total == 8);
    CHECK((p->status == DGRT_OK) == (p->message[0] == '\0'));
    CHECK(p->source == (p->status == DGRT_OK ? DGRT_SOURCE_DISK : DGRT_SOURCE_NONE));
  };
  const dgrt_desc* const descs[] = {base(small_desc), base(big_desc), base(small_desc)};
  check_status(prepare(*context, descs, 3, progress, &seen), DGRT_MISS, "fake_big_b4");
  CHECK(seen.kernels.size() == 8);
  CHECK(seen.done == std::vector<uint32_t>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(seen.num_failed == 5);

  const dgrt_desc* const mixed[] = {base(small_desc), base(bad_desc), base(unknown), nullptr};
  check_status(prepare(*context, mixed, 4, nullptr, nullptr), DGRT_INVALID_ARGUMENT,
               "descs[1]: max_m=-1");
  check_status(prepare(*context, mixed + 2, 1, nullptr, nullptr), DGRT_INVALID_ARGUMENT,
               "desc.op.id=77");
  check_status(prepare(*context, mixed + 3, 1, nullptr, nullptr), DGRT_INVALID_ARGUMENT,
               "descs[0]: is NULL");
  CHECK(prepare(*context, descs, 1, nullptr, nullptr).is_ok());
  CHECK(prepare(*context, nullptr, 0, nullptr, nullptr).is_ok());
}

TEST_CASE("descs are checked before anything else", "[unit]") {
  EngineFixture fixture;
  const auto context = fixture.open();
  const auto status_of = [&](const FakeDesc& desc) {
    return Plan::create(*context, base(desc)).status();
  };
  FakeDesc desc;
  desc.op.id = 0;
  check_status(status_of(desc), DGRT_INVALID_ARGUMENT, "desc.op.id=0: no such op");
  desc = {};
  desc.op.struct_size = 6;
  check_status(status_of(desc), DGRT_INVALID_ARGUMENT, "desc.op.struct_size=6");
  desc.op.struct_size = 0xffffffff;
  check_status(status_of(desc), DGRT_INVALID_ARGUMENT, "desc.op.struct_size=4294967295");
  desc = {};
  desc.type = 3;
  check_status(status_of(desc), DGRT_UNSUPPORTED,
               "fake: no kernel takes these types (type=3: must be 1; type=3: must be 2)");
  desc = {};
  desc.reserved = 5;
  check_status(status_of(desc), DGRT_INVALID_ARGUMENT, "reserved=5");
  struct Longer {
    FakeDesc desc;
    uint32_t tail[2] = {0, 0};
  } longer;
  longer.desc.op.struct_size = sizeof(Longer);
  longer.tail[1] = 1;
  check_status(Plan::create(*context, base(longer.desc)).status(), DGRT_INVALID_ARGUMENT,
               fmt::format("desc: byte {} is not zero", sizeof(FakeDesc) + 4));
}

TEST_CASE("structs of older and newer callers are understood", "[unit]") {
  WarmFixture fixture;
  const auto context = fixture.open();
  struct LongDesc {
    FakeDesc desc;
    uint32_t tail[2] = {0, 0};
  } longer;
  longer.desc.op.struct_size = sizeof(LongDesc);
  const auto plan = fixture.plan(*context, longer.desc);
  FakeDesc shorter;
  shorter.op.struct_size = offsetof(FakeDesc, flags);
  shorter.flags = shorter.reserved = 99;  // beyond the caller's struct
  CHECK(Plan::create(*context, base(shorter)).is_ok());

  struct LongArgs {
    FakeArgs args = args_of(5);
    uint32_t tail[2] = {0, 0};
  } args;
  args.args.op.struct_size = sizeof(LongArgs);
  check_status(plan->launch(base(args.args), nullptr, 0, nullptr), DGRT_NO_DEVICE, "compile-only");
  args.tail[0] = 1;
  check_status(plan->launch(base(args.args), nullptr, 0, nullptr), DGRT_INVALID_ARGUMENT,
               "args: byte");
  FakeArgs short_args = args_of(5);
  short_args.op.struct_size = offsetof(FakeArgs, len);
  short_args.len = -7;
  check_status(plan->launch(base(short_args), nullptr, 0, nullptr), DGRT_NO_DEVICE, "compile-only");
}

TEST_CASE("bad args name field, value and rule", "[unit]") {
  FakeDesc of;
  of.num_vars = 2;
  of.num_blocks = 2;
  WarmFixture fixture(of);
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, fixture.desc);
  const auto launch = [&](const FakeArgs& args) {
    return plan->launch(base(args), nullptr, 0, nullptr);
  };
  FakeArgs args = args_of(1);
  args.op.id = 1;
  check_status(launch(args), DGRT_INVALID_ARGUMENT, "args.op.id=1: the plan is for op 9001 (fake)");
  args = args_of(1);
  args.op.struct_size = 0;
  check_status(launch(args), DGRT_INVALID_ARGUMENT, "args.op.struct_size=0");
  check_status(launch(args_of(-1)), DGRT_INVALID_ARGUMENT, "m=-1: must be 0 to 1000");
  check_status(launch(args_of(1001)), DGRT_INVALID_ARGUMENT, "m=1001: must be 0 to 1000");
  args = args_of(1);
  args.len = 1001;
  check_status(launch(args), DGRT_INVALID_ARGUMENT, "len=1001");
  args = args_of(1);
  args.out = nullptr;
  check_status(launch(args), DGRT_INVALID_ARGUMENT, "out=NULL");
  check_status(launch(args_of(1000)), DGRT_NO_DEVICE, "fake: the context is compile-only");
  dgrt_call_info info = DGRT_CALL_INFO;
  check_status(plan->query(base(args_of(-1)), &info), DGRT_INVALID_ARGUMENT, "m=-1");
  check_status(plan->query(base(args_of(1)), &info), DGRT_NO_DEVICE, "compile-only");
}

// A warm cache and the fake driver's device 0.
struct DeviceFixture : WarmFixture {
  explicit DeviceFixture(const FakeDesc& of = {}) : WarmFixture(of) {
    options.device = 0;
    options.arch = nullptr;
    options.sm_count = 0;
    parts.driver = FakeCuda::make();
    FakeCuda::params_bytes = sizeof(test::FakeParams);
  }
};

TEST_CASE("a launch passes what the op bound to the driver", "[unit]") {
  DeviceFixture fixture;
  {
    const auto context = fixture.open();
    CHECK(context->target().arch == "sm_90a");
    CHECK(context->target().sm_count == 132);
    const auto plan = fixture.plan(*context, fixture.desc);
    CHECK(FakeCuda::num_loaded == 8);
    CHECK(plan->kernels()[0].num_registers == 40);
    const CUstream stream = FakeCuda::stream_of(100);
    REQUIRE(plan->launch(base(args_of(300)), nullptr, 0, stream).is_ok());
    CHECK(FakeCuda::num_launches == 1);
    CHECK(FakeCuda::last_config.gridDimX == 3);
    CHECK(FakeCuda::last_config.blockDimX == 128);
    CHECK(FakeCuda::last_config.hStream == stream);
    test::FakeParams params;
    REQUIRE(FakeCuda::last_params.size() == sizeof(params));
    std::memcpy(&params, FakeCuda::last_params.data(), sizeof(params));
    CHECK(params.out == somewhere);
    CHECK(params.size == 300);
    CHECK(params.split ==
          plan->selection().choices[plan->selection().lookup({300, 0, 0})].config["split"]);

    dgrt_call_info info = DGRT_CALL_INFO;
    REQUIRE(plan->query(base(args_of(300)), &info).is_ok());
    CHECK(FakeCuda::num_launches == 1);
    CHECK(info.kernel_idx == plan->kernel_idx_of({300, 0, 0}));
    CHECK(info.grid[0] == 3);
    CHECK(info.block_m == 8);
    CHECK(info.smem_bytes == 16 * 8);

    CHECK(plan->launch(base(args_of(0)), nullptr, 0, stream).is_ok());
    CHECK(FakeCuda::num_launches == 1);
    FakeCuda::launch_result = CUDA_ERROR_INVALID_VALUE;
    check_status(plan->launch(base(args_of(1)), nullptr, 0, stream), DGRT_DRIVER_ERROR,
                 "cuLaunchKernelEx");
  }
  CHECK(FakeCuda::num_loaded == 0);
}

TEST_CASE("a plan of one config gives it to every call, and is not recorded", "[unit]") {
  DeviceFixture fixture;
  const test::TempDir dir;
  const std::string record = dir.path() + "/record.jsonl";
  const test::ScopedEnv recording("DGRT_RECORD", record);
  const auto context = fixture.open();
  const Config config = test::fake_big.candidates(base(fixture.desc), context->target(), {}).back();
  const auto plan = Plan::create(*context, base(fixture.desc), &config);
  REQUIRE(plan.is_ok());
  CHECK(plan.value()->kernels().size() == 1);
  for (const int64_t m : {1, 1000}) {
    const uint32_t choice = plan.value()->selection().lookup({m, 0, 0});
    CHECK(plan.value()->selection().choices[choice].config == config);
    CHECK(plan.value()->launch(base(args_of(m)), nullptr, 0, FakeCuda::stream_of(100)).is_ok());
  }
  CHECK(FakeCuda::num_launches == 2);
  CHECK(std::filesystem::file_size(record) == 0);
  const Config illegal = {{"block", -1}};
  CHECK_FALSE(Plan::create(*context, base(fixture.desc), &illegal).is_ok());
}

TEST_CASE("equal descs are chosen for once", "[unit]") {
  test::EngineFixture fixture;
  static int num_listed;
  num_listed = 0;
  OpImpl counted = test::fake_big;
  counted.candidates = [](const dgrt_desc* desc, const Target& target, const Point& point) {
    ++num_listed;
    return test::fake_big.candidates(desc, target, point);
  };
  const OpList ops = {&counted};
  fixture.parts.ops = &ops;
  FakeDesc desc;
  fixture.fill_cache(desc);
  const auto context = fixture.open();
  const auto first = fixture.plan(*context, desc);
  const int once = num_listed;
  CHECK(once > 0);
  const auto second = fixture.plan(*context, desc);
  CHECK(num_listed == once);
  CHECK(second->selection().cells == first->selection().cells);
  desc.num_blocks = 2;
  fixture.plan(*context, desc);
  CHECK(num_listed > once);
}

TEST_CASE("only streams of the context's device are accepted", "[unit]") {
  DeviceFixture fixture;
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, fixture.desc);
  const auto launch = [&](CUstream stream) {
    return plan->launch(base(args_of(1)), nullptr, 0, stream);
  };
  CHECK(launch(FakeCuda::stream_of(100)).is_ok());
  CHECK(launch(FakeCuda::stream_of(200)).is_ok());  // another context of the same device
  check_status(launch(FakeCuda::stream_of(101)), DGRT_INVALID_ARGUMENT, "belongs to CUDA device 1");
  check_status(launch(nullptr), DGRT_INVALID_ARGUMENT, "no current CUDA context");
  FakeCuda::current = 101;
  check_status(launch(nullptr), DGRT_INVALID_ARGUMENT, "belongs to CUDA device 1");
  CHECK(FakeCuda::current == 101);
  FakeCuda::current = 100;
  CHECK(launch(nullptr).is_ok());
  CHECK(launch(reinterpret_cast<CUstream>(uintptr_t{2})).is_ok());
  CHECK(FakeCuda::num_launches == 4);
}

TEST_CASE("workspace is checked per call", "[unit]") {
  FakeDesc of;
  of.workspace_per_m = 16;
  DeviceFixture fixture(of);
  const auto context = fixture.open();
  const auto plan = fixture.plan(*context, fixture.desc);
  CHECK(plan->workspace_bytes() == 16000);
  void* const workspace = reinterpret_cast<void*>(uintptr_t{1024});
  const CUstream stream = FakeCuda::stream_of(100);
  const auto launch = [&](int64_t m, void* pointer, size_t bytes) {
    return plan->launch(base(args_of(m)), pointer, bytes, stream);
  };
  check_status(launch(100, workspace, 1599), DGRT_WORKSPACE_TOO_SMALL,
               "workspace_bytes=1599: this call needs 1600, the plan at most 16000");
  check_status(launch(100, nullptr, 0), DGRT_WORKSPACE_TOO_SMALL, "needs 1600");
  check_status(launch(100, nullptr, 1600), DGRT_INVALID_ARGUMENT, "workspace=NULL");
  check_status(launch(100, static_cast<char*>(workspace) + 128, 1600), DGRT_INVALID_ARGUMENT,
               "must be aligned to 256 bytes");
  CHECK(FakeCuda::num_launches == 0);
  CHECK(launch(100, workspace, 1600).is_ok());
  CHECK(launch(1000, workspace, 16000).is_ok());
  CHECK(launch(0, nullptr, 0).is_ok());
  CHECK(FakeCuda::num_launches == 2);
  dgrt_call_info info = DGRT_CALL_INFO;
  REQUIRE(plan->query(base(args_of(100)), &info).is_ok());
  CHECK(info.workspace_bytes == 1600);
}

TEST_CASE("a context's arch and SM count must be the device's", "[unit]") {
  DeviceFixture fixture;
  fixture.options.arch = "sm_100a";
  check_status(Context::create(fixture.options, fixture.parts).status(), DGRT_INVALID_ARGUMENT,
               "device 0 is sm_90a");
  fixture.options.arch = "sm_90a";
  fixture.options.sm_count = 133;
  check_status(Context::create(fixture.options, fixture.parts).status(), DGRT_INVALID_ARGUMENT,
               "device 0 has 132");
  fixture.options.sm_count = 66;
  CHECK(fixture.open()->target().sm_count == 66);
  fixture.options.device = 2;
  check_status(Context::create(fixture.options, fixture.parts).status(), DGRT_NO_DEVICE,
               "device=2");
}

TEST_CASE("an image that the driver refuses stays in the cache", "[unit]") {
  DeviceFixture fixture;
  FakeCuda::load_result = CUDA_ERROR_NO_BINARY_FOR_GPU;
  const auto context = fixture.open();
  check_status(Plan::create(*context, base(fixture.desc)).status(), DGRT_DRIVER_TOO_OLD,
               "fake_big_b1");
  CHECK(context->kernels().stats().quarantined == 0);
  CHECK(fixture.entry_files().size() == 8);
  FakeCuda::load_result = CUDA_SUCCESS;  // failures are not remembered
  CHECK(Plan::create(*context, base(fixture.desc)).is_ok());
}

TEST_CASE("an image with other parameters than the host's is damage", "[unit]") {
  DeviceFixture fixture;
  fixture.options.miss_policy = DGRT_MISS_ERROR;
  FakeCuda::params_bytes = sizeof(test::FakeParams) + 8;
  const auto context = fixture.open();
  check_status(Plan::create(*context, base(fixture.desc)).status(), DGRT_MISS, "fake_big_b1");
  CHECK(context->kernels().stats().quarantined == 1);
  CHECK(fixture.entry_files().size() == 7);
  CHECK(FakeCuda::num_loaded == 0);
}

}  // namespace
}  // namespace dgrt
