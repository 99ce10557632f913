"""The case table of attention of Gemma-4-26B-A4B, two GPUs: prefill (A to F) and speculative verify over a
cache of pages of one token (G to I), dgrt beside our Triton kernel with the tiles that public engines use
for such heads: a small one for each of the two, and 64 x 64. Every tile is a variant of one column."""

import importlib.util

import torch

from peer_common import floor_us

import dgrt
from attention_work import CAUSAL, FULL, LIMIT_GLOBAL, LIMIT_TILE, reference
from family_case import Case, bf16_out, dgrt_call, per_shape, some_rows

HEADS, KV_HEADS, SIZE = 8, 4, 256
# name, sequences, tokens of each, earlier keys, window_left
CASES = (("A", 1, 8192, 0, FULL), ("B", 1, 1000, 0, FULL), ("C", 4, 1000, 0, FULL), ("D", 8, 512, 0, FULL),
         ("E", 16, 1024, 0, FULL), ("F", 32, 512, 0, FULL), ("G", 32, 4, 1000, 1024),
         ("H", 32, 4, 8000, 1024), ("I", 32, 4, 64, 1024))


def draw(*shape):
    return torch.randn(*shape, SIZE, device="cuda").bfloat16()


def indptr(batch, step):
    return torch.arange(batch + 1, dtype=torch.int32, device="cuda") * step


def triton_calls(prefix, **fields):
    """{column: call} of every tile; nothing without Triton."""
    if importlib.util.find_spec("triton") is None:
        return {}
    from triton_extend import Tile, extend_attention
    tiles = Tile(16 if prefix else 32, 64, 4, 2), Tile(64, 64, 8, 1)
    return {f"triton/{tile}": lambda tile=tile: extend_attention(tile, **fields) for tile in tiles}


def visible_pairs(m, prefix, window_left):
    """Pairs of a sequence's queries and keys, and the keys that any of them sees."""
    positions = range(prefix, prefix + m)
    seen = [min(i + 1, window_left + 1 if window_left >= 0 else i + 1) for i in positions]
    return sum(seen), seen[0] + m - 1


def make_case(name, context, batch, m, prefix, window_left):
    keys, total = prefix + m, batch * m
    q, (o, o_peer) = draw(total, HEADS), (bf16_out(total, HEADS, SIZE) for _ in range(2))
    k_cache, v_cache = draw(batch * keys, KV_HEADS), draw(batch * keys, KV_HEADS)
    # Slots of all keys; a prefill's lie in order, and its cache is its keys.
    slots = torch.arange(batch * keys, dtype=torch.int32, device="cuda").view(batch, keys)
    if prefix:
        slots = slots.flatten()[torch.randperm(slots.numel(), device="cuda")].view(batch, keys)
    k_new, v_new = (x[slots[:, prefix:].flatten().long()] for x in (k_cache, v_cache))
    common = dict(q=q, o=o, q_indptr=indptr(batch, m), batch=batch, total_q=total, window_left=window_left)
    sizes = dict(num_q_heads=HEADS, num_kv_heads=KV_HEADS, head_dim_qk=SIZE, max_batch=batch, max_q_len=m)
    if prefix:
        plan = context.plan(dgrt.attn_decode_desc(**sizes, max_kv_len=keys))
        launch, kernel = dgrt_call(
            plan, o, **common, k=k_cache, v=v_cache, page_table=slots, page_size=1, max_pages=keys,
            num_pages=len(k_cache), seq_lens=torch.full((batch,), keys, dtype=torch.int32, device="cuda"))
    else:
        plan = context.plan(dgrt.attn_prefill_desc(**sizes))
        launch, kernel = dgrt_call(plan, o, **common, k=k_new, v=v_new, kv_indptr=indptr(batch, m),
                                   total_kv=total)
    calls = {"dgrt": launch} | triton_calls(
        prefix, q=q, k_new=k_new, v_new=v_new, k_cache=k_cache, v_cache=v_cache, o=o_peer,
        q_indptr=indptr(batch, m), kv_indptr=indptr(batch, prefix),
        kv_indices=slots[:, :prefix].flatten().contiguous(), max_q_len=m, window_left=window_left)
    rows, ends = some_rows(0, m), sorted({0, batch - 1})
    of_sequences = q.view(batch, m, HEADS, SIZE)
    want = torch.cat([reference(of_sequences[b], k_cache[slots[b].long()], v_cache[slots[b].long()], rows,
                                CAUSAL, window_left) for b in ends])

    def sample(out):
        return [torch.cat([out.view(batch, m, HEADS, SIZE)[b][rows] for b in ends]).flatten(1)]

    pairs, seen = visible_pairs(m, prefix, window_left)
    flops = 4 * batch * HEADS * pairs * SIZE
    moved = 4 * batch * SIZE * (m * HEADS + seen * KV_HEADS)
    shape = {"case": name, "batch": batch, "m": m, "prefix": prefix, "window_left": window_left}
    case = Case("attn_cases", shape, flops, floor_us(moved, flops, "bf16"), calls, {"dgrt": kernel}, sample,
                [want.flatten(1)], (LIMIT_GLOBAL, LIMIT_TILE))
    return plan, case


def table_cases(context, index, shape):
    torch.manual_seed(700 + index)
    plan, case = make_case(shape[0], context, *shape[1:])
    with plan:
        yield case


MAKERS = {"attn_cases": per_shape(table_cases, CASES)}
