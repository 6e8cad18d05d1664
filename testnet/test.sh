#!/usr/bin/env bash
# Sets up what is missing and runs every check. Exits 1 if one failed; the last line is "N passed, N failed, N skipped".
# ASSENT_NO_SKIP=1: a skip is a failure, unless testnet/skips gives a reason for it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

demo_limit_seconds=900
tamper_limit_seconds=300
chaos_limit_seconds=900 # ten minutes on two cores that have nothing else to do
logs=$(mktemp -d)
network=$logs/strangers # the network that the strangers talk to
trap leave EXIT
passed=0 failed=0 skipped=0

leave() {
    if [ -e "$network/network.json" ]; then testnet/strangers/network.sh down "$network" >/dev/null || true; fi
    rm -rf "$logs"
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

# Runs a command with its output in a log; its exit status is the command's.
logged() {
    local name=$1 begin=$SECONDS status=0
    shift
    step "$name"
    "$@" >"$logs/$name" 2>&1 </dev/null || status=$?
    echo "   $name: $((SECONDS - begin)) s" >&2
    return "$status"
}

# One check, one result. Shows what it said only if it failed.
check() {
    if logged "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        tail -n 200 "$logs/$1"
    fi
}

# skip NAME MISSING INSTALL
skip() {
    echo "SKIP $1: missing $2, install with $3"
    may_be_skipped "$1"
}

may_be_skipped() {
    if [ "${ASSENT_NO_SKIP:-}" = 1 ] && ! sed '/^#/d; s/: .*//' testnet/skips | grep -xF -e "$1" >/dev/null; then
        failed=$((failed + 1))
        echo "FAIL $1: skipped, which testnet/skips gives no reason for"
    else
        skipped=$((skipped + 1))
    fi
}

# --- the checks -----------------------------------------------------------------------------------------------------

# The rules reach no runtime, transport or store.
ledger_is_pure() {
    local reached
    reached=$(cargo tree --locked -p assent-ledger -e normal --prefix none) || return 1
    grep -q '^assent-ledger ' <<<"$reached" || return 1
    reached=$(grep -E '^(tokio|tonic|rocksdb|librocksdb-sys|libp2p)([-_ ]|$)' <<<"$reached" | sort -u) || return 0
    printf 'assent-ledger reaches %s\n' "$reached"
    return 1
}

sample_data_is_whole() {
    # "name": { "bytes": N, "sha256": "H" }, to lines that sha256sum reads
    awk -F'"' '/^    "[^"]*": \{/ { name = $2 } /^  }/ { exit } /"sha256"/ { print $4 "  " name }' testnet/data/manifest.json \
        >"$logs/sums"
    [ "$(wc -l <"$logs/sums")" -ge 2 ] && (cd testnet/data && sha256sum --check --strict "$logs/sums")
}

missing_libclang_is_said() {
    local said status=0
    said=$(ASSENT_SETUP_SIMULATE_NO_LIBCLANG=1 ./testnet/setup.sh 2>&1) || status=$?
    printf 'exit %s: %s\n' "$status" "$said"
    [ "$status" -eq 1 ] && [ "$(wc -l <<<"$said")" -eq 1 ] && grep -q 'libclang is missing.*apt-get install libclang-dev' <<<"$said"
}

# Clients and tools that nobody here wrote, all against one network. testnet/strangers/README.md says what each is for.
strangers() {
    local before=$failed name
    check strangers-network testnet/strangers/network.sh up "$network"
    if [ "$failed" -ne "$before" ]; then return; fi # they would all say the same
    stranger python-crm-day day.sh python
    for name in answers certificates published pack note; do stranger "python-$name" python.sh "test_$name.py"; done
    stranger crm-guide guide.sh cli/docs/crm.md
    stranger auditor-guide guide.sh cli/docs/auditor.md
    if ! command -v openssl >/dev/null; then
        skip openssl openssl "apt-get install openssl"
    else
        stranger openssl openssl.sh
    fi
    if ! [ -x "$buf" ]; then
        for name in buf-breaking buf-curl; do skip "$name" npm "apt-get install npm"; done
    else
        stranger buf-breaking buf_breaking.sh
        stranger buf-curl buf_curl.sh
    fi
    if ! node_is 18 || ! [ -e "$assent_cache/node-grpc/installed" ]; then
        skip node-crm-day "Node 18 or its packages" "apt-get install nodejs npm"
    else
        stranger node-crm-day day.sh node
    fi
    if ! [ -e "$assent_cache/go/installed" ]; then
        for name in go-crm-day health-probe; do skip "$name" "Go of cli/examples/go/go.mod or its modules" "the archive of the Go project"; done
    elif ! [ -x "$buf" ]; then
        stranger health-probe health_probe.sh
        skip go-crm-day "npm, for buf" "apt-get install npm"
    else
        stranger health-probe health_probe.sh
        stranger go-crm-day day.sh go
    fi
    if ! [ -d "$(go env GOROOT 2>/dev/null)/src/cmd/vendor/golang.org/x/mod/sumdb/tlog" ]; then
        skip go-tlog "Go with the source of its own commands" "the archive of the Go project"
    else
        stranger go-tlog tlog.sh
    fi
    if ! node_is 20 || ! [ -e "$assent_cache/node-libp2p/installed" ]; then
        skip js-libp2p "Node 20 or its packages" "apt-get install nodejs npm"
    else
        stranger js-libp2p libp2p.sh
    fi
    stranger consent-guide guide.sh cli/docs/consent.md # it changes consents and rules: behind the others
    stranger python-pages python.sh test_pages.py # the last: it reads what the others left in the logs
    check strangers-stop testnet/strangers/network.sh down "$network"
}

# stranger NAME SCRIPT ARGUMENT...: within two minutes.
stranger() { check "$1" timeout --kill-after=5 120 "testnet/strangers/$2" "${@:3}" "$network"; }

# Pages whose commands start nodes of their own, the README's at the default ports; and the unit file.
pages() {
    check readme timeout --kill-after=5 120 testnet/strangers/guide.sh README.md
    if command -v curl >/dev/null && command -v openssl >/dev/null; then
        check operator-guide timeout --kill-after=5 120 testnet/strangers/guide.sh node/docs/operations.md
    else
        skip operator-guide "curl or openssl" "apt-get install curl openssl"
    fi
    if command -v systemd-analyze >/dev/null; then
        check unit-file testnet/unit_file.sh
    else
        skip unit-file systemd-analyze "apt-get install systemd"
    fi
}

# node_is VERSION: Node is there, in this version or a later one.
node_is() {
    local found
    found=$(node --version 2>/dev/null) || return 1
    found=${found#v}
    [ "${found%%.*}" -ge "$1" ]
}

# Counts every test by itself; a run that ends badly without naming a failed test counts as one.
rust_tests() {
    local status=0 ok bad
    logged rust-tests env CARGO_TERM_QUIET=false CARGO_TERM_COLOR=never \
        cargo test --release --locked --workspace --no-fail-fast || status=$?
    read -r ok bad < <(awk '/^test result: / { ok += $4; bad += $6 } END { print ok + 0, bad + 0 }' "$logs/rust-tests")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$status" -eq 0 ] && [ "$ok" -eq 0 ]; then bad=1; fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        echo "FAIL rust-tests"
        grep -vE '^(test .* \.\.\. (ok|ignored.*)|running [0-9]+ tests?|)$' "$logs/rust-tests" | tail -n 400
    fi
    while read -r name reason; do
        echo "SKIP $name: marked ignored${reason:+, $reason}"
        may_be_skipped "$name"
    done < <(sed -nE 's/^test (.*) \.\.\. ignored(, )?(.*)$/\1 \3/p' "$logs/rust-tests")
}

# The short set of FAULTS.md's cases: each counts as a test. A run that ends badly without naming a failed case counts as one.
chaos_cases() {
    local status=0 ok bad
    logged chaos timeout --kill-after=10 "$chaos_limit_seconds" \
        "$CARGO_TARGET_DIR/release/assent-testnet" chaos --seed 7 --short || status=$?
    ok=$(grep -cE '^case [^ ]+ \.\.\. ok$' "$logs/chaos") || true
    bad=$(grep -cE '^case [^ ]+ \.\.\. FAILED$' "$logs/chaos") || true
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$ok" -eq 0 ]; }; then bad=1; fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        echo "FAIL chaos"
        tail -n 200 "$logs/chaos"
    fi
    while read -r name reason; do
        echo "SKIP chaos-$name: $reason"
        may_be_skipped "chaos-$name"
    done < <(sed -nE 's/^case ([^ ]+) \.\.\. skipped, (.*)$/\1 \2/p' "$logs/chaos")
}

if ! logged setup ./testnet/setup.sh --for-tests; then
    failed=$((failed + 1))
    echo "FAIL setup"
    cat "$logs/setup"
    finish
fi
# shellcheck source=/dev/null
. "$assent_env"

check format cargo fmt --all --check
check clippy cargo clippy --release --locked --workspace --all-targets -- -D warnings
before=$failed
check build cargo build --release --locked --workspace --bins
if [ "$failed" -ne "$before" ]; then finish; fi # nothing to test
check ledger-is-pure ledger_is_pure
check sample-data sample_data_is_whole
check missing-libclang missing_libclang_is_said
buf=$assent_cache/npm/node_modules/.bin/buf
if [ -x "$buf" ]; then
    check buf "$buf" lint proto
else
    skip buf npm "apt-get install npm"
fi
strangers
pages
rust_tests
check bad-input testnet/bad_input.sh "$logs/rust-tests"
chaos_cases
check demo timeout --kill-after=10 "$demo_limit_seconds" "$CARGO_TARGET_DIR/release/assent-testnet" demo
check tamper timeout --kill-after=10 "$tamper_limit_seconds" "$CARGO_TARGET_DIR/release/assent-testnet" demo --tamper
finish
