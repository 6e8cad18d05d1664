//! What clients want of the ledger, and what they were told. A request is one wish; it may take several entries, when one is refused
//! for good and its author signs another with fresh sequences.

use std::collections::BTreeMap;
use std::rc::Rc;

use assent_ledger::entry::{control_sign_bytes, sign_entry, withdraw_sign_bytes};
use assent_ledger::keys::sign;
use assent_ledger::Hash;
use assent_node::chain::View;
use assent_node::order::Fatal;
use assent_proto::ledger::v1::operation::Kind;
use assent_proto::ledger::v1::{EntryBody, Govern, Operation, RecordAccess, SetConsent, SetPolicy, Withdraw};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::Rng;

use super::consortium::{Consortium, CHAIN};
use super::governors::Governors;

/// Subjects of each custodian: few, so that writes collide.
const SUBJECTS: u8 = 2;

/// One operation that somebody wants.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Consent(u8),
    Access(u8),
    Policy,
    /// Of another's subject, perhaps.
    Withdraw(usize, u8),
    /// Some step that changes the members.
    Govern,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    /// Acknowledged: the height.
    Committed(u64),
}

pub struct Request {
    /// The organization that signs its entries; its node is told what becomes of them.
    pub author: usize,
    pub wishes: Vec<Wish>,
    /// The last one is the one under way.
    pub entries: Vec<(Hash, Rc<Vec<u8>>)>,
    pub state: State,
}

pub struct Clients {
    pub requests: Vec<Request>,
    pub by_entry: BTreeMap<Hash, usize>,
    /// Entries that were acknowledged, and at which height; none when somebody was too quick to know one.
    pub acknowledged: BTreeMap<Hash, Option<u64>>,
    /// Entries that their author's node gave up for good.
    pub refused: BTreeMap<Hash, String>,
    pub governors: Governors,
    sequences: BTreeMap<usize, u64>,
}

impl Clients {
    pub fn new(governors: Governors) -> Self {
        Self {
            requests: Vec::new(),
            by_entry: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            refused: BTreeMap::new(),
            governors,
            sequences: BTreeMap::new(),
        }
    }

    /// Somebody wants something new.
    pub fn wish(&mut self, rng: &mut StdRng, nodes: usize, governs: bool) -> usize {
        let author = rng.gen_range(0..nodes);
        if governs && rng.gen() {
            return self.add(author, vec![Wish::Govern]);
        }
        let subject = |rng: &mut StdRng| rng.gen_range(0..SUBJECTS);
        let wishes = match rng.gen_range(0..100) {
            0..=14 => vec![Wish::Withdraw(rng.gen_range(0..nodes), subject(rng))],
            _ => {
                let count = *[1, 1, 1, 2, 3].choose(rng).unwrap_or(&1);
                let one = |_| match rng.gen_range(0..10) {
                    0..=3 => Wish::Consent(subject(rng)),
                    4..=8 => Wish::Access(subject(rng)),
                    _ => Wish::Policy,
                };
                (0..count).map(one).collect()
            }
        };
        self.add(author, wishes)
    }

    pub fn add(&mut self, author: usize, wishes: Vec<Wish>) -> usize {
        self.requests.push(Request { author, wishes, entries: Vec::new(), state: State::Open });
        self.requests.len() - 1
    }

    /// Signs an entry for a request, with the sequences that a view shows; `wrong` makes one of them stale or early. None when the author
    /// has no key to sign with, or nothing to govern.
    pub fn sign(
        &mut self,
        consortium: &Consortium,
        rng: &mut StdRng,
        request: usize,
        view: &View<'_>,
        not_after_ms: u64,
        wrong: bool,
    ) -> Result<Option<Rc<Vec<u8>>>, Fatal> {
        let author = self.requests[request].author;
        let name = &consortium.names[author];
        let key = view.organization(name)?.and_then(|o| Hash::try_from(o.entry_key).ok());
        let Some(key) = key else { return Ok(None) };
        let mut signer =
            Operations { consortium, view, author, off: wrong.then(|| rng.gen()), done: BTreeMap::new() };
        let mut operations = Vec::new();
        for wish in &self.requests[request].wishes {
            let kind = match wish {
                Wish::Govern => match self.governors.step(consortium, rng, author, view)? {
                    Some(step) => Kind::Govern(Govern { step: Some(step) }),
                    None => return Ok(None),
                },
                wish => signer.operation(rng, *wish)?,
            };
            operations.push(Operation { kind: Some(kind) });
        }
        let sequence = self.sequences.entry(author).or_default();
        *sequence += 1;
        let body = EntryBody {
            chain_id: CHAIN.into(),
            author: name.clone(),
            sequence: *sequence,
            not_after_ms,
            operations,
        };
        let entry = Rc::new(sign_entry(&consortium.signer.key(&key), &body));
        let hash = assent_ledger::entry::entry_hash(CHAIN, &entry);
        self.by_entry.insert(hash, request);
        self.requests[request].entries.push((hash, entry.clone()));
        Ok(Some(entry))
    }

