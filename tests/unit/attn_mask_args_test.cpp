// Masks of attn_decode and attn_extend on a driver that only takes notes: what reaches the kernel, and that each
// rule, broken, is refused by name.

#include "attention/sm90_attn_decode.cuh"
#include "attention/sm90_attn_extend.cuh"
#include "dgrt/attention.h"
#include "tests/support/args_check.h"

namespace dgrt::test {
namespace {

constexpr uint32_t masks[] = {DGRT_ATTN_MASK_BYTES, DGRT_ATTN_MASK_BITS,
                              DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_SKIP_PREFIX,
                              DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX};

template <class Desc>
Desc good_desc(Desc desc, uint32_t flags) {
  desc.num_q_heads = 8, desc.num_kv_heads = 4;
  desc.head_dim_qk = desc.head_dim_v = 128;
  desc.max_batch = 4, desc.max_q_len = 16, desc.max_kv_len = 8192;
  desc.dtype = DGRT_BF16, desc.flags = flags;
  return desc;
}

template <class Args>
Args good_args(Args args) {
  args.q = address<void>(0x1000), args.k = address<void>(0x2000);
  args.v = address<void>(0x3000), args.o = address<void>(0x4000);
  args.q_indptr = address<int32_t>(0x7004), args.seq_lens = address<int32_t>(0x8004);
  args.page_table = address<int32_t>(0x9004);
  args.batch = 2, args.total_q = 8, args.max_q_len = 4, args.max_kv_len = 2000;
  args.page_size = 16, args.num_pages = 1000, args.max_pages = 200, args.page_table_stride = 200;
  args.q_token_stride = args.o_token_stride = 8 * 128, args.q_head_stride = args.o_head_stride = 128;
  args.k_page_stride = args.v_page_stride = 16 * 4 * 128;
  args.k_token_stride = args.v_token_stride = 4 * 128, args.k_head_stride = args.v_head_stride = 128;
  args.scale = 0.125f;
  args.mask = address<void>(0xa001), args.mask_indptr = address<int64_t>(0xb008);
  args.mask_bytes = int64_t{1} << 40;
  return args;
}

template <class Params, class Desc, class Args>
void check_masks(const Desc& initial_desc, const Args& initial_args) {
  OpsFixture fixture;
  for (const uint32_t flags : masks) {
    const Desc desc = good_desc(initial_desc, flags);
    const auto plan = fixture.plan_of(&desc.op);
    Args args = good_args(initial_args);
    args.window_left = 7;
    const Status status = fixture.launch(*plan, &args.op);
    INFO(status.message());
    REQUIRE(status.is_ok());
    const auto p = last_params<Params>();
    CHECK(p.mask.elements == args.mask);
    CHECK(p.mask.indptr == args.mask_indptr);
    CHECK(p.mask.bytes == uint64_t{1} << 40);
    CHECK(p.window_left == 7);
    CHECK(p.window_right == attn_no_window);
    args.num_pages = args.max_pages = args.mask_bytes = 0, args.mask = nullptr;  // no keys
    CHECK(fixture.launch(*plan, &args.op).is_ok());
    check_breaches<Args>(
        fixture, &desc.op, good_args(initial_args),
        {{[](Args* x) { x->mask = nullptr; }, "mask=NULL: must point to device memory"},
         {[](Args* x) { x->mask_indptr = nullptr; }, "mask_indptr=NULL: must point to device memory"},
         {[](Args* x) { x->mask_indptr = address<int64_t>(0xb004); }, "mask_indptr=0xb004: must be 8-byte aligned"},
         {[](Args* x) { x->mask_bytes = -1; }, "mask_bytes=-1: must be 0 or more"},
         {[](Args* x) { x->mask_bytes = 0; }, "mask_bytes=0: must be at least 1"},
         {[](Args* x) { x->window_right = 3; }, "window_right=3: must be 0 or -1 with a mask"}});
  }
  const Desc plain = good_desc(initial_desc, 0);
  Args none = good_args(initial_args);
  none.mask = nullptr, none.mask_indptr = nullptr, none.mask_bytes = 0;
  check_breaches<Args>(fixture, &plain.op, none,
                       {{[](Args* x) { x->mask = address<void>(0xa000); }, "mask=0xa000: must be NULL without MASK_"},
                        {[](Args* x) { x->mask_indptr = address<int64_t>(0xb000); },
                         "mask_indptr=0xb000: must be NULL without MASK_"},
                        {[](Args* x) { x->mask_bytes = 5; }, "mask_bytes=5: must be 0 without MASK_"}});
}

template <class Desc>
std::string refusal(const Desc& desc) {
  const Result<const OpImpl*> op = find_op(&desc.op);
  REQUIRE(op.is_ok());
  return std::string(op.value()->check_desc(&desc.op).message());
}

}  // namespace

TEST_CASE("attn_decode: masks", "[unit]") {
  check_masks<sm90::attn_decode::Params>(dgrt_attn_decode_desc DGRT_ATTN_DECODE_DESC,
                                         dgrt_attn_decode_args DGRT_ATTN_DECODE_ARGS);
}

TEST_CASE("attn_extend: masks", "[unit]") {
  check_masks<sm90::attn_extend::Params>(dgrt_attn_extend_desc DGRT_ATTN_EXTEND_DESC,
                                         dgrt_attn_extend_args DGRT_ATTN_EXTEND_ARGS);
}

TEST_CASE("attn_extend: masks over new keys and late page tables", "[unit]") {
  OpsFixture fixture;
  for (const uint32_t flags : masks) {
    dgrt_attn_extend_args args = good_args(dgrt_attn_extend_args DGRT_ATTN_EXTEND_ARGS);
    args.kv_start = address<int32_t>(0xc004);
    const auto cached = good_desc(dgrt_attn_extend_desc DGRT_ATTN_EXTEND_DESC, flags);
    CHECK(fixture.launch(*fixture.plan_of(&cached.op), &args.op).is_ok());
    const auto desc = good_desc(dgrt_attn_extend_desc DGRT_ATTN_EXTEND_DESC, flags | DGRT_ATTN_NEW_KEYS);
    args.k_new = address<void>(0xd000), args.v_new = address<void>(0xe000);
    args.k_new_token_stride = args.v_new_token_stride = 4 * 128;
    args.k_new_head_stride = args.v_new_head_stride = 128;
    args.num_pages = 0;
    CHECK(fixture.launch(*fixture.plan_of(&desc.op), &args.op).is_ok());
    const auto p = last_params<sm90::attn_extend::Params>();
    CHECK(p.kv_start == args.kv_start);
    CHECK(p.mask.elements == args.mask);
    check_breaches<dgrt_attn_extend_args>(
        fixture, &desc.op, args,
        {{[](dgrt_attn_extend_args* x) { x->mask = nullptr; }, "mask=NULL: must point to device memory"},
         {[](dgrt_attn_extend_args* x) { x->mask_bytes = 0; }, "mask_bytes=0: must be at least 1 where there are keys"}});
  }
}

TEST_CASE("attention: flags of masks that do not go together", "[unit]") {
  const auto decode = [](uint32_t flags) {
    return refusal(good_desc(dgrt_attn_decode_desc DGRT_ATTN_DECODE_DESC, flags));
  };
  const auto extend = [](uint32_t flags) {
    return refusal(good_desc(dgrt_attn_extend_desc DGRT_ATTN_EXTEND_DESC, flags));
  };
  constexpr uint32_t both = DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_BITS;
  CHECK(decode(both) == "flags=0x180000: MASK_BYTES or MASK_BITS, not both");
  CHECK(extend(both) == "flags=0x180000: MASK_BYTES or MASK_BITS, not both");
  CHECK(decode(DGRT_ATTN_MASK_SKIP_PREFIX) == "flags=0x200000: MASK_SKIP_PREFIX needs MASK_BYTES or MASK_BITS");
  CHECK(extend(DGRT_ATTN_MASK_SKIP_PREFIX) == "flags=0x200000: MASK_SKIP_PREFIX needs MASK_BYTES or MASK_BITS");
  CHECK(refusal(good_desc(dgrt_attn_prefill_desc DGRT_ATTN_PREFILL_DESC, DGRT_ATTN_MASK_BITS))
            .find("flags=0x100000: attn_prefill knows") == 0);
}

}  // namespace dgrt::test
