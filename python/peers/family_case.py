"""One shape of a family of products, timed by family_peers.py: what a Case is, and the helpers that draw
operands and describe them.

FP8 operands are drawn as such, group by group, so that no second copy of weights of gigabytes is ever
needed."""

import dataclasses
import functools
import random

import torch

from peer_common import floor_us

from gemm_work import LIMIT_GLOBAL, LIMIT_TILE, ceil_div, compare, current_stream

SAMPLE = 128  # rows at either end of a group that are compared


@dataclasses.dataclass
class Case:
    """One shape. A call returns its output, a tensor or several; "peer/variant" names are variants of
    one column, of which the fastest is shown. `sample` picks of an output what `want` holds: matrices,
    each of them judged alone. Many rows in one make the error of the whole mean something. `other_products`:
    columns whose product is another one, which `want` says nothing about."""
    op: str
    shape: dict
    flops: int
    floor_us: float
    calls: dict
    kernels: dict  # of dgrt's calls
    sample: object
    want: list
    limits: tuple = (LIMIT_GLOBAL, LIMIT_TILE)
    start: float = float("nan")  # what outputs hold before a call
    graph: bool = False
    other_products: frozenset = frozenset()

    def errors(self, got):
        parts = [compare(g, w.double()) for g, w in zip(got, self.want, strict=True)]
        result = {key: float(torch.tensor([p[key] for p in parts]).max())
                  for key in ("global", "worst_tile")}  # NaN stays NaN
        result["ok"] = (result["global"] < self.limits[0] and result["worst_tile"] < self.limits[1])
        return result


def per_shape(generator, shapes):
    """Makers, one for each shape, so that one that fails leaves the others: called with a context, a maker yields
    the Cases of generator(context, index, shape)."""
    return [functools.partial(generator, index=index, shape=shape) for index, shape in enumerate(shapes)]


def dgrt_call(plan, out, /, **fields):
    """(call, name of the kernel) of a launch that writes `out`."""
    args = plan.args(**fields)
    size = max(1, plan.info.workspace_bytes)
    workspace = torch.zeros(size, dtype=torch.uint8, device="cuda")
    kept = list(fields.values())  # args hold addresses only

    def launch():
        plan.launch(args, workspace=workspace, workspace_bytes=size, stream=current_stream())
        return out

    launch.kept = kept
    return launch, plan.info.kernels[plan.query(args).kernel_idx].name


def draw_e4m3(rows, k):
    """As bytes: torch copies those, whatever its version."""
    x = (torch.randn(rows, k, device="cuda") * 80).clamp_(-448, 448)
    return x.to(torch.float8_e4m3fn).view(torch.uint8)


def draw_groups(num_groups, rows, k):
    q = torch.empty(num_groups, rows, k, dtype=torch.uint8, device="cuda")
    for group in q:
        group.copy_(draw_e4m3(rows, k))
    return q.view(torch.float8_e4m3fn)


def draw_scales(*shape):
    return torch.rand(*shape, device="cuda") * 0.01 + 0.001


def draw_counts(mean, num_groups, seed):
    """0.7 to 1.3 times the mean, at least 1."""
    rng = random.Random(seed)
    return [max(1, round(mean * rng.uniform(0.7, 1.3))) for _ in range(num_groups)]


def some_rows(begin, end):
    """Indices of the first and the last SAMPLE rows."""
    if end - begin <= 2 * SAMPLE:
        return torch.arange(begin, end, device="cuda")
    return torch.cat([torch.arange(begin, begin + SAMPLE, device="cuda"),
                      torch.arange(end - SAMPLE, end, device="cuda")])


def pick(q, rows):
    return q.view(torch.uint8)[rows].view(torch.float8_e4m3fn)


def dequantize(q, row_scale):
    """fp32; row_scale has one value per row and 128 columns."""
    return q.float() * row_scale.repeat_interleave(128, 1)


def block_product(a, a_scale, b, b_scale):
    """a [rows, k] with scales [rows, k blocks], b [n, k] with scales [n blocks, k blocks]."""
    return dequantize(a, a_scale) @ dequantize(b, b_scale.repeat_interleave(128, 0)).t()


def fp8_floor(rows, num_groups, n, k):
    blocks = k // 128
    moved = (rows + num_groups * n) * k + 2 * rows * n
    moved += 4 * blocks * (rows + num_groups * ceil_div(n, 128))
    return floor_us(moved, 2 * rows * n * k, "fp8")


def bf16_out(*shape):
    return torch.full(shape, float("nan"), dtype=torch.bfloat16, device="cuda")
