// Masks of attn_decode and attn_extend: trees, random ones, rows that see nothing, against a reference in fp64;
// and bit for bit: a chain gives what the causal kernel gives, both encodings the same.
#include "tests/gpu/attn_decode_case.h"

namespace dgrt::test {
namespace {

constexpr uint32_t encodings[] = {DGRT_ATTN_MASK_BYTES, DGRT_ATTN_MASK_BITS,
                                  DGRT_ATTN_MASK_BYTES | DGRT_ATTN_MASK_SKIP_PREFIX,
                                  DGRT_ATTN_MASK_BITS | DGRT_ATTN_MASK_SKIP_PREFIX};

// Half of the encodings, with both ways to store bits and both kinds of prefix.
bool is_in_half(uint32_t flags) {
  return ((flags & DGRT_ATTN_MASK_BITS) != 0) == ((flags & DGRT_ATTN_MASK_SKIP_PREFIX) != 0);
}

DecodeCase masked(uint32_t op_id, MaskShape shape, uint32_t flags, Lens lens) {
  DecodeCase test;
  test.op_id = op_id, test.mask = shape, test.flags = flags;
  test.lens = std::move(lens);
  test.most_checked = 700;
  return test;
}

DecodeCase verify(MaskShape shape, uint32_t flags, Lens lens) {
  return masked(DGRT_OP_ATTN_DECODE, shape, flags, std::move(lens));
}
DecodeCase chunk(MaskShape shape, uint32_t flags, Lens lens) {
  return masked(DGRT_OP_ATTN_EXTEND, shape, flags, std::move(lens));
}

const Lens drafts = {{4, 1003}, {7, 37}, {16, 777}, {1, 64}, {0, 90}, {16, 2049}, {5, 3}, {3, 0}};
const Lens chunks = {{130, 777}, {64, 64}, {1, 333}, {0, 70}, {200, 1001}, {17, 9}, {70, 71}};

}  // namespace

TEST_CASE("attn_decode: trees and random masks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: trees and random masks");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const MaskShape shape : {MaskShape::tree, MaskShape::random, MaskShape::full})
      for (const uint32_t flags : encodings) {
        if (head_dim != 128 && !is_in_half(flags)) continue;
        DecodeCase test = verify(shape, flags | few_kernels_unless(head_dim == 128), drafts);
        test.head_dim_qk = test.head_dim_v = head_dim;
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_decode: masks with every ratio of heads, pages, windows, softcap and sinks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_decode: masks with every ratio of heads, pages, windows, softcap and sinks");
  if (!gpu) return;
  for (const uint32_t flags : encodings) {
    for (const int64_t group : {1, 3, 5, 8, 16, 100}) {
      DecodeCase test = verify(MaskShape::random, flags | few_kernels_unless(is_in_half(flags)), drafts);
      test.num_kv_heads = group >= 16 ? 1 : 3, test.num_q_heads = group * test.num_kv_heads;
      run_decode(*gpu, test);
      test.lens = {{40, 900}, {33, 33}};  // more tokens than a row tile has
      test.window_left = 45, test.page_size = 5;
      run_decode(*gpu, test);
    }
    for (const int64_t left : {0, 3, 100, 5000}) {
      DecodeCase test = verify(MaskShape::tree, flags | few_kernels_unless(false), drafts);
      test.window_left = left, test.sinks = true, test.softcap = left == 3 ? 20.0f : 0.0f;
      test.dtype = DGRT_FP16;
      run_decode(*gpu, test);
    }
  }
}

TEST_CASE("attn_extend: trees and random masks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: trees and random masks");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256, 512})
    for (const MaskShape shape : {MaskShape::tree, MaskShape::random, MaskShape::full})
      for (const uint32_t flags : encodings) {
        if (head_dim != 128 && !is_in_half(flags)) continue;
        DecodeCase test = chunk(shape, flags | few_kernels_unless(head_dim == 128), chunks);
        test.head_dim_qk = test.head_dim_v = head_dim;
        test.page_size = shape == MaskShape::tree ? 1 : 16;
        run_decode(*gpu, test);
      }
}

