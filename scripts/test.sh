#!/usr/bin/env bash
# Runs every test layer that this machine can: unit, compile, process, emulated, api, tree and python; the unit and the
# process layer again under address and undefined-behaviour sanitizers, and under the thread sanitizer what
# threads share of them; the gpu layer where there is a GPU.
# Prints what failed, and ends with one line "N passed, N failed, N skipped".
source "$(dirname "$0")/setup.sh"

set_up
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

launcher=()
# run_layers NAME BUILD_DIR CTEST_ARGUMENT...
run_layers() {
  local name=$1 build=$2
  shift 2
  "${launcher[@]}" ctest --test-dir "$build" -j "$(nproc)" --output-junit "$results/$name.xml" --timeout 900 \
    --test-output-size-passed 100000 --test-output-size-failed 1000000 "$@" >"$results/$name.log" 2>&1 || true
  [ -f "$results/$name.xml" ] || cat "$results/$name.log"
}

gpu_layer=(-E '^gpu$')
if doctor_says "device "; then gpu_layer=(); fi
echo "Testing"
run_layers release build "${gpu_layer[@]}"
for sanitizer in asan tsan; do
  echo "Testing under $sanitizer"
  build_preset "$sanitizer" dgrt_tests
  # Thread sanitizer needs an address space without much randomness; not every sandbox lets us ask.
  if [ "$sanitizer" = tsan ] && setarch -R true 2>/dev/null; then launcher=(setarch -R); fi
  run_layers "$sanitizer" "build-$sanitizer" -R '^(unit|unit_selection|process)$'
done

skipped=()
if [ "${#gpu_layer[@]}" -gt 0 ]; then skipped=(--skipped "gpu layer: no GPU that dgrt runs on here"); fi
python3 scripts/count_tests.py "${skipped[@]}" "$results/release.xml" "$results/asan.xml" "$results/tsan.xml"
