"""Inputs, reference and calls of one GEMM shape, for dgrt and for its peers in the same process.

One Work object holds the operands of one (n, k) for the largest m; rows are independent, so every smaller
m uses the first rows. Operands are drawn anew for every (n, k); dgrt's own quant_fp8 makes the FP8
operands and is compared byte for byte with its formula first."""

import torch

from peer_common import floor_us, optional

import dgrt  # peer_common says where it is

deep_gemm = optional("deep_gemm")

TILE = 128
# A bf16 result is within 2^-9 = 1.95e-3 of the exact one, on average within 1.2e-3; what the tensor core
# drops while it sums 128 products of e4m3 stays below a fifth of that. A small tile may sit near the
# bound, the whole matrix cannot.
LIMIT_GLOBAL, LIMIT_TILE = 2e-3, 3e-3


def ceil_div(a, b):
    return -(-a // b)


def current_stream():
    return torch.cuda.current_stream().cuda_stream


def quantize(context, x, block):
    """quant_fp8 of all of x. 1x128: MN-major scales [k blocks, rows rounded up to 4]; 128x128: K-major
    [ceil(rows / 128), k blocks]."""
    rows, k = x.shape
    q = torch.full((rows, k), 0xFF, dtype=torch.uint8, device="cuda").view(torch.float8_e4m3fn)
    if block == dgrt.QUANT_1X128:
        major, shape = dgrt.MN_MAJOR, (ceil_div(k, 128), ceil_div(rows, 4) * 4)
    else:
        major, shape = dgrt.K_MAJOR, (ceil_div(rows, 128), ceil_div(k, 128))
    scale = torch.full(shape, float("nan"), device="cuda")
    with context.plan(dgrt.quant_fp8_desc(k=k, max_m=rows, block=block, scale_major=major)) as plan:
        plan.launch(x=x, q=q, scale=scale, m=rows, ld_scale=shape[1], stream=current_stream())
        torch.cuda.synchronize()
    check_quantize(x, q, scale, block)
    return q, scale


def check_quantize(x, q, scale, block):
    rows, k = x.shape
    block_rows = 1 if block == dgrt.QUANT_1X128 else 128
    padded = torch.zeros(ceil_div(rows, block_rows) * block_rows, ceil_div(k, 128) * 128,
                         device="cuda")
    padded[:rows, :k] = x
    blocks = padded.view(-1, block_rows, padded.shape[1] // 128, 128)
    amax = blocks.abs().amax(dim=(1, 3)).clamp_min(1e-4)
    # By a tensor: torch multiplies by a reciprocal when it divides by a Python number.
    want_scale = amax / torch.full_like(amax, 448.0)
    want = (blocks * (1.0 / want_scale)[:, None, :, None]).view(padded.shape)[:rows, :k]
    want = want.to(torch.float8_e4m3fn).view(torch.uint8)
    got_scale = scale[:, :rows].t() if block == dgrt.QUANT_1X128 else scale
    if not torch.equal(got_scale, want_scale):
        raise AssertionError(f"quant_fp8 {tuple(x.shape)}: scales differ from amax / 448")
    wrong = int((q.view(torch.uint8) != want).sum())
    if wrong:
        raise AssertionError(f"quant_fp8 {tuple(x.shape)}: {wrong} bytes differ from the formula")


def dequantize(q, row_scale):
    """fp64; row_scale has one value per row and 128 columns."""
    return q.float().double() * row_scale.double().repeat_interleave(128, 1)[:, :q.shape[1]]


def compare(got, want):
    """Relative error of the whole and of the worst 128 x 128 tile, in the Frobenius norm."""
    m, n = want.shape

    def tile_sums(x):
        x = torch.nn.functional.pad(x.pow(2), (0, -n % TILE, 0, -m % TILE))
        return x.view(ceil_div(m, TILE), TILE, ceil_div(n, TILE), TILE).sum((1, 3))

    error, norm = tile_sums(got.double() - want), tile_sums(want)
    return {"global": float((error.sum() / norm.sum()).sqrt()),
            "worst_tile": float((error / norm).sqrt().max())}  # NaN stays NaN


class Work:
    """The operands of one (n, k). `dtype`: "fp8" or "bf16". Requires max_m to be a multiple of 16."""

    def __init__(self, context, dtype, n, k, max_m, seed):
        self.dtype, self.n, self.k, self.max_m = dtype, n, k, max_m
        self.context = context
        torch.manual_seed(seed)
        self.x = torch.randn(max_m, k, device="cuda").bfloat16()
        self.w = torch.randn(n, k, device="cuda").bfloat16()
        if dtype == "fp8":
            self.b, self.b_scale = quantize(context, self.w, dgrt.QUANT_128X128)
            self.a, a_scale = quantize(context, self.x, dgrt.QUANT_1X128)
            self.want = dequantize(self.a, a_scale[:, :max_m].t()) @ dequantize(
                self.b, self.b_scale.repeat_interleave(128, 0)[:n]).t()
        else:
            self.b, self.b_scale = self.w, None
            self.want = self.x.double() @ self.w.double().t()
        kind = dgrt.E4M3 if dtype == "fp8" else dgrt.BF16
        self.plan = context.plan(dgrt.gemm_desc(n=n, k=k, max_m=max_m, dtype_ab=kind))

    def close(self):
        self.plan.close()

    def floor_us(self, m):
        in_bytes = 1 if self.dtype == "fp8" else 2
        moved = (m + self.n) * self.k * in_bytes + 2 * m * self.n
        if self.dtype == "fp8":
            blocks = ceil_div(self.k, 128)
            moved += 4 * blocks * (m + ceil_div(self.n, 128))
        return floor_us(moved, 2 * m * self.n * self.k, self.dtype)

    def operands(self, m):
        """a and a_scale of m rows."""
        if self.dtype == "fp8":
            return quantize(self.context, self.x[:m], dgrt.QUANT_1X128)
        return self.x[:m], None

    def peers(self, m, a, a_scale):
        """{name: call}, each of which returns its output."""
        x, w, b, b_scale = self.x[:m], self.w, self.b, self.b_scale
        out = torch.empty(m, self.n, dtype=torch.bfloat16, device="cuda")
        calls = {"torch_bf16": lambda: torch.mm(x, w.t(), out=out)}
        if self.dtype == "fp8":
            # cuBLASLt wants whole 16-byte rows of the transposed result: m rounded up to 16.
            rows, one = self.a[:ceil_div(m, 16) * 16], torch.ones((), device="cuda")
            calls["cublaslt_fp8"] = lambda: torch._scaled_mm(
                rows, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        if deep_gemm is not None:
            calls["deep_gemm"] = self._deep_gemm(x, a, a_scale, torch.empty_like(out))
        return calls

    def _deep_gemm(self, x, a, a_scale, d):
        if self.dtype == "fp8":
            product = deep_gemm.fp8_gemm_nt
            scale = a_scale.as_strided((len(a), a_scale.shape[0]), (1, a_scale.shape[1]))
            operands = (a, scale), (self.b, self.b_scale)
        else:
            product, operands = deep_gemm.bf16_gemm_nt, (x, self.w)

        def call():
            product(*operands, d)
            return d

        return call
