"""Verifies a patient pack and asks nobody: the standard library and `cryptography`, nothing of Assent's.

    verify_pack.py FILE --genesis-hash HASH [--accept-recovery HASH]...
    verify_pack.py FILE --checkpoint NOTE --checkpoint-key VKEY... [--accept-recovery HASH]...

Exit 0: it holds; 3: it does not; 4: it can't be decided, for it starts elsewhere, stands on a recovery that was not accepted, or no known
key signed the checkpoint; 2: wrong arguments. Written from the .proto files, RFC 6962 and the form of jmt's proofs, to
disagree with the program `assent` if either is wrong. Signatures are checked as OpenSSL does, which is stricter than ZIP-215: an
honest signature holds under both, and a crafted one that only ZIP-215 takes is refused here.
"""

import argparse
import base64
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


class NotDecided(Exception):
    """What the reader has to say first."""


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
    "HistoryAccess": {1: "header bytes", 2: "certificate Certificate", 3: "access AccessClaim", 4: "in_checkpoint InCheckpoint"},
    "Anchor": {1: "header bytes", 2: "genesis GenesisStart", 3: "checkpoint CheckpointStart"},
    "GenesisStart": {1: "genesis bytes", 2: "changes *SetChange", 3: "certificate Certificate"},
    "CheckpointStart": {
        1: "size uint64", 2: "path *bytes", 3: "validators ValidatorSet", 4: "from bytes", 5: "changes *SetChange",
        6: "certificate Certificate",
    },
    "InCheckpoint": {1: "path *bytes", 2: "validators ValidatorSet"},
    "SetChange": {1: "header bytes", 2: "certificate Certificate", 3: "next ValidatorSet", 4: "recovery Recover"},
    "Recover": {1: "height uint64", 2: "header_hash bytes", 3: "validators bytes", 4: "signatures *bytes", 5: "reason string"},
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


class Checkpoint:
    """A log that somebody pinned: a signed note (C2SP signed-note, tlog-checkpoint), and where a header stands in it."""

    def __init__(self, note, keys):
        text, _, signatures = note.decode().rpartition("\n\n")
        lines = text.split("\n")
        if len(lines) < 3 or not signatures.endswith("\n") or not lines[1].isdigit():
            raise ValueError("not a signed checkpoint")
        self.origin, self.size, self.root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
        found = [line.split(" ") for line in signatures[:-1].split("\n")]
        if any(len(line) != 3 or line[0] != "\u2014" for line in found) or len(self.root) != 32 or not self.size:
            raise ValueError("not a signed checkpoint")
        good = []
        for name, id_, key in keys:
            for _, _, encoded in (line for line in found if line[1] == name):
                signature = base64.b64decode(encoded, validate=True)
                if signature[:4] == id_:
                    demand(self.signed(key, signature[4:], text + "\n"), "a signature of the checkpoint does not verify")
                    good.append(name)
        if not good:
            raise NotDecided("no key that you named has signed the checkpoint")

    @staticmethod
    def signed(key, signature, text):
        """By a log's own key, or by a witness's, which signs its time as well."""
        if key[0] == 4:
            demand(len(signature) == 72, "a cosignature has the wrong length")
            text = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n{text}"
            signature = signature[8:]
        return signed_by(key[1:], signature, text.encode())

    def header(self, data, path):
        """A header that stands in the log: it is the last leaf of its block, after the leaves that it counts itself."""
        header = decode("Header", data)
        demand(header["protocol_version"] == 1 and header["height"] > 0, "a header is of another version, or of height 0")
        demand(self.origin == "assent/" + header["chain_id"], "the checkpoint is of another log")
        demand(all(len(node) == 32 for node in path), "a path has a hash of the wrong length")
        root = included(sha256(b"\0\2", data), header["log_size"], self.size, path)
        demand(root == self.root, "a header is not in the log of the checkpoint")
        return header


def verifier_key(text):
    """`name+id+base64` of a kind and a key."""
    name, id_, encoded = text.split("+", 2)
    key = base64.b64decode(encoded, validate=True)
    if len(key) != 33 or key[0] not in (1, 4) or sha256(name.encode() + b"\n" + key)[:4].hex() != id_:
        raise ValueError("not a verifier key")
    return name, bytes.fromhex(id_), key


