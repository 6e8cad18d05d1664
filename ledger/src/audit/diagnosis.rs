//! Which record a fault is in.

use assent_proto::ledger::v1::{Block, Certificate, ValidatorSet};

use super::{ChainVerifier, Fault, RecordKind};
use crate::block::{Tip, MAX_BLOCK_BYTES};
use crate::certificate::verify_certificate;
use crate::encoding::{array, decode};
use crate::hash::Hash;

impl ChainVerifier {
    /// Height that the next record belongs to, for faults in its framing.
    pub fn next_height(&self) -> u64 {
        match &self.tip {
            None => 0,
            Some(tip) if self.sealed || self.awaited_set.is_some() => tip.height,
            Some(tip) => tip.height + 1,
        }
    }

    /// A fault in the framing of the next record: of a head that [`super::parse_head`] refuses, or of a payload that ends early.
    /// `rest` is the file from the record's head on, as far as it is at hand.
    pub fn framing_fault(
        &self,
        fault: &'static str,
        rest: &[u8],
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Fault {
        let kind = rest.first().and_then(|byte| RecordKind::of(*byte));
        let payload = match rest {
            [_, a, b, c, d, payload @ ..] => {
                payload.get(..u32::from_be_bytes([*a, *b, *c, *d]) as usize).unwrap_or(payload)
            }
            _ => &[],
        };
        Fault { height: self.height_of(kind, payload), ..self.fault(fault, expected, found) }
    }

    pub(super) fn fault(
        &self,
        kind: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Fault {
        Fault {
            height: self.next_height(),
            index: None,
            kind,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// A record's fault at the height of the record that holds the bad byte.
    pub(super) fn placed(&self, fault: Fault, kind: RecordKind, payload: &[u8]) -> Fault {
        let instead = self.tip.as_ref().and_then(|tip| Some((tip, certified_instead(tip, payload)?)));
        match instead {
            Some((tip, certified)) => {
                let (expected, found) =
                    (format!("header {}", hex::encode(certified)), hex::encode(tip.header_hash));
                Fault { height: tip.height, ..self.fault("header-mismatch", expected, found) }
            }
            None => Fault { height: self.height_of(Some(kind), payload), ..fault },
        }
    }

    /// Height of a record. Where kind and payload contradict each other the payload tells: it is the kind byte that is damaged.
    fn height_of(&self, kind: Option<RecordKind>, payload: &[u8]) -> u64 {
        let reads_as_certificate = !payload.is_empty()
            && decode::<Certificate>("Certificate", payload, RecordKind::Certificate.limit()).is_ok();
        let reads_as_set = decode::<ValidatorSet>("ValidatorSet", payload, RecordKind::ValidatorSet.limit())
            .is_ok_and(|set| set.validators.iter().any(|v| v.vote_key.len() == 32));
        let reads_as_block = || decode::<Block>("Block", payload, MAX_BLOCK_BYTES).is_ok();
        let of_the_last = matches!(kind, Some(RecordKind::Certificate | RecordKind::ValidatorSet));
        match &self.tip {
            Some(tip) if reads_as_certificate || reads_as_set => tip.height,
            Some(tip) if of_the_last && !reads_as_block() => tip.height,
            _ => self.next_height(),
        }
    }
}

/// The header that more than 2/3 certified at the tip's height, when the certificate in the block after holds but names another
/// header than the tip: then the tip's record is the bad one.
fn certified_instead(tip: &Tip, next_block: &[u8]) -> Option<Hash> {
    let block: Block = decode("Block", next_block, MAX_BLOCK_BYTES).ok()?;
    let limit = RecordKind::Certificate.limit();
    let certificate: Certificate = decode("Certificate", &block.previous_certificate, limit).ok()?;
    let certified = array("Certificate", "header_hash", &certificate.header_hash).ok()?;
    if certified == tip.header_hash {
        return None;
    }
    verify_certificate(&tip.chain_id, &tip.voters, tip.height, &certified, &certificate).ok()?;
    Some(certified)
}
