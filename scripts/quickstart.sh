#!/usr/bin/env bash
# From a fresh clone to a model's kernels in a cache: installs what is missing, builds, compiles the kernels
# of DeepSeek-V3's linear layers for an H200 without needing one, and, where there is a GPU, runs and
# checks them. The cache is build/quickstart_cache, or DGRT_CACHE_DIR.
source "$(dirname "$0")/setup.sh"

set_up dgrt dgrt_cli
export DGRT_CACHE_DIR=${DGRT_CACHE_DIR:-$root/build/quickstart_cache}
dgrt=build/bin/dgrt
"$dgrt" prewarm --config examples/models/deepseek-v3.json --engine sglang --arch sm_90a --sms 132
"$dgrt" cache verify
if doctor_says "device "; then
  "$dgrt" bench --quick
else
  echo "No GPU that dgrt runs on here: the kernels are ready for one ('dgrt doctor' says more)."
fi
