"""Verifies a patient pack and asks nobody: the standard library and `cryptography`, nothing of Assent's.

    verify_pack.py FILE --genesis-hash HASH

Exit 0: it holds; 3: it does not; 2: wrong arguments. Written from the .proto files, RFC 6962 and the form of jmt's proofs, to
disagree with the program `assent` if either is wrong. Signatures are checked as OpenSSL does, which is stricter than ZIP-215: an
honest signature holds under both, and a crafted one that only ZIP-215 takes is refused here.
"""

import argparse
import hashlib
import pathlib
import sys
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAGIC = b"ASSENTK1"
MAX_BYTES = 128 << 20
MAX_KEY_AGE_MS = 3_600_000
CONTACT = "urn:assent:contact-preferences"
STATES = {1: "proposed", 2: "active", 3: "rejected", 4: "revoked", 5: "superseded", 6: "entered in error"}


class DoesNotHold(Exception):
    """What is wrong with the pack."""


def demand(holds, why):
    if not holds:
        raise DoesNotHold(why)


# --- protobuf: fields in the order of their tags; "*" repeated, "?" optional, a capital letter another message ----------------------

MESSAGES = {
    "PatientPack": {1: "history bytes", 2: "salt bytes", 3: "consents *PackedConsent", 4: "reasons *OpenedReasons"},
    "PackedConsent": {1: "id string", 2: "body bytes", 3: "salt bytes"},
    "OpenedReasons": {1: "reasons bytes", 2: "salt bytes"},
    "Reasons": {1: "decided_by *string"},
    "AccessHistory": {
        2: "custodian string", 3: "handle bytes", 5: "slot Slot", 6: "state_proof bytes", 9: "anchor Anchor",
        10: "accesses *HistoryAccess",
    },
    "HistoryAccess": {1: "header bytes", 2: "certificate Certificate", 3: "access AccessClaim"},
    # Only one that starts at genesis.
    "Anchor": {1: "header bytes", 2: "genesis GenesisStart"},
    "GenesisStart": {1: "genesis bytes", 2: "changes *SetChange", 3: "certificate Certificate"},
    "SetChange": {1: "header bytes", 2: "certificate Certificate", 3: "next ValidatorSet"},
    "AccessClaim": {
        1: "event bytes", 2: "salt bytes", 3: "entry bytes", 4: "operation uint32", 5: "inclusion InclusionProof",
        6: "recipient MemberProof",
    },
    "MemberProof": {1: "member Member", 2: "path TreePath"},
    "Member": {1: "id string", 2: "entry_key bytes", 3: "checkpoint_key bytes"},
    "TreePath": {1: "siblings *bytes", 2: "left uint64"},
    "InclusionProof": {1: "index uint64", 2: "size uint64", 3: "path *bytes"},
    "Certificate": {1: "height uint64", 2: "round uint32", 3: "header_hash bytes", 4: "signatures *CommitSignature"},
    "CommitSignature": {1: "address bytes", 2: "signature bytes"},
    "Slot": {
        1: "consent_seq uint64", 2: "commitment bytes", 3: "access_seq uint64", 4: "access_head ?bytes", 5: "control_key ?bytes",
        6: "withdraw_seq uint64", 7: "frozen bool", 8: "replacement KeyReplacement",
    },
    "KeyReplacement": {1: "control_key bytes", 2: "effective_ms uint64", 3: "consent_seq uint64"},
    "Header": {
        1: "protocol_version uint32", 2: "chain_id string", 3: "height uint64", 4: "time_ms uint64", 5: "previous_header_hash bytes",
        6: "log_size uint64", 7: "log_root bytes", 8: "state_root bytes", 9: "validator_set_hash bytes",
        10: "next_validator_set_hash bytes", 11: "proposer bytes", 12: "round uint32", 13: "previous_certificate_hash bytes",
    },
    "Genesis": {
        1: "protocol_version uint32", 2: "chain_id string", 3: "time_ms uint64", 4: "validators ValidatorSet",
        5: "organizations_hash bytes",
    },
    "ValidatorSet": {1: "validators *Validator", 2: "members_root bytes"},
    "Validator": {1: "organization string", 2: "vote_key bytes", 3: "power uint64"},
    "Entry": {1: "body bytes", 2: "signature bytes"},
    # Only the operation that a receipt names is read further.
    "EntryBody": {1: "chain_id string", 2: "author string", 3: "sequence uint64", 4: "not_after_ms uint64", 5: "operations *bytes"},
    "Operation": {3: "record_access RecordAccess"},
    "RecordAccess": {
        1: "custodian string", 2: "handle bytes", 3: "expected_consent_seq uint64", 4: "expected_policy_seq uint64",
        5: "commitment bytes",
    },
    "AccessEvent": {
        1: "custodian string", 2: "handle bytes", 3: "request bytes", 4: "outcome string", 5: "reasons bytes", 6: "obligations *string",
        7: "consent_seq uint64", 8: "policy_seq uint64", 9: "resources uint64", 10: "digests_root bytes", 11: "time_ms uint64",
        12: "late bool", 13: "height uint64",
    },
    "Signed": {1: "body bytes", 2: "organization string", 3: "signature bytes"},
    "DataRequest": {
        1: "chain_id string", 2: "custodian string", 3: "recipient string", 4: "client string", 5: "actor string",
        6: "identifier_system string", 7: "identifier_value string", 8: "birth_date string", 9: "purpose string", 10: "action string",
        11: "resource_types *string", 12: "nonce bytes", 13: "not_after_ms uint64", 14: "check_only bool",
        15: "break_glass_reason string", 16: "outreach_channel string",
    },
    "ConsentBody": {
        1: "custodian string", 2: "handle bytes", 3: "id string", 4: "revision uint64", 5: "state uint32", 6: "fhir bytes",
        7: "lenient bool", 8: "grantor Grantor", 9: "legal_basis uint32", 10: "evidence_sha256 bytes", 11: "supersedes *string",
        12: "unresolved bool", 13: "confidential bool",
    },
    "Grantor": {1: "authority string", 2: "evidence_sha256 bytes", 3: "valid_until_ms uint64"},
    "ContactPreferences": {
        1: "custodian string", 2: "handle bytes", 3: "revision uint64", 4: "reminder *string", 5: "survey *string",
        6: "campaign *string",
    },
}  # fmt: skip
DEFAULTS = {"bytes": b"", "string": "", "uint64": 0, "uint32": 0, "bool": 0}
LIMITS = {"uint64": 1 << 64, "uint32": 1 << 32, "bool": 2}


