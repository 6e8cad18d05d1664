#!/usr/bin/env bash
# systemd reads the operator's unit file without a complaint, restarts the node by the exit codes that it has, and finds it hardened.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

most_exposed=20 # in tenths: systemd's measure from 0, well locked away, to 100

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# As it stands, but the program where it was built: that it is there is checked too.
sed "s|^ExecStart=/usr/local/bin/|ExecStart=$CARGO_TARGET_DIR/release/|" node/docs/assentd.service >"$dir/assentd.service"

# What systemd does not understand it ignores with a line, and exits 0.
complaints() { systemd-analyze verify --man=no "$1" 2>&1 || echo "exit $?"; }

said=$(complaints "$dir/assentd.service")
if [ -n "$said" ]; then
    echo "$said"
    exit 1
fi
mkdir "$dir/spoilt"
sed 's/^RestartPreventExitStatus=/RestartPreventExitCode=/' "$dir/assentd.service" >"$dir/spoilt/assentd.service"
complaints "$dir/spoilt/assentd.service" | grep "Unknown key 'RestartPreventExitCode'" || {
    echo "a key that systemd does not know went unnoticed"
    exit 1
}
grep -x 'RestartPreventExitStatus=2 9' node/docs/assentd.service
grep -x 'Restart=on-failure' node/docs/assentd.service
systemd-analyze security --no-pager --offline=true --threshold="$most_exposed" "$dir/assentd.service"