class Chain:
    """What the reader's word vouches for, a genesis hash or a checkpoint: the validators of each height, and the members' keys."""

    def __init__(self, anchor, trusted, accepted):
        demand(anchor and bool(anchor["genesis"]) != bool(anchor["checkpoint"]), "no anchor, or two")
        self.checkpoint = trusted if isinstance(trusted, Checkpoint) else None
        self.accepted, self.recoveries = accepted, []
        if bool(self.checkpoint) != bool(anchor["checkpoint"]):
            raise NotDecided("the pack starts elsewhere than at what is given")
        if self.checkpoint:
            self.from_checkpoint(anchor, anchor["checkpoint"])
        else:
            self.from_genesis(anchor, anchor["genesis"], trusted)
        demand(self.tip["height"] >= self.sets[-1].start, "the header is older than the validators that are shown for it")

    def from_genesis(self, anchor, start, expected):
        genesis = decode("Genesis", start["genesis"])
        self.id = genesis["chain_id"]
        demand(len(self.id.encode()) <= 32, "the chain id is too long")
        demand(digest("genesis", self.id, start["genesis"]) == expected, "the genesis hash is another one")
        demand(genesis["protocol_version"] == 1, "this program knows protocol version 1")
        self.sets = [Validators(self.id, genesis["validators"], 1, 0)]
        self.follow(start["changes"], 1, expected)
        self.tip = self.certified(anchor["header"], start["certificate"])

    def from_checkpoint(self, anchor, start):
        """A header in the log, whose validators it names; from there on as from genesis."""
        if start["size"] != self.checkpoint.size:
            raise NotDecided("the pack starts at another checkpoint")
        first = self.checkpoint.header(start["from"] or anchor["header"], start["path"])
        self.id = first["chain_id"]
        self.sets = [Validators(self.id, start["validators"], first["height"], 0)]
        demand(first["validator_set_hash"] == self.sets[0].hash, "other validators are shown than voted on the header in the log")
        if not start["from"]:
            demand(not start["changes"] and not start["certificate"], "more is shown than the header in the log needs")
            self.tip = first
            return
        changes = start["changes"]
        if not changes or changes[0]["header"] != start["from"]:
            same = first["next_validator_set_hash"] == first["validator_set_hash"]
            demand(same, "the header in the log names other validators, which are not shown")
            self.follow(changes, first["height"] + 1, digest("header", self.id, start["from"]))
        else:
            self.follow(changes, first["height"], first["previous_header_hash"])
        self.tip = self.certified(anchor["header"], start["certificate"])

    def follow(self, changes, height, previous):
        """The links from a height on, after a header with the hash `previous`."""
        demand(len(changes) <= 4096, "more than 4096 changes of validators")
        for change in changes:
            current = self.sets[-1]
            header = current.certify(self.id, change["header"], change["certificate"])
            demand(header["height"] >= height, "changes of validators are out of order")
            if header["height"] == height:
                demand(header["previous_header_hash"] == previous, "a header follows another one than was shown before it")
            height, previous = header["height"] + 1, digest("header", self.id, change["header"])
            following = current
            if header["next_validator_set_hash"] != current.hash:
                following = Validators(self.id, change["next"], height, header["time_ms"])
                demand(header["next_validator_set_hash"] == following.hash, "a header names other validators than those that follow")
            else:
                demand(change["next"] is None and change["recovery"], "a change of validators changes nothing")
            if change["recovery"]:
                following = self.recover(change["recovery"], header, previous, following)
            self.sets.append(following)

    def recover(self, plan, header, hashed, before):
        """The validators that remain, which nobody before certified: the reader accepts the plan, or nothing behind it counts."""
        demand(not plan["signatures"], "the plan of a recovery has signatures")
        demand((plan["height"], plan["header_hash"]) == (header["height"], hashed), "a recovery follows another block")
        reason = plan["reason"]
        demand(0 < len(reason) <= 200 and reason.isprintable(), "a recovery has no reason of one line")
        after = Validators(self.id, decode("ValidatorSet", plan["validators"]), header["height"] + 1, header["time_ms"])
        fewer = after.power.items() < before.power.items() and after.members_root == before.members_root
        demand(fewer, "a recovery does not only leave out validators")
        hash_ = digest("recovery", self.id, number(plan["height"]), plan["header_hash"], plan["validators"], reason.encode())
        if hash_ not in self.accepted:
            raise NotDecided(f"it stands on a recovery: say --accept-recovery {hash_.hex()} if its operators published it")
        self.recoveries.append(hash_.hex())
        return after

    def place(self, height):
        """Which set votes at a height."""
        return max((n for n, found in enumerate(self.sets) if found.start <= height), default=0)

    def certified(self, data, certificate):
        height = decode("Header", data)["height"]
        demand(not self.checkpoint or height > self.sets[0].start, "a header of the checkpoint's log is not shown in it")
        return self.sets[self.place(height)].certify(self.id, data, certificate)

    def header(self, data, certificate, shown):
        """The header of an access, and the root of the keys that it shows itself; none where the sets do."""
        if shown is None:
            return self.certified(data, certificate), None
        demand(self.checkpoint and not certificate, "a header is shown in a checkpoint, and need not be")
        header, first = self.checkpoint.header(data, shown["path"]), self.sets[0]
        demand(header["height"] <= first.start, "a header is shown in the checkpoint that needs a certificate")
        own = first
        if shown["validators"]:
            own = Validators(self.id, shown["validators"], 0, 0)
            demand(own.hash != first.hash, "a validator set is shown again")
        demand(header["validator_set_hash"] == own.hash, "other validators voted than those that are shown")
        return header, own.members_root

    def key(self, id_, proof, event, header, root):
        """A recipient's entry key that counted when the event was decided; or, in a checkpoint's log, when it was recorded."""
        demand(event["height"] < header["height"], "an access was decided after a block that is not before its own")
        demand(root or event["height"] + 1 >= self.sets[0].start, "keys count that are older than the sets which are shown")
        place = self.place(event["height"] + 1)
        if not root and not event["late"] and place + 1 < len(self.sets) and self.sets[place + 1].start <= header["height"]:
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
        demand(node == (root or self.sets[place].members_root), "keys are shown that did not count when the access was decided")
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


