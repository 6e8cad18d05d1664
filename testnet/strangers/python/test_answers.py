"""What a CRM may learn and what not: permits, the one refusal, its own accesses, and damaged bundles."""

import unittest
import uuid

import crm_day
import grpc
from grpc_status import rpc_status
from network import channel, query

from assent.ledger.v1 import exchange_pb2 as ledger
from assent.v1 import exchange_pb2 as api
from google.rpc import error_details_pb2

# Birch asks Cedar, over the peers' connection; Cedar's own CRM asks without one.
ASKERS = {"birch": "birch/crm-frontdesk", "cedar": "cedar/crm-frontdesk"}


def refusals(client):
    """A query of each kind that gets no permit, for a client."""
    return {
        "denied by a consent" if client == "birch" else "consent for another": query("3"),
        "no consent": query("4"),
        "other purpose": query("2" if client == "birch" else "1", purpose="HMARKT"),
        "unknown patient": query("5"),
        "other birth date": query("2" if client == "birch" else "1", birth_date="1980-02-04"),
    }


def check(stub, asked):
    return stub.CheckConsent(api.CheckConsentRequest(query=asked), timeout=30)


def request(stub, asked):
    return list(stub.RequestRecords(api.RequestRecordsRequest(request_id=str(uuid.uuid4()), query=asked), timeout=30))


def failure(call, stub, asked):
    try:
        call(stub, asked)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was released")


def without_what_may_differ(error):
    """An error as bytes, without time, request hash and signature; and how long it is with them."""
    differs = ("date", "grpc-status-details-bin")
    sent = [*error.initial_metadata(), *error.trailing_metadata()]
    headers = [(key, value) for key, value in sent if key not in differs]
    whole_length = sum(len(key) + len(value) for key, value in sent)
    status = rpc_status.from_call(error)
    info, signed = error_details_pb2.ErrorInfo(), ledger.Signed()
    assert status.details[0].Unpack(info) and status.details[1].Unpack(signed) and len(status.details) == 2
    said = ledger.NotReleased.FromString(signed.body)
    assert len(said.request_hash) == 32 and said.time_ms and len(signed.signature) == 64
    assert info.reason == "NOT_RELEASED" and info.domain == "assent" and not info.metadata
    said.ClearField("request_hash")
    said.ClearField("time_ms")
    signed.body = said.SerializeToString()
    signed.ClearField("signature")
    status.details[1].Pack(signed)
    rest = (error.code(), error.details(), headers, status.SerializeToString(deterministic=True))
    return rest, whole_length


class Answers(unittest.TestCase):
    def test_permit_comes_with_a_signed_decision(self):
        with channel("birch", ASKERS["birch"]) as to_birch:
            answer = check(crm_day.Crm(to_birch).decisions, query("2"))
        self.assertEqual(answer.outcome, api.OUTCOME_PERMIT)
        self.assertTrue(answer.may_be_incomplete and answer.answer.height and answer.answer.token)
        decision = ledger.Decision.FromString(answer.decision.body)
        self.assertEqual((answer.decision.organization, decision.custodian, decision.outcome), ("cedar", "cedar", "PERMIT"))

    def test_denied_and_unknown_are_alike(self):
        for organization, client in ASKERS.items():
            with channel(organization, client) as opened:
                crm = crm_day.Crm(opened)
                for call, stub in ((check, crm.decisions), (request, crm.exchange)):
                    seen = {}
                    for kind, asked in refusals(organization).items():
                        seen[kind] = without_what_may_differ(failure(call, stub, asked))
                    first = seen["unknown patient"]
                    self.assertIs(first[0][0], grpc.StatusCode.PERMISSION_DENIED)
                    for kind, answer in seen.items():
                        self.assertEqual(answer, first, f"{organization}, {call.__name__}: {kind}")

    def test_a_changed_bundle_does_not_hold(self):
        with channel("birch", ASKERS["birch"]) as to_birch:
            crm = crm_day.Crm(to_birch)
            bundle = crm.request(query("2"), "bundle-to-damage")
            self.assertTrue(crm.verify(bundle).holds)
            self.assertEqual(crm.request(query("2"), "bundle-to-damage"), bundle, "a retry gets the same")
            bundle.resources[0] += b" "
            verified = crm.verify(bundle)
        self.assertFalse(verified.holds)
        self.assertIn("digest", verified.fault)

    def test_own_accesses_and_nobody_elses(self):
        with channel("dogwood", "dogwood/crm-frontdesk") as to_dogwood:
            self.assertEqual(list(crm_day.Crm(to_dogwood).accesses()), [])
        with channel("cedar", "cedar/ehr-wards") as to_cedar:
            crm = crm_day.Crm(to_cedar)
            for name in ("own-1", "own-2", "own-3"):
                crm.request(query("1"), name)
            whole = list(crm.accesses())
            self.assertEqual([access.request_id for access in whole], ["own-3", "own-2", "own-1"])
            self.assertEqual({access.resources for access in whole}, {2})
            self.assertEqual({access.query.patient.identifier_value for access in whole}, {"1"})
            paged, page = [], api.ListAccessesRequest(page_size=2)
            for size in (2, 1):
                answer = crm.exchange.ListAccesses(page, timeout=30)
                self.assertEqual(len(answer.accesses), size)
                paged.extend(answer.accesses)
                page.page_token = answer.next_page_token
            self.assertEqual((paged, page.page_token), (whole, ""))


if __name__ == "__main__":
    unittest.main()
