//! Generated cases: consents, policy, request, records, a moment. Small alphabets, so that things meet; bounds that lie on the
//! very moment and a millisecond beside it; purposes and labels from anywhere in the trees.

use assent_ledger::consent::*;

use super::super::{birch, consent, organization, DAY_MS, NOW_MS, PATIENT};
use super::Tree;

/// xorshift64*: the same cases everywhere, from a seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn list<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..1 + self.below(most)).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, once_in: usize, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.once_in(once_in) {
            Some(one(self))
        } else {
            None
        }
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub consents: Vec<Consent>,
    pub policy: Option<DefaultPolicy>,
    pub request: Request,
    pub records: Vec<ResourceDescriptor>,
    pub at_ms: i64,
    pub frozen: bool,
}

const USUAL_PURPOSES: [&str; 6] = ["TREAT", "ETREAT", "BTG", "HPAYMT", "HMARKT", "PATRQT"];
const USUAL_LABELS: [&str; 6] = ["BH", "PSY", "PSYTHPN", "SUD", "ETHUD", "HIV"];
const ACTIONS: [&str; 5] = ["access", "access", "access", "use", "correct"];
const LEVELS: [Conf; 6] = [Conf::U, Conf::L, Conf::M, Conf::N, Conf::R, Conf::V];
/// The first day that records and rules are about.
const DAY: i32 = 18_000;

fn literal(text: &str) -> Reference {
    Reference::Literal(text.to_owned())
}

fn purpose(r: &mut Random, tree: &Tree) -> String {
    let all = tree.purposes();
    if r.once_in(2) { r.of(&all) } else { r.of(&USUAL_PURPOSES) }.to_owned()
}

fn purposes(r: &mut Random, tree: &Tree) -> Option<Vec<String>> {
    r.maybe(3, |r| r.list(2, |r| if r.once_in(3) { "PurposeOfUse".to_owned() } else { purpose(r, tree) }))
}

fn label(r: &mut Random, tree: &Tree) -> String {
    let all = tree.labels();
    if r.once_in(3) { r.of(&all) } else { r.of(&USUAL_LABELS) }.to_owned()
}

fn recipient(r: &mut Random) -> Recipient {
    match r.below(7) {
        0..=2 => Recipient::Organization(organization(r.of(&["birch", "elm"]))),
        3 => Recipient::Practitioner(literal(r.of(&["Practitioner/1", "Practitioner/2"]))),
        4 => Recipient::Group(literal(r.of(&["Group/er", "Group/lab"]))),
        5 => Recipient::Role(literal("PractitionerRole/nurse")),
        _ => Recipient::Named(organization(r.of(&["birch", "oak"]))),
    }
}

fn recipients(r: &mut Random) -> Option<Vec<Recipient>> {
    r.maybe(4, |r| r.list(2, recipient))
}

fn period(r: &mut Random) -> Period {
    let bound = |r: &mut Random| {
        let moments = [NOW_MS - DAY_MS, NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + DAY_MS];
        r.maybe(6, |r| r.of(&moments))
    };
    Period { start_ms: bound(r), end_ms: bound(r) }
}

fn code(r: &mut Random) -> Code {
    let system = if r.once_in(5) { None } else { Some(r.of(&["urn:a", "urn:b"]).to_owned()) };
    Code { system, code: r.of(&["1", "2"]).to_owned() }
}

fn days(r: &mut Random) -> Days {
    let first = DAY + r.below(8) as i32;
    Days { first, last: first + if r.once_in(3) { r.below(5) as i32 } else { 0 } }
}

fn filter(r: &mut Random, tree: &Tree) -> DataFilter {
    let texts = |r: &mut Random, items: &[&str]| r.list(2, |r| r.of(items).to_owned());
    DataFilter {
        types: r.maybe(5, |r| texts(r, &["Observation", "Condition", "Encounter"])),
        codes: r.maybe(8, |r| r.list(2, |r| Code { system: Some("urn:a".into()), ..code(r) })),
        labels: r.maybe(3, |r| r.list(2, |r| label(r, tree))),
        confidentiality: r.maybe(6, |r| r.of(&LEVELS)),
        dates: r.maybe(6, |r| DayRange {
            first: r.maybe(2, |r| days(r).first),
            last: r.maybe(2, |r| days(r).first + 2),
        }),
        authors: r.maybe(8, |r| r.list(2, |r| literal(r.of(&["Practitioner/1", "Organization/o"])))),
        encounters: r.maybe(10, |r| texts(r, &["Encounter/1", "Encounter/2"])),
        instances: r.maybe(10, |r| texts(r, &["Observation/1", "Encounter/1"])),
    }
}

