#!/usr/bin/env bash
# Runs a Python program of this folder against the network in DIR: python.sh FILE DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

export STRANGERS=$2 PYTHONPATH=$2/stubs:cli/examples/python PYTHONDONTWRITEBYTECODE=1 PATH=$CARGO_TARGET_DIR/release:$PATH
exec "$assent_cache/python/bin/python" "testnet/strangers/python/$1"
