"""Building descs and args: defaults, strides, and every way of passing a device address."""

import ctypes
import unittest

import dgrt
from dgrt import ops


class FakeTensor:
    def __init__(self, pointer):
        self.pointer = pointer

    def data_ptr(self):
        return self.pointer


class FakeArray:
    def __init__(self, pointer):
        self.__cuda_array_interface__ = {"data": (pointer, False), "shape": (1,), "version": 3}


class FakeDlpack:
    """Holds a DLManagedTensor (its DLTensor is the first member) and hands out a capsule of it."""

    def __init__(self, pointer, byte_offset):
        self.tensor = ops._DLTensor(data=pointer, byte_offset=byte_offset)

    def __dlpack__(self, *, stream=None):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


class Addresses(unittest.TestCase):
    def test_every_kind(self):
        self.assertIsNone(dgrt.address(None))
        self.assertEqual(dgrt.address(4096), 4096)
        self.assertEqual(dgrt.address(FakeTensor(4096)), 4096)
        self.assertEqual(dgrt.address(FakeArray(8192)), 8192)
        self.assertEqual(dgrt.address(FakeDlpack(1 << 40, 256)), (1 << 40) + 256)
        with self.assertRaises(TypeError):
            dgrt.address("4096")


class Builders(unittest.TestCase):
    def test_gemm_scale_mode_follows_the_type(self):
        fp8 = dgrt.gemm_desc(n=192, k=300, max_m=8, dtype_ab=dgrt.E4M3)
        bf16 = dgrt.gemm_desc(n=192, k=300, max_m=8, dtype_ab=dgrt.BF16)
        self.assertEqual((fp8.scale_mode, bf16.scale_mode), (dgrt.SCALE_BLOCK, dgrt.SCALE_NONE))
        self.assertEqual((fp8.op.id, fp8.op.struct_size), (dgrt.OP_GEMM, ctypes.sizeof(fp8)))

    def test_gemm_default_strides(self):
        desc = dgrt.gemm_desc(n=192, k=300, max_m=8, dtype_ab=dgrt.E4M3)
        args = dgrt.gemm_args(desc, a=16, b=32, d=48, a_scale=64, b_scale=80, m=5)
        self.assertEqual((args.lda, args.ldb, args.ldd, args.ldc), (300, 300, 192, 0))
        self.assertEqual((args.ld_a_scale, args.ld_b_scale), (8, 3))
        self.assertEqual((args.a, args.b_scale, args.c), (16, 80, None))
        desc.b_scale_major = dgrt.MN_MAJOR
        self.assertEqual(dgrt.gemm_args(desc, a=1, b=1, d=1, b_scale=1, m=5).ld_b_scale, 2)

    def test_bf16_gemm_has_no_scales_and_may_have_c(self):
        desc = dgrt.gemm_desc(n=64, k=32, max_m=8, dtype_ab=dgrt.BF16, flags=dgrt.GEMM_WITH_C)
        args = dgrt.gemm_args(desc, a=16, b=32, c=48, d=64, m=5)
        self.assertEqual((args.ldc, args.ld_a_scale, args.ld_b_scale), (64, 0, 0))

    def test_gemm_strides_follow_majors_scales_and_heads(self):
        desc = dgrt.gemm_desc(n=512, k=300, max_m=8, dtype_ab=dgrt.FP16, a_major=dgrt.MN_MAJOR,
                              b_major=dgrt.MN_MAJOR, head_left=128, head_mid=64, head_right=128)
        args = dgrt.gemm_args(desc, a=16, b=32, d=48, bias=64, m=5)
        self.assertEqual((args.lda, args.ldb, args.ldd, args.bias), (5, 512, 640, 64))
        self.assertEqual(desc.dtype_d, dgrt.FP16)
        desc = dgrt.gemm_desc(n=190, k=300, max_m=8, dtype_ab=dgrt.E4M3, scale_mode=dgrt.SCALE_ROW)
        args = dgrt.gemm_args(desc, a=16, b=32, d=48, a_scale=64, b_scale=80, m=5)
        self.assertEqual((args.ld_a_scale, args.ld_b_scale), (8, 192))
        desc.scale_mode = dgrt.SCALE_CHANNEL
        args = dgrt.gemm_args(desc, a=16, b=32, d=48, a_scale=64, b_scale=80, m=5, ld_b_scale=0)
        self.assertEqual((args.ld_a_scale, args.ld_b_scale), (1, 0))

    def test_grouped_default_strides(self):
        fp8 = dict(n=192, k=300, max_m=64, dtype_ab=dgrt.E4M3)
        desc = dgrt.gemm_grouped_contiguous_desc(num_groups=4, **fp8)
        args = dgrt.gemm_grouped_contiguous_args(desc, a=16, b=32, d=48, a_scale=64, b_scale=80,
                                                 groups=96, m=5)
        self.assertEqual((args.lda, args.ldb, args.ldd, args.groups), (300, 300, 192, 96))
        self.assertEqual((args.b_group_stride, args.b_scale_group_stride), (192 * 300, 6))
        self.assertEqual((desc.num_groups, desc.alignment), (4, 128))
        desc = dgrt.gemm_grouped_masked_desc(num_groups=4, **fp8)
        args = dgrt.gemm_grouped_masked_args(desc, a=16, b=32, d=48, a_scale=64, b_scale=80,
                                             masked_m=96, m=5, expected_m=3, d_group_stride=8000)
        self.assertEqual((args.a_group_stride, args.d_group_stride), (1500, 8000))
        self.assertEqual((args.a_scale_group_stride, args.expected_m, args.signal), (24, 3, None))
        desc = dgrt.gemm_batched_desc(num_batches=4, n=192, k=300, max_m=8, dtype_ab=dgrt.BF16,
                                      b_major=dgrt.MN_MAJOR)
        args = dgrt.gemm_batched_args(desc, a=16, b=32, d=48, m=5)
        self.assertEqual((args.ldb, args.c_batch_stride, args.d_batch_stride), (192, 0, 960))
        with self.assertRaises(TypeError):
            dgrt.gemm_batched_args(desc, a=16, b=32, d=48, m=5, a_group_stride=1)
        desc.flags = dgrt.GEMM_SUM_BATCHES
        args = dgrt.gemm_batched_args(desc, a=16, b=32, c=64, d=48, m=5)
        self.assertEqual((args.a_batch_stride, args.b_batch_stride), (1500, 192 * 300))
        self.assertEqual((args.ldc, args.c_batch_stride, args.d_batch_stride), (192, 0, 0))

    def test_fused_linear_types_and_strides(self):
        desc = dgrt.gemm_fused_linear_desc(n=[64, 8, 4], k=128, max_m=9, dtype_ab=dgrt.BF16)
        self.assertEqual((desc.num_segments, desc.dtype_d), (3, dgrt.BF16))
        desc = dgrt.gemm_fused_linear_desc(n=[64, 8, 4], k=128, max_m=9, dtype_ab=dgrt.BF16,
                                           dtype_d=dgrt.FP32)
        self.assertEqual((desc.dtype_ab, desc.dtype_d), (dgrt.BF16, dgrt.FP32))
        args = dgrt.gemm_fused_linear_args(desc, a=16, b=32, d=[48, 64, 80], m=5)
        self.assertEqual((args.lda, args.ldb, list(args.ldd)[:4]), (128, 128, [64, 8, 4, 0]))

    def test_quant_and_layout_default_strides(self):
        desc = dgrt.quant_fp8_desc(k=300, max_m=300)
        self.assertEqual(dgrt.quant_fp8_args(desc, x=1, q=1, scale=1, m=257).ld_scale, 260)
        desc.scale_major = dgrt.K_MAJOR
        self.assertEqual(dgrt.quant_fp8_args(desc, x=1, q=1, scale=1, m=257).ld_scale, 3)
        desc = dgrt.quant_fp8_desc(k=300, max_m=300, block=dgrt.QUANT_128X128)
        self.assertEqual(dgrt.quant_fp8_args(desc, x=1, q=1, scale=1, m=257).ld_scale, 4)
        desc = dgrt.scale_layout_desc(k_blocks=3, max_m=300)
        args = dgrt.scale_layout_args(desc, src=1, dst=1, m=5)
        self.assertEqual((args.ld_src, args.ld_dst), (3, 8))
        self.assertEqual((args.group_stride_src, args.group_stride_dst), (15, 24))
        desc = dgrt.scale_layout_desc(k_blocks=3, max_m=300, src_major=dgrt.MN_MAJOR, num_groups=2)
        args = dgrt.scale_layout_args(desc, src=1, dst=1, m=5)
        self.assertEqual((args.ld_src, args.group_stride_src), (5, 15))

    def test_scale_pack_strides_and_order(self):
        desc = dgrt.scale_pack_ue8m0_desc(k_blocks=57, max_m=300, num_groups=4)
        args = dgrt.scale_pack_ue8m0_args(desc, src=1, dst=1, m=5)
        self.assertEqual((desc.src_major, args.ld_src, args.ld_dst), (dgrt.K_MAJOR, 57, 8))
        self.assertEqual((args.group_stride_src, args.group_stride_dst), (285, 120))
        desc = dgrt.scale_pack_ue8m0_desc(k_blocks=64, max_m=300, num_groups=4, gran_k=128,
                                          flags=dgrt.SCALE_K_GROUPED | dgrt.SCALE_CEIL)
        args = dgrt.scale_pack_ue8m0_args(desc, src=1, dst=1, ks=16, m=5, k_blocks=48)
        self.assertEqual((desc.src_major, args.ld_src, args.ks), (dgrt.MN_MAJOR, 5, 16))

    def test_hc_prenorm_default_strides(self):
        desc = dgrt.hc_prenorm_desc(k=7168, max_m=300, max_splits=16)
        args = dgrt.hc_prenorm_args(desc, x=1, w=1, z=1, q=1, m=5, num_splits=4)
        self.assertEqual((desc.n, args.ldx, args.ldz), (24, 7168, 24))
        self.assertEqual((args.z_split_stride, args.q_split_stride), (120, 5))
        desc = dgrt.hc_prenorm_weights_desc(k=7168)
        self.assertEqual(dgrt.hc_prenorm_weights_args(desc, f=1, w=1).ldf, 7168)

    def test_attn_merge_and_kv_append_default_strides(self):
        desc = dgrt.attn_merge_desc(num_heads=16, head_dim=128, max_tokens=100, max_parts=4)
        args = dgrt.attn_merge_args(desc, part_o=1, part_lse=1, o=1, tokens=10, num_parts=3)
        self.assertEqual((desc.dtype_part, desc.dtype_o), (dgrt.FP32, dgrt.BF16))
        self.assertEqual((args.part_o_part_stride, args.part_o_token_stride), (20480, 2048))
        self.assertEqual((args.part_lse_part_stride, args.lse_token_stride), (160, 16))
        desc = dgrt.kv_append_desc(num_kv_heads=8, head_dim_qk=192, head_dim_v=128, max_tokens=100)
        args = dgrt.kv_append_args(desc, k=1, v=1, k_cache=1, v_cache=1, slot_mapping=1, tokens=5,
                                   page_size=16, num_pages=9, k_cache_head_stride=3072)
        self.assertEqual((desc.dtype, desc.dtype_cache), (dgrt.BF16, dgrt.BF16))
        self.assertEqual((args.k_token_stride, args.v_head_stride), (1536, 128))
        self.assertEqual((args.v_cache_page_stride, args.k_cache_head_stride), (16384, 3072))
        self.assertEqual((args.k_scale_head_stride, args.k_scale), (0, None))

    def test_topk_transform_default_strides(self):
        desc = dgrt.topk_transform_desc(top_k=512, max_rows=100, max_columns=10000)
        args = dgrt.topk_transform_args(desc, scores=1, lengths=1, slots=1, page_table=1, rows=5, columns=5001,
                                        page_size=64, num_pages=79, slots_row_stride=1024)
        self.assertEqual((desc.top_k, args.positions, args.columns), (512, None, 5001))
        self.assertEqual((args.scores_row_stride, args.page_table_row_stride), (5004, 79))
        self.assertEqual((args.positions_row_stride, args.slots_row_stride), (512, 1024))

    def test_quantised_caches_default_strides(self):
        desc = dgrt.mla_kv_append_desc(max_tokens=100, format=dgrt.MLA_KV_V4)
        args = dgrt.mla_kv_append_args(desc, latent=1, rotary=1, cache=1, slot_mapping=1, tokens=5, page_size=256,
                                       num_pages=9)
        self.assertEqual((args.latent_token_stride, args.rotary_token_stride), (512, 512))
        self.assertEqual(args.cache_page_stride, 149760)
        desc = dgrt.kv_dequant_paged_desc(max_rows=100, max_batch=4, format=dgrt.MLA_KV_V32)
        args = dgrt.kv_dequant_paged_args(desc, cache=1, out=1, rows=10, page_size=64, num_pages=9, seq_lens=1,
                                          page_table=1, batch=3, max_pages=2)
        self.assertEqual((args.out_row_stride, args.out_sequence_stride), (576, 5760))
        self.assertEqual((args.cache_page_stride, args.page_table_row_stride, args.slots), (41984, 2, None))

    def test_indices_default_strides(self):
        desc = dgrt.build_swa_token_ids_desc(window=128, max_batch=4, max_capacity=1000)
        args = dgrt.build_swa_token_ids_args(desc, seq_lens=1, extend_lens=1, request_rows=1, req_to_token=1,
                                             full_to_swa=1, token_ids=1, first=1, gather_lens=1, offsets=1, batch=3,
                                             capacity=900, num_request_rows=8, max_tokens=77, num_full=100)
        self.assertEqual((desc.window, args.req_to_token_row_stride), (128, 77))
        desc = dgrt.combine_topk_swa_indices_desc(window=128, ratio=4, max_tokens=100)
        args = dgrt.combine_topk_swa_indices_args(desc, query_start_loc=1, seq_lens=1, gather_lens=1,
                                                  compressed_base=1, swa_base=1, indices=1, lengths=1, tokens=5,
                                                  batch=1, top_k=510, topk_indices=1)
        self.assertEqual((args.width, args.topk_row_stride, args.indices_row_stride), (640, 512, 640))

    def test_attn_decode_over_an_e4m3_cache(self):
        desc = dgrt.attn_decode_desc(num_q_heads=32, num_kv_heads=8, head_dim_qk=128, max_batch=4,
                                     max_kv_len=4096, dtype_kv=dgrt.E4M3)
        args = dgrt.attn_decode_args(desc, q=1, k=1, v=1, o=1, q_indptr=1, page_table=1, seq_lens=1, batch=4,
                                     total_q=4, page_size=16, num_pages=9, max_pages=3, k_scale=4, v_scale=8,
                                     k_scale_head_stride=1)
        self.assertEqual((desc.dtype, desc.dtype_kv), (dgrt.BF16, dgrt.E4M3))
        self.assertEqual((args.k_scale, args.k_scale_head_stride, args.v_scale_head_stride), (4, 1, 0))

    def test_logits_default_strides(self):
        desc = dgrt.mqa_logits_desc(max_tokens=100, max_kv_tokens=1000)
        args = dgrt.mqa_logits_args(desc, q=1, kv=1, kv_scale=1, w=1, ks=1, ke=1, out=1, tokens=5, kv_tokens=700)
        self.assertEqual((desc.dtype_out, args.w_token_stride, args.out_token_stride), (dgrt.FP32, 64, 700))
        desc = dgrt.mqa_logits_desc(max_tokens=100, max_kv_tokens=1000, flags=dgrt.LOGITS_COMPRESSED)
        args = dgrt.mqa_logits_args(desc, q=1, kv=1, kv_scale=1, w=1, ks=1, ke=1, out=1, tokens=5, kv_tokens=700,
                                    max_k=300)
        self.assertEqual(args.out_token_stride, 300)
        desc = dgrt.paged_mqa_logits_desc(max_batch=4, max_context_len=1000, next_n=2)
        args = dgrt.paged_mqa_logits_args(desc, q=1, kv_cache=1, w=1, context_lens=1, page_table=1, out=1, batch=3,
                                          num_pages=50, max_pages=16)
        self.assertEqual((args.max_context_len, args.out_token_stride), (1000, 1000))
        self.assertEqual((args.kv_page_stride, args.page_table_stride), (64 * 132, 16))

    def test_attention_over_new_keys_and_with_pages_checked(self):
        for make_desc, make_args in ((dgrt.attn_decode_desc, dgrt.attn_decode_args),
                                     (dgrt.attn_extend_desc, dgrt.attn_extend_args)):
            desc = make_desc(num_q_heads=32, num_kv_heads=8, head_dim_qk=192, head_dim_v=128, max_batch=4, max_q_len=4,
                             max_kv_len=4096, flags=dgrt.ATTN_NEW_KEYS | dgrt.ATTN_CHECK_PAGES)
            args = make_args(desc, q=1, k=1, v=1, o=1, q_indptr=1, page_table=1, seq_lens=1, batch=4, total_q=4,
                             page_size=16, num_pages=9, max_pages=3, k_new=32, v_new=48, v_new_token_stride=2048,
                             page_error=64)
            self.assertEqual((args.k_new, args.v_new, args.page_error), (32, 48, 64))
            self.assertEqual((args.k_new_token_stride, args.k_new_head_stride), (8 * 192, 192))
            self.assertEqual((args.v_new_token_stride, args.v_new_head_stride), (2048, 128))

    def test_attn_prefill_over_e4m3_keys(self):
        desc = dgrt.attn_prefill_desc(num_q_heads=32, num_kv_heads=8, head_dim_qk=128, max_batch=4,
                                      max_q_len=4096, dtype_kv=dgrt.E4M3)
        args = dgrt.attn_prefill_args(desc, q=1, k=1, v=1, o=1, q_indptr=1, kv_indptr=1, batch=4, total_q=40,
                                      total_kv=40, k_scale=4, v_scale=8, v_scale_head_stride=1)
        self.assertEqual((desc.dtype, desc.dtype_kv), (dgrt.BF16, dgrt.E4M3))
        self.assertEqual((args.v_scale, args.k_scale_head_stride, args.v_scale_head_stride), (8, 0, 1))

    def test_mla_decode_strides(self):
        desc = dgrt.mla_decode_desc(num_q_heads=16, max_batch=4, max_q_len=2, max_kv_len=4096)
        args = dgrt.mla_decode_args(desc, q=1, kv=1, o=1, q_indptr=1, page_table=1, seq_lens=1, batch=4, total_q=4,
                                    page_size=64, num_pages=9, max_pages=3, scale=0.1, kv_page_stride=40000)
        self.assertEqual((desc.head_dim_qk, desc.head_dim_v, desc.num_kv_heads), (576, 512, 1))
        self.assertEqual((args.kv_page_stride, args.kv_token_stride, args.o_token_stride), (40000, 576, 8192))
        self.assertEqual((args.max_q_len, args.max_kv_len, args.causal, args.lse), (2, 192, 1, None))

    def test_mla_sparse_prefill_strides(self):
        desc = dgrt.mla_sparse_prefill_desc(num_heads=64, head_dim_qk=512, max_tokens=8192, max_top_k=640)
        args = dgrt.mla_sparse_prefill_args(desc, q=1, kv=1, indices=1, o=1, tokens=4, kv_rows=900, top_k=640,
                                            scale=0.1, sinks=8, indices_row_stride=1152)
        self.assertEqual((desc.head_dim_qk, desc.head_dim_v, desc.dtype), (512, 512, dgrt.BF16))
        self.assertEqual((args.q_token_stride, args.kv_row_stride, args.indices_row_stride), (64 * 512, 512, 1152))
        self.assertEqual((args.sinks, args.lengths, args.lse, args.lse_token_stride), (8, None, None, 64))

    def test_mla_decode_over_e4m3(self):
        desc = dgrt.mla_decode_desc(num_q_heads=16, max_batch=4, max_kv_len=4096, dtype_kv=dgrt.E4M3, dtype_q=dgrt.E4M3)
        args = dgrt.mla_decode_args(desc, q=1, kv=1, o=1, q_indptr=1, page_table=1, seq_lens=1, batch=4, total_q=4,
                                    page_size=64, num_pages=9, max_pages=3, scale=0.1, q_scale=4, kv_scale=8)
        self.assertEqual((desc.dtype, desc.dtype_kv, desc.dtype_q), (dgrt.BF16, dgrt.E4M3, dgrt.E4M3))
        self.assertEqual((args.q_scale, args.kv_scale), (4, 8))

    def test_mla_sparse_decode_strides(self):
        desc = dgrt.mla_sparse_decode_desc(num_q_heads=64, max_tokens=8, max_keys=640, format=dgrt.MLA_KV_V4)
        args = dgrt.mla_sparse_decode_args(desc, q=1, o=1, batch=4, q_len=2, top_k=128, extra_top_k=512, scale=0.1,
                                           cache=1, indices=1, page_size=256, num_pages=9, extra_cache=1,
                                           extra_indices=1, extra_page_size=2, extra_num_pages=9,
                                           extra_indices_token_stride=600, lengths_per_token=True)
        self.assertEqual((args.cache_page_stride, args.extra_cache_page_stride), (149760, 1728))
        self.assertEqual((args.indices_token_stride, args.extra_indices_token_stride), (128, 600))
        self.assertEqual((args.q_token_stride, args.o_token_stride, args.lse_token_stride), (64 * 512, 64 * 512, 64))
        self.assertEqual((args.lengths_per_token, args.lengths, args.sinks), (1, None, None))

    def test_unknown_keywords_are_refused(self):
        with self.assertRaises(TypeError):
            dgrt.gemm_desc(n=1, k=1, max_m=1, dtype_ab=dgrt.BF16, transpose=True)


if __name__ == "__main__":
    unittest.main()
