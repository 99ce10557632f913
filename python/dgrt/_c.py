"""The C API of dgrt.h and the ops' headers as ctypes: structs, constants, prototypes, and finding the library.

Everything here mirrors a header line by line; tests/test_structs.py compiles a C program against the
headers and compares every size, offset and constant. No behaviour lives here."""

import ctypes
import pathlib
from ctypes import (CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int32,
                    c_int64, c_size_t, c_uint32, c_uint64, c_void_p)

CONSTANTS = {
    # dgrt_status
    "OK": 0, "INVALID_ARGUMENT": 1, "UNSUPPORTED": 2, "NO_DEVICE": 3, "NO_COMPILER": 4, "MISS": 5,
    "COMPILE_FAILED": 6, "DRIVER_ERROR": 7, "DRIVER_TOO_OLD": 8, "WORKSPACE_TOO_SMALL": 9,
    "IO_ERROR": 10, "PEER_LOST": 11, "INTERNAL": 12,
    # op ids
    "OP_GEMM": 1, "OP_QUANT_FP8": 2, "OP_SCALE_LAYOUT": 3, "OP_GEMM_GROUPED_CONTIGUOUS": 4,
    "OP_GEMM_GROUPED_MASKED": 5, "OP_GEMM_GROUPED_K": 6, "OP_GEMM_BATCHED": 7,
    "OP_GEMM_FUSED_LINEAR": 8,
    "OP_SCALE_PACK_UE8M0": 11,
    "OP_HC_PRENORM": 9, "OP_HC_PRENORM_WEIGHTS": 10, "OP_ATTN_PREFILL": 12,
    "OP_ATTN_DECODE": 13, "OP_ATTN_EXTEND": 14, "OP_ATTN_MERGE": 15, "OP_KV_APPEND": 16,
    "OP_MLA_DECODE": 17, "OP_MQA_LOGITS": 18, "OP_PAGED_MQA_LOGITS": 19,
    "OP_TOPK_TRANSFORM": 21, "OP_KV_DEQUANT_PAGED": 22, "OP_BUILD_SWA_TOKEN_IDS": 23,
    "OP_COMBINE_TOPK_SWA_INDICES": 24, "OP_MLA_KV_APPEND": 25, "OP_MLA_SPARSE_DECODE": 26,
    "OP_MLA_SPARSE_PREFILL": 27,
    # dgrt_dtype
    "BF16": 1, "FP16": 2, "FP32": 3, "E4M3": 4,
    # flags
    "FLAG_PDL": 1 << 0, "FLAG_BATCH_INVARIANT": 1 << 1,
    "GEMM_WITH_C": 1 << 16, "GEMM_WITH_BIAS": 1 << 17, "GEMM_UNALIGNED_D": 1 << 18,
    "GEMM_SIGNAL": 1 << 19, "GEMM_SUM_BATCHES": 1 << 20,
    # dgrt_log_level
    "LOG_DEFAULT": 0, "LOG_DEBUG": 1, "LOG_INFO": 2, "LOG_WARN": 3, "LOG_ERROR": 4, "LOG_OFF": 5,
    # dgrt_miss_policy
    "MISS_DEFAULT": 0, "MISS_COMPILE": 1, "MISS_ERROR": 2,
    "DEVICE_NONE": -1,
    # dgrt_source
    "SOURCE_NONE": 0, "SOURCE_MEMORY": 1, "SOURCE_DISK": 2, "SOURCE_COMPILED": 3,
    # gemm.h
    "SCALE_NONE": 0, "SCALE_BLOCK": 1, "SCALE_ROW": 2, "SCALE_CHANNEL": 3,
    "K_MAJOR": 0, "MN_MAJOR": 1, "GROUP_OF_ROW": 0, "GROUP_END_ROW": 1,
    "QUANT_1X128": 0, "QUANT_128X128": 1,
    "SCALE_CEIL": 1 << 16, "SCALE_K_GROUPED": 1 << 17,
    # attention.h
    "ATTN_SOFTCAP": 1 << 16, "ATTN_LSE_BASE2": 1 << 17, "ATTN_LSE_WITH_SINK": 1 << 18,
    "ATTN_MASK_BYTES": 1 << 19, "ATTN_MASK_BITS": 1 << 20, "ATTN_MASK_SKIP_PREFIX": 1 << 21,
    "ATTN_NEW_KEYS": 1 << 23, "ATTN_CHECK_PAGES": 1 << 24,
    "KV_SLOTS_INT64": 1 << 16,
    # mla.h, whose structs are in _c_mla.py
    "MLA_LSE_BASE2": 1 << 17, "MLA_LSE_EMPTY_INF": 1 << 24, "MLA_NO_SPLIT": 1 << 25,
    "MLA_KV_V32": 1, "MLA_KV_V4": 2,
    # indexer.h
    "LOGITS_CLEAN": 1 << 16, "LOGITS_COMPRESSED": 1 << 17,
}


