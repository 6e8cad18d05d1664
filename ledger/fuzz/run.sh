#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other: run.sh [SECONDS [TARGET...]], 30 seconds each and all of them, if not said.
# Exits 1 when one found something, which it leaves in found/ as TARGET-crash-..., TARGET-oom-... or TARGET-timeout-...
# ASSENT_FUZZ_KEEP=1: adds to corpus/ what reached new code, smallest first. Needs a C++ compiler, for libFuzzer; no nightly Rust.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=../../testnet/env.sh
. ../../testnet/env.sh

seconds=${1:-30}
targets=("${@:2}")
if [ "${#targets[@]}" -eq 0 ]; then targets=(consent decisions entry export genesis headers note pack proof receipt split); fi

export CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz RUSTC_WRAPPER=$PWD/rustc.sh
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target said, what runs at build time is built apart: rustc.sh leaves that alone.
cargo build --release --locked --target "$host"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p found

# Each good file by its number, and as it stands.
seeds() {
    local n file
    mkdir -p "$work/$1"
    for n in {1..48}; do printf '%b' "\\x$(printf '%02x' "$n")" >"$work/$1/good-$n"; done
    for file in "good/$1"/*; do
        if [ -f "$file" ]; then { printf '\0' && cat "$file"; } >"$work/$1/raw-${file##*/}"; fi
    done
}

# Limits: bytes and seconds of an input, megabytes of memory that is used, and kilobytes that may be asked for.
run() (
    ulimit -v $((512 << 10))
    exec "$CARGO_TARGET_DIR/$host/release/$1" -max_len=4096 -timeout=10 -rss_limit_mb=256 "-artifact_prefix=found/$1-" "${@:2}"
)

status=0
for target in "${targets[@]}"; do
    step "$target: $seconds s"
    mkdir -p "corpus/$target"
    seeds "$target"
    if run "$target" "-max_total_time=$seconds" -print_final_stats=1 "$work/$target" "corpus/$target" >"$work/log" 2>&1; then
        grep -E 'INITED|^Done|^stat::(number|average|new_units|peak)' "$work/log"
        grep -E '^#.* cov: ' "$work/log" | tail -n 1
    else
        status=1
        tail -n 40 "$work/log"
    fi
    if [ "${ASSENT_FUZZ_KEEP:-}" = 1 ]; then run "$target" -set_cover_merge=1 -use_counters=0 -max_len=512 "corpus/$target" "$work/$target" 2>&1 | tail -n 1; fi
done
exit "$status"
