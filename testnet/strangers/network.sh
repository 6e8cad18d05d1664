#!/usr/bin/env bash
# The network that every stranger talks to: network.sh up DIR | down DIR.
#
# Patients at Cedar, each with a normal and a psychiatric record: ada (1) let Cedar treat, bea (2) let Birch treat, cyd (3) denied
# Birch, dan (4) said nothing. Each stranger has a CRM certificate of its own at Birch, so that its own accesses are its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=testnet/env.sh
. testnet/env.sh

assent=$CARGO_TARGET_DIR/release/assent
assent_testnet=$CARGO_TARGET_DIR/release/assent-testnet

# patient NAME NUMBER: registers one who was born on 1980-02-03.
patient() {
    "$assent" subject create --custodian cedar --identifier "urn:example:mrn|$2" --birth-date 1980-02-03 \
        --patient-reference "Patient/$1" --profile "$clients/registrar-admission/profile.toml"
}

# consent FILE NUMBER
consent() {
    "$assent" consent import "$1" --custodian cedar --identifier "urn:example:mrn|$2" --birth-date 1980-02-03 \
        --profile "$clients/portal-patients/profile.toml"
}

up() {
    local data=testnet/strangers/data name
    clients=$1/cedar/clients
    "$assent_testnet" up --dir "$1"
    patient ada 1
    patient bea 2
    patient cyd 3
    patient dan 4
    for name in cli/examples/records.ndjson "$data/records.ndjson"; do
        "$assent" records load "$name" --profile "$clients/ehr-wards/profile.toml"
    done
    consent cli/examples/consent.json 1
    consent "$data/bea.json" 2
    consent "$data/cyd.json" 3
    for name in crm portal officer; do # as the quick start of the README has it
        "$assent" keys issue --dir "$1/cedar" --role "$name" --name local
    done
    for name in python node go; do
        "$assent" keys issue --dir "$1/birch" --role crm --name "$name"
    done
    mkdir "$1/stubs"
    "$assent_cache/python/bin/python" -m grpc_tools.protoc -I proto/proto --python_out "$1/stubs" --grpc_python_out "$1/stubs" \
        proto/proto/assent/v1/*.proto proto/proto/assent/ledger/v1/*.proto
}

case $1 in
up) up "$2" ;;
down) "$assent_testnet" down --dir "$2" ;;
*) exit 2 ;;
esac
