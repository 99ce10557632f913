"""dgrt: the kernel runtime libdgrt from Python, by ctypes and without further dependencies.

    import dgrt, torch
    ctx = dgrt.Context(device=0)
    plan = ctx.plan(dgrt.gemm_desc(n=4096, k=7168, max_m=8192, dtype_ab=dgrt.BF16))
    plan.launch(a=a, b=b, d=d, m=a.shape[0], stream=torch.cuda.current_stream().cuda_stream)

Constants are those of the C headers without their DGRT_ prefix: dgrt.E4M3, dgrt.MN_MAJOR, ..."""

from ._c import CONSTANTS, load_library
from .ops import (address, gemm_args, gemm_batched_args, gemm_batched_desc, gemm_desc,
                  gemm_fused_linear_args, gemm_fused_linear_desc, gemm_grouped_contiguous_args,
                  gemm_grouped_contiguous_desc, gemm_grouped_k_args, gemm_grouped_k_desc,
                  gemm_grouped_masked_args, gemm_grouped_masked_desc, quant_fp8_args,
                  quant_fp8_desc, scale_layout_args, scale_layout_desc, scale_pack_ue8m0_args,
                  scale_pack_ue8m0_desc)
from .ops import (attn_decode_args, attn_decode_desc, attn_extend_args, attn_extend_desc,
                  attn_prefill_args, attn_prefill_desc)
from .ops import attn_merge_args, attn_merge_desc, kv_append_args, kv_append_desc
from .ops import (hc_prenorm_args, hc_prenorm_desc, hc_prenorm_weights_args,
                  hc_prenorm_weights_desc)
from .mla_ops import (build_swa_token_ids_args, build_swa_token_ids_desc, combine_topk_swa_indices_args,
                      combine_topk_swa_indices_desc, kv_dequant_paged_args, kv_dequant_paged_desc,
                      mla_decode_args, mla_decode_desc, mla_kv_append_args, mla_kv_append_desc,
                      mla_sparse_decode_args, mla_sparse_decode_desc, mla_sparse_prefill_args,
                      mla_sparse_prefill_desc, topk_transform_args, topk_transform_desc)
from .ops import (mqa_logits_args, mqa_logits_desc, paged_mqa_logits_args,
                  paged_mqa_logits_desc)
from .runtime import CallInfo, Context, Error, KernelInfo, Key, Plan, PlanInfo, Progress, version
from .runtime import enumerate_keys as enumerate  # as in C; not in __all__: it shadows a builtin

globals().update(CONSTANTS)

__all__ = ["CallInfo", "Context", "Error", "KernelInfo", "Key", "Plan", "PlanInfo", "Progress",
           "address", "gemm_args", "gemm_batched_args", "gemm_batched_desc", "gemm_desc",
           "gemm_fused_linear_args", "gemm_fused_linear_desc", "gemm_grouped_contiguous_args",
           "gemm_grouped_contiguous_desc", "gemm_grouped_k_args", "gemm_grouped_k_desc",
           "gemm_grouped_masked_args", "gemm_grouped_masked_desc", "load_library",
           "quant_fp8_args", "quant_fp8_desc", "scale_layout_args", "scale_layout_desc",
           "scale_pack_ue8m0_args", "scale_pack_ue8m0_desc", "hc_prenorm_args", "hc_prenorm_desc",
           "hc_prenorm_weights_args", "hc_prenorm_weights_desc", "attn_prefill_args",
           "attn_prefill_desc", "attn_decode_args", "attn_decode_desc", "attn_extend_args",
           "attn_extend_desc", "attn_merge_args", "attn_merge_desc", "kv_append_args",
           "kv_append_desc", "mla_decode_args", "mla_decode_desc", "mla_sparse_prefill_args",
           "mla_sparse_prefill_desc", "topk_transform_args", "topk_transform_desc",
           "mla_kv_append_args", "mla_kv_append_desc", "kv_dequant_paged_args", "kv_dequant_paged_desc",
           "build_swa_token_ids_args", "build_swa_token_ids_desc", "combine_topk_swa_indices_args",
           "combine_topk_swa_indices_desc", "mla_sparse_decode_args", "mla_sparse_decode_desc",
           "mqa_logits_args", "mqa_logits_desc", "paged_mqa_logits_args",
           "paged_mqa_logits_desc", "version", *CONSTANTS]