    /// The newest entry is never offered to anybody: it was refused at once.
    pub fn forget_last(&mut self, request: usize) {
        if let Some((hash, _)) = self.requests[request].entries.pop() {
            self.by_entry.remove(&hash);
        }
    }
}

/// Operations with the sequences that a view shows, as if those before them in the entry had taken effect.
struct Operations<'a> {
    consortium: &'a Consortium,
    view: &'a View<'a>,
    author: usize,
    /// All sequences are one too low, or too high.
    off: Option<bool>,
    /// Consents set by this entry, by subject; the policy under none.
    done: BTreeMap<Option<u8>, u64>,
}

impl Operations<'_> {
    fn shown(&self, sequence: u64, of: Option<u8>) -> u64 {
        let sequence = sequence + self.done.get(&of).copied().unwrap_or_default();
        match self.off {
            None => sequence,
            Some(true) => sequence + 1,
            Some(false) => sequence.saturating_sub(1),
        }
    }

    fn operation(&mut self, rng: &mut StdRng, wish: Wish) -> Result<Kind, Fatal> {
        let (consortium, author) = (self.consortium, self.author);
        let custodian = consortium.names[author].clone();
        let commitment = rng.gen::<Hash>().to_vec();
        let policy_seq = self.view.policy(&custodian)?.policy_seq;
        Ok(match wish {
            Wish::Policy => {
                let expected_policy_seq = self.shown(policy_seq, None);
                *self.done.entry(None).or_default() += 1;
                Kind::SetPolicy(SetPolicy { expected_policy_seq, commitment })
            }
            Wish::Access(subject) => {
                let handle = consortium.handle(author, subject).to_vec();
                let slot = self.view.slot(&custodian, &handle)?.unwrap_or_default();
                Kind::RecordAccess(RecordAccess {
                    custodian,
                    handle,
                    expected_consent_seq: self.shown(slot.consent_seq, Some(subject)),
                    expected_policy_seq: self.shown(policy_seq, None),
                    commitment,
                })
            }
            Wish::Consent(subject) => {
                let handle = consortium.handle(author, subject).to_vec();
                let slot = self.view.slot(&custodian, &handle)?.unwrap_or_default();
                let key = consortium.control_key(author, subject);
                let expected_consent_seq = self.shown(slot.consent_seq, Some(subject));
                let first = slot.control_key.is_none() && !self.done.contains_key(&Some(subject));
                let new_key = first.then(|| key.verifying_key().to_bytes().to_vec());
                let message =
                    control_sign_bytes(CHAIN, &custodian, &handle, expected_consent_seq, &commitment, None);
                let signs = slot.control_key.is_some() && rng.gen();
                *self.done.entry(Some(subject)).or_default() += 1;
                Kind::SetConsent(SetConsent {
                    custodian,
                    handle,
                    expected_consent_seq,
                    commitment,
                    control_key: new_key.filter(|_| rng.gen_ratio(3, 4)),
                    control_signature: signs.then(|| sign(&key, &message).to_vec()),
                })
            }
            Wish::Withdraw(custodian, subject) => {
                let name = consortium.names[custodian].clone();
                let handle = consortium.handle(custodian, subject).to_vec();
                let slot = self.view.slot(&name, &handle)?.unwrap_or_default();
                let withdraw_seq = self.shown(slot.withdraw_seq, None);
                let message = withdraw_sign_bytes(CHAIN, &name, &handle, withdraw_seq);
                let patient_signature = sign(&consortium.control_key(custodian, subject), &message).to_vec();
                Kind::Withdraw(Withdraw { custodian: name, handle, withdraw_seq, patient_signature })
            }
            Wish::Govern => unreachable!("governors draw their steps themselves"),
        })
    }
}