class Op(Structure):
    _fields_ = [("id", c_uint32), ("struct_size", c_uint32)]


LogFn = CFUNCTYPE(None, c_uint32, c_char_p, c_void_p)


class ContextOptions(Structure):
    _fields_ = [("struct_size", c_uint32), ("device", c_int32), ("arch", c_char_p),
                ("sm_count", c_uint32), ("miss_policy", c_uint32), ("cache_dir", c_char_p),
                ("num_jobs", c_uint32), ("log_level", c_uint32), ("log_fn", LogFn),
                ("log_user", c_void_p), ("cache_ro_path", c_char_p), ("bundle_path", c_char_p),
                ("bundle_digest", c_char_p), ("cache_max_bytes", c_uint64),
                ("worker_path", c_char_p), ("bundle_public_key", c_char_p),
                ("compile_timeout_s", c_uint32), ("reserved", c_uint32)]


class Stats(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("lookups", c_uint64),
                ("memory_hits", c_uint64), ("disk_hits", c_uint64), ("compiles", c_uint64),
                ("compile_failures", c_uint64), ("shared_waits", c_uint64),
                ("quarantined", c_uint64), ("publish_failures", c_uint64),
                ("kernel_loads", c_uint64), ("compile_ms", c_double), ("evicted", c_uint64),
                ("evicted_bytes", c_uint64), ("launch_compiles", c_uint64),
                ("launch_loads", c_uint64)]


class ProgressStruct(Structure):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("done", c_uint32),
                ("total", c_uint32), ("kernel", c_char_p), ("message", c_char_p),
                ("source", c_uint32), ("ms", c_float)]


ProgressFn = CFUNCTYPE(None, POINTER(ProgressStruct), c_void_p)


class KernelInfoStruct(Structure):
    _fields_ = [("name", c_char_p), ("key", c_char_p), ("config", c_char_p),
                ("source", c_uint32), ("num_registers", c_uint32)]


class PlanInfoStruct(Structure):
    _fields_ = [("struct_size", c_uint32), ("num_kernels", c_uint32),
                ("kernels", POINTER(KernelInfoStruct)), ("workspace_bytes", c_uint64),
                ("state_bytes", c_uint64)]


class CallInfoStruct(Structure):
    _fields_ = [("struct_size", c_uint32), ("kernel_idx", c_uint32), ("grid", c_uint32 * 3),
                ("cluster", c_uint32 * 3), ("num_threads", c_uint32), ("smem_bytes", c_uint32),
                ("block_m", c_uint32), ("completion_threshold", c_uint32),
                ("workspace_bytes", c_uint64)]


class Target(Structure):
    _fields_ = [("struct_size", c_uint32), ("sm_count", c_uint32), ("arch", c_char_p)]


class KeyInfoStruct(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("key", c_char_p),
                ("kernel", c_char_p), ("config", c_char_p)]


KeyFn = CFUNCTYPE(c_int, POINTER(KeyInfoStruct), c_void_p)


class GemmDesc(Structure):
    op_id = CONSTANTS["OP_GEMM"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("max_m", c_int64),
                ("dtype_ab", c_uint32), ("dtype_d", c_uint32), ("scale_mode", c_uint32),
                ("b_scale_major", c_uint32), ("sm_budget", c_uint32), ("flags", c_uint32),
                ("a_major", c_uint32), ("b_major", c_uint32), ("max_block_m", c_uint32),
                ("max_block_n", c_uint32), ("head_left", c_uint32), ("head_mid", c_uint32),
                ("head_right", c_uint32), ("reserved", c_uint32)]


