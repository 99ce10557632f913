"""Descs and args of the ops of mla.h, as ops.py makes the other ops'."""

from . import _c_mla
from ._c import CONSTANTS
from .ops import _ceil_div, _fill, _packed_strides, _paged_strides, _with_strides


def mla_decode_desc(*, num_q_heads, num_kv_heads=1, max_batch, max_q_len=1, max_kv_len, dtype=CONSTANTS["BF16"],
                    dtype_kv=0, dtype_q=0, sm_budget=0, flags=0):
    """Attention of DeepSeek's latent rows: 576 columns, of which the first 512 are values. dtype_kv and dtype_q 0: dtype."""
    return _fill(_c_mla.MlaDecodeDesc, num_q_heads=num_q_heads, num_kv_heads=num_kv_heads, head_dim_qk=576,
                 head_dim_v=512, max_batch=max_batch, max_q_len=max_q_len, max_kv_len=max_kv_len, dtype=dtype,
                 dtype_kv=dtype_kv, dtype_q=dtype_q, sm_budget=sm_budget, flags=flags)


def mla_sparse_prefill_desc(*, num_heads, head_dim_qk=576, max_tokens, max_top_k, dtype=CONSTANTS["BF16"],
                            sm_budget=0, flags=0):
    """Rows of 576 columns (DeepSeek-V3.2) or 512 (V4), of which the first 512 are values."""
    return _fill(_c_mla.MlaSparsePrefillDesc, num_heads=num_heads, head_dim_qk=head_dim_qk, head_dim_v=512,
                 max_tokens=max_tokens, max_top_k=max_top_k, dtype=dtype, sm_budget=sm_budget, flags=flags)


def topk_transform_desc(*, top_k, max_rows, max_columns, flags=0):
    return _fill(_c_mla.TopkTransformDesc, top_k=top_k, max_rows=max_rows, max_columns=max_columns, flags=flags)


def mla_kv_append_desc(*, max_tokens, format, flags=0):
    return _fill(_c_mla.MlaKvAppendDesc, max_tokens=max_tokens, format=format, flags=flags)


def kv_dequant_paged_desc(*, max_rows, format, max_batch=0, flags=0):
    """By slot, unless max_batch says that there are sequences."""
    return _fill(_c_mla.KvDequantPagedDesc, max_rows=max_rows, max_batch=max_batch, format=format, flags=flags)


def build_swa_token_ids_desc(*, window, max_batch, max_capacity, flags=0):
    return _fill(_c_mla.BuildSwaTokenIdsDesc, window=window, max_batch=max_batch, max_capacity=max_capacity, flags=flags)


def combine_topk_swa_indices_desc(*, window, max_tokens, ratio=1, flags=0):
    return _fill(_c_mla.CombineTopkSwaIndicesDesc, window=window, ratio=ratio, max_tokens=max_tokens, flags=flags)


def mla_sparse_decode_desc(*, num_q_heads, max_tokens, max_keys, format, sm_budget=0, flags=0):
    return _fill(_c_mla.MlaSparseDecodeDesc, num_q_heads=num_q_heads, max_tokens=max_tokens, max_keys=max_keys,
                 format=format, sm_budget=sm_budget, flags=flags)


def mla_decode_args(desc, *, q, kv, o, q_indptr, page_table, seq_lens, batch, total_q, page_size, num_pages,
                    max_pages, scale, causal=True, max_q_len=None, max_kv_len=None, lse=None, q_scale=None,
                    kv_scale=None, **strides):
    """`strides`: any of the struct's, by name. The scale is the model's: it does not follow from 576 columns."""
    heads, qk, dv = desc.num_q_heads, desc.head_dim_qk, desc.head_dim_v
    return _with_strides(
        _c_mla.MlaDecodeArgs, strides,
        dict(page_table_stride=max_pages, **_packed_strides("q", heads, qk, None, None),
             **_paged_strides("kv", page_size, desc.num_kv_heads, qk, None, None, None),
             **_packed_strides("o", heads, dv, None, None), lse_token_stride=heads, lse_head_stride=1),
        q=q, kv=kv, o=o, lse=lse, q_indptr=q_indptr, page_table=page_table, seq_lens=seq_lens, batch=batch,
        total_q=total_q, max_q_len=min(desc.max_q_len, total_q) if max_q_len is None else max_q_len,
        max_kv_len=min(desc.max_kv_len, max_pages * page_size) if max_kv_len is None else max_kv_len,
        page_size=page_size, num_pages=num_pages, max_pages=max_pages, scale=scale, causal=causal,
        q_scale=q_scale, kv_scale=kv_scale)


