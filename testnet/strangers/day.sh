#!/usr/bin/env bash
# A CRM's day in one language, on the network in DIR: day.sh python|node|go DIR. All say the same, and what each saved verifies
# without a node.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

dir=$2
client=$dir/birch/clients/crm-$1
bundle=$dir/$1.bundle
patient=(custodian cedar identifier 'urn:example:mrn|2' birth-date 1980-02-03 actor 'Dr. Grey' out "$bundle")

# Flags of the client: each name behind $1.
flags() {
    local dashes=$1 url
    url=$(sed -n 's/^node = "\(.*\)"/\1/p' "$client/profile.toml")
    shift
    set -- node "$url" cert "$client/cert.pem" key "$client/key.pem" ca "$client/ca.pem" "$@"
    while [ $# -gt 0 ]; do
        printf '%s\n%s\n' "$dashes$1" "$2"
        shift 2
    done
}

run_python() {
    PYTHONPATH=$dir/stubs PYTHONDONTWRITEBYTECODE=1 "$assent_cache/python/bin/python" cli/examples/python/crm_day.py \
        --profile "$client/profile.toml" --custodian cedar --identifier 'urn:example:mrn|2' --birth-date 1980-02-03 \
        --actor 'Dr. Grey' --out "$bundle"
}

run_node() {
    mapfile -t arguments < <(flags "--" "${patient[@]}")
    NODE_PATH=$assent_cache/node-grpc/node_modules node cli/examples/node/crm_day.js "${arguments[@]}"
}

# In a copy, so that generated code stays out of the tree; offline, with what setup.sh downloaded.
run_go() {
    mapfile -t arguments < <(flags - "${patient[@]}")
    cp -r cli/examples/go "$dir/go"
    export GOPROXY=off GOFLAGS=-mod=readonly GOTOOLCHAIN=local
    (cd "$dir/go" && "$assent_cache/npm/node_modules/.bin/buf" generate "$OLDPWD/proto" && go vet . && go build -o crm_day .)
    "$dir/go/crm_day" "${arguments[@]}"
}

"run_$1" | sed -E 's/block [0-9]+$/block N/; s/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}/WHEN/' >"$dir/$1.said"
diff - "$dir/$1.said" <<SAID
check TREAT: PERMIT (may be incomplete)
check HMARKT: not released
check FUN: assent BAD_QUERY in query
request: 2 resources in $bundle
verify: holds, block N
access: WHEN TREAT Dr. Grey 2 resources
SAID
"$CARGO_TARGET_DIR/release/assent" verify "$bundle" --profile "$client/profile.toml"