class GemmArgs(Structure):
    op_id = CONSTANTS["OP_GEMM"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("c", c_void_p),
                ("a_scale", c_void_p), ("b_scale", c_void_p), ("d", c_void_p), ("m", c_int64),
                ("lda", c_int64), ("ldb", c_int64), ("ldc", c_int64), ("ldd", c_int64),
                ("ld_a_scale", c_int64), ("ld_b_scale", c_int64), ("bias", c_void_p)]


class GemmGroupedContiguousDesc(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_CONTIGUOUS"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("max_m", c_int64),
                ("num_groups", c_uint32), ("dtype_ab", c_uint32), ("dtype_d", c_uint32),
                ("scale_mode", c_uint32), ("b_scale_major", c_uint32), ("b_major", c_uint32),
                ("group_layout", c_uint32), ("alignment", c_uint32), ("sm_budget", c_uint32),
                ("flags", c_uint32), ("max_block_m", c_uint32), ("max_block_n", c_uint32)]


class GemmGroupedContiguousArgs(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_CONTIGUOUS"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("a_scale", c_void_p),
                ("b_scale", c_void_p), ("d", c_void_p), ("groups", c_void_p), ("m", c_int64),
                ("lda", c_int64), ("ldb", c_int64), ("ldd", c_int64), ("ld_a_scale", c_int64),
                ("ld_b_scale", c_int64), ("b_group_stride", c_int64),
                ("b_scale_group_stride", c_int64)]


