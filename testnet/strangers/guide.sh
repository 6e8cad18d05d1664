#!/usr/bin/env bash
# Runs the guide for CRM developers against the network in DIR: guide.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

export STRANGERS=$1 PYTHONDONTWRITEBYTECODE=1 PATH=$CARGO_TARGET_DIR/release:$PATH
exec "$assent_cache/python/bin/python" testnet/strangers/python/guide.py cli/docs/crm.md