fn effect(r: &mut Random) -> Effect {
    r.of(&[Effect::Permit, Effect::Deny])
}

fn clause(r: &mut Random, tree: &Tree, effect: Effect) -> Clause {
    Clause {
        effect,
        valid: if r.once_in(4) { period(r) } else { Period::default() },
        recipients: recipients(r),
        purposes: purposes(r, tree),
        actions: r.maybe(10, |r| r.list(2, |r| r.of(&ACTIONS).to_owned())),
        data: if r.once_in(4) { DataFilter::default() } else { filter(r, tree) },
    }
}

/// Rules in groups; a deeper one of R5's kind is nested in an earlier one, one of IHE's is not.
fn rules(r: &mut Random, tree: &Tree) -> Vec<Rule> {
    let mut found: Vec<Rule> = Vec::new();
    for n in 1..1 + r.below(5) {
        let effect = effect(r);
        let parent = r.maybe(2, |r| r.below(found.len() + 1)).and_then(|n| found.get(n).cloned());
        let rule = match parent {
            Some(parent) => Rule {
                id: format!("{}.{n}", parent.id),
                group: parent.group,
                depth: parent.depth + 1,
                clause: clause(r, tree, effect),
                within: parent.within.into_iter().chain([parent.clause]).collect(),
            },
            None => Rule {
                id: n.to_string(),
                group: 1 + r.below(2) as u32,
                depth: 1 + r.below(3) as u32,
                clause: clause(r, tree, effect),
                within: vec![],
            },
        };
        found.push(rule);
    }
    found
}

fn a_consent(r: &mut Random, tree: &Tree, id: &str) -> Consent {
    let root_effect = effect(r);
    let states = [
        ConsentState::Active,
        ConsentState::Active,
        ConsentState::Active,
        ConsentState::Active,
        ConsentState::Revoked,
        ConsentState::Revoked,
        ConsentState::Proposed,
        ConsentState::Superseded,
        ConsentState::EnteredInError,
    ];
    let bases = [
        Some(LegalBasis::Part2Specific),
        Some(LegalBasis::SelfPayRestriction),
        Some(LegalBasis::HipaaAuthorization),
        None,
        None,
    ];
    Consent {
        id: id.to_owned(),
        subject: if r.once_in(4) { "Patient/q".to_owned() } else { PATIENT.to_owned() },
        state: r.of(&states),
        context: Context {
            valid: period(r),
            recipients: recipients(r),
            purposes: purposes(r, tree),
            actions: r.maybe(12, |r| r.list(2, |r| r.of(&ACTIONS).to_owned())),
        },
        root_rule: r.maybe(4, |r| Rule {
            id: "0".into(),
            group: 0,
            depth: 0,
            clause: Clause { data: filter(r, tree), ..Clause::of(root_effect) },
            within: vec![],
        }),
        rules: rules(r, tree),
        legal_basis: r.of(&bases),
        authority_ends_ms: r.maybe(12, |r| r.of(&[NOW_MS - 1, NOW_MS, NOW_MS + 1])),
        unresolved: r.once_in(30),
        obligations: r.maybe(4, |r| vec![r.of(&["NORDSCLCD", "ENCRYPT"]).to_owned()]).unwrap_or_default(),
        ..consent(r.of(&[Base::Permit, Base::Permit, Base::Deny, Base::Limit, Base::None]))
    }
}

fn consents(r: &mut Random, tree: &Tree) -> Vec<Consent> {
    let mut found = Vec::new();
    for n in 0..r.below(4) {
        let made = a_consent(r, tree, &format!("c{n}"));
        if r.once_in(8) {
            // An earlier revision, which counts for nothing.
            let old = a_consent(r, tree, &made.id);
            found.push(Consent { subject: made.subject.clone(), ..old });
            found.push(Consent { revision: 1, ..made });
        } else {
            found.push(made);
        }
    }
    found
}

