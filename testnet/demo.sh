#!/usr/bin/env bash
# Sets up what is missing, builds, and runs the demo; arguments go to `assent-testnet demo`, paths as seen from here.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=testnet/env.sh
. "$root/testnet/env.sh"

"$root/testnet/setup.sh"
# shellcheck source=/dev/null
. "$assent_env"
step "building (the first time takes long: RocksDB is built from source)"
(cd "$root" && cargo build --release --locked --workspace --bins) >&2
exec "$CARGO_TARGET_DIR/release/assent-testnet" demo "$@"
