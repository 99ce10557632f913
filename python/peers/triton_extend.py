"""Extend attention in Triton, one of the peers: new tokens of every sequence over a cache of single slots
and over their own keys, which lie contiguously. One program per query head and block_m rows; tiles of
keys outside the window are not visited, longest rows first.

Milakov and Gimelshein, arXiv 1805.02867, for the running maximum and sum."""

import dataclasses
import math

import triton
import triton.language as tl


@dataclasses.dataclass(frozen=True)
class Tile:
    block_m: int
    block_n: int
    warps: int
    stages: int

    def __str__(self):
        return f"{self.block_m}x{self.block_n} w{self.warps} s{self.stages}"


@triton.jit
def attend(q, k, v, visible, scale_log2, most, total, acc):
    """One tile of keys. q [rows, size], k [size, keys], v [keys, size]; a row without keys so far has the
    maximum minus infinity."""
    s = tl.where(visible, tl.dot(q, k) * scale_log2, float("-inf"))
    new_most = tl.maximum(most, tl.max(s, 1))
    shift = tl.where(new_most == float("-inf"), 0.0, new_most)
    weights = tl.exp2(s - shift[:, None])
    rescale = tl.exp2(most - shift)
    total = total * rescale + tl.sum(weights, 1)
    acc = acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v)
    return new_most, total, acc


@triton.jit
def extend_kernel(q, k_new, v_new, k_cache, v_cache, o, q_indptr, kv_indptr, kv_indices, scale_log2,
                  window_left, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
                  HAS_WINDOW: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Grid: heads, row tiles of the longest sequence, sequences."""
    head, sequence = tl.program_id(0), tl.program_id(2)
    kv_head = head // (HEADS // KV_HEADS)
    begin = tl.load(q_indptr + sequence)
    rows = tl.load(q_indptr + sequence + 1) - begin
    first = (tl.num_programs(1) - 1 - tl.program_id(1)) * BLOCK_M
    if first >= rows:
        return
    indices = kv_indices + tl.load(kv_indptr + sequence)
    prefix = tl.load(kv_indptr + sequence + 1) - tl.load(kv_indptr + sequence)
    row, column = first + tl.arange(0, BLOCK_M), tl.arange(0, SIZE)
    of_rows = ((begin + row) * HEADS + head)[:, None] * SIZE + column[None, :]
    q_tile = tl.load(q + of_rows, mask=(row < rows)[:, None], other=0.0)
    most = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, SIZE], tl.float32)

    start, new_start = 0, 0
    if HAS_WINDOW:
        start = tl.maximum(prefix + first - window_left, 0) // BLOCK_N * BLOCK_N
        new_start = tl.maximum(first - window_left, 0) // BLOCK_N * BLOCK_N
    for at in range(start, prefix, BLOCK_N):
        key = at + tl.arange(0, BLOCK_N)
        exists = key < prefix
        slot = (tl.load(indices + key, mask=exists, other=0) * KV_HEADS + kv_head) * SIZE
        k = tl.load(k_cache + slot[None, :] + column[:, None], mask=exists[None, :], other=0.0)
        v = tl.load(v_cache + slot[:, None] + column[None, :], mask=exists[:, None], other=0.0)
        visible = exists[None, :]
        if HAS_WINDOW:
            visible = visible & (key[None, :] >= (prefix + row - window_left)[:, None])
        most, total, acc = attend(q_tile, k, v, visible, scale_log2, most, total, acc)
    for at in range(new_start, tl.minimum(first + BLOCK_M, rows), BLOCK_N):
        key = at + tl.arange(0, BLOCK_N)
        exists = key < rows
        token = ((begin + key) * KV_HEADS + kv_head) * SIZE
        k = tl.load(k_new + token[None, :] + column[:, None], mask=exists[None, :], other=0.0)
        v = tl.load(v_new + token[:, None] + column[None, :], mask=exists[:, None], other=0.0)
        visible = key[None, :] <= row[:, None]
        if HAS_WINDOW:
            visible = visible & (key[None, :] >= (row - window_left)[:, None])
        most, total, acc = attend(q_tile, k, v, visible, scale_log2, most, total, acc)
    tl.store(o + of_rows, (acc / total[:, None]).to(o.dtype.element_ty), mask=(row < rows)[:, None])


def extend_attention(tile, *, q, k_new, v_new, k_cache, v_cache, o, q_indptr, kv_indptr, kv_indices,
                     max_q_len, window_left=-1):
    """Causal, into o. q and o [tokens, heads, size], k_new and v_new [tokens, key heads, size], k_cache and
    v_cache [slots, key heads, size], all packed; size a power of two. q_indptr, kv_indptr [sequences + 1] and
    kv_indices, the slots of the earlier keys, int32. window_left keys and a query's own are visible; -1: all."""
    heads, size = q.shape[1:]
    if max(x.numel() for x in (q, k_new, k_cache)) >= 2**31:
        raise ValueError("32-bit offsets reach 2^31 elements")
    grid = (heads, triton.cdiv(max_q_len, tile.block_m), len(q_indptr) - 1)
    extend_kernel[grid](q, k_new, v_new, k_cache, v_cache, o, q_indptr, kv_indptr, kv_indices,
                        math.log2(math.e) / math.sqrt(size), window_left, HEADS=heads,
                        KV_HEADS=k_new.shape[1], SIZE=size, HAS_WINDOW=window_left >= 0,
                        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, num_warps=tile.warps,
                        num_stages=tile.stages)
    return o
