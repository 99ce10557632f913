"""Inputs, references and calls of the indexer's ops, for dgrt and for DeepGEMM in the same process. Columns are
compared that all sampled tokens see."""

import torch

from peer_common import floor_us

import dgrt
from family_case import Case, dgrt_call, draw_groups, draw_scales, per_shape, pick, some_rows
from gemm_work import deep_gemm

HEADS, HEAD_DIM, PAGE = 64, 128, 64
LIMIT_LOGITS = 5e-3  # the tensor core adds e4m3 products up with 14 bits or so
TOKENS, KEYS = 2048, (4096, 8192, 16384, 32768, 65536)
PAGED = ((256, 8192, 1), (256, 8192, 2), (256, 8192, 4), (64, 65536, 1), (64, 65536, 2), (16, 8192, 1))


def reference(q, kv, kv_scale, w):
    """q [rows, heads, dim], kv [keys, dim]: a head at a time, in fp32."""
    logits = torch.zeros(q.shape[0], kv.shape[0], device="cuda")
    for head in range(q.shape[1]):
        logits += w[:, head, None] * (q[:, head].float() @ kv.float().t()).relu_()
    return logits * kv_scale


def causal_cases(context, index, shape):
    """The last tokens of so many keys."""
    torch.manual_seed(600 + index)
    desc = dgrt.mqa_logits_desc(num_heads=HEADS, head_dim=HEAD_DIM, max_tokens=TOKENS, max_kv_tokens=shape)
    with context.plan(desc) as plan:
        yield causal_case(plan, shape)


def causal_case(plan, keys):
    q, kv = draw_groups(TOKENS, HEADS, HEAD_DIM), draw_groups(1, keys, HEAD_DIM)[0]
    kv_scale, w = draw_scales(keys), torch.randn(TOKENS, HEADS, device="cuda")
    ks = torch.zeros(TOKENS, dtype=torch.int32, device="cuda")
    ke = torch.arange(keys - TOKENS + 1, keys + 1, dtype=torch.int32, device="cuda")
    out = torch.full((TOKENS, keys), float("nan"), device="cuda")
    calls, kernels = {}, {}
    calls["dgrt"], kernels["dgrt"] = dgrt_call(plan, out, q=q, kv=kv, kv_scale=kv_scale, w=w, ks=ks, ke=ke, out=out,
                                               tokens=TOKENS, kv_tokens=keys)
    if deep_gemm is not None:
        calls["deep_gemm"] = lambda: deep_gemm.fp8_mqa_logits(q, (kv, kv_scale), w, ks, ke, clean_logits=False)
    rows, seen = some_rows(0, TOKENS), keys - TOKENS + 1
    pairs = int((ke - ks).sum())
    flops = 2 * pairs * HEADS * HEAD_DIM
    moved = TOKENS * HEADS * (HEAD_DIM + 4) + keys * (HEAD_DIM + 4) + 4 * pairs
    return Case("mqa_logits", {"tokens": TOKENS, "keys": keys, "heads": HEADS, "head_dim": HEAD_DIM}, flops,
                floor_us(moved, flops, "fp8"), calls, kernels, lambda out: [out[rows, :seen]],
                [reference(pick(q, rows), kv, kv_scale, w[rows])[:, :seen]], (LIMIT_LOGITS, LIMIT_LOGITS))


def paged_cases(context, index, shape):
    batch, mean, next_n = shape
    torch.manual_seed(700 + index)
    desc = dgrt.paged_mqa_logits_desc(num_heads=HEADS, head_dim=HEAD_DIM, next_n=next_n, page_size=PAGE,
                                      max_batch=batch, max_context_len=mean * 13 // 10)
    with context.plan(desc) as plan:
        yield paged_case(plan, batch, mean, next_n)


def paged_case(plan, batch, mean, next_n):
    """Contexts of 0.7 to 1.3 times the mean on pages in random order. DeepGEMM's schedule is made once, before the
    clock starts, as engines make it once for all layers: dgrt makes its own in every call."""
    longest = mean * 13 // 10
    max_pages = -(-longest // PAGE)
    num_pages = batch * max_pages
    lens = (mean * (0.7 + 0.6 * torch.rand(batch, 1, device="cuda"))).int()
    context_lens = (lens - torch.arange(next_n - 1, -1, -1, device="cuda", dtype=torch.int32)).contiguous()
    table = torch.randperm(num_pages, device="cuda").view(batch, max_pages).int()
    values, scales = draw_groups(num_pages, PAGE, HEAD_DIM), draw_scales(num_pages, PAGE)
    cache = torch.cat([values.view(torch.uint8).view(num_pages, -1), scales.view(torch.uint8)], dim=1).contiguous()
    q = draw_groups(batch * next_n, HEADS, HEAD_DIM)
    w = torch.randn(batch * next_n, HEADS, device="cuda")
    out = torch.full((batch * next_n, longest), float("nan"), device="cuda")
    calls, kernels = {}, {}
    calls["dgrt"], kernels["dgrt"] = dgrt_call(plan, out, q=q, kv_cache=cache, w=w, context_lens=context_lens,
                                               page_table=table, out=out, batch=batch, num_pages=num_pages,
                                               max_pages=max_pages)
    if deep_gemm is not None:
        sms = torch.cuda.get_device_properties(0).multi_processor_count
        pages = cache.view(num_pages, PAGE, 1, HEAD_DIM + 4)
        made = []

        def peer():
            if not made:
                made.append(deep_gemm.get_paged_mqa_logits_metadata(context_lens, PAGE, sms))
            return deep_gemm.fp8_paged_mqa_logits(q.view(batch, next_n, HEADS, HEAD_DIM), pages, w, context_lens,
                                                  table, made[0], longest, clean_logits=False)

        calls["deep_gemm"] = peer
    # The first request, as far as all its tokens see.
    seen, own = int(context_lens[0, 0]), table[0].long()
    want = reference(q[:next_n], pick(values, own).reshape(-1, HEAD_DIM)[:seen], scales[own].flatten()[:seen],
                     w[:next_n])
    pairs = int(context_lens.sum())
    flops = 2 * pairs * HEADS * HEAD_DIM
    moved = batch * next_n * HEADS * (HEAD_DIM + 4) + int(lens.sum()) * (HEAD_DIM + 4) + 4 * pairs
    return Case("paged_mqa_logits", {"batch": batch, "next_n": next_n, "keys": mean, "heads": HEADS}, flops,
                floor_us(moved, flops, "fp8"), calls, kernels, lambda out: [out[:next_n, :seen]], [want],
                (LIMIT_LOGITS, LIMIT_LOGITS))


MAKERS = {"mqa_logits": per_shape(causal_cases, KEYS), "paged_mqa_logits": per_shape(paged_cases, PAGED)}
