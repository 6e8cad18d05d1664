"""Writes codes.tsv from HL7's own code systems.

    npm pack hl7.fhir.r4.examples@4.0.1
    python3 make.py hl7.fhir.r4.examples-4.0.1.tgz > codes.tsv

The code systems are HL7's, published under CC0-1.0. Columns: kind, code, parents (comma-separated), source.
Retired codes are left out, so a record that carries one is labelled outside the tables (CONSENT.md, Decision 8).
"""

import hashlib
import json
import sys
import tarfile

# Of the package as the registry serves it: other bytes are other tables.
PACKAGE_SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"

# What CONSENT.md, Decision 8 adds to HL7's tree.
ADDED_PARENTS = {("sensitivity", "ETHUD"): ["ETH"], ("sensitivity", "OPIOIDUD"): ["ETH"]}
# v3-ActCode branches that are security labels but say nothing about sensitivity.
HANDLING = ["_ActConsentDirective", "_ActPrivacyLaw", "COMPT", "ActTrustPolicyType", "SecurityPolicy"]


def load(archive, name):
    return json.load(archive.extractfile(f"package/CodeSystem-{name}.json"))["concept"]


def flatten(concepts, parent=None, into=None):
    """code -> (parents, retired); HL7 nests some children and names others by `subsumedBy`."""
    into = {} if into is None else into
    for concept in concepts:
        parents, retired = into.setdefault(concept["code"], (set(), set()))
        if parent:
            parents.add(parent)
        for prop in concept.get("property", []):
            if prop["code"] in ("subsumedBy", "parent"):
                parents.add(prop["valueCode"])
            if prop["code"] == "status" and prop.get("valueCode") in ("retired", "deprecated"):
                retired.add(concept["code"])
        flatten(concept.get("concept", []), concept["code"], into)
    return into


def below(codes, root):
    found = {root}
    while True:
        more = {c for c, (parents, _) in codes.items() if parents & found} - found
        if not more:
            return found
        found |= more


def rows(kind, codes, root):
    inside = below(codes, root)
    for code in sorted(inside):
        parents, retired = codes[code]
        if retired:
            continue
        added = ADDED_PARENTS.get((kind, code), [])
        kept = sorted(parents & inside) + added
        yield kind, code, ",".join(kept), "hl7+clause8" if added else "hl7"


def main():
    with open(sys.argv[1], "rb") as package:
        found = hashlib.sha256(package.read()).hexdigest()
    if found != PACKAGE_SHA256:
        sys.exit(f"{sys.argv[1]} has SHA-256 {found}, not {PACKAGE_SHA256}")
    with tarfile.open(sys.argv[1]) as archive:
        reasons = flatten(load(archive, "v3-ActReason"))
        acts = flatten(load(archive, "v3-ActCode"))
        types = load(archive, "resource-types")
    lines = list(rows("purpose", reasons, "PurposeOfUse"))
    lines += rows("sensitivity", acts, "_InformationSensitivityPolicy")
    handling = set().union(*(below(acts, root) for root in HANDLING))
    lines += [("handling", code, "", "hl7") for code in sorted(handling)]
    abstract = {"Resource", "DomainResource"}
    lines += [("type", t["code"], "", "hl7") for t in types if t["code"] not in abstract]
    print("# Code tables of CDA-1. From hl7.fhir.r4.examples 4.0.1 (HL7, CC0-1.0) by make.py; do not edit.")
    for line in lines:
        print("\t".join(line))


if __name__ == "__main__":
    main()
