"""Decode and extend over a paged cache, for dgrt and for FlashAttention-3 in the same process. The last tokens of
every sequence are queries, whose keys the cache has already; pages lie in random order."""

import torch

from peer_common import floor_us

import dgrt
from attention_cases import visible_pairs
from attention_work import CAUSAL, FULL, LIMIT_GLOBAL, LIMIT_TILE, flash3, only_output, reference
from family_case import Case, bf16_out, dgrt_call, per_shape, some_rows

LLAMA, GEMMA, GPT_OSS = (32, 8, 128), (8, 4, 256), (64, 8, 64)  # query heads, key heads, head size
# heads, sequences, tokens of each, earlier keys, page size, window_left
DECODE = ((LLAMA, 64, 1, 4095, 16, FULL), (LLAMA, 64, 4, 4095, 16, FULL), (LLAMA, 64, 1, 4095, 64, FULL),
          (LLAMA, 64, 1, 4095, 1, FULL), (LLAMA, 512, 1, 255, 16, FULL), (LLAMA, 1, 1, 131071, 16, FULL),
          (GPT_OSS, 64, 1, 4095, 16, FULL), (GPT_OSS, 64, 1, 4095, 16, 127), (GEMMA, 32, 1, 8000, 16, FULL),
          (GEMMA, 32, 4, 8000, 16, 1024))
EXTEND = ((LLAMA, 4, 4096, 0, 16, FULL), (LLAMA, 4, 4096, 0, 64, FULL), (LLAMA, 2, 1024, 15360, 16, FULL),
          (LLAMA, 2, 1024, 15360, 64, FULL), (LLAMA, 2, 1024, 15360, 1, FULL), (LLAMA, 16, 128, 2048, 16, FULL),
          (LLAMA, 16, 512, 2048, 16, FULL), (GPT_OSS, 2, 2048, 6144, 16, FULL), (GPT_OSS, 2, 2048, 6144, 16, 127),
          (GEMMA, 4, 1024, 7168, 16, FULL), (GEMMA, 4, 1024, 7168, 16, 1023))


def decode_cases(context, index, shape):
    yield from paged_cases("attn_decode", dgrt.attn_decode_desc, context, 800 + index, shape)


def extend_cases(context, index, shape):
    yield from paged_cases("attn_extend", dgrt.attn_extend_desc, context, 900 + index, shape)


def paged_cases(op, make_desc, context, seed, shape):
    torch.manual_seed(seed)
    (q_heads, kv_heads, size), batch, m, prefix, _, _ = shape
    desc = make_desc(num_q_heads=q_heads, num_kv_heads=kv_heads, head_dim_qk=size, max_batch=batch, max_q_len=m,
                     max_kv_len=prefix + m)
    with context.plan(desc) as plan:
        yield paged_case(op, plan, *shape)


def paged_case(op, plan, heads, batch, m, prefix, page, window_left):
    (q_heads, kv_heads, size), keys, total = heads, prefix + m, batch * m
    max_pages = -(-keys // page)
    num_pages = batch * max_pages
    k, v = (torch.randn(num_pages, page, kv_heads, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    table = torch.randperm(num_pages, device="cuda").view(batch, max_pages).int()
    lens = torch.full((batch,), keys, dtype=torch.int32, device="cuda")
    q = torch.randn(batch, m, q_heads, size, device="cuda", dtype=torch.bfloat16)
    o = bf16_out(batch, m, q_heads, size)
    launch, kernel = dgrt_call(
        plan, o, q=q, k=k, v=v, o=o, q_indptr=torch.arange(batch + 1, dtype=torch.int32, device="cuda") * m,
        page_table=table, seq_lens=lens, batch=batch, total_q=total, page_size=page, num_pages=num_pages,
        max_pages=max_pages, window_left=window_left)
    calls = {"dgrt": launch}
    if flash3 is not None:
        calls |= flash3_calls(q, k, v, table, lens, window_left)
    rows, ends = some_rows(0, m), sorted({0, batch - 1})
    want = torch.cat([reference(q[b], *(x[table[b].long()].flatten(0, 1)[:keys] for x in (k, v)), rows, CAUSAL,
                                window_left) for b in ends])

    def sample(out):
        return [torch.cat([out[b][rows] for b in ends]).flatten(1)]

    pairs, seen = visible_pairs(m, prefix, window_left)
    flops = 4 * batch * q_heads * pairs * size
    moved = 4 * batch * size * (m * q_heads + seen * kv_heads)
    fields = {"batch": batch, "m": m, "prefix": prefix, "heads": f"{q_heads}/{kv_heads}", "head_dim": size,
              "page": page, "window": "none" if window_left == FULL else window_left}
    return Case(op, fields, flops, floor_us(moved, flops, "bf16"), calls, {"dgrt": kernel}, sample,
                [want.flatten(1)], (LIMIT_GLOBAL, LIMIT_TILE))


def flash3_calls(q, k, v, table, lens, window_left):
    """The plain call, and, where the version can, one whose schedule is made once, before the clock starts, as engines
    make it once for all layers: dgrt makes its own in every call."""
    (batch, m, q_heads, size), page = q.shape, k.shape[1]
    mask = {"causal": True, "window_size": (window_left, 0 if window_left != FULL else FULL)}
    made = []

    def plain(**schedule):
        return only_output(flash3.flash_attn_with_kvcache(q, k, v, cache_seqlens=lens, page_table=table, **mask,
                                                        **schedule))

    def planned():
        if not made:
            made.append(flash3.get_scheduler_metadata(batch, m, table.shape[1] * page, q_heads, k.shape[2], size, lens,
                                                      qkv_dtype=q.dtype, page_size=page, **mask))
        return plain(scheduler_metadata=made[0])

    calls = {"flash3/plain": plain}
    if hasattr(flash3, "get_scheduler_metadata"):
        calls["flash3/planned"] = planned
    return calls


MAKERS = {"attn_decode": per_shape(decode_cases, DECODE), "attn_extend": per_shape(extend_cases, EXTEND)}
