#!/usr/bin/env bash
# Nothing that the first release's clients rely on was taken away; and a removed field would be seen: buf_breaking.sh DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

buf=$assent_cache/npm/node_modules/.bin/buf
"$buf" breaking proto --against proto/first-release.binpb

cp -r proto "$1/altered"
sed -i '/^  string purpose = 2;$/d' "$1/altered/proto/assent/v1/exchange.proto"
said=$("$buf" breaking "$1/altered" --against proto/first-release.binpb || true)
grep 'field "2" with name "purpose" on message "Query" was deleted' <<<"$said"
