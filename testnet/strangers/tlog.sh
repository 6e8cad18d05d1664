#!/usr/bin/env bash
# Go's own verifiers of notes and tiles (golang.org/x/mod/sumdb, with which the go command verifies sum.golang.org) read what the nodes
# of the network in DIR publish, and what `assent checkpoint` collected from them: tlog.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

dir=$1
assent=$CARGO_TARGET_DIR/release/assent

# The code as the Go toolchain brings it along: nothing is downloaded.
mkdir "$dir/tlog"
cp testnet/strangers/tlog/* "$dir/tlog"
mkdir -p "$dir/tlog/x-mod/sumdb"
cp -r "$(go env GOROOT)"/src/cmd/vendor/golang.org/x/mod/sumdb/{note,tlog} "$dir/tlog/x-mod/sumdb"
printf 'module golang.org/x/mod\n\ngo 1.23.0\n' >"$dir/tlog/x-mod/go.mod"
(cd "$dir/tlog" && GOPROXY=off GOFLAGS=-mod=readonly GOTOOLCHAIN=local go vet . &&
    GOPROXY=off GOFLAGS=-mod=readonly GOTOOLCHAIN=local go build -o tlogcheck .)

cards=("$dir"/*/card.json)
mapfile -t urls < <(sed -n 's/^ *"tlog": "\(.*\)",$/\1/p' "$dir/network.json")
[ "${#urls[@]}" -eq 4 ]
for url in "${urls[@]}"; do
    "$dir/tlog/tlogcheck" log "$url" "${cards[@]}"
done

"$assent" checkpoint "${urls[@]}" --genesis "$dir/genesis.bin" --out "$dir/tlog/collected.note"
"$dir/tlog/tlogcheck" note "$dir/tlog/collected.note" 4 "${cards[@]}"

# A witness's line is no reason for Go to refuse the note, and the witness cosigns a longer log only.
"$assent" keys generate --out "$dir/tlog/witness.pem" >/dev/null
cosign() {
    "$assent" checkpoint "${urls[@]}" --genesis "$dir/genesis.bin" --out "$1" --cosign "$dir/tlog/witness.pem" \
        --name witness.example --state "$dir/tlog/witness.state"
}
cosign "$dir/tlog/cosigned.note"
"$dir/tlog/tlogcheck" note "$dir/tlog/cosigned.note" 4 "${cards[@]}"
cosign "$dir/tlog/later.note"

# One character of a signed root, and Go refuses.
sed '3{s/^A/B/;t;s/^./A/}' "$dir/tlog/collected.note" >"$dir/tlog/lie.note"
if "$dir/tlog/tlogcheck" note "$dir/tlog/lie.note" 4 "${cards[@]}"; then exit 1; fi