def varint(data, at):
    value = shift = 0
    while True:
        demand(at < len(data) and shift < 70, "a number is cut off or too long")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            demand(byte or shift == 7, "a number in more bytes than it needs")
            return value, at


def decode(message, data):
    """The fields of a message by name, and its bytes as "raw". There is one encoding for each content: any other is refused."""
    fields = {}
    names = {tag: declared.split(" ") for tag, declared in MESSAGES[message].items()}
    for name, kind in names.values():
        fields[name] = [] if kind[0] == "*" else DEFAULTS.get(kind)
    at = last = 0
    while at < len(data):
        key, at = varint(data, at)
        tag, wire = key >> 3, key & 7
        demand(tag in names, f"{message}: field {tag} is unknown")
        name, kind = names[tag]
        repeated, optional, kind = kind[0] == "*", kind[0] == "?", kind.lstrip("*?")
        demand(tag > last or (repeated and tag == last), f"{message}: field {tag} out of order or twice")
        last = tag
        demand(wire == (0 if kind in LIMITS else 2), f"{message}.{name}: wrong wire type")
        value, at = varint(data, at)
        if kind in LIMITS:
            demand(value < LIMITS[kind], f"{message}.{name}: {value} is too large")
        else:
            demand(value <= len(data) - at, f"{message}.{name} is cut off")
            value, at = data[at : at + value], at + value
        if kind == "string":
            try:
                value = value.decode()
            except UnicodeDecodeError:
                raise DoesNotHold(f"{message}.{name} is not UTF-8") from None
        elif kind not in DEFAULTS:
            value = decode(kind, value)
        plain = not repeated and not optional and kind in DEFAULTS
        demand(not plain or value != DEFAULTS[kind], f"{message}.{name}: a default value is written out")
        if repeated:
            fields[name].append(value)
        else:
            fields[name] = value
    fields["raw"] = data
    return fields


