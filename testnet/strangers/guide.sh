#!/usr/bin/env bash
# Runs a guide's commands and compares what they print: guide.sh FILE [DIR], DIR for one that needs the network in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

export PYTHONDONTWRITEBYTECODE=1 PATH=$CARGO_TARGET_DIR/release:$PATH
exec "$assent_cache/python/bin/python" testnet/strangers/python/guide.py "$@"
