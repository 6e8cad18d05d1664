# Settings that setup.sh, demo.sh and test.sh share; sourced, never run.
# shellcheck shell=bash disable=SC2034

assent_cache=${XDG_CACHE_HOME:-$HOME/.cache}/assent
assent_env=$assent_cache/env.sh # written by setup.sh: where libclang is, if not where it is looked for anyway

# Outside the checkout, so that a fresh clone builds on what an earlier one built. Nothing depends on its contents.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${ASSENT_TARGET_DIR:-$assent_cache/target}}
if [ ! -t 2 ]; then export CARGO_TERM_QUIET=true; fi

step() { printf '== %s\n' "$*" >&2; }
