"""Published logs, as aics-tlog reads them: a pure Python reader of C2SP notes, checkpoints, tiles and cosignatures that knows nothing of
Assent. Every node's log, the note that `assent checkpoint` collects, and cosignatures in both directions."""

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest
import urllib.request

import aics_tlog as c2sp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

FOLDER = pathlib.Path(os.environ["STRANGERS"])
NODES = json.loads((FOLDER / "network.json").read_text())["nodes"]
HEADER = 2  # first byte of the leaf data of a block's header
WITNESS = "witness.example/python"


def run(*arguments):
    """Exit status and output of the program."""
    done = subprocess.run(["assent", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def key_of(organization):
    """The key on an organization's card, under the name that its node signs with."""
    card = json.loads((FOLDER / organization / "card.json").read_text())
    return c2sp.vkey_from_ed25519(f"{card['id']}.{card['chain_id']}", bytes.fromhex(card["checkpoint_key"]))


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


class Log:
    """What a node publishes, each piece verified as it is read."""

    def __init__(self, node):
        self.url, self.key = node["tlog"], key_of(node["organization"])
        self.origin = f"assent/{self.key.name.partition('.')[2]}"
        self.reader = c2sp.HttpTileReader(self.url, proxies={})
        self.note = c2sp.parse_note(self.reader.read_checkpoint())
        self.newest = self.checkpoint(self.note)
        self.tiles = c2sp.VerifiedTileReader(self.reader, self.newest.size, self.newest.root)

    def checkpoint(self, note):
        said = c2sp.verify_checkpoint(note, self.key, expected_origin=self.origin)
        if not said.ok:
            raise ValueError(said.error)
        return c2sp.parse_checkpoint(note.text)

    def at(self, size):
        """The checkpoint of an older block's end."""
        with urllib.request.urlopen(f"{self.url}/checkpoint/{size}", timeout=30) as answer:
            return self.checkpoint(c2sp.parse_note(answer.read()))

    def leaves(self):
        return [self.tiles.entry(n) for n in range(self.newest.size)]


class Published(unittest.TestCase):
    def logs(self):
        self.assertEqual(len(NODES), 4)
        return [Log(node) for node in NODES]

    def test_every_leaf_is_included(self):
        for log in self.logs():
            size, root = log.newest.size, log.newest.root
            c2sp.audit_tiles(log.reader, size, root)
            for n, leaf in enumerate(log.leaves()):
                proof = c2sp.inclusion_proof_from_tiles(log.tiles, n, size)
                self.assertTrue(c2sp.verify_leaf_inclusion(leaf, n, size, proof, root))
                self.assertFalse(c2sp.verify_leaf_inclusion(flipped(leaf), n, size, proof, root))
                self.assertFalse(c2sp.verify_leaf_inclusion(leaf, n, size, proof[:-1], root))

    def test_it_grew_from_every_older_block(self):
        for log in self.logs():
            size, root = log.newest.size, log.newest.root
            ends = [n + 1 for n, leaf in enumerate(log.leaves()) if leaf[0] == HEADER]
            self.assertGreater(len(ends), 5)
            for older in map(log.at, ends):
                proof = c2sp.consistency_proof_from_tiles(log.tiles, older.size, size)
                self.assertTrue(c2sp.verify_consistency(older.size, size, older.root, root, proof))
                self.assertFalse(c2sp.verify_consistency(older.size, size, flipped(older.root), root, proof))

    def test_another_key_or_text_is_refused(self):
        for log in self.logs():
            other = Ed25519PrivateKey.generate().public_key()
            for key in (c2sp.vkey_from_ed25519(log.key.name, other), c2sp.vkey_from_ed25519("elsewhere", log.key.public_key)):
                self.assertFalse(c2sp.verify_checkpoint(log.note, key).ok)
            for n, character in enumerate(log.note.text[:-1]):
                if character == "\n":
                    continue
                lie = log.note.text[:n] + chr(ord(character) ^ 1) + log.note.text[n + 1 :]
                said = c2sp.verify_checkpoint(dataclasses.replace(log.note, text=lie), log.key)
                self.assertFalse(said.ok, f"character {n}")
            line = dataclasses.replace(log.note.signatures[0], signature=flipped(log.note.signatures[0].signature))
            self.assertFalse(c2sp.verify_note(dataclasses.replace(log.note, signatures=(line,)), [log.key]))

    def test_a_changed_tile_is_refused(self):
        log = Log(NODES[0])
        size, root = log.newest.size, log.newest.root

        class Liar:
            def read_tile(self, level, index, width):
                data = log.reader.read_tile(level, index, width)
                return data and flipped(data)

            def read_entry_bundle(self, index, width):
                return log.reader.read_entry_bundle(index, width)

        with self.assertRaises(c2sp.TileVerificationError):
            c2sp.audit_tiles(Liar(), size, root)


class Collected(unittest.TestCase):
    """The note that the program collects from all nodes, and what the program makes of cosignatures."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.note_file, cls.export = cls.folder / "note", cls.folder / "cedar.export"
        cls.keys = [key_of(node["organization"]) for node in NODES]
        status, said = cls.collect(cls.note_file)
        assert status == 0, said
        profile = FOLDER / "cedar/clients/auditor-revision/profile.toml"
        status, said = run("audit", "export", "--out", cls.export, "--profile", profile)
        assert status == 0, said
        cls.note = c2sp.parse_note(cls.note_file.read_bytes())
        cls.checkpoint = c2sp.parse_checkpoint(cls.note.text)

    @classmethod
    def collect(cls, out, *more):
        urls = [node["tlog"] for node in NODES]
        return run("checkpoint", *urls, "--genesis", FOLDER / "genesis.bin", "--out", out, *more)

    def audit(self, note, key):
        """Exit status of an audit of the export that must reach a note's checkpoint, where this key alone counts."""
        file = self.folder / "judged"
        file.write_bytes(note.to_bytes())
        genesis = json.loads((FOLDER / "network.json").read_text())["genesis_hash"]
        keys = ["--checkpoint-key", c2sp.format_vkey(key)]
        return run("audit", "verify", self.export, "--genesis-hash", genesis, "--expect-checkpoint", file, *keys)[0]

    def test_each_of_its_signatures_counts(self):
        self.assertEqual(len(self.note.signatures), 4)
        for key in self.keys:
            self.assertTrue(c2sp.verify_checkpoint(self.note, key).ok)
            self.assertEqual(self.audit(self.note, key), 0)
        self.assertTrue(c2sp.verify_note(self.note, self.keys))

    def test_a_cosignature_of_the_program_counts_here(self):
        pem, out = self.folder / "witness.pem", self.folder / "cosigned"
        self.assertEqual(run("keys", "generate", "--out", pem)[0], 0)
        before = int(time.time())
        status, said = self.collect(out, "--cosign", pem, "--name", WITNESS, "--state", self.folder / "state")
        self.assertEqual(status, 0, said)
        note = c2sp.parse_note(out.read_bytes())
        public = load_pem_private_key(pem.read_bytes(), None).public_key()
        witness = c2sp.cosignature_vkey(WITNESS, public)
        said = c2sp.verify_checkpoint(note, self.keys[0], [witness], 1, max_age_seconds=120)
        self.assertEqual((said.ok, said.witnesses), (True, [WITNESS]), said.error)
        self.assertGreaterEqual(said.timestamps[WITNESS], before)
        stranger = c2sp.cosignature_vkey(WITNESS, Ed25519PrivateKey.generate().public_key())
        self.assertFalse(c2sp.verify_checkpoint(note, self.keys[0], [stranger], 1).ok)

    def cosigned(self, private, **changes):
        """The collected note with a cosignature made here, over the checkpoint or over another."""
        of = dataclasses.replace(self.checkpoint, **changes)
        _, line = c2sp.sign_cosignature(private, WITNESS, int(time.time()), of.origin, of.size, of.root)
        return dataclasses.replace(self.note, signatures=(*self.note.signatures, line))

    def test_a_cosignature_made_here_counts_for_the_program(self):
        private = Ed25519PrivateKey.generate()
        witness = c2sp.cosignature_vkey(WITNESS, private.public_key())
        good = self.cosigned(private)
        self.assertEqual(self.audit(good, witness), 0)
        # A known key that signed something else: 3. One that did not sign, or the same key as a log's own: 4.
        for changes in ({"size": self.checkpoint.size - 1}, {"root": flipped(self.checkpoint.root)}, {"origin": "assent/other"}):
            self.assertEqual(self.audit(self.cosigned(private, **changes), witness), 3, changes)
        damaged = dataclasses.replace(good.signatures[-1], signature=flipped(good.signatures[-1].signature))
        self.assertEqual(self.audit(dataclasses.replace(good, signatures=(damaged,)), witness), 3)
        self.assertEqual(self.audit(self.note, witness), 4)
        self.assertEqual(self.audit(good, c2sp.vkey_from_ed25519(WITNESS, private.public_key())), 4)


if __name__ == "__main__":
    unittest.main()
