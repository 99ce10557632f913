"""Inputs, references and calls of latent attention over all keys, for dgrt and for FlashMLA in the same process."""

import torch

from peer_common import floor_us, optional

import dgrt
from attention_work import LIMIT_GLOBAL, LIMIT_TILE
from family_case import Case, bf16_out, dgrt_call, per_shape
from mla_cases import DECODE, PAGE, ROW, SCALE, VALUE

flash_mla = optional("flash_mla")


def reference(q, rows):
    """[tokens, heads, VALUE]: q [tokens, heads, ROW] of one sequence, rows [keys, ROW]; the last query sees all."""
    logits = torch.einsum("thc,kc->thk", q.float(), rows.float()) * SCALE
    keys = torch.arange(len(rows), device=q.device)
    seen = keys <= (len(rows) - len(q) + torch.arange(len(q), device=q.device))[:, None]
    logits.masked_fill_(~seen[:, None], float("-inf"))
    return torch.einsum("thk,kc->thc", logits.softmax(-1), rows[:, :VALUE].float())


def decode_cases(context, index, shape):
    torch.manual_seed(800 + index)
    desc = dgrt.mla_decode_desc(num_q_heads=shape.heads, max_batch=shape.batch, max_q_len=shape.tokens,
                                max_kv_len=max(shape.lens()))
    with context.plan(desc) as plan:
        yield decode_case(plan, shape)


def decode_case(plan, shape):
    """Pages in random order."""
    lens, max_pages, total = shape.lens(), shape.max_pages(), shape.batch * shape.tokens
    num_pages = shape.batch * max_pages
    cache = torch.randn(num_pages, PAGE, 1, ROW, device="cuda", dtype=torch.bfloat16)
    table = torch.randperm(num_pages, device="cuda").view(shape.batch, max_pages).int()
    seq_lens = torch.tensor(lens, dtype=torch.int32, device="cuda")
    q = torch.randn(shape.batch, shape.tokens, shape.heads, ROW, device="cuda", dtype=torch.bfloat16)
    o = bf16_out(shape.batch, shape.tokens, shape.heads, VALUE)
    lse = torch.empty(total, shape.heads, device="cuda")
    q_indptr = torch.arange(shape.batch + 1, dtype=torch.int32, device="cuda") * shape.tokens
    calls, kernels = {}, {}
    calls["dgrt"], kernels["dgrt"] = dgrt_call(
        plan, o, q=q, kv=cache, o=o, lse=lse, q_indptr=q_indptr, page_table=table, seq_lens=seq_lens, batch=shape.batch,
        total_q=total, page_size=PAGE, num_pages=num_pages, max_pages=max_pages, scale=SCALE)
    if flash_mla is not None:
        calls["flash_mla"] = flash_call(q, cache, table, seq_lens)
    ends = sorted({0, shape.batch - 1})
    want = [reference(q[b], cache[table[b].long()].reshape(-1, ROW)[:lens[b]]).flatten(0, 1) for b in ends]
    return Case("mla_decode", shape.fields(), shape.flops(), floor_us(shape.moved_bytes(), shape.flops(), "bf16"), calls,
                kernels, lambda out: [out[b].flatten(0, 1) for b in ends], want, (LIMIT_GLOBAL, LIMIT_TILE))


def flash_call(q, cache, table, seq_lens):
    """The schedule is made once, before the clock starts, as engines make it once for all layers (versions differ in
    which call makes it): dgrt makes its own in every call."""
    tokens, heads = q.shape[1:3]
    schedule, splits = flash_mla.get_mla_metadata(seq_lens, tokens * heads, 1)

    def call():
        return flash_mla.flash_mla_with_kvcache(q, cache, table, seq_lens, VALUE, schedule, splits,
                                                softmax_scale=SCALE, causal=True)[0]

    return call


MAKERS = {"mla_decode": per_shape(decode_cases, DECODE)}
