#!/usr/bin/env bash
# Installs what building (and, with --for-tests, testing) needs and this machine lacks. The one script that downloads.
# Says everything on stderr. ASSENT_NO_INSTALL=1: installs nothing, says what is missing.
# ASSENT_SETUP_SIMULATE_NO_LIBCLANG=1: as on a machine without libclang where nothing can be installed (for test.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=testnet/env.sh
. testnet/env.sh
exec >&2

libclang_version=18.1.1
buf_version=1.75.0
health_probe_version=0.4.61
pip_dir=$assent_cache/libclang

die() {
    echo "setup: $*"
    exit 1
}
may_install() { [ "${ASSENT_NO_INSTALL:-}" != 1 ]; }
simulated() { [ "${ASSENT_SETUP_SIMULATE_NO_LIBCLANG:-}" = 1 ]; }

# --- Rust ---------------------------------------------------------------------------------------------------------

rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
    fi
    found=$(rustc --version | awk '{ print $2 }') || die "rustc does not run: try 'rustup toolchain install stable'"
    if [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        die "rustc $found is too old, $wanted or later is needed: 'rustup update stable'"
    fi
}

rust_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    if may_install && command -v rustup >/dev/null && rustup component add rustfmt clippy; then return; fi
    die "rustfmt or clippy is missing: 'rustup component add rustfmt clippy'"
}

# --- C++ and libclang, for RocksDB and its bindings -----------------------------------------------------------------

cpp() {
    local name
    for name in "${CXX:-c++}" g++ clang++; do
        if command -v "$name" >/dev/null; then return; fi
    done
    die "a C++ compiler is missing (RocksDB is built from source): 'apt-get install g++'"
}

# The folder of the first libclang found, among the places where the bindings' generator looks.
find_libclang() {
    local dir file
    if simulated; then return 1; fi
    for dir in "${LIBCLANG_PATH:-}" "$(llvm-config --libdir 2>/dev/null || true)" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu \
        /usr/lib64 /usr/lib /usr/local/lib* "$pip_dir/clang/native"; do
        if [ -f "$dir" ]; then dir=$(dirname "$dir"); fi
        if [ -z "$dir" ]; then continue; fi
        for file in "$dir"/libclang.so "$dir"/libclang.so.* "$dir"/libclang-[0-9]*.so*; do
            if [ -e "$file" ]; then
                echo "$dir"
                return
            fi
        done
    done
    return 1
}

