"""Descs and args of every op, from keyword arguments.

A desc says what is fixed when a model is loaded; args say what changes with every call. Field names,
rules and defaults are those of the C headers. Types and modes are the constants of this package (dgrt.E4M3,
dgrt.SCALE_BLOCK, ...)."""

import ctypes

from . import _c
from ._c import CONSTANTS

_DLPACK_CAPSULE = b"dltensor"


class _DLTensor(ctypes.Structure):  # DLPack's DLTensor, up to the last field read here
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("dtype", ctypes.c_uint8 * 4), ("shape", ctypes.c_void_p),
                ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64)]


def _dlpack_address(capsule):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(get(capsule, _DLPACK_CAPSULE))
    return (tensor.data or 0) + tensor.byte_offset


def address(x):
    """The device address of `x`: None, an int, or anything with data_ptr(),
    __cuda_array_interface__ or __dlpack__(). The caller keeps `x` alive until the work is done."""
    if x is None:
        return None
    if isinstance(x, int):
        return x
    if hasattr(x, "data_ptr"):
        return x.data_ptr()
    interface = getattr(x, "__cuda_array_interface__", None)
    if interface is not None:
        return interface["data"][0]
    if hasattr(x, "__dlpack__"):
        # -1: no synchronisation; ordering between streams is the caller's, as in the C API.
        return _dlpack_address(x.__dlpack__(stream=-1))
    raise TypeError(f"{type(x).__name__} has no device address: expected None, an int, or an object "
                    "with data_ptr(), __cuda_array_interface__ or __dlpack__()")


def _fill(struct, **values):
    pointers = {name for name, kind in struct._fields_ if kind is ctypes.c_void_p}
    result = struct()
    result.op = _c.Op(struct.op_id, ctypes.sizeof(struct))
    for name, value in values.items():
        setattr(result, name, address(value) if name in pointers else value)
    return result


