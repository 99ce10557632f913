# Sourced by quickstart.sh and test.sh: brings a fresh Debian 12 or Ubuntu 22.04+ machine to where the
# project builds and compiles kernels. Idempotent; says something only when it has something to do.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

packages=(g++ cmake ninja-build pkg-config libfmt-dev libspdlog-dev nlohmann-json3-dev catch2
  libcli11-dev libxxhash-dev libsodium-dev libbenchmark-dev python3 python3-venv ca-certificates)

# quietly COMMAND...: shows its output only if it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" = 0 ] || { cat "$log"; echo "failed ($status): $*"; }
  rm -f "$log"
  return "$status"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  command -v apt-get >/dev/null || {
    echo "No apt-get here: make sure that these are installed: ${packages[*]}"
    return 0
  }
  local package missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  echo "Installing ${missing[*]}"
  quietly as_root apt-get update
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# build_preset PRESET [TARGET...]
build_preset() {
  local preset=$1
  shift
  quietly cmake --preset "$preset"
  quietly cmake --build --preset "$preset" -j "$(nproc)" ${1:+--target "$@"}
}

# doctor_says CHECK: does `dgrt doctor` find a check whose name starts so to be good?
doctor_says() {
  { build/bin/dgrt doctor --json || true; } | python3 -c '
import json, sys
findings = json.load(sys.stdin)["findings"]
sys.exit(not any(f["check"].startswith(sys.argv[1]) and f["level"] == "ok" for f in findings))' "$1"
}

# NVRTC of a toolkit where there is one, else of the pip package, in a virtual environment of our own.
ensure_compiler() {
  if [ -d .venv ] && [ -z "${VIRTUAL_ENV:-}" ]; then export VIRTUAL_ENV="$root/.venv"; fi
  ! doctor_says compiler || return 0
  echo "No usable NVRTC found: installing the pip package nvidia-cuda-nvrtc into .venv"
  quietly python3 -m venv .venv
  quietly .venv/bin/pip install --disable-pip-version-check nvidia-cuda-nvrtc
  export VIRTUAL_ENV="$root/.venv"
  doctor_says compiler || {
    build/bin/dgrt doctor || true
    return 1
  }
}

set_up() {
  install_packages
  echo "Building"
  build_preset release "$@"
  ensure_compiler
}
