"""Patient packs under two verifiers: verify_pack.py, which shares nothing with Assent, and `assent verify`. They must agree on the kept
pack, on one that a running network made (where STRANGERS names one), and on hundreds of changes of both."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import verify_pack

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE.parents[2] / "ledger/tests/fixtures/pack"


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def parts(data):
    """The fields of a message, each as (tag, its bytes with head, its content)."""
    found, at = [], 0
    while at < len(data):
        start = at
        key, at = verify_pack.varint(data, at)
        value, at = verify_pack.varint(data, at)
        content = None
        if key & 7 == 2:
            content, at = data[at : at + value], at + value
        found.append((key >> 3, data[start:at], content))
    return found


def field(tag, content):
    return varint(tag << 3 | 2) + varint(len(content)) + content


def joined(fields):
    return b"".join(raw for _, raw, _ in fields)


def listed(data, rebuilt):
    """Each way to leave out, repeat or swap one of a message's parts."""
    fields = parts(data)
    for n in range(len(fields)):
        yield rebuilt(joined(fields[:n] + fields[n + 1 :]))
        yield rebuilt(joined(fields[: n + 1] + fields[n:]))
        if n and fields[n - 1][1] != fields[n][1]:
            yield rebuilt(joined(fields[: n - 1] + [fields[n], fields[n - 1]] + fields[n + 1 :]))


def mutations(good, seed):
    """Changes of a pack, with what each is."""
    chance, magic, body = random.Random(seed), good[:8], good[8:]
    for n in range(200):
        at = chance.randrange(len(good))
        yield f"flip {at}", good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :]
    for n in range(40):
        at = chance.randrange(len(good))
        yield f"cut at {at}", good[:at]
        yield f"byte {at} left out", good[:at] + good[at + 1 :]
        yield f"byte put in at {at}", good[:at] + bytes([chance.randrange(256)]) + good[at:]
    yield "twice", good + good
    yield "surplus", good + b"\0"
    for n, changed in enumerate(listed(body, lambda fields: magic + fields)):
        yield f"part of the pack {n}", changed
    history = next(content for tag, _, content in parts(body) if tag == 1)
    rest = joined(parts(body)[1:])
    for n, changed in enumerate(listed(history, lambda fields: magic + field(1, fields) + rest)):
        yield f"part of the history {n}", changed
    # The last access left out with its reasons: what a custodian would like to forget.
    fields = parts(history)
    receipts = [n for n, (tag, _, _) in enumerate(fields) if tag == 10]
    if receipts:
        shorter = joined(fields[: receipts[-1]] + fields[receipts[-1] + 1 :])
        yield "the last access", magic + field(1, shorter) + joined(parts(rest)[:-1])


class Trust:
    """What both verifiers are told: a genesis hash, or a checkpoint with a key; and plans of recoveries."""

    def __init__(self, genesis_hash=None, note=None, key=None, plans=()):
        self.accepted = [bytes.fromhex(plan) for plan in plans]
        self.flags = [flag for plan in plans for flag in ("--accept-recovery", plan)]
        if note:
            self.trusted = verify_pack.Checkpoint(note.read_bytes(), [verify_pack.verifier_key(key)])
            self.flags += ["--checkpoint", note, "--checkpoint-key", key]
        else:
            self.trusted = bytes.fromhex(genesis_hash)
            self.flags += ["--genesis-hash", genesis_hash]


