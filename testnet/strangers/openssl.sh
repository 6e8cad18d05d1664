#!/usr/bin/env bash
# openssl reads our keys and certificates, those of the network in DIR, and a node runs on keys that openssl made: openssl.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

assent=$CARGO_TARGET_DIR/release/assent
keys=(entry vote consensus-peer exchange-peer checkpoint vault)

# The public half of a key file in hex, as openssl has it; without the 12 bytes that name the algorithm.
public() { openssl pkey -in "$1" -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n'; }
# shown WHAT FILE: a line of `assent keys show`.
shown() { "$assent" keys show "$2" | sed -n "s/^$1  *//p" | grep .; }
same_public() { [ "$(public "$1")" = "$(shown 'public key' "$1")" ]; }

our_keys() {
    local name
    for name in "${keys[@]}"; do
        openssl pkey -in "$1/cedar/keys/$name.pem" -noout -text | grep -qx 'ED25519 Private-Key:'
        same_public "$1/cedar/keys/$name.pem"
    done
    openssl pkey -in "$1/cedar/tls/node.key" -noout -check
    openssl pkey -in "$1/cedar/clients/crm-frontdesk/key.pem" -noout -check
}

our_certificates() {
    local organization leaf
    for organization in cedar birch; do
        openssl verify -x509_strict -purpose sslserver -CAfile "$1/$organization/tls/ca.pem" "$1/$organization/tls/node.pem"
        for leaf in "$1/$organization"/clients/*/cert.pem; do
            openssl verify -x509_strict -purpose sslclient -CAfile "$1/$organization/tls/ca.pem" "$leaf"
        done
    done
    if openssl verify -CAfile "$1/birch/tls/ca.pem" "$1/cedar/tls/node.pem"; then return 1; fi
    if openssl verify -purpose sslclient -CAfile "$1/cedar/tls/ca.pem" "$1/cedar/tls/node.pem"; then return 1; fi
}

# A member whose keys all come from openssl: its card names them, so genesis does, and the node signs with them.
node_on_their_keys() {
    local dir=$1/openssl name what card
    "$assent" init --dir "$dir" --organization fern --name Fern --chain-id testnet-fern \
        --grpc "127.0.0.1:$2" --admin "127.0.0.1:$3" --exchange "/ip4/127.0.0.1/tcp/$4"
    card=$(cat "$dir/card.json")
    mv "$dir/keys" "$dir/old"
    mkdir -m 700 "$dir/keys"
    for name in "${keys[@]}"; do
        (umask 077 && openssl genpkey -algorithm ed25519 -out "$dir/keys/$name.pem")
        same_public "$dir/keys/$name.pem"
        for what in 'public key' 'peer id'; do
            card=${card//"$(shown "$what" "$dir/old/$name.pem")"/"$(shown "$what" "$dir/keys/$name.pem")"}
        done
    done
    printf '%s\n' "$card" >"$dir/card.json"
    "$assent" genesis --chain-id testnet-fern --out "$dir/genesis.bin" "$dir/card.json"
    "$assent" keys issue --dir "$dir" --role registrar --name desk
    "$CARGO_TARGET_DIR/release/assentd" --single --dir "$dir" 2>"$dir/log" &
    trap 'kill '$!'; wait '$!' || true' EXIT
    for _ in $(seq 100); do
        if "$assent" status --profile "$dir/clients/registrar-desk/profile.toml" 2>/dev/null; then break; fi
        sleep 0.1
    done
    # Signed with the entry key, stored under the vault key, and the block voted for with the vote key.
    "$assent" subject create --custodian fern --identifier 'urn:example:mrn|1' --birth-date 1980-02-03 \
        --patient-reference Patient/eve --profile "$dir/clients/registrar-desk/profile.toml" || {
        cat "$dir/log"
        return 1
    }
}

our_keys "$1"
our_certificates "$1"
mapfile -t ports < <("$assent_cache/python/bin/python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in held), sep="\n")')
node_on_their_keys "$1" "${ports[@]}"