TEST_CASE("attn_extend: masks with windows, softcap and sinks", "[gpu]") {
  Gpu* gpu = gpu_for("attn_extend: masks with windows, softcap and sinks");
  if (!gpu) return;
  for (const uint32_t flags : encodings)
    for (const int64_t left : {0, 3, 100, 5000}) {
      DecodeCase test = chunk(MaskShape::random, flags | few_kernels_unless(false), chunks);
      test.window_left = left, test.sinks = true, test.softcap = left == 3 ? 20.0f : 0.0f;
      test.dtype = DGRT_FP16;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attention masks: what lies past mask_bytes is not set", "[gpu]") {
  Gpu* gpu = gpu_for("attention masks: what lies past mask_bytes is not set");
  if (!gpu) return;
  for (const uint32_t flags : encodings)
    for (const int64_t cut : {1, 3, 40, 1000}) {
      DecodeCase test = verify(MaskShape::full, flags, drafts);
      test.mask_bytes_cut = cut;
      run_decode(*gpu, test);
      test = chunk(MaskShape::full, flags, chunks);
      test.mask_bytes_cut = cut;
      run_decode(*gpu, test);
    }
}

TEST_CASE("attention masks: a chain is causal, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attention masks: a chain is causal, bitwise");
  if (!gpu) return;
  for (const int64_t head_dim : {64, 128, 256})
    for (const uint32_t flags : encodings)
      for (const uint32_t invariant : {0u, DGRT_FLAG_BATCH_INVARIANT}) {
        if (head_dim == 64 && invariant == 0) continue;  // three CTAs on an SM have no masks: other tiles
        DecodeCase test = verify(MaskShape::chain, flags | invariant, drafts);
        test.head_dim_qk = test.head_dim_v = head_dim;
        run_against_causal(*gpu, test);
      }
  for (const int64_t head_dim : {64, 128, 256})
    for (const uint32_t flags : encodings) {
      DecodeCase test = chunk(MaskShape::chain, flags | DGRT_FLAG_BATCH_INVARIANT, chunks);
      test.head_dim_qk = test.head_dim_v = head_dim;
      run_against_causal(*gpu, test);
    }
}

TEST_CASE("attention masks: repeats and sequences alone, bitwise", "[gpu]") {
  Gpu* gpu = gpu_for("attention masks: repeats and sequences alone, bitwise");
  if (!gpu) return;
  for (const uint32_t flags : encodings) {
    run_repeats(*gpu, verify(MaskShape::random, flags, {{16, 20001}, {4, 9000}, {1, 3}, {7, 64}}), 20);
    run_repeats(*gpu, chunk(MaskShape::random, flags, chunks), 10);
    run_one_by_one(*gpu, verify(MaskShape::tree, flags | DGRT_FLAG_BATCH_INVARIANT,
                                {{16, 20001}, {4, 9000}, {1, 3}, {7, 64}}));
    run_one_by_one(*gpu, chunk(MaskShape::tree, flags | DGRT_FLAG_BATCH_INVARIANT, chunks));
  }
}

TEST_CASE("attention masks: graph replay with other lengths", "[gpu]") {
  Gpu* gpu = gpu_for("attention masks: graph replay with other lengths");
  if (!gpu) return;
  for (const uint32_t flags : encodings) {
    run_graph_replay(*gpu, verify(MaskShape::tree, flags, {{4, 5000}, {4, 300}, {16, 4000}, {4, 16}, {4, 0}}),
                     {{5000, 300, 4000, 16, 0}, {1, 2, 3, 4, 0}, {0, 0, 3999, 0, 0}, {4999, 64, 0, 5, 0}});
    run_graph_replay(*gpu, chunk(MaskShape::tree, flags, {{40, 500}, {140, 300}, {64, 4000}}),
                     {{500, 300, 4000}, {1, 2, 3}, {0, 0, 3999}, {499, 64, 65}});
  }
}

TEST_CASE("attention masks: small sizes", "[gpu][emulated]") {
  Gpu* gpu = gpu_for("attention masks: small sizes");
  if (!gpu) return;
  run_decode(*gpu, verify(MaskShape::tree, DGRT_ATTN_MASK_BITS, {{4, 103}, {7, 37}, {0, 9}}));
  run_decode(*gpu, chunk(MaskShape::random, DGRT_ATTN_MASK_BYTES, {{40, 103}, {17, 9}}));
}

}  // namespace dgrt::test
