#!/usr/bin/env python3
"""dgrt's attention beside cuDNN and FlashAttention through torch, and beside Triton: correctness first, then
time, in one process on one GPU.

    python3 python/peers/attention_peers.py --json bench/results/attention_h200_2026-01-31.json
    python3 python/peers/attention_peers.py --quick --op attn_cases

Needs torch with CUDA. Exit code 1 if any result of dgrt is wrong. A peer that does not know a shape gets no
column there. "floor" is max(bytes / copy rate, flops of visible pairs / product rate) + an empty kernel."""

import sys

from attention_cases import table_cases
from attention_work import prefill_cases
from family_peers import run

MAKERS = {"attn_prefill": prefill_cases, "attn_cases": table_cases}

if __name__ == "__main__":
    sys.exit(run("attention_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
