"""A CRM's day with its hospital's node: check, request, verify, and its own accesses. cli/docs/crm.md explains each step.

The stubs are made from this project's .proto files:
    mkdir stubs && python -m grpc_tools.protoc -I proto/proto --python_out stubs --grpc_python_out stubs $(find proto/proto -name '*.proto')
    PYTHONPATH=stubs python cli/examples/python/crm_day.py --profile dev/clients/crm-local/profile.toml \
        --custodian cedar --identifier 'urn:example:mrn|1' --birth-date 1980-02-03 --actor 'Dr. Grey' --out ada.bundle
"""

import argparse
import datetime
import pathlib
import tomllib
import urllib.parse
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from assent.ledger.v1 import bundle_pb2 as ledger
from assent.v1 import answer_pb2 as common
from assent.v1 import exchange_pb2 as api
from assent.v1 import exchange_pb2_grpc as services

# How a file starts that `assent verify` reads; the bundle follows.
BUNDLE_MAGIC = b"ASSENTB1"
SECONDS = 30


def connect(profile):
    """A channel to the hospital's own node, with the client certificate of the profile that `assent keys issue` wrote."""
    profile = pathlib.Path(profile)
    settings = tomllib.loads(profile.read_text())

    def read(name):
        return (profile.parent / settings[name]).read_bytes()

    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    address = urllib.parse.urlsplit(settings["node"]).netloc
    return grpc.secure_channel(address, credentials)


def error_info(error):
    """Why a call failed: each error has one ErrorInfo, with a machine-readable reason and what belongs to it."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    raise error  # not from the node: no connection, for example


class Crm:
    """What a CRM asks."""

    def __init__(self, channel):
        self.decisions = services.DecisionServiceStub(channel)
        self.exchange = services.ExchangeServiceStub(channel)

    def check(self, query):
        """True when something would be released. False says nothing about why, nor whether there is such a patient."""
        try:
            answer = self.decisions.CheckConsent(api.CheckConsentRequest(query=query), timeout=SECONDS)
        except grpc.RpcError as error:
            if error_info(error).reason == "NOT_RELEASED":
                return False
            raise
        # An outcome that this program does not know is no permit.
        return answer.outcome in (api.OUTCOME_PERMIT, api.OUTCOME_PERMIT_OVERRIDE)

    def request(self, query, request_id):
        """The records with the proof that the access stands in the ledger. After a failure, repeat with the same request id."""
        bundle = ledger.RecordBundle()
        asked = api.RequestRecordsRequest(request_id=request_id, query=query)
        for message in self.exchange.RequestRecords(asked, timeout=SECONDS):
            if message.HasField("proof"):
                bundle.proof.CopyFrom(message.proof)
            bundle.resources.extend(message.resources)
        return bundle

    def verify(self, bundle):
        """What the node says of a bundle. `assent verify FILE` says it without a node."""
        return self.exchange.VerifyRecords(api.VerifyRecordsRequest(bundle=bundle), timeout=SECONDS)

    def accesses(self):
        """What this client got so far, newest first."""
        page = api.ListAccessesRequest()
        while True:
            answer = self.exchange.ListAccesses(page, timeout=SECONDS)
            yield from answer.accesses
            if not answer.next_page_token:
                return
            page.page_token = answer.next_page_token


def main():
    arguments = argparse.ArgumentParser(description="A CRM's day.")
    for name in ("--profile", "--custodian", "--identifier", "--birth-date", "--actor", "--out"):
        arguments.add_argument(name, required=True)
    given = arguments.parse_args()
    system, value = given.identifier.split("|", 1)
    patient = common.Patient(
        custodian=given.custodian, identifier_system=system, identifier_value=value, birth_date=given.birth_date
    )

    def query(purpose):
        return api.Query(patient=patient, purpose=purpose, actor=given.actor)

    with connect(given.profile) as channel:
        crm = Crm(channel)
        for purpose in ("TREAT", "HMARKT"):
            print(f"check {purpose}:", "PERMIT (may be incomplete)" if crm.check(query(purpose)) else "not released")
        try:
            crm.check(query("FUN"))
        except grpc.RpcError as error:
            info = error_info(error)
            print("check FUN:", info.domain, info.reason, "in", info.metadata["field"])

        bundle = crm.request(query("TREAT"), request_id=str(uuid.uuid4()))
        pathlib.Path(given.out).write_bytes(BUNDLE_MAGIC + bundle.SerializeToString())
        print("request:", len(bundle.resources), "resources in", given.out)

        verified = crm.verify(bundle)
        print("verify:", f"holds, block {verified.access_height}" if verified.holds else verified.fault)

        for access in crm.accesses():
            when = datetime.datetime.fromtimestamp(access.time_ms / 1000, datetime.timezone.utc)
            print(f"access: {when:%Y-%m-%d %H:%M}", access.query.purpose, access.query.actor, access.resources, "resources")


if __name__ == "__main__":
    main()
