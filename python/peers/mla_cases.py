"""Shapes of latent attention, over a paged cache and sparse, and what their work is: nothing here needs torch or a
GPU."""

import dataclasses

ROW, VALUE = 576, 512  # columns of a latent row, of which the first are values
ROW_V4 = 512  # of DeepSeek-V4, all of them values
TOKEN_BYTES = {ROW: 656, ROW_V4: 584}  # of a token of a quantised cache
POOL = 1 << 19  # tokens of a quantised cache: no list finds another's rows in L2
PAGE = 64
SCALE = 192 ** -0.5  # DeepSeek-V3's, without its factor of YaRN


@dataclasses.dataclass(frozen=True)
class Shape:
    """A batch whose sequences have `keys` keys, or, where they vary, 0.7 to 1.3 times as many; the last `tokens` of
    each are queries."""
    batch: int
    heads: int
    tokens: int
    keys: int
    varies: bool = False

    def lens(self):
        """Spread evenly and dealt out in an order that is not sorted: the same on every machine."""
        if not self.varies or self.batch == 1:
            return [self.keys] * self.batch
        last = self.batch - 1
        stride = next(s for s in range(max(1, self.batch * 5 // 13), 2 * self.batch) if _are_coprime(s, self.batch))
        return [round(self.keys * (0.7 + 0.6 * (i * stride % self.batch) / last)) for i in range(self.batch)]

    def max_pages(self):
        return -(-max(self.lens()) // PAGE)

    def pairs(self):
        """Queries and keys that they see, of one head."""
        return sum(sum(n - i for i in range(self.tokens)) for n in self.lens())

    def flops(self):
        return 2 * self.pairs() * self.heads * (ROW + VALUE)

    def moved_bytes(self):
        """Every key is read once, in bf16."""
        return 2 * (sum(self.lens()) * ROW + self.batch * self.tokens * self.heads * (ROW + VALUE))

    def fields(self):
        return {"batch": self.batch, "tokens": self.tokens, "heads": self.heads, "keys": self.keys,
                "lens": "0.7 to 1.3" if self.varies else "equal"}


def _are_coprime(a, b):
    while b:
        a, b = b, a % b
    return a == 1


@dataclasses.dataclass(frozen=True)
class SparseDecode:
    """`batch` requests of `tokens` queries each, each of which sees top_k rows of a cache quantised in pages, and
    extra_top_k of a second one."""
    batch: int
    heads: int
    tokens: int
    columns: int
    top_k: int
    page: int = PAGE
    extra_top_k: int = 0
    extra_page: int = PAGE

    def queries(self):
        return self.batch * self.tokens

    def flops(self):
        return 2 * self.queries() * (self.top_k + self.extra_top_k) * self.heads * (self.columns + VALUE)

    def moved_bytes(self):
        """Every row is read once by all heads of a query."""
        return self.queries() * ((self.top_k + self.extra_top_k) * (TOKEN_BYTES[self.columns] + 4) +
                                 2 * self.heads * (self.columns + VALUE))

    def fields(self):
        extra = {"extra_top_k": self.extra_top_k} if self.extra_top_k else {}
        return {"batch": self.batch, "tokens": self.tokens, "heads": self.heads, "columns": self.columns,
                "top_k": self.top_k, **extra}


@dataclasses.dataclass(frozen=True)
class SparsePrefill:
    """Each of `tokens` queries sees top_k of `rows` rows of bf16."""
    columns: int
    heads: int
    tokens: int
    rows: int
    top_k: int

    def flops(self):
        return 2 * self.tokens * self.top_k * self.heads * (self.columns + VALUE)

    def moved_bytes(self):
        """Rows are read once: what comes again may come from L2."""
        return 2 * self.rows * self.columns + self.tokens * (4 * self.top_k + 2 * self.heads * (self.columns + VALUE))

    def fields(self):
        return dataclasses.asdict(self)


# All heads on a rank, as data-parallel attention has it, and those of 2 and 8 ranks; tokens that were drafted; few long
# sequences, and lengths that differ.
DECODE = (Shape(128, 128, 1, 4096), Shape(128, 128, 2, 4096), Shape(128, 128, 1, 8192), Shape(64, 128, 1, 1024),
          Shape(64, 128, 1, 4096), Shape(132, 128, 2, 4096, varies=True), Shape(64, 64, 1, 1024),
          Shape(128, 64, 1, 4096), Shape(128, 64, 2, 4096), Shape(128, 64, 1, 8192), Shape(64, 16, 1, 1024),
          Shape(128, 16, 1, 4096), Shape(128, 16, 2, 4096), Shape(128, 16, 4, 4096), Shape(128, 16, 1, 8192),
          Shape(132, 16, 1, 4096, varies=True), Shape(8, 16, 1, 32768), Shape(1, 16, 1, 131072),
          Shape(1, 128, 1, 131072))
# DeepSeek-V3.2, then V4: a window of 128 tokens and what the indexer names of the compressed ones.
SPARSE_DECODE = (SparseDecode(2, 128, 1, ROW, 2048), SparseDecode(64, 128, 1, ROW, 2048),
                 SparseDecode(128, 128, 1, ROW, 2048), SparseDecode(64, 128, 2, ROW, 2048),
                 SparseDecode(128, 128, 2, ROW, 2048), SparseDecode(2, 64, 1, ROW, 2048),
                 SparseDecode(64, 64, 1, ROW, 2048), SparseDecode(128, 64, 1, ROW, 2048),
                 SparseDecode(128, 16, 2, ROW, 2048), SparseDecode(2, 64, 2, ROW_V4, 128, 256, 512),
                 SparseDecode(128, 64, 2, ROW_V4, 128, 256, 512), SparseDecode(128, 128, 2, ROW_V4, 128, 256, 1024))
SPARSE_PREFILL = tuple(SparsePrefill(columns, heads, *sizes) for columns in (ROW, ROW_V4) for heads in (64, 128)
                       for sizes in ((4096, 8192, 512), (4096, 8192, 2048), (4096, 65536, 2048), (8192, 32768, 640)))
