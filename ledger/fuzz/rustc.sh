#!/usr/bin/env bash
# What cargo calls instead of rustc: puts libFuzzer's coverage counters into our own crates and the decoders that they use, and leaves
# cryptography alone, which would be slower with them and tell nothing. These are the flags of cargo-fuzz, less the sanitizers, which
# need a nightly compiler.
set -euo pipefail

rustc=$1
shift
flags=()
# What runs at build time has no --target, and nothing to count with.
case " $* " in
    *" --target "*) built_for_targets=1 ;;
    *) built_for_targets=0 ;;
esac
case "$built_for_targets $* " in
    "1 "*"--crate-name assent_"* | "1 "*"--crate-name prost "* | "1 "*"--crate-name borsh "* | "1 "*"--crate-name jmt "* | "1 "*"--crate-name serde_json "*)
        flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
            -Cllvm-args=-simplifycfg-branch-fold-threshold=0)
        ;;
esac
exec "$rustc" "$@" "${flags[@]}"
