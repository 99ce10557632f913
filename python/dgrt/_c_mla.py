"""mla.h as ctypes, as _c.py mirrors the other headers."""

from ctypes import Structure, c_float, c_int64, c_uint32, c_void_p

from ._c import CONSTANTS, Op


class MlaDecodeDesc(Structure):
    op_id = CONSTANTS["OP_MLA_DECODE"]
    _fields_ = [("op", Op), ("num_q_heads", c_int64), ("num_kv_heads", c_int64),
                ("head_dim_qk", c_int64), ("head_dim_v", c_int64), ("max_batch", c_int64),
                ("max_q_len", c_int64), ("max_kv_len", c_int64), ("dtype", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("dtype_kv", c_uint32),
                ("dtype_q", c_uint32), ("reserved", c_uint32)]


class MlaDecodeArgs(Structure):
    op_id = CONSTANTS["OP_MLA_DECODE"]
    _fields_ = [("op", Op), ("q", c_void_p), ("kv", c_void_p), ("o", c_void_p), ("lse", c_void_p),
                ("q_indptr", c_void_p), ("page_table", c_void_p), ("seq_lens", c_void_p),
                ("batch", c_int64), ("total_q", c_int64), ("max_q_len", c_int64),
                ("max_kv_len", c_int64), ("page_size", c_int64), ("num_pages", c_int64),
                ("max_pages", c_int64), ("page_table_stride", c_int64), ("q_token_stride", c_int64),
                ("q_head_stride", c_int64), ("kv_page_stride", c_int64),
                ("kv_token_stride", c_int64), ("kv_head_stride", c_int64),
                ("o_token_stride", c_int64), ("o_head_stride", c_int64),
                ("lse_token_stride", c_int64), ("lse_head_stride", c_int64), ("scale", c_float),
                ("causal", c_uint32), ("q_scale", c_void_p), ("kv_scale", c_void_p)]


class MlaSparsePrefillDesc(Structure):
    op_id = CONSTANTS["OP_MLA_SPARSE_PREFILL"]
    _fields_ = [("op", Op), ("num_heads", c_int64), ("head_dim_qk", c_int64), ("head_dim_v", c_int64),
                ("max_tokens", c_int64), ("max_top_k", c_int64), ("dtype", c_uint32),
                ("sm_budget", c_uint32), ("flags", c_uint32), ("reserved", c_uint32)]


class MlaSparsePrefillArgs(Structure):
    op_id = CONSTANTS["OP_MLA_SPARSE_PREFILL"]
    _fields_ = [("op", Op), ("q", c_void_p), ("kv", c_void_p), ("indices", c_void_p), ("lengths", c_void_p),
                ("sinks", c_void_p), ("o", c_void_p), ("max_logits", c_void_p), ("lse", c_void_p),
                ("tokens", c_int64), ("kv_rows", c_int64), ("top_k", c_int64),
                ("q_token_stride", c_int64), ("q_head_stride", c_int64), ("kv_row_stride", c_int64),
                ("indices_row_stride", c_int64), ("o_token_stride", c_int64), ("o_head_stride", c_int64),
                ("lse_token_stride", c_int64), ("lse_head_stride", c_int64), ("scale", c_float),
                ("reserved", c_uint32)]


class TopkTransformDesc(Structure):
    op_id = CONSTANTS["OP_TOPK_TRANSFORM"]
    _fields_ = [("op", Op), ("top_k", c_int64), ("max_rows", c_int64), ("max_columns", c_int64),
                ("flags", c_uint32), ("reserved", c_uint32)]


class TopkTransformArgs(Structure):
    op_id = CONSTANTS["OP_TOPK_TRANSFORM"]
    _fields_ = [("op", Op), ("scores", c_void_p), ("lengths", c_void_p), ("page_table", c_void_p),
                ("positions", c_void_p), ("slots", c_void_p), ("rows", c_int64), ("columns", c_int64),
                ("page_size", c_int64), ("num_pages", c_int64), ("scores_row_stride", c_int64),
                ("page_table_row_stride", c_int64), ("positions_row_stride", c_int64),
                ("slots_row_stride", c_int64)]


class MlaKvAppendDesc(Structure):
    op_id = CONSTANTS["OP_MLA_KV_APPEND"]
    _fields_ = [("op", Op), ("max_tokens", c_int64), ("format", c_uint32), ("flags", c_uint32)]


class MlaKvAppendArgs(Structure):
    op_id = CONSTANTS["OP_MLA_KV_APPEND"]
    _fields_ = [("op", Op), ("latent", c_void_p), ("rotary", c_void_p), ("cache", c_void_p),
                ("slot_mapping", c_void_p), ("tokens", c_int64), ("page_size", c_int64),
                ("num_pages", c_int64), ("latent_token_stride", c_int64),
                ("rotary_token_stride", c_int64), ("cache_page_stride", c_int64)]


class KvDequantPagedDesc(Structure):
    op_id = CONSTANTS["OP_KV_DEQUANT_PAGED"]
    _fields_ = [("op", Op), ("max_rows", c_int64), ("max_batch", c_int64), ("format", c_uint32),
                ("flags", c_uint32)]


class KvDequantPagedArgs(Structure):
    op_id = CONSTANTS["OP_KV_DEQUANT_PAGED"]
    _fields_ = [("op", Op), ("cache", c_void_p), ("out", c_void_p), ("slots", c_void_p),
                ("seq_lens", c_void_p), ("gather_lens", c_void_p), ("page_table", c_void_p),
                ("rows", c_int64), ("batch", c_int64), ("page_size", c_int64), ("num_pages", c_int64),
                ("max_pages", c_int64), ("cache_page_stride", c_int64), ("out_row_stride", c_int64),
                ("out_sequence_stride", c_int64), ("page_table_row_stride", c_int64)]


class BuildSwaTokenIdsDesc(Structure):
    op_id = CONSTANTS["OP_BUILD_SWA_TOKEN_IDS"]
    _fields_ = [("op", Op), ("window", c_int64), ("max_batch", c_int64), ("max_capacity", c_int64),
                ("flags", c_uint32), ("reserved", c_uint32)]


class BuildSwaTokenIdsArgs(Structure):
    op_id = CONSTANTS["OP_BUILD_SWA_TOKEN_IDS"]
    _fields_ = [("op", Op), ("seq_lens", c_void_p), ("extend_lens", c_void_p),
                ("request_rows", c_void_p), ("req_to_token", c_void_p), ("full_to_swa", c_void_p),
                ("token_ids", c_void_p), ("first", c_void_p), ("gather_lens", c_void_p),
                ("offsets", c_void_p), ("batch", c_int64), ("capacity", c_int64),
                ("num_request_rows", c_int64), ("max_tokens", c_int64), ("num_full", c_int64),
                ("req_to_token_row_stride", c_int64)]


class CombineTopkSwaIndicesDesc(Structure):
    op_id = CONSTANTS["OP_COMBINE_TOPK_SWA_INDICES"]
    _fields_ = [("op", Op), ("window", c_int64), ("ratio", c_int64), ("max_tokens", c_int64),
                ("flags", c_uint32), ("reserved", c_uint32)]


class CombineTopkSwaIndicesArgs(Structure):
    op_id = CONSTANTS["OP_COMBINE_TOPK_SWA_INDICES"]
    _fields_ = [("op", Op), ("topk_indices", c_void_p), ("query_start_loc", c_void_p),
                ("seq_lens", c_void_p), ("gather_lens", c_void_p), ("compressed_base", c_void_p),
                ("swa_base", c_void_p), ("query_pos", c_void_p), ("indices", c_void_p),
                ("lengths", c_void_p), ("tokens", c_int64), ("batch", c_int64), ("top_k", c_int64),
                ("width", c_int64), ("topk_row_stride", c_int64), ("indices_row_stride", c_int64)]


class MlaSparseDecodeDesc(Structure):
    op_id = CONSTANTS["OP_MLA_SPARSE_DECODE"]
    _fields_ = [("op", Op), ("num_q_heads", c_int64), ("max_tokens", c_int64), ("max_keys", c_int64),
                ("format", c_uint32), ("sm_budget", c_uint32), ("flags", c_uint32), ("reserved", c_uint32)]


class MlaSparseDecodeArgs(Structure):
    op_id = CONSTANTS["OP_MLA_SPARSE_DECODE"]
    _fields_ = [("op", Op), ("q", c_void_p), ("o", c_void_p), ("lse", c_void_p), ("sinks", c_void_p),
                ("cache", c_void_p), ("extra_cache", c_void_p), ("indices", c_void_p), ("extra_indices", c_void_p),
                ("lengths", c_void_p), ("extra_lengths", c_void_p), ("batch", c_int64), ("q_len", c_int64),
                ("top_k", c_int64), ("extra_top_k", c_int64), ("page_size", c_int64), ("num_pages", c_int64),
                ("cache_page_stride", c_int64), ("extra_page_size", c_int64), ("extra_num_pages", c_int64),
                ("extra_cache_page_stride", c_int64), ("indices_token_stride", c_int64),
                ("extra_indices_token_stride", c_int64), ("q_token_stride", c_int64), ("q_head_stride", c_int64),
                ("o_token_stride", c_int64), ("o_head_stride", c_int64), ("lse_token_stride", c_int64),
                ("lse_head_stride", c_int64), ("scale", c_float), ("lengths_per_token", c_uint32)]


# C name -> mirror, for the layout test.
STRUCTS = {
    "dgrt_mla_decode_desc": MlaDecodeDesc, "dgrt_mla_decode_args": MlaDecodeArgs,
    "dgrt_mla_sparse_prefill_desc": MlaSparsePrefillDesc, "dgrt_mla_sparse_prefill_args": MlaSparsePrefillArgs,
    "dgrt_topk_transform_desc": TopkTransformDesc, "dgrt_topk_transform_args": TopkTransformArgs,
    "dgrt_mla_kv_append_desc": MlaKvAppendDesc, "dgrt_mla_kv_append_args": MlaKvAppendArgs,
    "dgrt_kv_dequant_paged_desc": KvDequantPagedDesc, "dgrt_kv_dequant_paged_args": KvDequantPagedArgs,
    "dgrt_build_swa_token_ids_desc": BuildSwaTokenIdsDesc,
    "dgrt_build_swa_token_ids_args": BuildSwaTokenIdsArgs,
    "dgrt_combine_topk_swa_indices_desc": CombineTopkSwaIndicesDesc,
    "dgrt_combine_topk_swa_indices_args": CombineTopkSwaIndicesArgs,
    "dgrt_mla_sparse_decode_desc": MlaSparseDecodeDesc, "dgrt_mla_sparse_decode_args": MlaSparseDecodeArgs,
}
