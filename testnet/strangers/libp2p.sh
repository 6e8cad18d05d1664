#!/usr/bin/env bash
# js-libp2p dials Cedar's exchange port on the network in DIR, as a stranger and with Elm's key: libp2p.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

mkdir "$1/libp2p" # beside its packages: imports are looked up from where the file is
cp testnet/strangers/libp2p/*.mjs "$1/libp2p"
ln -s "$assent_cache/node-libp2p/node_modules" "$1/libp2p/node_modules"
peer=$(sed -n 's/^ *"peer": "\(.*\)",/\1/p' "$1/network.json" | head -n 1)
mapfile -t protocols < <(sed -n 's/.*=> "\(\/assent\/1\/.*\)",$/\1/p' node/src/peers/mod.rs)
cd "$1/libp2p"
node --import ./node-20.mjs stranger.mjs "$peer" "$1/elm/keys/exchange-peer.pem" "${protocols[@]}"