def mla_sparse_prefill_args(desc, *, q, kv, indices, o, tokens, kv_rows, top_k, scale, lengths=None, sinks=None,
                            max_logits=None, lse=None, **strides):
    """Strides default to packed rows. The scale is the model's: it does not follow from the columns of a row."""
    heads, qk, dv = desc.num_heads, desc.head_dim_qk, desc.head_dim_v
    return _with_strides(
        _c_mla.MlaSparsePrefillArgs, strides,
        dict(kv_row_stride=qk, indices_row_stride=top_k, **_packed_strides("q", heads, qk, None, None),
             **_packed_strides("o", heads, dv, None, None), lse_token_stride=heads, lse_head_stride=1),
        q=q, kv=kv, indices=indices, lengths=lengths, sinks=sinks, o=o, max_logits=max_logits, lse=lse,
        tokens=tokens, kv_rows=kv_rows, top_k=top_k, scale=scale)


def topk_transform_args(desc, *, scores, lengths, rows, columns, page_table=None, positions=None, slots=None,
                        page_size=0, num_pages=0, **strides):
    """slots want a page_table with its sizes. Strides default to packed rows, of scores to whole vectors of 4."""
    return _with_strides(
        _c_mla.TopkTransformArgs, strides,
        dict(scores_row_stride=_ceil_div(columns, 4) * 4, page_table_row_stride=num_pages,
             positions_row_stride=desc.top_k, slots_row_stride=desc.top_k),
        scores=scores, lengths=lengths, page_table=page_table, positions=positions, slots=slots, rows=rows,
        columns=columns, page_size=page_size, num_pages=num_pages)


def _latent_sizes(format):
    """Columns of a row and, of a token of the cache, bytes and what pages are multiples of in FlashMLA."""
    return (576, 656, 656) if format == CONSTANTS["MLA_KV_V32"] else (512, 584, 576)


def _cache_page_stride(format, page_size):
    _, token_bytes, unit = _latent_sizes(format)
    return _ceil_div(page_size * token_bytes, unit) * unit


def mla_kv_append_args(desc, *, latent, rotary, cache, slot_mapping, tokens, page_size, num_pages, **strides):
    """Strides default to rows of latent and rotary columns side by side, and to pages as FlashMLA wants them."""
    columns = _latent_sizes(desc.format)[0]
    return _with_strides(
        _c_mla.MlaKvAppendArgs, strides,
        dict(latent_token_stride=columns, rotary_token_stride=columns,
             cache_page_stride=_cache_page_stride(desc.format, page_size)),
        latent=latent, rotary=rotary, cache=cache, slot_mapping=slot_mapping, tokens=tokens, page_size=page_size,
        num_pages=num_pages)


def kv_dequant_paged_args(desc, *, cache, out, rows, page_size, num_pages, slots=None, seq_lens=None,
                          gather_lens=None, page_table=None, batch=0, max_pages=0, **strides):
    """By slot: slots. By sequence: seq_lens, page_table, batch, max_pages, and gather_lens or all rows."""
    columns = _latent_sizes(desc.format)[0]
    return _with_strides(
        _c_mla.KvDequantPagedArgs, strides,
        dict(cache_page_stride=_cache_page_stride(desc.format, page_size), out_row_stride=columns,
             out_sequence_stride=rows * columns, page_table_row_stride=max_pages),
        cache=cache, out=out, slots=slots, seq_lens=seq_lens, gather_lens=gather_lens, page_table=page_table,
        rows=rows, batch=batch, page_size=page_size, num_pages=num_pages, max_pages=max_pages)


