#!/usr/bin/env bash
# buf curl asks a node in DIR, with nothing but what reflection tells it: buf_curl.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

# ask ROLE-NAME METHOD REQUEST: at Birch; exits with 8 times the gRPC code.
ask() {
    local client=$dir/birch/clients/$1
    "$assent_cache/npm/node_modules/.bin/buf" curl --protocol grpc \
        --cacert "$client/ca.pem" --cert "$client/cert.pem" --key "$client/key.pem" --data "$3" "$node/$2" 2>&1
}

# query PURPOSE: about the patient who let Birch treat.
query() {
    printf '{"query": {"patient": {"custodian": "cedar", "identifierSystem": "urn:example:mrn", "identifierValue": "2",
        "birthDate": "1980-02-03"}, "purpose": "%s", "actor": "Dr. Grey"}}' "$1"
}

# expect STATUS TEXT COMMAND...
expect() {
    local expected=$1 text=$2 said status=0
    shift 2
    said=$("$@") || status=$?
    if [ "$status" -ne "$expected" ] || ! grep -qF -e "$text" <<<"$said"; then
        printf '%s\nexit %s with\n%s\nexpected exit %s and %s\n' "$*" "$status" "$said" "$expected" "$text"
        return 1
    fi
}

dir=$1
node=$(sed -n 's/^node = "\(.*\)"/\1/p' "$dir/birch/clients/crm-frontdesk/profile.toml")
expect 0 '"organization": "birch"' ask operator-duty assent.v1.NodeService/GetStatus '{}'
expect 0 OUTCOME_PERMIT ask crm-frontdesk assent.v1.DecisionService/CheckConsent "$(query TREAT)"
expect 56 '"message": "not released"' ask crm-frontdesk assent.v1.DecisionService/CheckConsent "$(query HMARKT)"
expect 56 google.rpc.ErrorInfo ask operator-duty assent.v1.DecisionService/CheckConsent "$(query TREAT)"