def verify_request(chain, event, proof, header, root):
    """The request of an access, signed by the organization that asked."""
    signed = decode("Signed", event["request"])
    request = decode("DataRequest", signed["body"])
    demand(request["chain_id"] == chain.id, "a request is for another chain")
    demand(request["custodian"] == event["custodian"], "a request is for another custodian")
    demand(request["recipient"] == signed["organization"], "a request is signed by another organization")
    key = chain.key(request["recipient"], proof, event, header, root)
    message = framed("request", chain.id, signed["organization"].encode(), signed["body"])
    demand(signed_by(key, signed["signature"], message), "a recipient's signature does not verify")
    return request


def verify_access(chain, history, shown, n, head):
    """Access number n: event, commitment, entry, log, header, certificate; and the head of the chain after it."""
    claim = shown["access"]
    demand(claim, "an access is missing")
    header, root = chain.header(shown["header"], shown["certificate"], shown["in_checkpoint"])
    inclusion = claim["inclusion"]
    demand(inclusion and inclusion["size"] == header["log_size"], "no inclusion proof for the header's log")
    demand(all(len(node) == 32 for node in inclusion["path"]), "an inclusion proof has a hash of the wrong length")
    leaf = sha256(b"\0\1", claim["entry"])
    found = included(leaf, inclusion["index"], inclusion["size"], inclusion["path"])
    demand(found == header["log_root"], "an entry is not in the log")
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
    request = verify_request(chain, event, claim["recipient"], header, root)
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


def verify(file, trusted, accepted=()):
    """What the pack in `file` shows, or DoesNotHold or NotDecided. `trusted` is a genesis hash or a Checkpoint."""
    demand(len(file) <= MAX_BYTES, f"more than {MAX_BYTES} bytes")
    demand(file[:8] == MAGIC, "not a patient pack")
    pack = decode("PatientPack", file[8:])
    history = decode("AccessHistory", pack["history"])
    chain = Chain(history["anchor"], trusted, accepted)
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
    pinned = f"the checkpoint of {chain.checkpoint.size} leaves" if chain.checkpoint else "genesis"
    yield f"from {pinned}, over {len(chain.sets) - 1} changes of validators"
    for plan in chain.recoveries:
        yield f"over a recovery of a lost quorum that the set before did not certify; you accepted its plan {plan}"
    yield f"{len(consents)} consents, all that the slot commits to:"
    for body in consents:
        yield f"  {ascii(body['id'])} revision {body['revision']}, {STATES[body['state']]}"
    yield f"{len(accesses)} of {history['slot']['access_seq']} accesses:"
    for n, (_, request, at, reasons) in enumerate(accesses, 1):
        said = [request[name] for name in ("purpose", "recipient", "actor")] + reasons
        yield f"  {n} {when(at['time_ms'])} " + " ".join(map(ascii, said))
    yield f"checked: {'checkpoint' if chain.checkpoint else 'genesis hash'}, chain of validators, certificates, members' keys, state proof, inclusion proofs, access heads, commitments, requests' signatures"
    yield "not checked: what a consent means (FHIR), whether there are newer blocks, what happened outside the ledger"


def main():
    parser = argparse.ArgumentParser(description="Verifies a patient pack offline.")
    parser.add_argument("file", type=pathlib.Path)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--genesis-hash", type=hash_of, help="64 hex digits")
    start.add_argument("--checkpoint", type=pathlib.Path, help="signed C2SP note that the pack starts at")
    parser.add_argument("--checkpoint-key", type=verifier_key, action="append", default=[], help="name+id+base64, as often as needed")
    parser.add_argument("--accept-recovery", type=hash_of, action="append", default=[], help="hash of a plan, as often as needed")
    arguments = parser.parse_args()
    try:
        file = arguments.file.read_bytes()
        note = arguments.checkpoint and arguments.checkpoint.read_bytes()
    except OSError as error:
        parser.error(str(error))
    try:
        trusted = Checkpoint(note, arguments.checkpoint_key) if note is not None else arguments.genesis_hash
    except (ValueError, DoesNotHold, NotDecided) as error:
        if isinstance(error, ValueError):
            parser.error(f"{arguments.checkpoint}: {error}")
        return refused(error)
    try:
        print(*report(*verify(file, trusted, arguments.accept_recovery)), sep="\n")
    except (DoesNotHold, NotDecided) as error:
        return refused(error)
    return 0


def hash_of(text):
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError("not 32 bytes")
    return value


def refused(error):
    undecided = isinstance(error, NotDecided)
    print(f"{'not decided' if undecided else 'does not hold'}: {error}", file=sys.stderr)
    return 4 if undecided else 3


if __name__ == "__main__":
    sys.exit(main())
