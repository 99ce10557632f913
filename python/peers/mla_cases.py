"""Shapes of latent attention over a paged cache, and what their work is: nothing here needs torch or a GPU."""

import dataclasses

ROW, VALUE = 576, 512  # columns of a latent row, of which the first are values
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


# All heads on a rank, as data-parallel attention has it, and those of 2 and 8 ranks; tokens that were drafted; few long
# sequences, and lengths that differ.
DECODE = (Shape(128, 128, 1, 4096), Shape(128, 128, 2, 4096), Shape(128, 128, 1, 8192), Shape(64, 128, 1, 1024),
          Shape(132, 128, 2, 4096, varies=True), Shape(128, 64, 1, 4096), Shape(128, 64, 2, 4096),
          Shape(128, 16, 1, 4096), Shape(128, 16, 2, 4096), Shape(128, 16, 4, 4096), Shape(64, 16, 1, 1024),
          Shape(132, 16, 1, 4096, varies=True), Shape(8, 16, 1, 32768), Shape(1, 16, 1, 131072),
          Shape(1, 128, 1, 131072))
