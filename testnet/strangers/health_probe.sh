#!/usr/bin/env bash
# grpc-health-probe, as orchestrators run it, sees the node in DIR: health_probe.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

node=$(sed -n 's/^node = "https:\/\/\(.*\)"/\1/p' "$1/birch/clients/crm-frontdesk/profile.toml")
probe() { "$assent_cache/go/grpc-health-probe" -addr "$node" -tls -tls-ca-cert "$1/birch/tls/ca.pem" "${@:2}"; }

# Health needs no certificate. 3 is the probe's "the call failed": there is no such service.
probe "$1"
probe "$1" -service assent.v1.DecisionService
status=0
probe "$1" -service assent.v1.NoService || status=$?
[ "$status" -eq 3 ]
