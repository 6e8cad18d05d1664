"""What the operator's guide and the privacy page list is what a running node has: settings, metrics, fields of the ledger; and what
the privacy page says is never in ledger and logs, is not there."""

import json
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest
import urllib.parse
import urllib.request

from network import FOLDER, NODES

from assent.ledger.v1 import governance_pb2, ledger_pb2, membership_pb2

DOCS = pathlib.Path("node/docs")
# Of what these files define, these are in receipts, exports and on the wire, or only hashed: not on the ledger.
NOT_ON_THE_LEDGER = {"Vote", "InclusionProof", "PrunedBlock", "SetChange", "EvidenceFile"}
# Whom network.sh registered, and who asked for whom and why in the checks before this one.
NEVER = [b"urn:example:mrn", b"1980-02-03", b"Patient/", b"Dr. Grey", b"TREAT", b"HMARKT", b"Observation", b"spiffe://", b"/crm/"]


def rows(page):
    """Cells of a page's table rows."""
    lines = (DOCS / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]


def names(cell):
    return re.findall(r"`([A-Za-z0-9_.]+)`", cell)


class Operations(unittest.TestCase):
    def test_every_metric_of_ours_is_listed_and_no_other(self):
        table = [cells for cells in rows("operations.md") if len(cells) == 3 and cells[1] in ("gauge", "counter")]
        listed = [cells[0].strip("`") for cells in table]
        with urllib.request.urlopen(NODES["cedar"]["admin"] + "/metrics", timeout=10) as answer:
            text = answer.read().decode()
        served = set(re.findall(r"^([a-z][a-z0-9_]*)", text, re.MULTILINE))
        self.assertEqual(sorted(listed), sorted(name for name in served if name.startswith("assent_")))
        page = (DOCS / "operations.md").read_text()
        watched = set(re.findall(r"`((?:assent|malachitebft)_[a-z_]+[a-z])`", page))
        self.assertGreater(len(watched), len(listed))
        self.assertEqual(watched - served, set())

    def test_every_setting_is_listed_and_no_other(self):
        config = tomllib.loads((FOLDER / "cedar/assentd.toml").read_text())
        settings = {key for key, value in config.items() if not isinstance(value, dict)}
        settings |= {f"{key}.{name}" for key, value in config.items() if isinstance(value, dict) for name in value}
        text = (DOCS / "operations.md").read_text()
        section = text[text.index("## Configuration") : text.index("## Ports")]
        lines = [line for line in section.splitlines() if line.startswith("| `")]
        listed = {name for line in lines for name in names(line.split(" | ")[0])}
        self.assertEqual(settings, listed)


class Privacy(unittest.TestCase):
    def test_every_field_on_the_ledger_is_listed_and_no_other(self):
        listed = {}
        for cells in rows("privacy.md"):
            if len(cells) >= 2 and re.fullmatch(r"`[A-Z]\w+`", cells[0]):
                listed[cells[0].strip("`")] = sorted(names(cells[1]))
        there = {
            name: sorted(field.name for field in message.fields)
            for page in (governance_pb2, ledger_pb2, membership_pb2)
            for name, message in page.DESCRIPTOR.message_types_by_name.items()
            if name not in NOT_ON_THE_LEDGER
        }
        self.assertEqual(there, listed)

    def test_nothing_that_identifies_a_person_is_on_the_ledger(self):
        with tempfile.TemporaryDirectory() as folder:
            export = pathlib.Path(folder) / "export"
            profile = FOLDER / "cedar/clients/auditor-revision/profile.toml"
            command = ["assent", "audit", "export", "--out", export, "--profile", profile]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            ledger = export.read_bytes()
        self.assertIn(b"Cedar Hospital", ledger)  # so a text would be found
        self.assertGreater(ledger.count(b"\x12\x05cedar"), 4)  # entries by Cedar, about the patients below
        for text in NEVER:
            self.assertNotIn(text, ledger)

    def test_nothing_that_identifies_a_person_is_in_the_logs(self):
        for organization, node in NODES.items():
            log = pathlib.Path(urllib.parse.urlsplit(node["log"]).path).read_bytes()
            self.assertIn(b"node started", log, organization)
            for text in NEVER:
                self.assertNotIn(text, log, organization)


if __name__ == "__main__":
    unittest.main()