class GemmGroupedMaskedDesc(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_MASKED"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("max_m", c_int64),
                ("num_groups", c_uint32), ("dtype_ab", c_uint32), ("dtype_d", c_uint32),
                ("scale_mode", c_uint32), ("b_scale_major", c_uint32), ("b_major", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("max_block_m", c_uint32),
                ("max_block_n", c_uint32), ("reserved", c_uint32)]


class GemmGroupedMaskedArgs(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_MASKED"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("a_scale", c_void_p),
                ("b_scale", c_void_p), ("d", c_void_p), ("masked_m", c_void_p),
                ("signal", c_void_p), ("m", c_int64), ("expected_m", c_int64), ("lda", c_int64),
                ("ldb", c_int64), ("ldd", c_int64), ("ld_a_scale", c_int64),
                ("ld_b_scale", c_int64), ("a_group_stride", c_int64), ("b_group_stride", c_int64),
                ("d_group_stride", c_int64), ("a_scale_group_stride", c_int64),
                ("b_scale_group_stride", c_int64)]


class GemmBatchedDesc(Structure):
    op_id = CONSTANTS["OP_GEMM_BATCHED"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("max_m", c_int64),
                ("num_batches", c_uint32), ("dtype_ab", c_uint32), ("dtype_d", c_uint32),
                ("scale_mode", c_uint32), ("b_scale_major", c_uint32), ("a_major", c_uint32),
                ("b_major", c_uint32), ("sm_budget", c_uint32), ("flags", c_uint32),
                ("max_block_m", c_uint32), ("max_block_n", c_uint32),
                ("reserved", c_uint32)]


class GemmBatchedArgs(Structure):
    op_id = CONSTANTS["OP_GEMM_BATCHED"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("c", c_void_p),
                ("a_scale", c_void_p), ("b_scale", c_void_p), ("d", c_void_p), ("m", c_int64),
                ("lda", c_int64), ("ldb", c_int64), ("ldc", c_int64), ("ldd", c_int64),
                ("ld_a_scale", c_int64), ("ld_b_scale", c_int64), ("a_batch_stride", c_int64),
                ("b_batch_stride", c_int64), ("c_batch_stride", c_int64),
                ("d_batch_stride", c_int64), ("a_scale_batch_stride", c_int64),
                ("b_scale_batch_stride", c_int64)]


class GemmGroupedKDesc(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_K"]
    _fields_ = [("op", Op), ("m", c_int64), ("n", c_int64), ("max_k", c_int64),
                ("num_groups", c_uint32), ("dtype_ab", c_uint32), ("dtype_d", c_uint32),
                ("scale_mode", c_uint32), ("sm_budget", c_uint32), ("flags", c_uint32),
                ("max_block_m", c_uint32), ("max_block_n", c_uint32)]


class GemmGroupedKArgs(Structure):
    op_id = CONSTANTS["OP_GEMM_GROUPED_K"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("c", c_void_p),
                ("a_scale", c_void_p), ("b_scale", c_void_p), ("d", c_void_p), ("ks", c_void_p),
                ("k", c_int64), ("lda", c_int64), ("ldb", c_int64), ("ldc", c_int64),
                ("ldd", c_int64), ("ld_a_scale", c_int64), ("ld_b_scale", c_int64),
                ("c_group_stride", c_int64), ("d_group_stride", c_int64)]


MAX_SEGMENTS = 8


class GemmFusedLinearDesc(Structure):
    op_id = CONSTANTS["OP_GEMM_FUSED_LINEAR"]
    _fields_ = [("op", Op), ("k", c_int64), ("max_m", c_int64), ("n", c_int64 * MAX_SEGMENTS),
                ("num_segments", c_uint32), ("dtype_ab", c_uint32), ("dtype_d", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("max_block_m", c_uint32),
                ("max_block_n", c_uint32), ("reserved", c_uint32)]


class GemmFusedLinearArgs(Structure):
    op_id = CONSTANTS["OP_GEMM_FUSED_LINEAR"]
    _fields_ = [("op", Op), ("a", c_void_p), ("b", c_void_p), ("m", c_int64), ("lda", c_int64),
                ("ldb", c_int64), ("d", c_void_p * MAX_SEGMENTS), ("ldd", c_int64 * MAX_SEGMENTS)]


class QuantFp8Desc(Structure):
    op_id = CONSTANTS["OP_QUANT_FP8"]
    _fields_ = [("op", Op), ("k", c_int64), ("max_m", c_int64), ("block", c_uint32),
                ("scale_major", c_uint32), ("flags", c_uint32), ("reserved", c_uint32)]


class QuantFp8Args(Structure):
    op_id = CONSTANTS["OP_QUANT_FP8"]
    _fields_ = [("op", Op), ("x", c_void_p), ("q", c_void_p), ("scale", c_void_p), ("m", c_int64),
                ("ldx", c_int64), ("ldq", c_int64), ("ld_scale", c_int64)]


class ScaleLayoutDesc(Structure):
    op_id = CONSTANTS["OP_SCALE_LAYOUT"]
    _fields_ = [("op", Op), ("k_blocks", c_int64), ("max_m", c_int64), ("flags", c_uint32),
                ("src_major", c_uint32), ("num_groups", c_int64)]


class ScaleLayoutArgs(Structure):
    op_id = CONSTANTS["OP_SCALE_LAYOUT"]
    _fields_ = [("op", Op), ("src", c_void_p), ("dst", c_void_p), ("m", c_int64),
                ("ld_src", c_int64), ("ld_dst", c_int64), ("group_stride_src", c_int64),
                ("group_stride_dst", c_int64)]


class ScalePackUe8m0Desc(Structure):
    op_id = CONSTANTS["OP_SCALE_PACK_UE8M0"]
    _fields_ = [("op", Op), ("k_blocks", c_int64), ("max_m", c_int64), ("num_groups", c_int64),
                ("src_major", c_uint32), ("gran_k", c_uint32), ("flags", c_uint32),
                ("reserved", c_uint32)]


class ScalePackUe8m0Args(Structure):
    op_id = CONSTANTS["OP_SCALE_PACK_UE8M0"]
    _fields_ = [("op", Op), ("src", c_void_p), ("dst", c_void_p), ("ks", c_void_p), ("m", c_int64),
                ("ld_src", c_int64), ("ld_dst", c_int64), ("group_stride_src", c_int64),
                ("group_stride_dst", c_int64), ("k_blocks", c_int64)]


class HcPrenormDesc(Structure):
    op_id = CONSTANTS["OP_HC_PRENORM"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("max_m", c_int64),
                ("max_splits", c_int64), ("flags", c_uint32), ("reserved", c_uint32)]


class HcPrenormArgs(Structure):
    op_id = CONSTANTS["OP_HC_PRENORM"]
    _fields_ = [("op", Op), ("x", c_void_p), ("w", c_void_p), ("z", c_void_p), ("q", c_void_p),
                ("m", c_int64), ("num_splits", c_int64), ("ldx", c_int64), ("ldz", c_int64),
                ("z_split_stride", c_int64), ("q_split_stride", c_int64)]


class HcPrenormWeightsDesc(Structure):
    op_id = CONSTANTS["OP_HC_PRENORM_WEIGHTS"]
    _fields_ = [("op", Op), ("n", c_int64), ("k", c_int64), ("flags", c_uint32),
                ("reserved", c_uint32)]


class HcPrenormWeightsArgs(Structure):
    op_id = CONSTANTS["OP_HC_PRENORM_WEIGHTS"]
    _fields_ = [("op", Op), ("f", c_void_p), ("w", c_void_p), ("ldf", c_int64)]


class AttnPrefillDesc(Structure):
    op_id = CONSTANTS["OP_ATTN_PREFILL"]
    _fields_ = [("op", Op), ("num_q_heads", c_int64), ("num_kv_heads", c_int64),
                ("head_dim_qk", c_int64), ("head_dim_v", c_int64), ("max_batch", c_int64),
                ("max_q_len", c_int64), ("max_kv_len", c_int64), ("dtype", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("dtype_kv", c_uint32)]


class AttnPrefillArgs(Structure):
    op_id = CONSTANTS["OP_ATTN_PREFILL"]
    _fields_ = [("op", Op), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("o", c_void_p),
                ("lse", c_void_p), ("sinks", c_void_p), ("q_indptr", c_void_p),
                ("kv_indptr", c_void_p), ("batch", c_int64), ("total_q", c_int64),
                ("total_kv", c_int64), ("max_q_len", c_int64), ("max_kv_len", c_int64),
                ("q_token_stride", c_int64), ("q_head_stride", c_int64),
                ("k_token_stride", c_int64), ("k_head_stride", c_int64),
                ("v_token_stride", c_int64), ("v_head_stride", c_int64),
                ("o_token_stride", c_int64), ("o_head_stride", c_int64),
                ("lse_token_stride", c_int64), ("lse_head_stride", c_int64),
                ("window_left", c_int64), ("window_right", c_int64), ("scale", c_float),
                ("softcap", c_float), ("k_scale", c_void_p), ("v_scale", c_void_p),
                ("k_scale_head_stride", c_int64), ("v_scale_head_stride", c_int64)]


class AttnDecodeDesc(Structure):
    op_id = CONSTANTS["OP_ATTN_DECODE"]
    _fields_ = [("op", Op), ("num_q_heads", c_int64), ("num_kv_heads", c_int64),
                ("head_dim_qk", c_int64), ("head_dim_v", c_int64), ("max_batch", c_int64),
                ("max_q_len", c_int64), ("max_kv_len", c_int64), ("dtype", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("dtype_kv", c_uint32)]


class AttnDecodeArgs(Structure):
    op_id = CONSTANTS["OP_ATTN_DECODE"]
    _fields_ = [("op", Op), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("o", c_void_p),
                ("lse", c_void_p), ("sinks", c_void_p), ("q_indptr", c_void_p),
                ("page_table", c_void_p), ("seq_lens", c_void_p), ("batch", c_int64),
                ("total_q", c_int64), ("max_q_len", c_int64), ("max_kv_len", c_int64),
                ("page_size", c_int64), ("num_pages", c_int64), ("max_pages", c_int64),
                ("page_table_stride", c_int64), ("q_token_stride", c_int64),
                ("q_head_stride", c_int64), ("k_page_stride", c_int64),
                ("k_token_stride", c_int64), ("k_head_stride", c_int64),
                ("v_page_stride", c_int64), ("v_token_stride", c_int64),
                ("v_head_stride", c_int64), ("o_token_stride", c_int64),
                ("o_head_stride", c_int64), ("lse_token_stride", c_int64),
                ("lse_head_stride", c_int64), ("window_left", c_int64),
                ("window_right", c_int64), ("scale", c_float), ("softcap", c_float),
                ("mask", c_void_p), ("mask_indptr", c_void_p), ("mask_bytes", c_int64),
                ("k_scale", c_void_p), ("v_scale", c_void_p),
                ("k_scale_head_stride", c_int64), ("v_scale_head_stride", c_int64),
                ("page_error", c_void_p), ("k_new", c_void_p), ("v_new", c_void_p),
                ("k_new_token_stride", c_int64), ("k_new_head_stride", c_int64),
                ("v_new_token_stride", c_int64), ("v_new_head_stride", c_int64)]


class AttnExtendDesc(Structure):
    op_id = CONSTANTS["OP_ATTN_EXTEND"]
    _fields_ = [("op", Op), ("num_q_heads", c_int64), ("num_kv_heads", c_int64),
                ("head_dim_qk", c_int64), ("head_dim_v", c_int64), ("max_batch", c_int64),
                ("max_q_len", c_int64), ("max_kv_len", c_int64), ("dtype", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("dtype_kv", c_uint32)]


class AttnExtendArgs(Structure):
    op_id = CONSTANTS["OP_ATTN_EXTEND"]
    _fields_ = [("op", Op), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("o", c_void_p),
                ("lse", c_void_p), ("sinks", c_void_p), ("q_indptr", c_void_p),
                ("page_table", c_void_p), ("seq_lens", c_void_p), ("batch", c_int64),
                ("total_q", c_int64), ("max_q_len", c_int64), ("max_kv_len", c_int64),
                ("page_size", c_int64), ("num_pages", c_int64), ("max_pages", c_int64),
                ("page_table_stride", c_int64), ("q_token_stride", c_int64),
                ("q_head_stride", c_int64), ("k_page_stride", c_int64),
                ("k_token_stride", c_int64), ("k_head_stride", c_int64),
                ("v_page_stride", c_int64), ("v_token_stride", c_int64),
                ("v_head_stride", c_int64), ("o_token_stride", c_int64),
                ("o_head_stride", c_int64), ("lse_token_stride", c_int64),
                ("lse_head_stride", c_int64), ("window_left", c_int64),
                ("window_right", c_int64), ("scale", c_float), ("softcap", c_float),
                ("mask", c_void_p), ("mask_indptr", c_void_p), ("mask_bytes", c_int64),
                ("k_scale", c_void_p), ("v_scale", c_void_p),
                ("k_scale_head_stride", c_int64), ("v_scale_head_stride", c_int64),
                ("kv_start", c_void_p), ("k_new", c_void_p), ("v_new", c_void_p),
                ("k_new_token_stride", c_int64), ("k_new_head_stride", c_int64),
                ("v_new_token_stride", c_int64), ("v_new_head_stride", c_int64),
                ("page_error", c_void_p)]


class AttnMergeDesc(Structure):
    op_id = CONSTANTS["OP_ATTN_MERGE"]
    _fields_ = [("op", Op), ("num_heads", c_int64), ("head_dim", c_int64), ("max_tokens", c_int64),
                ("max_parts", c_int64), ("dtype_part", c_uint32), ("dtype_o", c_uint32),
                ("flags", c_uint32), ("reserved", c_uint32)]


class AttnMergeArgs(Structure):
    op_id = CONSTANTS["OP_ATTN_MERGE"]
    _fields_ = [("op", Op), ("part_o", c_void_p), ("part_lse", c_void_p), ("o", c_void_p),
                ("lse", c_void_p), ("sinks", c_void_p), ("tokens", c_int64), ("num_parts", c_int64),
                ("part_o_part_stride", c_int64), ("part_o_token_stride", c_int64),
                ("part_o_head_stride", c_int64), ("part_lse_part_stride", c_int64),
                ("part_lse_token_stride", c_int64), ("part_lse_head_stride", c_int64),
                ("o_token_stride", c_int64), ("o_head_stride", c_int64),
                ("lse_token_stride", c_int64), ("lse_head_stride", c_int64)]


class KvAppendDesc(Structure):
    op_id = CONSTANTS["OP_KV_APPEND"]
    _fields_ = [("op", Op), ("num_kv_heads", c_int64), ("head_dim_qk", c_int64),
                ("head_dim_v", c_int64), ("max_tokens", c_int64), ("dtype", c_uint32),
                ("dtype_cache", c_uint32), ("flags", c_uint32), ("reserved", c_uint32)]


class KvAppendArgs(Structure):
    op_id = CONSTANTS["OP_KV_APPEND"]
    _fields_ = [("op", Op), ("k", c_void_p), ("v", c_void_p), ("k_cache", c_void_p),
                ("v_cache", c_void_p), ("slot_mapping", c_void_p), ("k_scale", c_void_p),
                ("v_scale", c_void_p), ("tokens", c_int64), ("page_size", c_int64),
                ("num_pages", c_int64), ("k_token_stride", c_int64), ("k_head_stride", c_int64),
                ("v_token_stride", c_int64), ("v_head_stride", c_int64),
                ("k_cache_page_stride", c_int64), ("k_cache_token_stride", c_int64),
                ("k_cache_head_stride", c_int64), ("v_cache_page_stride", c_int64),
                ("v_cache_token_stride", c_int64), ("v_cache_head_stride", c_int64),
                ("k_scale_head_stride", c_int64), ("v_scale_head_stride", c_int64)]


class MqaLogitsDesc(Structure):
    op_id = CONSTANTS["OP_MQA_LOGITS"]
    _fields_ = [("op", Op), ("num_heads", c_int64), ("head_dim", c_int64), ("max_tokens", c_int64),
                ("max_kv_tokens", c_int64), ("dtype_out", c_uint32), ("sm_budget", c_uint32),
                ("flags", c_uint32), ("reserved", c_uint32)]


class MqaLogitsArgs(Structure):
    op_id = CONSTANTS["OP_MQA_LOGITS"]
    _fields_ = [("op", Op), ("q", c_void_p), ("kv", c_void_p), ("kv_scale", c_void_p),
                ("w", c_void_p), ("ks", c_void_p), ("ke", c_void_p), ("out", c_void_p),
                ("tokens", c_int64), ("kv_tokens", c_int64), ("max_k", c_int64),
                ("w_token_stride", c_int64), ("out_token_stride", c_int64)]


class PagedMqaLogitsDesc(Structure):
    op_id = CONSTANTS["OP_PAGED_MQA_LOGITS"]
    _fields_ = [("op", Op), ("num_heads", c_int64), ("head_dim", c_int64), ("next_n", c_int64),
                ("page_size", c_int64), ("max_batch", c_int64), ("max_context_len", c_int64),
                ("dtype_out", c_uint32), ("sm_budget", c_uint32), ("flags", c_uint32),
                ("reserved", c_uint32)]


class PagedMqaLogitsArgs(Structure):
    op_id = CONSTANTS["OP_PAGED_MQA_LOGITS"]
    _fields_ = [("op", Op), ("q", c_void_p), ("kv_cache", c_void_p), ("w", c_void_p),
                ("context_lens", c_void_p), ("page_table", c_void_p), ("out", c_void_p),
                ("batch", c_int64), ("max_context_len", c_int64), ("num_pages", c_int64),
                ("max_pages", c_int64), ("kv_page_stride", c_int64),
                ("page_table_stride", c_int64), ("w_token_stride", c_int64),
                ("out_token_stride", c_int64)]


# C name -> mirror, for the layout test.
STRUCTS = {
    "dgrt_op": Op, "dgrt_context_options": ContextOptions, "dgrt_stats": Stats,
    "dgrt_progress": ProgressStruct, "dgrt_kernel_info": KernelInfoStruct,
    "dgrt_plan_info": PlanInfoStruct, "dgrt_call_info": CallInfoStruct, "dgrt_target": Target,
    "dgrt_key_info": KeyInfoStruct, "dgrt_gemm_desc": GemmDesc, "dgrt_gemm_args": GemmArgs,
    "dgrt_gemm_grouped_contiguous_desc": GemmGroupedContiguousDesc,
    "dgrt_gemm_grouped_contiguous_args": GemmGroupedContiguousArgs,
    "dgrt_gemm_grouped_masked_desc": GemmGroupedMaskedDesc,
    "dgrt_gemm_grouped_masked_args": GemmGroupedMaskedArgs,
    "dgrt_gemm_batched_desc": GemmBatchedDesc, "dgrt_gemm_batched_args": GemmBatchedArgs,
    "dgrt_gemm_grouped_k_desc": GemmGroupedKDesc, "dgrt_gemm_grouped_k_args": GemmGroupedKArgs,
    "dgrt_gemm_fused_linear_desc": GemmFusedLinearDesc,
    "dgrt_gemm_fused_linear_args": GemmFusedLinearArgs,
    "dgrt_quant_fp8_desc": QuantFp8Desc, "dgrt_quant_fp8_args": QuantFp8Args,
    "dgrt_scale_layout_desc": ScaleLayoutDesc, "dgrt_scale_layout_args": ScaleLayoutArgs,
    "dgrt_scale_pack_ue8m0_desc": ScalePackUe8m0Desc,
    "dgrt_scale_pack_ue8m0_args": ScalePackUe8m0Args,
    "dgrt_hc_prenorm_desc": HcPrenormDesc, "dgrt_hc_prenorm_args": HcPrenormArgs,
    "dgrt_hc_prenorm_weights_desc": HcPrenormWeightsDesc,
    "dgrt_hc_prenorm_weights_args": HcPrenormWeightsArgs,
    "dgrt_attn_prefill_desc": AttnPrefillDesc, "dgrt_attn_prefill_args": AttnPrefillArgs,
    "dgrt_attn_decode_desc": AttnDecodeDesc, "dgrt_attn_decode_args": AttnDecodeArgs,
    "dgrt_attn_extend_desc": AttnExtendDesc, "dgrt_attn_extend_args": AttnExtendArgs,
    "dgrt_attn_merge_desc": AttnMergeDesc, "dgrt_attn_merge_args": AttnMergeArgs,
    "dgrt_kv_append_desc": KvAppendDesc, "dgrt_kv_append_args": KvAppendArgs,
    "dgrt_mqa_logits_desc": MqaLogitsDesc, "dgrt_mqa_logits_args": MqaLogitsArgs,
    "dgrt_paged_mqa_logits_desc": PagedMqaLogitsDesc,
    "dgrt_paged_mqa_logits_args": PagedMqaLogitsArgs,
}

# Name -> (result, arguments).
PROTOTYPES = {
    "dgrt_status_string": (c_char_p, [c_int32]),
    "dgrt_last_error": (c_char_p, []),
    "dgrt_version": (c_uint32, []),
    "dgrt_context_create": (c_int32, [POINTER(ContextOptions), POINTER(c_void_p)]),
    "dgrt_context_destroy": (None, [c_void_p]),
    "dgrt_context_get_stats": (c_int32, [c_void_p, POINTER(Stats)]),
    "dgrt_prepare": (c_int32, [c_void_p, POINTER(c_void_p), c_size_t, ProgressFn, c_void_p]),
    "dgrt_plan_create": (c_int32, [c_void_p, c_void_p, POINTER(c_void_p)]),
    "dgrt_plan_destroy": (None, [c_void_p]),
    "dgrt_plan_get_info": (c_int32, [c_void_p, POINTER(PlanInfoStruct)]),
    "dgrt_plan_query": (c_int32, [c_void_p, c_void_p, POINTER(CallInfoStruct)]),
    "dgrt_launch": (c_int32, [c_void_p, c_void_p, c_void_p, c_size_t, c_void_p]),
    "dgrt_enumerate": (c_int32, [c_void_p, POINTER(Target), KeyFn, c_void_p]),
}

_library = None
library_path = None  # of the loaded library, for reports


def _candidates():
    package = pathlib.Path(__file__).resolve().parent
    for name in ("libdgrt.so", "libdgrt.so.0"):
        yield package / name  # a wheel
    build = package.parent.parent / "build"
    for name in ("libdgrt.so", "libdgrt.so.0"):
        yield build / name  # a source tree


def load_library(path=None):
    """Loads libdgrt once per process and returns it as ctypes.CDLL.

    Without `path`: from beside this package, else from build/ of the source tree that this file lies
    in, else wherever the dynamic loader finds libdgrt.so.0. A `path` counts only in the first call
    that loads; asking for another file later is an error, since two copies cannot share contexts."""
    global _library, library_path
    if _library is not None:
        if path is not None and pathlib.Path(path).resolve() != pathlib.Path(library_path).resolve():
            raise RuntimeError(f"libdgrt is already loaded from {library_path}")
        return _library
    if path is None:
        path = next((str(p) for p in _candidates() if p.exists()), "libdgrt.so.0")
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    _library, library_path = library, str(path)
    return library