class Packs(unittest.TestCase):
    def agree(self, file, trust, exit_, what):
        said, code = None, 0
        try:
            verify_pack.verify(file, trust.trusted, trust.accepted)
        except verify_pack.DoesNotHold as error:
            said, code = str(error), 3
        except verify_pack.NotDecided as error:
            said, code = str(error), 4
        self.assertEqual(code, exit_, f"{what}: verify_pack says {said}")
        with tempfile.NamedTemporaryFile() as kept:
            kept.write(file)
            kept.flush()
            ours = subprocess.run(["assent", "verify", kept.name, *trust.flags], capture_output=True)
        self.assertEqual(ours.returncode, exit_, f"{what}: {ours.stderr.decode()}, verify_pack says {said}")

    def refuse(self, file, trust, what):
        """A changed pack: what is wrong with it each may see first elsewhere, and so may not be able to decide."""
        with self.assertRaises((verify_pack.DoesNotHold, verify_pack.NotDecided), msg=what):
            verify_pack.verify(file, trust.trusted, trust.accepted)
        with tempfile.NamedTemporaryFile() as kept:
            kept.write(file)
            kept.flush()
            ours = subprocess.run(["assent", "verify", kept.name, *trust.flags], capture_output=True)
        self.assertIn(ours.returncode, (3, 4), f"{what}: {ours.stderr.decode()}")

    def judge(self, good, trust, seed):
        self.agree(good, trust, 0, "good")
        count = 0
        for what, changed in mutations(good, seed):
            if changed != good:
                count += 1
                self.refuse(changed, trust, what)
        self.assertGreater(count, 300)
        print(f"{count} changed packs refused by both", file=sys.stderr)

    def test_the_kept_pack(self):
        good = (KEPT / "good.pack").read_bytes()
        self.judge(good, Trust((KEPT / "genesis-hash.txt").read_text().strip()), 1)
        self.agree(good, Trust("00" * 32), 3, "another chain")

    def test_the_kept_pack_across_changes(self):
        file, hash_ = (KEPT / "changed.pack").read_bytes(), (KEPT / "changed-genesis-hash.txt").read_text().strip()
        self.judge(file, Trust(hash_), 3)
        chain, *_ = verify_pack.verify(file, bytes.fromhex(hash_))
        self.assertEqual(len(chain.sets), 3)

    def test_the_kept_packs_around_a_recovery(self):
        kept = json.loads((KEPT / "recovered.json").read_text())
        hash_, plan, key = kept["genesis_hash"], kept["plan"], kept["checkpoint_key"]
        before, after = (KEPT / f"recovered-{when}.note" for when in ("before", "after"))
        files = [(KEPT / f"recovered{when}.pack").read_bytes() for when in ("", "-before", "-after")]
        word, wrong = [plan], ["00" * 32, hash_]
        trusts = [Trust(hash_, plans=word), Trust(note=before, key=key, plans=word), Trust(note=after, key=key)]
        for seed, (file, trust) in enumerate(zip(files, trusts), 4):
            self.judge(file, trust, seed)
        # Each needs its own start, and the word for a recovery that lies behind it; a surplus word is no harm.
        for plans in ([], wrong):
            self.agree(files[0], Trust(hash_, plans=plans), 4, "genesis, no word")
            self.agree(files[1], Trust(note=before, key=key, plans=plans), 4, "checkpoint before, no word")
        self.agree(files[0], Trust(hash_, plans=wrong + word), 0, "more words")
        self.agree(files[2], Trust(note=after, key=key, plans=word), 0, "a word that nothing needs")
        for n, file in enumerate(files):
            for m, trust in enumerate(trusts):
                if m != n:
                    self.agree(file, trust, 4, f"pack {n} under trust {m}")
        chain, *_ = verify_pack.verify(files[1], trusts[1].trusted, trusts[1].accepted)
        self.assertEqual((chain.recoveries, len(chain.sets)), ([plan], 3))

    def test_a_published_state_proof(self):
        proof, key = (HERE.parents[2] / "cli/examples/state.proof").read_bytes(), b"\3" * 32
        root = "7faaf1c672c69f9c33b8d4e794dd992ff0fb48242dfc4ac02705d633cab4e217"  # as cli/README.md has it
        self.assertEqual(verify_pack.state_root(proof, key, b"value 3").hex(), root)
        for wrong in (proof[:-1], proof + b"\0", b"\0" + proof[1:], b""):
            self.assertRaises(verify_pack.DoesNotHold, verify_pack.state_root, wrong, key, b"value 3")
        self.assertRaises(verify_pack.DoesNotHold, verify_pack.state_root, proof, key, b"value 4")

    def test_its_program(self):
        program, hash_ = HERE / "verify_pack.py", (KEPT / "genesis-hash.txt").read_text().strip()

        def run(*arguments):
            return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)

        good = run(KEPT / "good.pack", "--genesis-hash", hash_)
        self.assertEqual(good.returncode, 0, good.stderr)
        for said in ("3 of 3 accesses", "over 0 changes of validators", "2 consents, all that the slot commits to", "'c2' revision 3, revoked", "not checked:"):
            self.assertIn(said, good.stdout)
        kept = json.loads((KEPT / "recovered.json").read_text())
        pinned = [KEPT / "recovered-before.pack", "--checkpoint", KEPT / "recovered-before.note"]
        known = [*pinned, "--checkpoint-key", kept["checkpoint_key"]]
        good = run(*known, "--accept-recovery", kept["plan"])
        self.assertEqual(good.returncode, 0, good.stderr)
        for said in ("from the checkpoint of 4 leaves, over 2 changes of validators", f"you accepted its plan {kept['plan']}"):
            self.assertIn(said, good.stdout)
        for undecided, why in ((pinned, "no key that you named"), (known, f"say --accept-recovery {kept['plan']}")):
            found = run(*undecided)
            self.assertEqual((found.returncode, found.stdout), (4, ""))
            self.assertIn(why, found.stderr)
        other = run(KEPT / "good.pack", "--genesis-hash", "00" * 32)
        self.assertEqual((other.returncode, other.stdout), (3, ""))
        self.assertIn("the genesis hash is another one", other.stderr)
        for wrong in (
            [KEPT / "good.pack"],
            [KEPT / "good.pack", "--genesis-hash", "00"],
            [KEPT / "good.pack", "--genesis-hash", "x"],
            [KEPT / "no.pack", "--genesis-hash", hash_],
            [KEPT / "good.pack", "--genesis-hash", hash_, "--accept-recovery", "00"],
            [KEPT / "good.pack", "--genesis-hash", hash_, "--checkpoint", KEPT / "recovered-after.note"],
            [KEPT / "good.pack", "--checkpoint", KEPT / "no.note"],
            [KEPT / "good.pack", "--checkpoint", KEPT / "good.pack"],
            [KEPT / "good.pack", "--checkpoint", KEPT / "recovered-after.note", "--checkpoint-key", "x"],
        ):
            self.assertEqual(run(*wrong).returncode, 2, wrong)

    @unittest.skipUnless("STRANGERS" in os.environ, "needs the network of network.sh")
    def test_a_pack_of_the_network(self):
        import crm_day
        from network import FOLDER, channel, query

        with channel("birch", "birch/crm-python") as to_birch:
            crm_day.Crm(to_birch).request(query("2"), "python-pack")
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "bea.pack"
            who = ["--custodian", "cedar", "--identifier", "urn:example:mrn|2", "--birth-date", "1980-02-03"]
            profile = FOLDER / "cedar/clients/portal-patients/profile.toml"
            subprocess.run(["assent", "patient", "pack", *who, "--out", out, "--profile", profile], check=True, capture_output=True)
            good = out.read_bytes()
        genesis_hash = next(
            line.split('"')[1] for line in profile.read_text().splitlines() if line.startswith("genesis_hash")
        )
        _, history, _, accesses, consents = verify_pack.verify(good, bytes.fromhex(genesis_hash))
        self.assertEqual(history["custodian"], "cedar")
        self.assertEqual({request["identifier_value"] for _, request, _, _ in accesses}, {"2"})
        self.assertIn("Dr. Grey", {request["actor"] for _, request, _, _ in accesses})
        self.assertEqual(len(consents), 1)
        self.judge(good, Trust(genesis_hash), 2)


if __name__ == "__main__":
    unittest.main()
