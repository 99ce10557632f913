#!/usr/bin/env python3
"""dgrt's attention beside cuDNN and FlashAttention-2 through torch, beside FlashAttention-3 where importable, and
beside Triton: correctness first, then time, in one process on one GPU.

    python3 python/peers/attention_peers.py --json bench/results/attention_h200_2026-01-31.json
    python3 python/peers/attention_peers.py --quick --op attn_decode,attn_extend

attn_prefill: keys and values lie contiguously. attn_decode, attn_extend: they lie in pages. attn_cases: the case
table of attention. Needs torch with CUDA. Exit code 1 if any call of dgrt failed or any of its results is wrong. A
peer that does not know a shape, or is wrong, gets no column there. "floor" is max(bytes / copy rate, flops of
visible pairs / product rate) + an empty kernel."""

import sys

from attention_cases import MAKERS as CASES
from attention_paged import MAKERS as PAGED
from attention_work import MAKERS as PREFILL
from family_peers import run

MAKERS = PREFILL | PAGED | CASES

if __name__ == "__main__":
    sys.exit(run("attention_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