def mla_sparse_decode_args(desc, *, q, o, batch, top_k, scale, cache=None, indices=None, page_size=1, num_pages=0,
                           q_len=1, lengths=None, lengths_per_token=False, extra_cache=None, extra_indices=None,
                           extra_lengths=None, extra_top_k=0, extra_page_size=1, extra_num_pages=0, lse=None,
                           sinks=None, **strides):
    """`strides`: any of the struct's, by name. Strides default to packed tensors, and to pages as FlashMLA wants them."""
    heads, columns = desc.num_q_heads, _latent_sizes(desc.format)[0]
    return _with_strides(
        _c_mla.MlaSparseDecodeArgs, strides,
        dict(cache_page_stride=_cache_page_stride(desc.format, page_size),
             extra_cache_page_stride=_cache_page_stride(desc.format, extra_page_size), indices_token_stride=top_k,
             extra_indices_token_stride=extra_top_k, **_packed_strides("q", heads, columns, None, None),
             **_packed_strides("o", heads, 512, None, None), lse_token_stride=heads, lse_head_stride=1),
        q=q, o=o, lse=lse, sinks=sinks, cache=cache, extra_cache=extra_cache, indices=indices,
        extra_indices=extra_indices, lengths=lengths, extra_lengths=extra_lengths, batch=batch, q_len=q_len,
        top_k=top_k, extra_top_k=extra_top_k, page_size=page_size, num_pages=num_pages,
        extra_page_size=extra_page_size, extra_num_pages=extra_num_pages, scale=scale,
        lengths_per_token=lengths_per_token)


def build_swa_token_ids_args(desc, *, seq_lens, extend_lens, request_rows, req_to_token, full_to_swa, token_ids,
                             first, gather_lens, offsets, batch, capacity, num_request_rows, max_tokens, num_full,
                             req_to_token_row_stride=None):
    return _fill(
        _c_mla.BuildSwaTokenIdsArgs, seq_lens=seq_lens, extend_lens=extend_lens, request_rows=request_rows,
        req_to_token=req_to_token, full_to_swa=full_to_swa, token_ids=token_ids, first=first,
        gather_lens=gather_lens, offsets=offsets, batch=batch, capacity=capacity,
        num_request_rows=num_request_rows, max_tokens=max_tokens, num_full=num_full,
        req_to_token_row_stride=max_tokens if req_to_token_row_stride is None else req_to_token_row_stride)


def combine_topk_swa_indices_args(desc, *, query_start_loc, seq_lens, gather_lens, compressed_base, swa_base, indices,
                                  lengths, tokens, batch, top_k, width=None, topk_indices=None, query_pos=None,
                                  **strides):
    """width defaults to top_k + window, rounded up to 128."""
    width = _ceil_div(top_k + desc.window, 128) * 128 if width is None else width
    return _with_strides(
        _c_mla.CombineTopkSwaIndicesArgs, strides,
        dict(topk_row_stride=_ceil_div(top_k, 4) * 4, indices_row_stride=width),
        topk_indices=topk_indices, query_start_loc=query_start_loc, seq_lens=seq_lens, gather_lens=gather_lens,
        compressed_base=compressed_base, swa_base=swa_base, query_pos=query_pos, indices=indices, lengths=lengths,
        tokens=tokens, batch=batch, top_k=top_k, width=width)


# Desc struct -> function that makes its args.
MAKE_ARGS = {
    _c_mla.MlaDecodeDesc: mla_decode_args,
    _c_mla.MlaSparsePrefillDesc: mla_sparse_prefill_args,
    _c_mla.TopkTransformDesc: topk_transform_args,
    _c_mla.MlaKvAppendDesc: mla_kv_append_args,
    _c_mla.KvDequantPagedDesc: kv_dequant_paged_args,
    _c_mla.BuildSwaTokenIdsDesc: build_swa_token_ids_args,
    _c_mla.CombineTopkSwaIndicesDesc: combine_topk_swa_indices_args,
    _c_mla.MlaSparseDecodeDesc: mla_sparse_decode_args,
}