fn record(r: &mut Random, tree: &Tree) -> ResourceDescriptor {
    let confidentiality = r.maybe(2, |r| r.of(&LEVELS)).or_else(|| r.maybe(2, |r| r.of(&LEVELS)));
    let kind = r.of(&["Observation", "Condition", "Encounter"]);
    let moment = ClinicalDate::moment(days(r));
    let period = ClinicalDate::period(r.maybe(2, days), r.maybe(2, days));
    let authors = [literal("Practitioner/1"), literal("Practitioner/2"), literal("Organization/o")];
    let mut sensitivity = Vec::new();
    for _ in 0..r.of(&[0, 0, 1, 1, 2]) {
        sensitivity.push(if r.once_in(8) { "urn:x|secret".to_owned() } else { label(r, tree) });
    }
    let subjects: &[&str] = match r.below(8) {
        0 => &[],
        1 => &[PATIENT, "Patient/q"],
        2 => &["Patient/q"],
        _ => &[PATIENT],
    };
    ResourceDescriptor {
        reference: format!("{kind}/1"),
        resource_type: kind.to_owned(),
        assessed: confidentiality.is_some(),
        confidentiality,
        sensitivity,
        handling: r.maybe(6, |_| vec!["42CFRPart2".to_owned()]).unwrap_or_default(),
        subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
        codes: r.maybe(2, |r| r.list(2, code)).unwrap_or_default(),
        clinical_date: if r.once_in(2) { Some(moment) } else { period },
        authors: r.maybe(2, |r| r.list(2, |r| r.of(&authors))).unwrap_or_default(),
        has_unnamed_author: r.once_in(6),
        encounters: r
            .maybe(3, |r| vec![r.of(&["Encounter/1", "Encounter/2"]).to_owned()])
            .unwrap_or_default(),
    }
}

fn request(r: &mut Random, tree: &Tree) -> Request {
    let actors = ["Practitioner/1", "Practitioner/2", "PractitionerRole/nurse", PATIENT];
    let mut asked = birch(&purpose(r, tree));
    asked.actor = r.maybe(2, |r| literal(r.of(&actors)));
    asked.groups =
        r.maybe(2, |r| if r.once_in(3) { vec![] } else { vec![literal(r.of(&["Group/er", "Group/lab"]))] });
    asked.role = r.maybe(3, |r| r.of(&["nurse", "PractitionerRole/nurse", "clerk"]).to_owned());
    asked.action = r.of(&ACTIONS).to_owned();
    asked.break_glass = r.maybe(4, |_| BreakGlassReason { reason: "unconscious".into() });
    if asked.break_glass.is_some() && !r.once_in(3) {
        asked.purpose = r.of(&["TREAT", "ETREAT", "ERTREAT", "BTG", "COC"]).to_owned();
        asked.groups = Some(vec![literal("Group/er")]);
    }
    let law =
        |_: &mut Random| RequiredByLaw { citation: "statute 1".into(), approver: literal("Practitioner/9") };
    asked.required_by_law = r.maybe(20, law);
    asked.recipient_is_plan = r.once_in(3);
    asked
}

fn policy(r: &mut Random, tree: &Tree) -> DefaultPolicy {
    DefaultPolicy {
        id: "default".into(),
        version: PolicyVersion::Number(1),
        rules: r.list(2, |r| PolicyRule {
            effect: r.of(&[Effect::Permit, Effect::Permit, Effect::Deny]),
            purposes: purposes(r, tree),
            organizations: r
                .maybe(4, |r| vec![r.of(&["urn:assent:organization|birch", "Organization/o"]).to_owned()]),
        }),
        break_glass: r.maybe(2, |r| BreakGlass {
            groups: vec!["Group/er".into()],
            purposes: r.list(2, |r| r.of(&["TREAT", "ETREAT", "BTG", "HPAYMT"]).to_owned()),
            overrides_deny: r.once_in(3),
            overrides_frozen: r.once_in(2),
        }),
        unlabelled: r
            .maybe(2, |r| Unlabelled { assume: "N".into(), purposes: r.list(2, |r| purpose(r, tree)) }),
    }
}

/// One case.
pub fn generate(r: &mut Random, tree: &Tree) -> World {
    World {
        consents: consents(r, tree),
        policy: r.maybe(2, |r| policy(r, tree)),
        request: request(r, tree),
        records: r.list(2, |r| record(r, tree)),
        at_ms: NOW_MS,
        frozen: r.once_in(12),
    }
}