def _ceil_div(a, b):
    return -(-a // b)


# ---- Descs ---------------------------------------------------------------------------------------


def _product_desc(struct, dtype_ab, dtype_d, scale_mode, **values):
    """d's type follows that of 16-bit operands; e4m3's is bf16. SCALE_BLOCK goes with e4m3."""
    fp8 = dtype_ab == CONSTANTS["E4M3"]
    if dtype_d is None:
        dtype_d = CONSTANTS["BF16"] if fp8 else dtype_ab
    if scale_mode is None:
        scale_mode = CONSTANTS["SCALE_BLOCK"] if fp8 else CONSTANTS["SCALE_NONE"]
    return _fill(struct, dtype_ab=dtype_ab, dtype_d=dtype_d, scale_mode=scale_mode, **values)


def gemm_desc(*, n, k, max_m, dtype_ab, dtype_d=None, scale_mode=None,
              b_scale_major=CONSTANTS["K_MAJOR"], a_major=CONSTANTS["K_MAJOR"],
              b_major=CONSTANTS["K_MAJOR"], sm_budget=0, flags=0, max_block_m=0, max_block_n=0,
              head_left=0, head_mid=0, head_right=0):
    """d = a * transpose(b). Without `scale_mode`: SCALE_BLOCK for E4M3, else SCALE_NONE."""
    return _product_desc(_c.GemmDesc, dtype_ab, dtype_d, scale_mode, n=n, k=k, max_m=max_m,
                         b_scale_major=b_scale_major, a_major=a_major, b_major=b_major,
                         sm_budget=sm_budget, flags=flags, max_block_m=max_block_m,
                         max_block_n=max_block_n, head_left=head_left, head_mid=head_mid,
                         head_right=head_right)


def gemm_grouped_contiguous_desc(*, num_groups, n, k, max_m, dtype_ab, dtype_d=None,
                                 scale_mode=None, b_scale_major=CONSTANTS["K_MAJOR"],
                                 b_major=CONSTANTS["K_MAJOR"],
                                 group_layout=CONSTANTS["GROUP_OF_ROW"], alignment=128,
                                 sm_budget=0, flags=0, max_block_m=0, max_block_n=0):
    """Rows of a sorted by group, each group with its own b; max_m: over all groups."""
    return _product_desc(_c.GemmGroupedContiguousDesc, dtype_ab, dtype_d, scale_mode,
                         num_groups=num_groups, n=n, k=k, max_m=max_m,
                         b_scale_major=b_scale_major, b_major=b_major, group_layout=group_layout,
                         alignment=alignment, sm_budget=sm_budget, flags=flags,
                         max_block_m=max_block_m, max_block_n=max_block_n)


def gemm_grouped_masked_desc(*, num_groups, n, k, max_m, dtype_ab, dtype_d=None, scale_mode=None,
                             b_scale_major=CONSTANTS["K_MAJOR"], b_major=CONSTANTS["K_MAJOR"],
                             sm_budget=0, flags=0, max_block_m=0, max_block_n=0):
    """Groups of up to max_m rows each, of which masked_m, read on the device, count."""
    return _product_desc(_c.GemmGroupedMaskedDesc, dtype_ab, dtype_d, scale_mode,
                         num_groups=num_groups, n=n, k=k, max_m=max_m,
                         b_scale_major=b_scale_major, b_major=b_major, sm_budget=sm_budget,
                         flags=flags, max_block_m=max_block_m, max_block_n=max_block_n)


def gemm_batched_desc(*, num_batches, n, k, max_m, dtype_ab, dtype_d=None, scale_mode=None,
                      b_scale_major=CONSTANTS["K_MAJOR"], a_major=CONSTANTS["K_MAJOR"],
                      b_major=CONSTANTS["K_MAJOR"], sm_budget=0, flags=0, max_block_m=0,
                      max_block_n=0):
    """d[g] = a[g] * transpose(b[g]) for every batch g; with GEMM_SUM_BATCHES their sum, one d."""
    return _product_desc(_c.GemmBatchedDesc, dtype_ab, dtype_d, scale_mode,
                         num_batches=num_batches, n=n, k=k, max_m=max_m,
                         b_scale_major=b_scale_major, a_major=a_major, b_major=b_major,
                         sm_budget=sm_budget, flags=flags, max_block_m=max_block_m,
                         max_block_n=max_block_n)


def gemm_grouped_k_desc(*, m, n, max_k, num_groups, dtype_ab, dtype_d=CONSTANTS["FP32"],
                        scale_mode=None, sm_budget=0, flags=0, max_block_m=0, max_block_n=0):
    """Weight gradients: d[g] = c[g] + a[g] * transpose(b[g]). Without `scale_mode`: SCALE_ROW for
    E4M3, else SCALE_NONE."""
    if scale_mode is None:
        fp8 = dtype_ab == CONSTANTS["E4M3"]
        scale_mode = CONSTANTS["SCALE_ROW"] if fp8 else CONSTANTS["SCALE_NONE"]
    return _fill(_c.GemmGroupedKDesc, m=m, n=n, max_k=max_k, num_groups=num_groups,
                 dtype_ab=dtype_ab, dtype_d=dtype_d, scale_mode=scale_mode, sm_budget=sm_budget,
                 flags=flags, max_block_m=max_block_m, max_block_n=max_block_n)


def gemm_fused_linear_desc(*, n, k, max_m, dtype_ab, dtype_d=None, sm_budget=0, flags=0,
                           max_block_m=0, max_block_n=0):
    """Up to 8 projections of one input; `n`: the width of each."""
    widths = (ctypes.c_int64 * _c.MAX_SEGMENTS)(*n)
    return _fill(_c.GemmFusedLinearDesc, n=widths, k=k, max_m=max_m, num_segments=len(n),
                 dtype_ab=dtype_ab, dtype_d=dtype_ab if dtype_d is None else dtype_d,
                 sm_budget=sm_budget, flags=flags, max_block_m=max_block_m,
                 max_block_n=max_block_n)


def quant_fp8_desc(*, k, max_m, block=CONSTANTS["QUANT_1X128"],
                   scale_major=CONSTANTS["MN_MAJOR"], flags=0):
    """q = e4m3(x / scale), one scale per `block`. MN_MAJOR is what gemm wants of a_scale."""
    return _fill(_c.QuantFp8Desc, k=k, max_m=max_m, block=block, scale_major=scale_major,
                 flags=flags)


def scale_layout_desc(*, k_blocks, max_m, src_major=CONSTANTS["K_MAJOR"], num_groups=1, flags=0):
    """Scales of either order to what gemm wants of a_scale."""
    return _fill(_c.ScaleLayoutDesc, k_blocks=k_blocks, max_m=max_m, src_major=src_major,
                 num_groups=num_groups, flags=flags)


def scale_pack_ue8m0_desc(*, k_blocks, max_m, src_major=None, num_groups=1, gran_k=0, flags=0):
    """Scales of either order to four UE8M0 bytes per int32. Without `src_major`: MN_MAJOR for
    SCALE_K_GROUPED, else K_MAJOR."""
    if src_major is None:
        k_grouped = flags & CONSTANTS["SCALE_K_GROUPED"]
        src_major = CONSTANTS["MN_MAJOR"] if k_grouped else CONSTANTS["K_MAJOR"]
    return _fill(_c.ScalePackUe8m0Desc, k_blocks=k_blocks, max_m=max_m, num_groups=num_groups,
                 src_major=src_major, gran_k=gran_k, flags=flags)


def hc_prenorm_desc(*, k, max_m, n=24, max_splits=0, flags=0):
    """Mixing logits and square sums of hyper-connections in one pass."""
    return _fill(_c.HcPrenormDesc, n=n, k=k, max_m=max_m, max_splits=max_splits, flags=flags)


def hc_prenorm_weights_desc(*, k, n=24, flags=0):
    """fp32 weights to what hc_prenorm wants of w: bf16 [2 * p, k], p = n rounded up to 8."""
    return _fill(_c.HcPrenormWeightsDesc, n=n, k=k, flags=flags)


def attn_prefill_desc(*, num_q_heads, num_kv_heads, head_dim_qk, head_dim_v=None, max_batch, max_q_len,
                      max_kv_len=None, dtype=CONSTANTS["BF16"], dtype_kv=0, sm_budget=0, flags=0):
    """Without max_kv_len: no sequence has more keys than queries at most."""
    return _fill(_c.AttnPrefillDesc, num_q_heads=num_q_heads, num_kv_heads=num_kv_heads,
                 head_dim_qk=head_dim_qk, head_dim_v=head_dim_qk if head_dim_v is None else head_dim_v,
                 max_batch=max_batch, max_q_len=max_q_len,
                 max_kv_len=max_q_len if max_kv_len is None else max_kv_len, dtype=dtype,
                 dtype_kv=dtype_kv, sm_budget=sm_budget, flags=flags)


def attn_decode_desc(*, num_q_heads, num_kv_heads, head_dim_qk, head_dim_v=None, max_batch, max_q_len=1,
                     max_kv_len, dtype=CONSTANTS["BF16"], dtype_kv=0, sm_budget=0, flags=0):
    return _fill(_c.AttnDecodeDesc, num_q_heads=num_q_heads, num_kv_heads=num_kv_heads,
                 head_dim_qk=head_dim_qk, head_dim_v=head_dim_qk if head_dim_v is None else head_dim_v,
                 max_batch=max_batch, max_q_len=max_q_len, max_kv_len=max_kv_len, dtype=dtype,
                 dtype_kv=dtype_kv, sm_budget=sm_budget, flags=flags)


def attn_extend_desc(*, num_q_heads, num_kv_heads, head_dim_qk, head_dim_v=None, max_batch, max_q_len,
                     max_kv_len, dtype=CONSTANTS["BF16"], dtype_kv=0, sm_budget=0, flags=0):
    return _fill(_c.AttnExtendDesc, num_q_heads=num_q_heads, num_kv_heads=num_kv_heads,
                 head_dim_qk=head_dim_qk, head_dim_v=head_dim_qk if head_dim_v is None else head_dim_v,
                 max_batch=max_batch, max_q_len=max_q_len, max_kv_len=max_kv_len, dtype=dtype,
                 dtype_kv=dtype_kv, sm_budget=sm_budget, flags=flags)


def attn_merge_desc(*, num_heads, head_dim, max_tokens, max_parts, dtype_part=CONSTANTS["FP32"],
                    dtype_o=CONSTANTS["BF16"], flags=0):
    """Results of attention over disjoint sets of keys into the one over all of them."""
    return _fill(_c.AttnMergeDesc, num_heads=num_heads, head_dim=head_dim, max_tokens=max_tokens,
                 max_parts=max_parts, dtype_part=dtype_part, dtype_o=dtype_o, flags=flags)


def kv_append_desc(*, num_kv_heads, head_dim_qk, head_dim_v=None, max_tokens, dtype=CONSTANTS["BF16"],
                   dtype_cache=None, flags=0):
    """New tokens' keys and values into a paged cache. Without dtype_cache: of the same type."""
    return _fill(_c.KvAppendDesc, num_kv_heads=num_kv_heads, head_dim_qk=head_dim_qk,
                 head_dim_v=head_dim_qk if head_dim_v is None else head_dim_v, max_tokens=max_tokens,
                 dtype=dtype, dtype_cache=dtype if dtype_cache is None else dtype_cache, flags=flags)


def mqa_logits_desc(*, num_heads=64, head_dim=128, max_tokens, max_kv_tokens, dtype_out=CONSTANTS["FP32"],
                    sm_budget=0, flags=0):
    """An indexer's logits of many tokens over contiguous keys."""
    return _fill(_c.MqaLogitsDesc, num_heads=num_heads, head_dim=head_dim, max_tokens=max_tokens,
                 max_kv_tokens=max_kv_tokens, dtype_out=dtype_out, sm_budget=sm_budget, flags=flags)


def paged_mqa_logits_desc(*, num_heads=64, head_dim=128, next_n=1, page_size=64, max_batch, max_context_len,
                          dtype_out=CONSTANTS["FP32"], sm_budget=0, flags=0):
    """An indexer's logits of the last next_n tokens of every request over its paged keys."""
    return _fill(_c.PagedMqaLogitsDesc, num_heads=num_heads, head_dim=head_dim, next_n=next_n,
                 page_size=page_size, max_batch=max_batch, max_context_len=max_context_len,
                 dtype_out=dtype_out, sm_budget=sm_budget, flags=flags)


# ---- Args. A stride that is not given is that of a dense tensor of the desc's shape. ---------------


def _is_mn(major):
    return major == CONSTANTS["MN_MAJOR"]


def _product_scale_strides(desc, m, has_a, has_b):
    """Default ld_a_scale, ld_b_scale and the elements of one group's a_scale and b_scale."""
    k_blocks, n_blocks = _ceil_div(desc.k, 128), _ceil_div(desc.n, 128)
    if desc.scale_mode == CONSTANTS["SCALE_CHANNEL"]:
        a, b, sizes = 1, 1, (m, desc.n)
    elif desc.scale_mode == CONSTANTS["SCALE_ROW"]:
        a, b = _ceil_div(m, 4) * 4, _ceil_div(desc.n, 4) * 4
        sizes = (k_blocks * a, k_blocks * b)
    else:
        a, b = _ceil_div(m, 4) * 4, n_blocks if _is_mn(desc.b_scale_major) else k_blocks
        sizes = (k_blocks * a, k_blocks * n_blocks)
    return (a if has_a else 0), (b if has_b else 0), sizes[0] * has_a, sizes[1] * has_b


def _operand_strides(desc, m):
    """Default lda, ldb and the elements of one group's a and b."""
    a_mn = _is_mn(getattr(desc, "a_major", CONSTANTS["K_MAJOR"]))
    return (m if a_mn else desc.k, desc.n if _is_mn(desc.b_major) else desc.k,
            m * desc.k, desc.n * desc.k)


def gemm_args(desc, *, a, b, d, m, c=None, bias=None, a_scale=None, b_scale=None, lda=None,
              ldb=None, ldc=None, ldd=None, ld_a_scale=None, ld_b_scale=None):
    """Default strides of scales follow desc.scale_mode; a_scale's is m rounded up to 4."""
    of_a, of_b, _, _ = _operand_strides(desc, m)
    of_a_scale, of_b_scale, _, _ = _product_scale_strides(desc, m, a_scale is not None,
                                                          b_scale is not None)
    heads = desc.n // (desc.head_left + desc.head_right) if desc.head_mid else 0
    if ldc is None:
        ldc = 0 if c is None else desc.n
    return _fill(_c.GemmArgs, a=a, b=b, c=c, bias=bias, a_scale=a_scale, b_scale=b_scale, d=d, m=m,
                 lda=of_a if lda is None else lda, ldb=of_b if ldb is None else ldb, ldc=ldc,
                 ldd=desc.n + heads * desc.head_mid if ldd is None else ldd,
                 ld_a_scale=of_a_scale if ld_a_scale is None else ld_a_scale,
                 ld_b_scale=of_b_scale if ld_b_scale is None else ld_b_scale)


def gemm_grouped_contiguous_args(desc, *, a, b, d, groups, m, a_scale=None, b_scale=None,
                                 **strides):
    """m: rows over all groups. `strides`: any of the struct's, by name."""
    lda, ldb, _, b_size = _operand_strides(desc, m)
    ld_a_scale, ld_b_scale, _, b_scale_size = _product_scale_strides(
        desc, m, a_scale is not None, b_scale is not None)
    return _with_strides(_c.GemmGroupedContiguousArgs, strides,
                         dict(lda=lda, ldb=ldb, ldd=desc.n, ld_a_scale=ld_a_scale,
                              ld_b_scale=ld_b_scale, b_group_stride=b_size,
                              b_scale_group_stride=b_scale_size),
                         a=a, b=b, a_scale=a_scale, b_scale=b_scale, d=d, groups=groups, m=m)


def gemm_grouped_masked_args(desc, *, a, b, d, masked_m, m, expected_m, signal=None, a_scale=None,
                             b_scale=None, **strides):
    """m: rows that each group has room for. `strides`: any of the struct's, by name."""
    lda, ldb, a_size, b_size = _operand_strides(desc, m)
    ld_a_scale, ld_b_scale, a_scale_size, b_scale_size = _product_scale_strides(
        desc, m, a_scale is not None, b_scale is not None)
    return _with_strides(_c.GemmGroupedMaskedArgs, strides,
                         dict(lda=lda, ldb=ldb, ldd=desc.n, ld_a_scale=ld_a_scale,
                              ld_b_scale=ld_b_scale, a_group_stride=a_size,
                              b_group_stride=b_size, d_group_stride=m * desc.n,
                              a_scale_group_stride=a_scale_size,
                              b_scale_group_stride=b_scale_size),
                         a=a, b=b, a_scale=a_scale, b_scale=b_scale, d=d, masked_m=masked_m,
                         signal=signal, m=m, expected_m=expected_m)


def gemm_batched_args(desc, *, a, b, d, m, c=None, a_scale=None, b_scale=None, **strides):
    """Batches one behind the other, unless `strides` (any of the struct's, by name) say else."""
    lda, ldb, a_size, b_size = _operand_strides(desc, m)
    ld_a_scale, ld_b_scale, a_scale_size, b_scale_size = _product_scale_strides(
        desc, m, a_scale is not None, b_scale is not None)
    has_c = c is not None
    d_size = 0 if desc.flags & CONSTANTS["GEMM_SUM_BATCHES"] else m * desc.n
    return _with_strides(_c.GemmBatchedArgs, strides,
                         dict(lda=lda, ldb=ldb, ldc=desc.n * has_c, ldd=desc.n,
                              ld_a_scale=ld_a_scale, ld_b_scale=ld_b_scale, a_batch_stride=a_size,
                              b_batch_stride=b_size, c_batch_stride=d_size * has_c,
                              d_batch_stride=d_size, a_scale_batch_stride=a_scale_size,
                              b_scale_batch_stride=b_scale_size),
                         a=a, b=b, c=c, a_scale=a_scale, b_scale=b_scale, d=d, m=m)


def _with_strides(struct, given, defaults, **values):
    unknown = set(given) - set(defaults)
    if unknown:
        raise TypeError(f"{struct.__name__} has no stride {', '.join(sorted(unknown))}")
    return _fill(struct, **{**defaults, **given}, **values)


def gemm_grouped_k_args(desc, *, a, b, d, ks, k, c=None, a_scale=None, b_scale=None, lda=None,
                        ldb=None, ldc=None, ldd=None, ld_a_scale=None, ld_b_scale=None,
                        c_group_stride=None, d_group_stride=None):
    """`k`: of all groups together; `ks`: of each, on the device."""
    fp8 = desc.dtype_ab == CONSTANTS["E4M3"]
    if lda is None:
        lda = 0 if fp8 else desc.m
    if ldb is None:
        ldb = 0 if fp8 else desc.n
    if ld_a_scale is None:
        ld_a_scale = 0 if a_scale is None else _ceil_div(desc.m, 4) * 4
    if ld_b_scale is None:
        ld_b_scale = 0 if b_scale is None else _ceil_div(desc.n, 4) * 4
    if ldc is None:
        ldc = 0 if c is None else desc.n
    if ldd is None:
        ldd = desc.n
    if c_group_stride is None:
        c_group_stride = desc.m * ldc
    if d_group_stride is None:
        d_group_stride = desc.m * ldd
    return _fill(_c.GemmGroupedKArgs, a=a, b=b, c=c, a_scale=a_scale, b_scale=b_scale, d=d, ks=ks,
                 k=k, lda=lda, ldb=ldb, ldc=ldc, ldd=ldd, ld_a_scale=ld_a_scale,
                 ld_b_scale=ld_b_scale, c_group_stride=c_group_stride,
                 d_group_stride=d_group_stride)


def gemm_fused_linear_args(desc, *, a, b, d, m, lda=None, ldb=None, ldd=None):
    """`d`: the output of each segment; `ldd`: its row stride."""
    widths = desc.n[:desc.num_segments]
    pointers = (ctypes.c_void_p * _c.MAX_SEGMENTS)(*[address(x) for x in d])
    strides = (ctypes.c_int64 * _c.MAX_SEGMENTS)(*(widths if ldd is None else ldd))
    return _fill(_c.GemmFusedLinearArgs, a=a, b=b, m=m, lda=desc.k if lda is None else lda,
                 ldb=desc.k if ldb is None else ldb, d=pointers, ldd=strides)


def quant_fp8_args(desc, *, x, q, scale, m, ldx=None, ldq=None, ld_scale=None):
    """MN-major scales' default stride: block rows, rounded up to 4 as gemm wants of a_scale."""
    if ld_scale is None:
        block_rows = m if desc.block == CONSTANTS["QUANT_1X128"] else _ceil_div(m, 128)
        k_major = desc.scale_major == CONSTANTS["K_MAJOR"]
        ld_scale = _ceil_div(desc.k, 128) if k_major else _ceil_div(block_rows, 4) * 4
    return _fill(_c.QuantFp8Args, x=x, q=q, scale=scale, m=m, ldx=desc.k if ldx is None else ldx,
                 ldq=desc.k if ldq is None else ldq, ld_scale=ld_scale)


def _scale_strides(desc, m, dst_columns, ld_src, ld_dst, group_stride_src, group_stride_dst):
    k_major = desc.src_major == CONSTANTS["K_MAJOR"]
    if ld_src is None:
        ld_src = desc.k_blocks if k_major else m
    if ld_dst is None:
        ld_dst = _ceil_div(m, 4) * 4
    if group_stride_src is None:
        group_stride_src = ld_src * (m if k_major else desc.k_blocks)
    if group_stride_dst is None:
        group_stride_dst = ld_dst * dst_columns
    return {"ld_src": ld_src, "ld_dst": ld_dst, "group_stride_src": group_stride_src,
            "group_stride_dst": group_stride_dst}


def scale_layout_args(desc, *, src, dst, m, ld_src=None, ld_dst=None, group_stride_src=None,
                      group_stride_dst=None):
    return _fill(_c.ScaleLayoutArgs, src=src, dst=dst, m=m,
                 **_scale_strides(desc, m, desc.k_blocks, ld_src, ld_dst, group_stride_src,
                                  group_stride_dst))


def scale_pack_ue8m0_args(desc, *, src, dst, m, ks=None, k_blocks=0, ld_src=None, ld_dst=None,
                          group_stride_src=None, group_stride_dst=None):
    """`ks` and `k_blocks`: SCALE_K_GROUPED only."""
    return _fill(_c.ScalePackUe8m0Args, src=src, dst=dst, ks=ks, m=m, k_blocks=k_blocks,
                 **_scale_strides(desc, m, _ceil_div(desc.k_blocks, 4), ld_src, ld_dst,
                                  group_stride_src, group_stride_dst))


def hc_prenorm_args(desc, *, x, w, z, q, m, num_splits=0, ldx=None, ldz=None, z_split_stride=None,
                    q_split_stride=None):
    """num_splits 0: final sums, z [m, n] and q [m]. Else parts: z [num_splits, m, n], q [num_splits, m]."""
    ldz = desc.n if ldz is None else ldz
    return _fill(_c.HcPrenormArgs, x=x, w=w, z=z, q=q, m=m, num_splits=num_splits,
                 ldx=desc.k if ldx is None else ldx, ldz=ldz,
                 z_split_stride=m * ldz if z_split_stride is None else z_split_stride,
                 q_split_stride=m if q_split_stride is None else q_split_stride)


def hc_prenorm_weights_args(desc, *, f, w, ldf=None):
    return _fill(_c.HcPrenormWeightsArgs, f=f, w=w, ldf=desc.k if ldf is None else ldf)


def _packed_strides(name, heads, head_dim, token, head):
    """Of a tensor [tokens, heads, head_dim]."""
    head = head_dim if head is None else head
    token = heads * head if token is None else token
    return {f"{name}_token_stride": token, f"{name}_head_stride": head}


def attn_prefill_args(desc, *, q, k, v, o, q_indptr, kv_indptr, batch, total_q, total_kv,
                      max_q_len=None, max_kv_len=None, lse=None, sinks=None, scale=None, softcap=0.0,
                      window_left=-1, window_right=0, q_token_stride=None, q_head_stride=None,
                      k_token_stride=None, k_head_stride=None, v_token_stride=None,
                      v_head_stride=None, o_token_stride=None, o_head_stride=None,
                      lse_token_stride=None, lse_head_stride=1, k_scale=None, v_scale=None,
                      k_scale_head_stride=0, v_scale_head_stride=0):
    """Causal unless window_right says otherwise; scale defaults to 1 / sqrt(head_dim_qk). Scales, of e4m3 keys
    and values, are one for all heads unless they have a stride."""
    qk, dv = desc.head_dim_qk, desc.head_dim_v
    return _fill(
        _c.AttnPrefillArgs, q=q, k=k, v=v, o=o, lse=lse, sinks=sinks, q_indptr=q_indptr,
        kv_indptr=kv_indptr, batch=batch, total_q=total_q, total_kv=total_kv,
        max_q_len=min(desc.max_q_len, total_q) if max_q_len is None else max_q_len,
        max_kv_len=min(desc.max_kv_len, total_kv) if max_kv_len is None else max_kv_len,
        **_packed_strides("q", desc.num_q_heads, qk, q_token_stride, q_head_stride),
        **_packed_strides("k", desc.num_kv_heads, qk, k_token_stride, k_head_stride),
        **_packed_strides("v", desc.num_kv_heads, dv, v_token_stride, v_head_stride),
        **_packed_strides("o", desc.num_q_heads, dv, o_token_stride, o_head_stride),
        lse_token_stride=desc.num_q_heads if lse_token_stride is None else lse_token_stride,
        lse_head_stride=lse_head_stride, window_left=window_left, window_right=window_right,
        scale=qk ** -0.5 if scale is None else scale, softcap=softcap, k_scale=k_scale, v_scale=v_scale,
        k_scale_head_stride=k_scale_head_stride, v_scale_head_stride=v_scale_head_stride)


def _paged_strides(name, page_size, heads, head_dim, page, token, head):
    """Of a tensor [pages, page_size, heads, head_dim]."""
    head = head_dim if head is None else head
    token = heads * head if token is None else token
    page = page_size * token if page is None else page
    return {f"{name}_page_stride": page, f"{name}_token_stride": token, f"{name}_head_stride": head}


def _paged_attention_args(struct, desc, *, q, k, v, o, q_indptr, page_table, seq_lens, batch, total_q,
                          page_size, num_pages, max_pages, max_q_len=None, max_kv_len=None, lse=None,
                          sinks=None, scale=None, softcap=0.0, window_left=-1, window_right=0,
                          page_table_stride=None, q_token_stride=None, q_head_stride=None,
                          k_page_stride=None, k_token_stride=None, k_head_stride=None,
                          v_page_stride=None, v_token_stride=None, v_head_stride=None,
                          o_token_stride=None, o_head_stride=None, lse_token_stride=None,
                          lse_head_stride=1, mask=None, mask_indptr=None, mask_bytes=0, k_scale=None,
                          v_scale=None, k_scale_head_stride=0, v_scale_head_stride=0, k_new=None, v_new=None,
                          k_new_token_stride=None, k_new_head_stride=None, v_new_token_stride=None,
                          v_new_head_stride=None, **more):
    """Causal unless window_right or a mask says otherwise; scale defaults to 1 / sqrt(head_dim_qk). Scales,
    of an e4m3 cache, are one for all heads unless they have a stride. With NEW_KEYS also k_new and v_new, packed
    unless strides say otherwise; with CHECK_PAGES page_error."""
    qk, dv = desc.head_dim_qk, desc.head_dim_v
    if desc.flags & CONSTANTS["ATTN_NEW_KEYS"]:
        more |= dict(**_packed_strides("k_new", desc.num_kv_heads, qk, k_new_token_stride, k_new_head_stride),
                     **_packed_strides("v_new", desc.num_kv_heads, dv, v_new_token_stride, v_new_head_stride))
    return _fill(
        struct, **more, q=q, k=k, v=v, k_new=k_new, v_new=v_new, o=o, lse=lse, sinks=sinks, q_indptr=q_indptr,
        page_table=page_table, seq_lens=seq_lens, batch=batch, total_q=total_q,
        max_q_len=min(desc.max_q_len, total_q) if max_q_len is None else max_q_len,
        max_kv_len=min(desc.max_kv_len, max_pages * page_size) if max_kv_len is None else max_kv_len,
        page_size=page_size, num_pages=num_pages, max_pages=max_pages,
        page_table_stride=max_pages if page_table_stride is None else page_table_stride,
        **_packed_strides("q", desc.num_q_heads, qk, q_token_stride, q_head_stride),
        **_paged_strides("k", page_size, desc.num_kv_heads, qk, k_page_stride, k_token_stride, k_head_stride),
        **_paged_strides("v", page_size, desc.num_kv_heads, dv, v_page_stride, v_token_stride, v_head_stride),
        **_packed_strides("o", desc.num_q_heads, dv, o_token_stride, o_head_stride),
        lse_token_stride=desc.num_q_heads if lse_token_stride is None else lse_token_stride,
        lse_head_stride=lse_head_stride, window_left=window_left, window_right=window_right,
        scale=qk ** -0.5 if scale is None else scale, softcap=softcap, mask=mask,
        mask_indptr=mask_indptr, mask_bytes=mask_bytes, k_scale=k_scale, v_scale=v_scale,
        k_scale_head_stride=k_scale_head_stride, v_scale_head_stride=v_scale_head_stride)


def attn_decode_args(desc, **fields):
    """Fields of dgrt_attn_decode_args. Hints, masks, scale, lse, sinks and strides have defaults."""
    return _paged_attention_args(_c.AttnDecodeArgs, desc, **fields)


def attn_extend_args(desc, **fields):
    """As attn_decode_args, and kv_start."""
    return _paged_attention_args(_c.AttnExtendArgs, desc, **fields)


def attn_merge_args(desc, *, part_o, part_lse, o, tokens, num_parts, lse=None, sinks=None, **strides):
    """`strides`: any of the struct's, by name."""
    heads, row = desc.num_heads, desc.num_heads * desc.head_dim
    return _with_strides(
        _c.AttnMergeArgs, strides,
        dict(part_o_part_stride=tokens * row, part_o_token_stride=row, part_o_head_stride=desc.head_dim,
             part_lse_part_stride=tokens * heads, part_lse_token_stride=heads, part_lse_head_stride=1,
             o_token_stride=row, o_head_stride=desc.head_dim, lse_token_stride=heads, lse_head_stride=1),
        part_o=part_o, part_lse=part_lse, o=o, lse=lse, sinks=sinks, tokens=tokens, num_parts=num_parts)


def kv_append_args(desc, *, k, v, k_cache, v_cache, slot_mapping, tokens, page_size, num_pages,
                   k_scale=None, v_scale=None, **strides):
    """`strides`: any of the struct's, by name. Those of scales: 0, one for all heads."""
    heads, qk, dv = desc.num_kv_heads, desc.head_dim_qk, desc.head_dim_v
    return _with_strides(
        _c.KvAppendArgs, strides,
        dict(**_packed_strides("k", heads, qk, None, None), **_packed_strides("v", heads, dv, None, None),
             **_paged_strides("k_cache", page_size, heads, qk, None, None, None),
             **_paged_strides("v_cache", page_size, heads, dv, None, None, None),
             k_scale_head_stride=0, v_scale_head_stride=0),
        k=k, v=v, k_cache=k_cache, v_cache=v_cache, slot_mapping=slot_mapping, k_scale=k_scale,
        v_scale=v_scale, tokens=tokens, page_size=page_size, num_pages=num_pages)


def mqa_logits_args(desc, *, q, kv, kv_scale, w, ks, ke, out, tokens, kv_tokens, max_k=0,
                    w_token_stride=None, out_token_stride=None):
    """`max_k`: with LOGITS_COMPRESSED, columns of out."""
    columns = max_k if desc.flags & CONSTANTS["LOGITS_COMPRESSED"] else kv_tokens
    return _fill(_c.MqaLogitsArgs, q=q, kv=kv, kv_scale=kv_scale, w=w, ks=ks, ke=ke, out=out, tokens=tokens,
                 kv_tokens=kv_tokens, max_k=max_k,
                 w_token_stride=desc.num_heads if w_token_stride is None else w_token_stride,
                 out_token_stride=columns if out_token_stride is None else out_token_stride)


def paged_mqa_logits_args(desc, *, q, kv_cache, w, context_lens, page_table, out, batch, num_pages, max_pages,
                          max_context_len=None, kv_page_stride=None, page_table_stride=None,
                          w_token_stride=None, out_token_stride=None):
    """`max_context_len`: columns of out; the desc's unless given. kv_page_stride counts bytes."""
    columns = desc.max_context_len if max_context_len is None else max_context_len
    page_bytes = desc.page_size * (desc.head_dim + 4)
    return _fill(_c.PagedMqaLogitsArgs, q=q, kv_cache=kv_cache, w=w, context_lens=context_lens,
                 page_table=page_table, out=out, batch=batch, max_context_len=columns, num_pages=num_pages,
                 max_pages=max_pages, kv_page_stride=page_bytes if kv_page_stride is None else kv_page_stride,
                 page_table_stride=max_pages if page_table_stride is None else page_table_stride,
                 w_token_stride=desc.num_heads if w_token_stride is None else w_token_stride,
                 out_token_stride=columns if out_token_stride is None else out_token_stride)


# Desc struct -> function that makes its args.
MAKE_ARGS = {
    _c.GemmDesc: gemm_args,
    _c.GemmGroupedContiguousDesc: gemm_grouped_contiguous_args,
    _c.GemmGroupedMaskedDesc: gemm_grouped_masked_args,
    _c.GemmBatchedDesc: gemm_batched_args,
    _c.GemmGroupedKDesc: gemm_grouped_k_args,
    _c.GemmFusedLinearDesc: gemm_fused_linear_args,
    _c.QuantFp8Desc: quant_fp8_args,
    _c.ScaleLayoutDesc: scale_layout_args,
    _c.ScalePackUe8m0Desc: scale_pack_ue8m0_args,
    _c.HcPrenormDesc: hc_prenorm_args,
    _c.HcPrenormWeightsDesc: hc_prenorm_weights_args,
    _c.AttnPrefillDesc: attn_prefill_args,
    _c.AttnDecodeDesc: attn_decode_args,
    _c.AttnExtendDesc: attn_extend_args,
    _c.AttnMergeDesc: attn_merge_args,
    _c.KvAppendDesc: kv_append_args,
    _c.MqaLogitsDesc: mqa_logits_args,
    _c.PagedMqaLogitsDesc: paged_mqa_logits_args,
}
