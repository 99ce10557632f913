"""Inputs, references and calls of sparse latent attention, for dgrt and for FlashMLA in the same process. A reference
covers the first and the last tokens."""

import dataclasses

import torch

from peer_common import floor_us

import dgrt
from attention_work import LIMIT_GLOBAL, LIMIT_TILE
from family_case import Case, bf16_out, dgrt_call, draw_e4m3, per_shape
from mla_cases import POOL, ROW, ROW_V4, SCALE, SPARSE_DECODE, SPARSE_PREFILL, TOKEN_BYTES, VALUE
from mla_work import flash_mla

SAMPLE = 16  # tokens at either end
GROUP = {ROW: 128, ROW_V4: 64}  # columns of a scale
PAGE_UNIT = 576  # bytes that FlashMLA wants V4's page strides to be multiples of


def ends_of(tokens):
    return sorted({*range(min(SAMPLE, tokens)), *range(max(0, tokens - SAMPLE), tokens)})


def reference(q, rows):
    """[heads, VALUE] of one token: q [heads, columns], rows [keys, columns]."""
    weights = (q.float() @ rows.float().t() * SCALE).softmax(-1)
    return weights @ rows[:, :VALUE].float()


# ---- Decode over quantised caches --------------------------------------------------------------------


@dataclasses.dataclass
class Cache:
    """POOL tokens: their values [tokens, quantised columns], scales, powers of two, [tokens, groups] and rotary
    columns, and the pages that hold them, [pages, page, 1, bytes of a token]."""
    values: torch.Tensor
    scales: torch.Tensor
    rotary: torch.Tensor
    pages: torch.Tensor

    def rows(self, slots):
        """bf16, exactly: values have 4 significant bits."""
        values, scales = self.values.view(torch.uint8)[slots].view(torch.float8_e4m3fn), self.scales[slots]
        wide = values.float() * scales.repeat_interleave(values.shape[1] // scales.shape[1], 1)
        return torch.cat([wide.bfloat16(), self.rotary[slots]], 1)


def draw_cache(columns, page):
    quantised = VALUE if columns == ROW else ROW_V4 - 64
    values = draw_e4m3(POOL, quantised)
    exponents = torch.randint(-8, -5, (POOL, quantised // GROUP[columns]), device="cuda")
    scales, rotary = torch.exp2(exponents.float()), torch.randn(POOL, 64, device="cuda").bfloat16()
    pack = pack_v32 if columns == ROW else pack_v4
    pages = pack(values, exponents, scales, rotary.view(torch.uint8), page)
    return Cache(values.view(torch.float8_e4m3fn), scales, rotary, pages.view(torch.float8_e4m3fn))


def pack_v32(values, exponents, scales, rotary, page):
    return torch.cat([values, scales.view(torch.uint8), rotary], 1).view(-1, page, 1, TOKEN_BYTES[ROW])


def pack_v4(values, exponents, scales, rotary, page):
    """Rows of a page, then their scales with a byte that nobody reads."""
    num_pages, size = len(values) // page, page * TOKEN_BYTES[ROW_V4]
    stride = -(-size // PAGE_UNIT) * PAGE_UNIT
    of_scales = torch.nn.functional.pad((exponents + 127).to(torch.uint8), (0, 1))
    pages = torch.zeros(num_pages, stride, dtype=torch.uint8, device=values.device)
    pages[:, :size] = torch.cat([torch.cat([values, rotary], 1).view(num_pages, -1), of_scales.view(num_pages, -1)], 1)
    return pages[:, :size].view(num_pages, page, 1, TOKEN_BYTES[ROW_V4])


def decode_cases(context, index, shape):
    torch.manual_seed(1000 + index)
    kind = dgrt.MLA_KV_V32 if shape.columns == ROW else dgrt.MLA_KV_V4
    desc = dgrt.mla_sparse_decode_desc(num_q_heads=shape.heads, max_tokens=shape.queries(),
                                       max_keys=shape.top_k + shape.extra_top_k, format=kind)
    with context.plan(desc) as plan:
        yield decode_case(plan, shape)


def draw_slots(shape, top_k):
    return torch.randint(0, POOL, (shape.batch, shape.tokens, top_k), dtype=torch.int32, device="cuda")


def decode_case(plan, shape):
    q = torch.randn(shape.batch, shape.tokens, shape.heads, shape.columns, device="cuda", dtype=torch.bfloat16)
    o = bf16_out(shape.batch, shape.tokens, shape.heads, VALUE)
    lse = torch.empty(shape.queries(), shape.heads, device="cuda")
    cache, slots = draw_cache(shape.columns, shape.page), draw_slots(shape, shape.top_k)
    fields = dict(cache=cache.pages, indices=slots, page_size=shape.page, num_pages=len(cache.pages))
    lists, extra = [(cache, slots)], {}
    if shape.extra_top_k:
        second, more = draw_cache(shape.columns, shape.extra_page), draw_slots(shape, shape.extra_top_k)
        lists.append((second, more))
        fields |= dict(extra_cache=second.pages, extra_indices=more, extra_top_k=shape.extra_top_k,
                       extra_page_size=shape.extra_page, extra_num_pages=len(second.pages))
        extra = dict(extra_k_cache=second.pages, extra_indices_in_kvcache=more)
    calls, kernels = {}, {}
    calls["dgrt"], kernels["dgrt"] = dgrt_call(plan, o, q=q, o=o, lse=lse, batch=shape.batch, q_len=shape.tokens,
                                               top_k=shape.top_k, scale=SCALE, **fields)
    if flash_mla is not None:
        calls["flash_mla"] = flash_decode_call(q, cache.pages, slots, extra)
    ends = ends_of(shape.queries())
    want = torch.cat([reference(q.flatten(0, 1)[t], torch.cat([c.rows(s.flatten(0, 1)[t].long()) for c, s in lists]))
                      for t in ends])
    return Case("mla_sparse_decode", shape.fields(), shape.flops(),
                floor_us(shape.moved_bytes(), shape.flops(), "bf16"), calls, kernels, lambda out: [out.flatten(0, 1)[ends].flatten(0, 1)], [want], (LIMIT_GLOBAL, LIMIT_TILE))


def flash_decode_call(q, pages, slots, extra):
    """The schedule is made by the first call, before the clock starts; dgrt makes its own in every call."""
    schedule, splits = flash_mla.get_mla_metadata()

    def call():
        return flash_mla.flash_mla_with_kvcache(q, pages, None, None, VALUE, schedule, splits, softmax_scale=SCALE,
                                                causal=False, is_fp8_kvcache=True, indices=slots, **extra)[0]

    return call


# ---- Prefill over rows of bf16 -----------------------------------------------------------------------


def prefill_cases(context, index, shape):
    torch.manual_seed(1100 + index)
    desc = dgrt.mla_sparse_prefill_desc(num_heads=shape.heads, head_dim_qk=shape.columns, max_tokens=shape.tokens,
                                        max_top_k=shape.top_k)
    with context.plan(desc) as plan:
        yield prefill_case(plan, shape)


def draw_lists(tokens, rows, top_k):
    """Of each token, top_k different rows in random order."""
    lists = torch.empty(tokens, top_k, dtype=torch.int32, device="cuda")
    for some in lists.split(512):
        some.copy_(torch.rand(len(some), rows, device="cuda").topk(top_k, dim=1).indices)
    return lists


def prefill_case(plan, shape):
    q = torch.randn(shape.tokens, shape.heads, shape.columns, device="cuda", dtype=torch.bfloat16)
    kv = torch.randn(shape.rows, shape.columns, device="cuda", dtype=torch.bfloat16)
    lists = draw_lists(shape.tokens, shape.rows, shape.top_k)
    o = bf16_out(shape.tokens, shape.heads, VALUE)
    lse, most = (torch.empty(shape.tokens, shape.heads, device="cuda") for _ in range(2))
    calls, kernels = {}, {}
    calls["dgrt"], kernels["dgrt"] = dgrt_call(plan, o, q=q, kv=kv, indices=lists, o=o, lse=lse, max_logits=most,
                                               tokens=shape.tokens, kv_rows=shape.rows, top_k=shape.top_k, scale=SCALE)
    if flash_mla is not None:
        calls["flash_mla"] = lambda: flash_mla.flash_mla_sparse_fwd(q, kv[:, None], lists[:, None], SCALE, VALUE)[0]
    ends = ends_of(shape.tokens)
    want = torch.cat([reference(q[t], kv[lists[t].long()]) for t in ends])
    return Case("mla_sparse_prefill", shape.fields(), shape.flops(),
                floor_us(shape.moved_bytes(), shape.flops(), "bf16"), calls, kernels,
                lambda out: [out[ends].flatten(0, 1)], [want], (LIMIT_GLOBAL, LIMIT_TILE))


MAKERS = {"mla_sparse_decode": per_shape(decode_cases, SPARSE_DECODE),
          "mla_sparse_prefill": per_shape(prefill_cases, SPARSE_PREFILL)}
