"""Inputs, references and calls of the grouped, batched, segmented and hyper-connection products, for dgrt and
for its peers in the same process.

A Case is good until its maker is asked for the next one. References are fp32 products of the dequantised
operands, on a sample of rows."""

import torch

from peer_common import floor_us

import dgrt
from family_case import (Case, bf16_out, block_product, dequantize, dgrt_call, draw_counts, draw_e4m3,
                         draw_groups, draw_scales, fp8_floor, per_shape, pick, some_rows)
from gemm_work import ceil_div, current_stream, deep_gemm

ROOM = 4096   # rows that a masked group has room for
START = 3.0   # what a gradient holds before a product is added
# fp32 results of e4m3 show what the tensor core drops while it sums 128 products; fp32 results of bf16
# parts show the order of the sum.
LIMIT_FP8_SUM, LIMIT_HYPER = 1e-3, 1e-5

MASKED = ((32, 192, 6144, 7168), (32, 20, 6144, 7168), (32, 20, 7168, 3072), (6, 1024, 7168, 3072),
          (8, 64, 4096, 7168), (8, 64, 7168, 2048), (6, 20, 6144, 7168))
CONTIGUOUS = ((4, 8192, 6144, 7168), (8, 4096, 7168, 3072), (32, 320, 4096, 7168),
              (32, 320, 7168, 2048))
GROUPED_K = ((4, 4096, 7168, 32768), (4, 7168, 2048, 32768), (8, 4096, 7168, 32768))
BATCHED = (("bhr,hdr->bhd", 128, 512, 128, (4, 32, 128, 4096, 8192)),
           ("bhd,hdr->bhr", 128, 512, 128, (4, 32, 128, 4096, 8192)),
           ("bhr,hdr->bhd", 2, 128, 1024, (1, 32, 8192)))  # the second stage of KDA's gates
# (batches, m, n, k) of bmk,bnk->mn: a batch for each token of a weight gradient; longer ones, larger d.
BATCH_SUMS = ((129, 128, 384, 128), (4096, 128, 384, 128), (8192, 128, 384, 128),
              (4096, 256, 256, 256), (8192, 256, 256, 256), (4096, 384, 128, 384), (64, 1024, 1024, 512),
              (16, 2048, 4096, 1024))
KDA_WIDTHS, KDA_K, KDA_M = (1024, 1024, 1024, 8, 128, 128), 2304, (1, 32, 8192)
HYPER_N, HYPER_K, HYPER_M, SPLITS = 24, (28672, 16384), (13, 137, 4096, 8192), (1, 4, 16, 64)


# ---- Groups of tokens --------------------------------------------------------------------------------


def masked_cases(context, index, shape):
    num_groups, expected, n, k = shape
    torch.manual_seed(index)
    counts = draw_counts(expected, num_groups, seed=index)
    desc = dgrt.gemm_grouped_masked_desc(num_groups=num_groups, n=n, k=k, max_m=ROOM, dtype_ab=dgrt.E4M3)
    with context.plan(desc) as plan:
        yield masked_case(plan, counts, expected, n, k)


