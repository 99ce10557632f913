#!/usr/bin/env python3
"""dgrt's attention beside cuDNN and FlashAttention through torch: correctness first, then time, in one
process on one GPU.

    python3 python/peers/attention_peers.py --json bench/results/attention_h200_2026-01-31.json
    python3 python/peers/attention_peers.py --quick

Needs torch with CUDA. Exit code 1 if any result of dgrt is wrong. A peer that does not know a shape gets no
column there. "floor" is max(bytes / copy rate, flops of visible pairs / product rate) + an empty kernel."""

import sys

from attention_work import MAKERS
from family_peers import run

if __name__ == "__main__":
    sys.exit(run("attention_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