# --- hashes, trees, signatures --------------------------------------------------------------------------------------------------------


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def framed(context, chain_id, *parts):
    """What is hashed or signed: context and chain id behind a byte with their length, each part behind eight."""
    context, chain_id = f"assent/1/{context}".encode(), chain_id.encode()
    head = bytes([len(context)]) + context + bytes([len(chain_id)]) + chain_id
    return head + b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def digest(context, chain_id, *parts):
    return sha256(framed(context, chain_id, *parts))


def number(value):
    return value.to_bytes(8, "big")


def tree_root(leaves):
    """RFC 6962, 2.1, over leaf hashes."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1", tree_root(leaves[:split]), tree_root(leaves[split:]))


def included(leaf, index, size, path):
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2), or None."""
    if index >= size:
        return None
    node, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            leaf = sha256(b"\1", sibling, leaf)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            leaf = sha256(b"\1", leaf, sibling)
        node, last = node >> 1, last >> 1
    return leaf if last == 0 else None


def state_root(proof, key, value):
    """The root under which a jmt proof (in Borsh) has `value` at `key`."""
    at = 0

    def take(count):
        nonlocal at
        demand(count <= len(proof) - at, "the state proof is cut off")
        at += count
        return proof[at - count : at]

    def child():
        kind = take(1)
        demand(kind in (b"\0", b"\1", b"\2"), "the state proof has a node of no kind")
        if kind == b"\0":
            return b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
        return sha256(b"JMT::IntrnalNode" if kind == b"\1" else b"JMT::LeafNode", take(64))

    demand(take(1) == b"\1", "the state proof has no leaf")
    demand(take(32) == key and take(32) == sha256(value), "the state proof is for another slot or another content")
    root = sha256(b"JMT::LeafNode", key, sha256(value))
    count = int.from_bytes(take(4), "little")
    demand(count <= 256, "the state proof is too long")
    for place in range(count - 1, -1, -1):  # from the leaf up: the last bit of the path first
        sibling = child()
        right = key[place // 8] >> (7 - place % 8) & 1
        root = sha256(b"JMT::IntrnalNode", sibling, root) if right else sha256(b"JMT::IntrnalNode", root, sibling)
    demand(at == len(proof), "the state proof has surplus bytes")
    return root


def signed_by(key, signature, message):
    demand(len(key) == 32 and len(signature) == 64, "a key or signature has the wrong length")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# --- the pack ---------------------------------------------------------------------------------------------------------------------------


class Validators:
    """A set of validators, and whose keys count while it votes: from a height on, after the header of `since`."""

    def __init__(self, chain_id, encoded, start, since):
        demand(encoded and encoded["validators"] and len(encoded["members_root"]) == 32, "a validator set is empty")
        keys = [v["vote_key"] for v in encoded["validators"]]
        demand(all(a < b for a, b in zip(keys, keys[1:])), "validators are out of order")
        demand(all(0 < v["power"] <= 1 << 32 for v in encoded["validators"]), "a validator has no power, or too much")
        self.power = {v["vote_key"]: v["power"] for v in encoded["validators"]}
        self.hash = digest("validator-set", chain_id, encoded["raw"])
        self.members_root, self.start, self.since = encoded["members_root"], start, since

    def certify(self, chain_id, data, certificate):
        """A header that more than 2/3 of this set signed, and no more than are needed."""
        header, hashed = decode("Header", data), digest("header", chain_id, data)
        demand(header["protocol_version"] == 1 and header["height"] > 0, "a header is of another version, or of height 0")
        demand(header["chain_id"] == chain_id, "a header is of another chain")
        demand(header["validator_set_hash"] == self.hash, "other validators voted than those in force")
        demand(certificate, "a certificate is missing")
        demand(certificate["height"] == header["height"], "a certificate is for another height")
        demand(certificate["header_hash"] == hashed, "a certificate is for another header")
        powers, last = [0], b""
        for vote in certificate["signatures"]:
            address = vote["address"]
            demand(address > last, "signatures of a certificate are out of order")
            last = address
            demand(address in self.power, "somebody signed who is no validator")
            message = framed("vote", chain_id, precommit(header["height"], certificate["round"], hashed, address))
            demand(signed_by(address, vote["signature"], message), "a validator's signature does not verify")
            powers.append(self.power[address])
        signed, total = sum(powers), sum(self.power.values())
        demand(3 * signed > 2 * total, "not more than 2/3 of the validators signed")
        demand(3 * (signed - min(powers[1:])) <= 2 * total, "a certificate has more signatures than are needed")
        return header


class Chain:
    """What the genesis hash vouches for: the validators of each height, and the members' keys."""

    def __init__(self, anchor, expected):
        demand(anchor and anchor["genesis"], "no anchor that starts at genesis")
        start = anchor["genesis"]
        genesis = decode("Genesis", start["genesis"])
        self.id = genesis["chain_id"]
        demand(len(self.id.encode()) <= 32, "the chain id is too long")
        demand(digest("genesis", self.id, start["genesis"]) == expected, "the genesis hash is another one")
        demand(genesis["protocol_version"] == 1, "this program knows protocol version 1")
        demand(len(start["changes"]) <= 4096, "more than 4096 changes of validators")
        self.sets = [Validators(self.id, genesis["validators"], 1, 0)]
        for change in start["changes"]:
            current = self.sets[-1]
            header = current.certify(self.id, change["header"], change["certificate"])
            demand(header["height"] >= current.start, "changes of validators are out of order")
            if header["height"] == 1:
                demand(header["previous_header_hash"] == expected, "the first header follows another genesis")
            following = Validators(self.id, change["next"], header["height"] + 1, header["time_ms"])
            demand(header["next_validator_set_hash"] == following.hash, "a header names other validators than those that follow")
            demand(following.hash != current.hash, "a change of validators changes nothing")
            self.sets.append(following)
        self.tip = self.header(anchor["header"], start["certificate"])
        demand(self.tip["height"] >= self.sets[-1].start, "the header is older than the validators that are shown for it")

    def place(self, height):
        """Which set votes at a height."""
        return max((n for n, found in enumerate(self.sets) if found.start <= height), default=0)

    def header(self, data, certificate):
        return self.sets[self.place(decode("Header", data)["height"])].certify(self.id, data, certificate)

    def key(self, id_, proof, event, header):
        """A recipient's entry key that counted when the event was decided."""
        demand(event["height"] < header["height"], "an access was decided after a block that is not before its own")
        place = self.place(event["height"] + 1)
        if not event["late"] and place + 1 < len(self.sets) and self.sets[place + 1].start <= header["height"]:
            age = header["time_ms"] - self.sets[place + 1].since
            demand(age <= MAX_KEY_AGE_MS, "an access was recorded more than an hour after the keys of its decision were replaced")
        demand(proof and proof["member"] and proof["path"], "a proof of a recipient's keys is missing")
        member, path = proof["member"], proof["path"]
        demand(member["id"] == id_, "keys of another organization are shown")
        siblings, left = path["siblings"], path["left"]
        demand(len(siblings) <= 64 and not left >> len(siblings), "a path is too long, or has a side too many")
        node = sha256(b"\0", member["raw"])
        for step, sibling in enumerate(siblings):
            demand(len(sibling) == 32, "a path has a hash of the wrong length")
            node = sha256(b"\1", sibling, node) if left >> step & 1 else sha256(b"\1", node, sibling)
        demand(node == self.sets[place].members_root, "keys are shown that did not count when the access was decided")
        return member["entry_key"]


def precommit(height, round_, header_hash, address):
    """The encoding of a Vote: type 2, height, round, hash, address."""

    def field(tag, value):
        out = b""
        while value > 0x7F:
            value, out = value >> 7, out + bytes([value & 0x7F | 0x80])
        return bytes([tag]) + out + bytes([value])

    numbers = b"".join(field(tag, value) for tag, value in ((0x08, 2), (0x10, height), (0x18, round_)) if value)
    return numbers + b"\x22\x20" + header_hash + b"\x2a\x20" + address


def verify_request(chain, event, proof, header):
    """The request of an access, signed by the organization that asked."""
    signed = decode("Signed", event["request"])
    request = decode("DataRequest", signed["body"])
    demand(request["chain_id"] == chain.id, "a request is for another chain")
    demand(request["custodian"] == event["custodian"], "a request is for another custodian")
    demand(request["recipient"] == signed["organization"], "a request is signed by another organization")
    key = chain.key(request["recipient"], proof, event, header)
    message = framed("request", chain.id, signed["organization"].encode(), signed["body"])
    demand(signed_by(key, signed["signature"], message), "a recipient's signature does not verify")
    return request


def verify_access(chain, history, shown, n, head):
    """Access number n: event, commitment, entry, log, header, certificate; and the head of the chain after it."""
    claim = shown["access"]
    demand(claim, "an access is missing")
    header = chain.header(shown["header"], shown["certificate"])
    inclusion = claim["inclusion"]
    demand(inclusion and inclusion["size"] == header["log_size"], "no inclusion proof for the header's log")
    demand(all(len(node) == 32 for node in inclusion["path"]), "an inclusion proof has a hash of the wrong length")
    leaf = sha256(b"\0\1", claim["entry"])
    root = included(leaf, inclusion["index"], inclusion["size"], inclusion["path"])
    demand(root == header["log_root"], "an entry is not in the log")
    entry = decode("EntryBody", decode("Entry", claim["entry"])["body"])
    demand(claim["operation"] < len(entry["operations"]), "an entry has no such operation")
    operation = decode("Operation", entry["operations"][claim["operation"]])["record_access"]
    demand(operation, "an operation records no access")
    event = decode("AccessEvent", claim["event"])
    demand(len(claim["salt"]) == 32, "a salt is not 32 bytes")
    commitment = digest("commitment/access", chain.id, claim["salt"], claim["event"])
    demand(operation["commitment"] == commitment, "an access event is not what the ledger commits to")
    custodians = {entry["author"], operation["custodian"], event["custodian"], history["custodian"]}
    demand(len(custodians) == 1 and entry["chain_id"] == chain.id, "an access is another custodian's, or of another chain")
    demand(operation["handle"] == event["handle"] == history["handle"], "an access is another patient's")
    request = verify_request(chain, event, claim["recipient"], header)
    decided, recorded = (event["consent_seq"], event["policy_seq"]), sequences(operation)
    if event["late"]:
        demand(event["outcome"] == "PERMIT_OVERRIDE" and request["break_glass_reason"].strip(), "an access must not be late")
        demand(decided[0] <= recorded[0] and decided[1] <= recorded[1], "an access was decided under later consents")
    else:
        demand(decided == recorded, "an access was decided under other consents than it was recorded under")
    return event, request, header, digest("access-head", chain.id, head, number(n), commitment)


def sequences(operation):
    return operation["expected_consent_seq"], operation["expected_policy_seq"]


def verify_consents(chain, history, pack):
    """Every consent, and that together they are what the slot commits to."""
    ids = [packed["id"].encode() for packed in pack["consents"]]
    demand(all(a < b for a, b in zip(ids, ids[1:])), "consents are not in ascending order of id")
    leaves, bodies = [], []
    for packed in pack["consents"]:
        body = decode("ContactPreferences" if packed["id"] == CONTACT else "ConsentBody", packed["body"])
        demand((body["custodian"], body["handle"]) == (history["custodian"], history["handle"]), "a consent is another patient's")
        if packed["id"] != CONTACT:
            demand(body["id"] == packed["id"], "a consent has another id")
            demand(body["revision"] and body["state"] in STATES, "a consent has no revision or no state")
            bodies.append(body)
        demand(len(packed["salt"]) == 32, "a salt is not 32 bytes")
        commitment = digest("commitment/consent", chain.id, packed["salt"], packed["body"])
        leaves.append(sha256(b"\0", digest("consent-map", chain.id, packed["id"].encode(), commitment)))
    demand(len(pack["salt"]) == 32, "a salt is not 32 bytes")
    whole = digest("commitment/slot", chain.id, pack["salt"], number(len(leaves)), tree_root(leaves))
    demand(history["slot"]["commitment"] == whole, "the consents are not all that the slot commits to")
    return bodies


def verify_reasons(chain, event, opened):
    demand(len(opened["salt"]) == 32, "a salt is not 32 bytes")
    commitment = digest("commitment/reasons", chain.id, opened["salt"], opened["reasons"])
    demand(event["reasons"] == commitment, "the reasons of an access are not what it commits to")
    return decode("Reasons", opened["reasons"])["decided_by"]


def verify(file, genesis_hash):
    """What the pack in `file` shows, or DoesNotHold."""
    demand(len(file) <= MAX_BYTES, f"more than {MAX_BYTES} bytes")
    demand(file[:8] == MAGIC, "not a patient pack")
    pack = decode("PatientPack", file[8:])
    history = decode("AccessHistory", pack["history"])
    chain = Chain(history["anchor"], genesis_hash)
    header = chain.tip
    slot = history["slot"]
    demand(slot and len(history["handle"]) == 32, "no slot, or no handle")
    key = digest("state/slot", chain.id, history["custodian"].encode(), history["handle"])
    demand(state_root(history["state_proof"], key, slot["raw"]) == header["state_root"], "the slot is not in the state")
    demand(slot["access_seq"] == len(history["accesses"]), "not as many accesses as the slot counts")
    demand(len(pack["reasons"]) == len(history["accesses"]), "not as many reasons as accesses")
    head, accesses = b"", []
    for n, shown in enumerate(history["accesses"], 1):
        event, request, at, head = verify_access(chain, history, shown, n, head)
        accesses.append((event, request, at, verify_reasons(chain, event, pack["reasons"][n - 1])))
    demand((slot["access_head"] or b"") == head, "the accesses do not lead to the slot's access head")
    return chain, history, header, accesses, verify_consents(chain, history, pack)


def when(ms):
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ms / 1000))


