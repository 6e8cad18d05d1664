"""Who may not ask, and what is said to them."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import crm_day
import grpc
from network import FOLDER, channel, query


def assent(*arguments):
    subprocess.run(["assent", *arguments], check=True, capture_output=True)


class Certificates(unittest.TestCase):
    def refused(self, client):
        with channel("birch", client) as to_birch:
            with self.assertRaises(grpc.RpcError) as caught:
                crm_day.Crm(to_birch).check(query("2"))
        info = crm_day.error_info(caught.exception)
        self.assertEqual(info.domain, "assent")
        return caught.exception.code(), info.reason, dict(info.metadata)

    def test_without_certificate(self):
        self.assertEqual(self.refused(None), (grpc.StatusCode.UNAUTHENTICATED, "NO_CLIENT_CERTIFICATE", {}))

    def test_of_another_organization(self):
        expected = (grpc.StatusCode.PERMISSION_DENIED, "FOREIGN_CLIENT", {"organization": "dogwood"})
        self.assertEqual(self.refused("dogwood/crm-frontdesk"), expected)

    def test_with_a_wrong_role(self):
        for role in ("portal-patients", "registrar-admission", "officer-privacy", "auditor-revision", "operator-duty"):
            metadata = {"needed": "crm or ehr", "role": role.split("-")[0]}
            expected = (grpc.StatusCode.PERMISSION_DENIED, "WRONG_ROLE", metadata)
            self.assertEqual(self.refused(f"birch/{role}"), expected)

    def test_of_an_authority_that_only_calls_itself_ours(self):
        chain_id = json.loads((FOLDER / "network.json").read_text())["chain_id"]
        with tempfile.TemporaryDirectory() as folder:
            forged = pathlib.Path(folder) / "birch"
            assent("init", "--dir", forged, "--organization", "birch", "--name", "Birch Clinic", "--chain-id", chain_id)
            assent("keys", "issue", "--dir", forged, "--role", "crm", "--name", "frontdesk")
            with channel("birch", forged / "clients/crm-frontdesk") as to_birch:
                with self.assertRaises(grpc.RpcError) as caught:
                    crm_day.Crm(to_birch).check(query("2"))
        # TLS ends it: there is nobody to whom a reason could be told.
        self.assertIs(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()
