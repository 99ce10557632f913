#!/usr/bin/env python3
"""dgrt's latent attention beside FlashMLA and its indexer's logits beside DeepGEMM, where these can be imported:
correctness first, then time, in one process on one GPU.

    python3 python/peers/mla_peers.py --json bench/results/mla_h200_2026-01-31.json
    python3 python/peers/mla_peers.py --quick --op mla_decode

Needs torch with CUDA. Exit code 1 if any call of dgrt failed or any of its results is wrong. A peer that is not
installed, whose call fails or whose result is wrong gets no column. "floor" is max(bytes / copy rate, flops of visible
pairs / product rate) + an empty kernel."""

import sys

from family_peers import run
from indexer_work import MAKERS as LOGITS
from mla_sparse_work import MAKERS as SPARSE
from mla_work import MAKERS as ATTENTION

MAKERS = ATTENTION | SPARSE | LOGITS

if __name__ == "__main__":
    sys.exit(run("mla_peers", " ".join(__doc__.split("\n\n")[0].split()), MAKERS))