with_apt() {
    local run=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 1
        run=(sudo -n)
    fi
    "${run[@]}" apt-get update -qq && "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

with_pip() {
    local python=python3
    command -v gcc >/dev/null || return 1 # its headers stand in for clang's
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv "$pip_dir.venv" >/dev/null 2>&1 || return 1
        python=$pip_dir.venv/bin/python
    fi
    rm -rf "$pip_dir"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$pip_dir" "libclang==$libclang_version"
}

libclang() {
    local dir
    if ! dir=$(find_libclang); then
        if may_install && ! simulated; then
            step "installing libclang"
            with_apt libclang-dev || with_pip || true
        fi
        dir=$(find_libclang) || die "libclang is missing (RocksDB's bindings need it) and could not be installed here:" \
            "'apt-get install libclang-dev' as root, then run this again"
    fi
    mkdir -p "$assent_cache"
    {
        echo "# Written by testnet/setup.sh."
        if [ "$dir" = "$pip_dir/clang/native" ]; then printf 'export LIBCLANG_PATH=%q\n' "$dir"; fi
        # A libclang without clang's own headers (stddef.h) borrows gcc's.
        if ! command -v clang >/dev/null && ! ls "$dir"/clang/*/include/stddef.h >/dev/null 2>&1; then
            printf 'export BINDGEN_EXTRA_CLANG_ARGS=%q\n' "-I$(gcc -print-file-name=include)"
        fi
    } >"$assent_env.new"
    mv "$assent_env.new" "$assent_env"
}

# --- The crates, and what only some checks need ----------------------------------------------------------------------

crates() {
    may_install || return 0
    cargo fetch --locked --target "$(rustc -vV | sed -n 's/^host: //p')" ||
        die "the crates in Cargo.lock could not be fetched, for the reason above"
}

# Optional: its check is skipped without it.
buf() {
    local dir=$assent_cache/npm
    if [ "$("$dir/node_modules/.bin/buf" --version 2>/dev/null)" = "$buf_version" ]; then return; fi
    if ! may_install || ! command -v npm >/dev/null; then return; fi
    step "installing buf"
    mkdir -p "$dir"
    npm install --prefix "$dir" --no-save --no-audit --no-fund --loglevel=error "@bufbuild/buf@$buf_version" >/dev/null ||
        echo "setup: buf could not be installed; its check is skipped"
}

# What the Python client is tested with; the one stranger that is never skipped.
python_packages() {
    local dir=$assent_cache/python pip=(-m pip install --quiet --disable-pip-version-check) wanted
    wanted=$(cat cli/examples/python/requirements.txt testnet/strangers/python/requirements{,-tlog}.txt)
    if [ "$(cat "$dir/installed" 2>/dev/null)" = "$wanted" ] && "$dir/bin/python" -c 'import aics_tlog, grpc' 2>/dev/null; then return; fi
    may_install || die "the Python packages of testnet/strangers/python/requirements.txt are missing"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "Python 3.11 or later is missing: 'apt-get install python3 python3-venv'"
    step "installing Python packages"
    rm -rf "$dir"
    if ! python3 -m venv "$dir" >/dev/null 2>&1; then
        with_apt python3-venv || true
        python3 -m venv --clear "$dir" || die "no Python environment can be made: 'apt-get install python3-venv'"
    fi
    "$dir/bin/python" "${pip[@]}" --requirement testnet/strangers/python/requirements.txt &&
        # It asks for Python 3.12, and runs on 3.11; all that it needs is among the others. So it comes by its hash, and alone.
        "$dir/bin/python" "${pip[@]}" --ignore-requires-python --no-deps --require-hashes \
            --requirement testnet/strangers/python/requirements-tlog.txt ||
        die "the Python packages could not be installed, for the reason above"
    printf '%s\n' "$wanted" >"$dir/installed"
}

# Optional: node_packages NAME SOURCE puts what SOURCE's lockfile names into the cache; its checks are skipped without it.
node_packages() {
    local dir=$assent_cache/node-$1 source=$2
    if cmp -s "$source/package-lock.json" "$dir/installed"; then return; fi
    if ! may_install || ! command -v npm >/dev/null; then return; fi
    step "installing Node packages for $1"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$source/package.json" "$source/package-lock.json" "$dir"
    if npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null; then
        cp "$source/package-lock.json" "$dir/installed"
    else
        echo "setup: the Node packages for $1 could not be installed; its check is skipped"
    fi
}

# Optional: the modules of the Go client, and a health probe that others publish; their checks are skipped without them.
go_modules() {
    local dir=$assent_cache/go source=cli/examples/go wanted needed
    wanted="$health_probe_version $(cat "$source/go.mod" "$source/go.sum")"
    if [ "$(cat "$dir/installed" 2>/dev/null)" = "$wanted" ]; then return; fi
    if ! may_install || ! command -v go >/dev/null; then return; fi
    needed=go$(sed -n 's/^go //p' "$source/go.mod")
    if [ "$(printf '%s\n' "$needed" "$(go env GOVERSION)" | sort -V | head -n 1)" != "$needed" ]; then return; fi
    step "installing Go modules"
    mkdir -p "$dir"
    rm -f "$dir/installed"
    if (cd "$source" && go mod download) &&
        GOBIN=$dir go install "github.com/grpc-ecosystem/grpc-health-probe@v$health_probe_version"; then
        printf '%s\n' "$wanted" >"$dir/installed"
    else
        echo "setup: the Go modules could not be installed; their checks are skipped"
    fi
}

rust
cpp
libclang
crates
if [ "${1:-}" = --for-tests ]; then
    rust_components
    python_packages
    buf
    node_packages grpc cli/examples/node
    node_packages libp2p testnet/strangers/libp2p
    go_modules
fi
