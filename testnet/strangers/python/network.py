"""The network that network.sh started, for the checks beside this file. Its folder is in the environment variable STRANGERS."""

import json
import os
import pathlib
import urllib.parse

import grpc

from assent.v1 import answer_pb2 as common
from assent.v1 import exchange_pb2 as api

FOLDER = pathlib.Path(os.environ["STRANGERS"])
NODES = {node["organization"]: node for node in json.loads((FOLDER / "network.json").read_text())["nodes"]}


def channel(node, client=None):
    """A channel to an organization's node, with the certificate of a client such as "birch/crm-python" (or the folder that holds
    one), or with none."""
    authority = (FOLDER / node / "tls/ca.pem").read_bytes()
    key = certificate = None
    if client:
        files = client if isinstance(client, pathlib.Path) else FOLDER / client.replace("/", "/clients/")
        key, certificate = (files / "key.pem").read_bytes(), (files / "cert.pem").read_bytes()
    address = urllib.parse.urlsplit(NODES[node]["grpc"]).netloc
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))


def query(number, purpose="TREAT", birth_date="1980-02-03", custodian="cedar"):
    """A query about the patient with a number; network.sh says who they are."""
    patient = common.Patient(
        custodian=custodian,
        identifier_system="urn:example:mrn",
        identifier_value=number,
        birth_date=birth_date,
    )
    return api.Query(patient=patient, purpose=purpose, actor="Dr. Grey")