def masked_case(plan, counts, expected, n, k):
    num_groups, blocks = len(counts), k // 128
    # Rows that do not count hold NaN: nothing may flow from them into the others.
    bytes_of_a = torch.full((num_groups, ROOM, k), 0x7F, dtype=torch.uint8, device="cuda")
    for group, count in zip(bytes_of_a, counts):
        group[:count] = draw_e4m3(count, k)
    a, a_scale = bytes_of_a.view(torch.float8_e4m3fn), draw_scales(num_groups, blocks, ROOM)
    b, b_scale = draw_groups(num_groups, n, k), draw_scales(num_groups, n // 128, blocks)
    masked_m = torch.tensor(counts, dtype=torch.int32, device="cuda")
    rows = [some_rows(0, count) for count in counts]
    want = [block_product(pick(a[g], rows[g]), a_scale[g][:, rows[g]].t(), b[g], b_scale[g])
            for g in range(num_groups)]
    d = bf16_out(num_groups, ROOM, n)
    launch, kernel = dgrt_call(plan, d, a=a, b=b, d=d, masked_m=masked_m, m=ROOM,
                               expected_m=expected, a_scale=a_scale, b_scale=b_scale)
    calls = {"dgrt": launch}
    if deep_gemm is not None:
        other, scale = bf16_out(num_groups, ROOM, n), a_scale.transpose(1, 2)
        hint = min(ROOM, int(1.2 * expected))

        def peer():
            deep_gemm.m_grouped_fp8_gemm_nt_masked((a, scale), (b, b_scale), other, masked_m, hint)
            return other
        calls["deep_gemm"] = peer
    total = sum(counts)
    return Case("gemm_grouped_masked", {"groups": num_groups, "expected_m": expected, "rows": total,
                                        "n": n, "k": k},
                2 * total * n * k, fp8_floor(total, num_groups, n, k), calls, {"dgrt": kernel},
                lambda out: [torch.cat([out[g][rows[g]] for g in range(num_groups)])],
                [torch.cat(want)])


def contiguous_cases(context, index, shape):
    num_groups, mean, n, k = shape
    torch.manual_seed(100 + index)
    counts = draw_counts(mean, num_groups, seed=100 + index)
    m = sum(ceil_div(count, 128) * 128 for count in counts)
    desc = dgrt.gemm_grouped_contiguous_desc(num_groups=num_groups, n=n, k=k, max_m=m, dtype_ab=dgrt.E4M3,
                                             alignment=128)
    with context.plan(desc) as plan:
        yield contiguous_case(plan, counts, mean, n, k)


def contiguous_case(plan, counts, mean, n, k):
    num_groups, blocks = len(counts), k // 128
    starts, m = [], 0
    for count in counts:
        starts.append(m)
        m += ceil_div(count, 128) * 128
    ids = torch.full((m,), -1, dtype=torch.int32, device="cuda")
    bytes_of_a = torch.zeros(m, k, dtype=torch.uint8, device="cuda")
    for group, (start, count) in enumerate(zip(starts, counts)):
        ids[start:start + count] = group
        bytes_of_a[start:start + count] = draw_e4m3(count, k)
    a, a_scale = bytes_of_a.view(torch.float8_e4m3fn), draw_scales(blocks, m)
    b, b_scale = draw_groups(num_groups, n, k), draw_scales(num_groups, n // 128, blocks)
    rows = [some_rows(start, start + count) for start, count in zip(starts, counts)]
    want = [block_product(pick(a, rows[g]), a_scale[:, rows[g]].t(), b[g], b_scale[g])
            for g in range(num_groups)]
    d = bf16_out(m, n)
    launch, kernel = dgrt_call(plan, d, a=a, b=b, d=d, groups=ids, m=m, a_scale=a_scale,
                               b_scale=b_scale)
    calls = {"dgrt": launch}
    if deep_gemm is not None:
        other, scale = bf16_out(m, n), a_scale.t()

        def peer():
            deep_gemm.m_grouped_fp8_gemm_nt_contiguous((a, scale), (b, b_scale), other, ids)
            return other
        calls["deep_gemm"] = peer
    total = sum(counts)
    return Case("gemm_grouped_contiguous", {"groups": num_groups, "mean_m": mean, "rows": total,
                                            "n": n, "k": k},
                2 * total * n * k, fp8_floor(total, num_groups, n, k), calls, {"dgrt": kernel},
                lambda out: [out[torch.cat(rows)]], [torch.cat(want)])


# ---- Weight gradients --------------------------------------------------------------------------------


def grouped_k_cases(context, index, shape):
    num_groups, m, n, sum_k = shape
    torch.manual_seed(200 + index)
    parts = draw_counts(sum_k / num_groups, num_groups, seed=200 + index)
    ks = [128 * (sum_k * part // (128 * sum(parts))) for part in parts]
    ks[-1] += sum_k - sum(ks)
    desc = dgrt.gemm_grouped_k_desc(m=m, n=n, max_k=sum_k, num_groups=num_groups, dtype_ab=dgrt.E4M3,
                                    flags=dgrt.GEMM_WITH_C)
    with context.plan(desc) as plan:
        yield grouped_k_case(plan, ks, m, n)


def grouped_k_case(plan, ks, m, n):
    num_groups, k = len(ks), sum(ks)
    a, b = (draw_e4m3(rows, k).view(-1).view(torch.float8_e4m3fn) for rows in (m, n))
    a_scale, b_scale = draw_scales(k // 128, m), draw_scales(k // 128, n)
    ks_on_device = torch.tensor(ks, dtype=torch.int32, device="cuda")
    rows, want, begin = some_rows(0, m), [], 0
    for group_k in ks:
        blocks = slice(begin // 128, (begin + group_k) // 128)
        of_a = a[m * begin:m * (begin + group_k)].view(m, group_k)
        of_b = b[n * begin:n * (begin + group_k)].view(n, group_k)
        want.append(START + dequantize(pick(of_a, rows), a_scale[blocks, :][:, rows].t())
                    @ dequantize(of_b, b_scale[blocks].t()).t())
        begin += group_k

    def gradient():
        return torch.full((num_groups, m, n), START, device="cuda")

    d = gradient()
    launch, kernel = dgrt_call(plan, d, a=a, b=b, c=d, d=d, ks=ks_on_device, k=k, a_scale=a_scale,
                               b_scale=b_scale)
    calls = {"dgrt": launch}
    if deep_gemm is not None:
        other = gradient()

        def peer():
            deep_gemm.k_grouped_fp8_gemm_nt_contiguous((a, a_scale.t()), (b, b_scale.t()), other, ks,
                                                       ks_on_device, c=other)
            return other
        calls["deep_gemm"] = peer
    moved = (m + n) * (k + k // 32) + 2 * 4 * num_groups * m * n
    return Case("gemm_grouped_k", {"groups": num_groups, "m": m, "n": n, "k": k}, 2 * m * n * k,
                floor_us(moved, 2 * m * n * k, "fp8"), calls, {"dgrt": kernel},
                lambda out: [torch.cat([x[rows] for x in out])], [torch.cat(want)],
                (LIMIT_FP8_SUM, LIMIT_FP8_SUM), START)


# ---- bf16 --------------------------------------------------------------------------------------------


def batched_cases(context, index, shape):
    expr, h, r, d, m_list = shape
    torch.manual_seed(300 + index)
    w = torch.randn(h, d, r, device="cuda").bfloat16()
    n, k, major = (d, r, dgrt.K_MAJOR) if expr == "bhr,hdr->bhd" else (r, d, dgrt.MN_MAJOR)
    desc = dgrt.gemm_batched_desc(num_batches=h, n=n, k=k, max_m=max(m_list), dtype_ab=dgrt.BF16, b_major=major)
    with context.plan(desc) as plan:
        for m in m_list:
            yield batched_case(plan, expr, w, m, n, k)


def batch_sum_cases(context, index, shape):
    batches, m, n, k = shape
    torch.manual_seed(350 + index)
    desc = dgrt.gemm_batched_desc(num_batches=batches, n=n, k=k, max_m=m, dtype_ab=dgrt.BF16,
                                  flags=dgrt.GEMM_SUM_BATCHES)
    with context.plan(desc) as plan:
        yield batch_sum_case(plan, batches, m, n, k)


def batched_case(plan, expr, w, m, n, k):
    h = w.shape[0]
    x, out = torch.randn(m, h, k, device="cuda").bfloat16(), bf16_out(m, h, n)
    matrices = w.transpose(1, 2) if expr == "bhr,hdr->bhd" else w  # [h, k, n]
    rows = some_rows(0, m)
    want = torch.bmm(x[rows].transpose(0, 1).float(), matrices.float())
    launch, kernel = dgrt_call(plan, out, a=x, b=w, d=out, m=m, lda=h * k, a_batch_stride=k,
                               ldd=h * n, d_batch_stride=n)
    calls = {"dgrt": launch, "torch/einsum": lambda: torch.einsum(expr, x, w),
             "torch/bmm": lambda: torch.bmm(x.transpose(0, 1), matrices).transpose(0, 1)}
    if deep_gemm is not None:
        other = bf16_out(m, h, n)

        def peer():
            deep_gemm.einsum(expr, x, w, other)
            return other
        calls["deep_gemm"] = peer
    flops = 2 * h * m * n * k
    return Case("gemm_batched", {"expr": expr, "batches": h, "m": m, "n": n, "k": k}, flops,
                floor_us(2 * h * (m * k + n * k + m * n), flops, "bf16"), calls, {"dgrt": kernel},
                lambda y: [y[rows].transpose(0, 1).flatten(0, 1)], [want.flatten(0, 1)],
                graph=True)


def batch_sum_case(plan, batches, m, n, k):
    expr = "bmk,bnk->mn"
    a, b = (torch.randn(batches, rows, k, device="cuda").bfloat16() for rows in (m, n))
    out, want = bf16_out(m, n), torch.zeros(m, n, dtype=torch.float64, device="cuda")
    for i in range(0, batches, 512):  # an fp32 sum over all would be less exact than what is checked
        want += torch.bmm(a[i:i + 512].float(), b[i:i + 512].float().transpose(1, 2)).double().sum(0)
    launch, kernel = dgrt_call(plan, out, a=a, b=b, d=out, m=m)
    calls = {"dgrt": launch, "torch/einsum": lambda: torch.einsum(expr, a, b)}
    if deep_gemm is not None:
        other = bf16_out(m, n)

        def peer():
            deep_gemm.einsum(expr, a, b, other)
            return other
        calls["deep_gemm"] = peer
    flops = 2 * batches * m * n * k
    return Case("gemm_batched", {"expr": expr, "batches": batches, "m": m, "n": n, "k": k}, flops,
                floor_us(2 * (batches * (m + n) * k + m * n), flops, "bf16"), calls,
                {"dgrt": kernel}, lambda y: [y], [want.float()], graph=True)


def fused_linear_cases(context, index, shape):
    torch.manual_seed(400 + index)
    w = torch.randn(sum(shape), KDA_K, device="cuda").bfloat16()
    desc = dgrt.gemm_fused_linear_desc(n=shape, k=KDA_K, max_m=max(KDA_M), dtype_ab=dgrt.BF16)
    with context.plan(desc) as plan:
        for m in KDA_M:
            yield fused_linear_case(plan, w, m)


def fused_linear_case(plan, w, m):
    n, k = w.shape
    x, rows = torch.randn(m, k, device="cuda").bfloat16(), some_rows(0, m)
    want = x[rows].float() @ w.float().t()
    outs = [bf16_out(m, width) for width in KDA_WIDTHS]
    launch, kernel = dgrt_call(plan, outs, a=x, b=w, d=outs, m=m)
    stacked, apart = bf16_out(m, n), [bf16_out(m, width) for width in KDA_WIDTHS]
    weights = w.split(KDA_WIDTHS)

    def one_product():
        return torch.mm(x, w.t(), out=stacked).split(KDA_WIDTHS, dim=1)

    def six_products():
        return [torch.mm(x, part.t(), out=out) for part, out in zip(weights, apart)]

    flops = 2 * m * n * k
    return Case("gemm_fused_linear", {"m": m, "n": "+".join(map(str, KDA_WIDTHS)), "k": k}, flops,
                floor_us(2 * (m * k + n * k + m * n), flops, "bf16"),
                {"dgrt": launch, "torch_stacked": one_product, "torch_apart": six_products},
                {"dgrt": kernel}, lambda out: [torch.cat([y[rows] for y in out], dim=1)], [want],
                graph=True)


# ---- Hyper-connections -------------------------------------------------------------------------------


def hyper_cases(context, index, shape):
    k = shape
    torch.manual_seed(500 + index)
    f = torch.randn(HYPER_N, k, device="cuda")
    padded = ceil_div(HYPER_N, 8) * 8
    w = torch.empty(2 * padded, k, dtype=torch.bfloat16, device="cuda")
    with context.plan(dgrt.hc_prenorm_weights_desc(k=k, n=HYPER_N)) as plan:
        plan.launch(f=f, w=w, stream=current_stream())
        torch.cuda.synchronize()
    desc = dgrt.hc_prenorm_desc(n=HYPER_N, k=k, max_m=max(HYPER_M), max_splits=max(SPLITS))
    with context.plan(desc) as plan:
        for m in HYPER_M:
            x = torch.randn(m, k, device="cuda").bfloat16()
            yield hyper_case(plan, x, f, w, parts=False)
            yield hyper_case(plan, x, f, w, parts=True)


def hyper_out(m, num_splits):
    leading = (num_splits,) if num_splits else ()
    return (torch.full((*leading, m, HYPER_N), float("nan"), device="cuda"),
            torch.full((*leading, m), float("nan"), device="cuda"))


def hyper_peer(x, f, num_splits):
    z, q = hyper_out(x.shape[0], num_splits)

    def peer():
        deep_gemm.tf32_hc_prenorm_gemm(x, f, z, q, num_splits or None)
        return z, q
    return peer


def hyper_case(plan, x, f, w, parts):
    """parts: of both, the fastest of several numbers of splits, for the caller to add up. Else dgrt's
    sums are final; the peer's fastest form is shown beside them all the same."""
    (m, k), n = x.shape, HYPER_N
    rows = some_rows(0, m)
    exact = x[rows].double()
    want = [exact @ f.double().t(), exact.square().sum(1, keepdim=True)]
    calls, kernels = {}, {}
    for num_splits in SPLITS if parts else (0,):
        name = f"dgrt/{num_splits}" if parts else "dgrt"
        z, q = hyper_out(m, num_splits)
        calls[name], kernels[name] = dgrt_call(plan, (z, q), x=x, w=w, z=z, q=q, m=m,
                                               num_splits=num_splits)

    def in_torch():
        wide = x.float()
        return torch.mm(wide, f.t()), wide.square().sum(1)

    if not parts:
        calls["torch_fp32"] = in_torch
    if deep_gemm is not None:
        for num_splits in (0, 4, 16, 64):
            calls[f"deep_gemm/{num_splits or 'none'}"] = hyper_peer(x, f, num_splits)

    def sample(out):
        z, q = (y.double() for y in out)
        if z.dim() == 3:  # parts
            z, q = z.sum(0), q.sum(0)
        return [z[rows], q[rows, None]]

    moved = 2 * m * k + 2 * w.numel() + 4 * m * (n + 1)
    return Case("hc_prenorm", {"sums": "parts" if parts else "final", "m": m, "n": n, "k": k},
                2 * m * n * k, floor_us(moved, 2 * m * w.shape[0] * k, "bf16"), calls, kernels, sample,
                want, (LIMIT_HYPER, LIMIT_HYPER))


MAKERS = {"gemm_grouped_masked": per_shape(masked_cases, MASKED),
          "gemm_grouped_contiguous": per_shape(contiguous_cases, CONTIGUOUS),
          "gemm_grouped_k": per_shape(grouped_k_cases, GROUPED_K),
          "gemm_batched": per_shape(batched_cases, BATCHED) + per_shape(batch_sum_cases, BATCH_SUMS),
          "gemm_fused_linear": per_shape(fused_linear_cases, [KDA_WIDTHS]),
          "hc_prenorm": per_shape(hyper_cases, HYPER_K)}
