"""Inputs, references and calls of attention of prefill, for dgrt and for its peers in the same process.

References are fp32 softmaxes over all keys, of the first and the last rows of the first and the last
sequence."""

import math

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from peer_common import floor_us, optional

import dgrt
from family_case import Case, bf16_out, dgrt_call, per_shape, some_rows

flash3 = optional("flash_attn_interface")  # FlashAttention-3

# Weights and outputs are each rounded once to bf16: 1.2e-3 on average, 1.95e-3 at most, each.
LIMIT_GLOBAL, LIMIT_TILE = 3e-3, 5e-3
TOKENS = 16384
FULL, CAUSAL = -1, 0  # window_right; FULL also window_left

# batch, queries, query heads, key heads, head sizes of q and of v, mask
GEMMA = tuple((batch, m, 8, 4, 256, 256, CAUSAL)
              for batch, m in ((1, 8192), (1, 1000), (4, 1000), (8, 512), (16, 1024), (32, 512)))
SQUARE = tuple((TOKENS // m, m, 2048 // d, 2048 // d, d, d, mask)
               for d in (64, 128, 256) for mask in (CAUSAL, FULL) for m in (1024, 4096, 16384))
LARGE = ((4, 4096, 4, 4, 512, 512, CAUSAL), (4, 4096, 4, 4, 512, 512, FULL),
         (4, 4096, 16, 16, 192, 128, CAUSAL), (4, 4096, 32, 8, 128, 128, CAUSAL))
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def prefill_cases(context, index, shape):
    batch, m, q_heads, kv_heads, qk, dv, _ = shape
    torch.manual_seed(600 + index)
    desc = dgrt.attn_prefill_desc(num_q_heads=q_heads, num_kv_heads=kv_heads, head_dim_qk=qk, head_dim_v=dv,
                                  max_batch=batch, max_q_len=m)
    with context.plan(desc) as plan:
        yield prefill_case(plan, *shape)


def reference(q, k, v, rows, mask, window_left=FULL):
    """[rows, heads, dv] of one sequence: q [m, heads, qk], k and v with fewer heads. The last query has the
    last key's position."""
    group = q.shape[1] // k.shape[1]
    of_q = q[rows].float().transpose(0, 1)
    of_k, of_v = (x.float().repeat_interleave(group, 1).transpose(0, 1) for x in (k, v))
    logits = of_q @ of_k.transpose(1, 2) / math.sqrt(q.shape[2])
    keys, positions = torch.arange(len(k), device="cuda"), (rows + len(k) - len(q))[:, None]
    if mask == CAUSAL:
        logits.masked_fill_(keys > positions, float("-inf"))
    if window_left != FULL:
        logits.masked_fill_(keys < positions - window_left, float("-inf"))
    return (logits.softmax(-1) @ of_v).transpose(0, 1)


def torch_call(backend, q, k, v, mask):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))

    def call():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=mask == CAUSAL, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)

    return call


def flash3_call(q, k, v, indptr, mask):
    """Sequences side by side, as dgrt takes them, and as serving engines call it."""
    m = q.shape[1]
    packed = [x.flatten(0, 1) for x in (q, k, v)]

    def call():
        out = flash3.flash_attn_varlen_func(*packed, indptr, indptr, m, m, causal=mask == CAUSAL)
        return only_output(out).view(*q.shape[:3], -1)

    return call


def only_output(result):
    """Some versions of FlashAttention-3 return the logarithms of the sums as well."""
    return result[0] if isinstance(result, tuple) else result


def prefill_case(plan, batch, m, q_heads, kv_heads, qk, dv, mask):
    def draw(heads, columns):
        return torch.randn(batch, m, heads, columns, device="cuda").bfloat16()

    q, k, v = draw(q_heads, qk), draw(kv_heads, qk), draw(kv_heads, dv)
    o, total = bf16_out(batch, m, q_heads, dv), batch * m
    indptr = torch.arange(batch + 1, dtype=torch.int32, device="cuda") * m
    launch, kernel = dgrt_call(plan, o, q=q, k=k, v=v, o=o, q_indptr=indptr, kv_indptr=indptr,
                               batch=batch, total_q=total, total_kv=total, window_right=mask)
    calls = {"dgrt": launch}
    for name, backend in BACKENDS.items():
        calls[name] = torch_call(backend, q, k, v, mask)
    if flash3 is not None:
        calls["flash3"] = flash3_call(q, k, v, indptr, mask)
    rows, ends = some_rows(0, m), sorted({0, batch - 1})
    want = torch.cat([reference(q[b], k[b], v[b], rows, mask) for b in ends])

    def sample(out):
        return [torch.cat([out[b][rows] for b in ends]).flatten(1)]

    pairs = m * (m + 1) // 2 if mask == CAUSAL else m * m
    flops = 2 * batch * q_heads * pairs * (qk + dv)
    moved = 2 * total * (q_heads + kv_heads) * (qk + dv)
    shape = {"batch": batch, "m": m, "heads": f"{q_heads}/{kv_heads}",
             "head_dim": str(qk) if qk == dv else f"{qk}/{dv}",
             "mask": "causal" if mask == CAUSAL else "full"}
    return Case("attn_prefill", shape, flops, floor_us(moved, flops, "bf16"), calls, {"dgrt": kernel},
                sample, [want.flatten(1)], (LIMIT_GLOBAL, LIMIT_TILE))


MAKERS = {"attn_prefill": per_shape(prefill_cases, GEMMA + SQUARE + LARGE)}
