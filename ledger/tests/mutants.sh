#!/usr/bin/env bash
# Breaks the evaluator in one arm at a time, in a copy, and fails unless the comparison with the reference model notices.
# Some seconds of building for each, so it is no part of the gate: run it after changing src/consent.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=/dev/null
. "$root/testnet/env.sh"
if [ -f "$assent_env" ]; then . "$assent_env"; fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && cp -r Cargo.toml Cargo.lock rust-toolchain.toml proto ledger node cli testnet "$copy")
cd "$copy/ledger"

agrees() {
    cargo test --release --offline --locked --test suite -q consent::agreement::ledger_and_reference >"$copy/log" 2>&1
}

mutant() { # file, text, replacement
    local file=src/consent/$1 missed=0
    cp "$file" "$copy/kept"
    python3 - "$file" "$2" "$3" <<'PY'
import sys
file, old, new = sys.argv[1:]
text = open(file).read()
if text.count(old) != 1:
    sys.exit(f"{file} has {text.count(old)} times: {old}")
open(file, "w").write(text.replace(old, new))
PY
    if agrees; then
        missed=1
        echo "not noticed: $1: $2 -> $3" >&2
    elif ! grep -q 'case [0-9]*: ledger, reference' "$copy/log"; then
        missed=1
        echo "does not build: $1: $2 -> $3" >&2
    fi
    cp "$copy/kept" "$file"
    return $missed
}

agrees || { cat "$copy/log" >&2; exit 1; }
mutant tables.rs '"BTG", "CLINTRL"' '"BTGX", "CLINTRL"'                                          # 8: must be named
mutant tables.rs 'BEHAVIORAL: [&str; 4] = ["MH", "PSY"' 'BEHAVIORAL: [&str; 4] = ["MH", "MH"'   # 8: DENY BH
mutant model.rs 'at_ms < end' 'at_ms <= end'                                                    # 4: the end
mutant matching.rs 'labels.sensitivity.iter().all(covered)' 'labels.sensitivity.iter().any(covered)' # 8: PERMIT covers all
mutant clinical.rs 'from <= begun && ended <= to,' 'begun <= to && from <= ended,'              # 8: all of it inside
mutant speaking.rs 'ConsentState::Revoked => Some(false)' 'ConsentState::Revoked => None'       # revoking never widens
mutant speaking.rs 'rule.depth >= d && rule.effect' 'rule.depth > d && rule.effect'             # 6: as deep
mutant speaking.rs '[Says::Deny, Says::Indeterminate, Says::Permit]' '[Says::Permit, Says::Deny, Says::Indeterminate]' # 6: a tie
mutant decide.rs '(glass.overrides_deny || !denied())' 'true'                                   # 1: an explicit DENY
mutant decide.rs 'Says::Limit => Outcome::NoConsent' 'Says::Limit => return self.by_default(asked)' # LIMIT