def report(chain, history, header, accesses, consents):
    yield f"holds: {history['custodian']}, handle {history['handle'].hex()}, chain {chain.id}"
    yield f"as of height {header['height']}, {when(header['time_ms'])}" + (", withdrawn" if history["slot"]["frozen"] else "")
    yield f"from genesis, over {len(chain.sets) - 1} changes of validators"
    yield f"{len(consents)} consents, all that the slot commits to:"
    for body in consents:
        yield f"  {ascii(body['id'])} revision {body['revision']}, {STATES[body['state']]}"
    yield f"{len(accesses)} of {history['slot']['access_seq']} accesses:"
    for n, (_, request, at, reasons) in enumerate(accesses, 1):
        said = [request[name] for name in ("purpose", "recipient", "actor")] + reasons
        yield f"  {n} {when(at['time_ms'])} " + " ".join(map(ascii, said))
    yield "checked: genesis hash, chain of validators, certificates, members' keys, state proof, inclusion proofs, access heads, commitments, requests' signatures"
    yield "not checked: what a consent means (FHIR), whether there are newer blocks, what happened outside the ledger"


def main():
    parser = argparse.ArgumentParser(description="Verifies a patient pack offline.")
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--genesis-hash", required=True, type=bytes.fromhex, help="64 hex digits")
    arguments = parser.parse_args()
    if len(arguments.genesis_hash) != 32:
        parser.error("the genesis hash is not 32 bytes")
    try:
        file = arguments.file.read_bytes()
    except OSError as error:
        parser.error(str(error))
    try:
        print(*report(*verify(file, arguments.genesis_hash)), sep="\n")
    except DoesNotHold as error:
        print(f"does not hold: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
