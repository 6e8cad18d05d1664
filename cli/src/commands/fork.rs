//! `assent audit evidence --compare`: two exports of one network that contradict each other, and who signed both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use assent_ledger::audit::{Fault, RecordKind};
use assent_ledger::block::{Tip, MAX_BLOCK_BYTES};
use assent_ledger::certificate::verify_certificate;
use assent_ledger::encoding::decode;
use assent_ledger::entry::MAX_ENTRY_BYTES;
use assent_ledger::evidence::signed_both;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Block, Certificate, PrunedBlock, ValidatorSet};
use serde_json::{json, Value};

use crate::commands::audit::{fault_json, fault_text};
use crate::commands::pieces::{files_text, piece_json, piece_text, write, Piece};
use crate::commands::reader::{Ledger, Stopped};
use crate::commands::recoveries;
use crate::commands::verify::does_not_hold;
use crate::exit::{Exit, Failure};
use crate::output::{fields, progress, Report};

/// A block with the certificate over it, which was verified.
struct Certified {
    height: u64,
    header_hash: Hash,
    header: Vec<u8>,
    voters: ValidatorSet,
    certificate: Certificate,
}

/// One of the two exports.
struct Side {
    ledger: Ledger,
    /// The last block, with an empty certificate: its own stands in the next record.
    last: Option<Certified>,
    /// What ended it, once the block before was given out.
    fault: Option<Fault>,
}

impl Side {
    fn open(path: &Path, anchor: Option<Hash>, accepted: &BTreeSet<Hash>) -> Result<Self, Failure> {
        Ok(Self { ledger: Ledger::open(path, anchor, accepted)?, last: None, fault: None })
    }

    /// The next block that is certified; none at the end.
    fn next(&mut self) -> Result<Option<Certified>, Stopped> {
        if let Some(fault) = self.fault.take() {
            return Err(fault.into());
        }
        loop {
            let (kind, payload) = match self.ledger.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(None),
                Err(Stopped::Fault(fault)) => return self.salvaged(fault).map(Some),
                Err(stopped) => return Err(stopped),
            };
            // Both were decoded before, when they were verified.
            let (certificate, header) = match kind {
                RecordKind::Genesis | RecordKind::ValidatorSet => continue,
                RecordKind::Pruned => {
                    let block: PrunedBlock =
                        decode("PrunedBlock", payload, MAX_BLOCK_BYTES).unwrap_or_default();
                    (block.previous_certificate, Some(block.header))
                }
                RecordKind::Block => {
                    let block: Block = decode("Block", payload, MAX_BLOCK_BYTES).unwrap_or_default();
                    (block.previous_certificate, Some(block.header))
                }
                RecordKind::Certificate => (payload.to_vec(), None),
            };
            let last = |(tip, header): (&Tip, Vec<u8>)| Certified {
                height: tip.height,
                header_hash: tip.header_hash,
                header,
                voters: tip.voters.clone(),
                certificate: Certificate::default(),
            };
            let now = self.ledger.verifier.tip().zip(header).map(last);
            if let Some(before) = std::mem::replace(&mut self.last, now) {
                let certificate = decode("Certificate", &certificate, MAX_ENTRY_BYTES).unwrap_or_default();
                return Ok(Some(Certified { certificate, ..before }));
            }
        }
    }
}

impl Side {
    /// A record that does not hold may still certify the block before: else garbage behind a fork would hide it.
    fn salvaged(&mut self, fault: Fault) -> Result<Certified, Stopped> {
        let chain_id =
            self.ledger.genesis.as_ref().map(|genesis| genesis.chain_id.clone()).unwrap_or_default();
        let (Some(last), Ok(block)) =
            (self.last.take(), decode::<Block>("Block", self.ledger.payload(), MAX_BLOCK_BYTES))
        else {
            return Err(fault.into());
        };
        let certificate = decode("Certificate", &block.previous_certificate, MAX_ENTRY_BYTES);
        let Certified { height, header_hash, voters, .. } = &last;
        match certificate {
            Ok(certificate)
                if verify_certificate(&chain_id, voters, *height, header_hash, &certificate).is_ok() =>
            {
                self.fault = Some(fault);
                Ok(Certified { certificate, ..last })
            }
            _ => Err(fault.into()),
        }
    }
}

/// Where the two part.
struct Fork {
    height: u64,
    hashes: [Hash; 2],
    rounds: [u32; 2],
    /// Organizations that signed both certificates.
    signed_both: Vec<String>,
    pieces: BTreeMap<Hash, Piece>,
    /// One of the two went through a recovery where they part.
    recovered: bool,
    /// Not searched further, because one of the two does not hold behind the fork.
    stopped: bool,
}

impl Fork {
    fn at(one: &Certified, other: &Certified) -> Result<Self, Failure> {
        let both = signed_both(&one.certificate, &other.certificate).map_err(does_not_hold)?;
        let name = |key: &Hash| {
            let found = one.voters.validators.iter().find(|v| v.vote_key == key);
            found.map_or_else(|| hex::encode(key), |v| v.organization.clone())
        };
        let mut signed_both: Vec<String> = both.iter().map(|found| name(&found.validator)).collect();
        signed_both.sort();
        Ok(Self {
            height: one.height,
            hashes: [one.header_hash, other.header_hash],
            rounds: [one.certificate.round, other.certificate.round],
            signed_both,
            pieces: BTreeMap::new(),
            recovered: false,
            stopped: false,
        })
    }

    /// Adds whom these two certificates, of this height or a later one, convict. Nobody at the height of a recovery that one of the two
    /// went through: those who remain may have voted there twice, as its plan asks of them.
    fn convict(
        &mut self,
        sides: [&Side; 2],
        accepted: &BTreeSet<Hash>,
        one: &Certified,
        other: &Certified,
    ) -> Result<(), Failure> {
        let recovered = |side: &&Side| {
            side.ledger.verifier.recoveries.iter().any(|recovered| recovered.height == one.height)
        };
        if sides.iter().any(recovered) {
            self.recovered |= one.height == self.height;
            return Ok(());
        }
        let headers = [one.header.clone(), other.header.clone()];
        for found in signed_both(&one.certificate, &other.certificate).map_err(does_not_hold)? {
            let Some(evidence) = found.evidence.filter(|_| !self.pieces.contains_key(&found.validator))
            else {
                continue;
            };
            for side in sides {
                let Some(genesis) = &side.ledger.genesis else { continue };
                let piece = Piece::new(genesis, accepted, side.ledger.sets(), &headers, &evidence, None)?;
                if piece.file.is_some() {
                    self.pieces.insert(found.validator, piece);
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Compares two exports, block by block.
pub fn compare(
    [one, other]: [&Path; 2],
    anchor: Option<Hash>,
    accepted: &BTreeSet<Hash>,
    out: Option<&Path>,
) -> Result<Report, Failure> {
    let (mut left, mut right) = (Side::open(one, anchor, accepted)?, Side::open(other, anchor, accepted)?);
    let (bar, mut fork, mut alike) = (progress("height"), None::<Fork>, 0);
    loop {
        let pair = match (left.next(), right.next()) {
            (Ok(Some(a)), Ok(Some(b))) => (a, b),
            (Ok(_), Ok(_)) => break,
            (a, b) => {
                let (path, ledger, stopped) = match (a, b) {
                    (Err(stopped), _) => (one, &left.ledger, stopped),
                    (_, Err(stopped)) => (other, &right.ledger, stopped),
                    (Ok(_), Ok(_)) => break,
                };
                let fault = ledger.fault(stopped)?;
                match &mut fork {
                    None => return Ok(broken(path, fault)),
                    Some(fork) => fork.stopped = true,
                }
                break;
            }
        };
        let hash = |side: &Side| side.ledger.genesis.as_ref().map(|genesis| genesis.hash);
        if hash(&left) != hash(&right) {
            return Err(Failure::verification(
                "OTHER_NETWORK",
                "the two exports have different genesis files",
            )
            .help("compare exports of one network: their genesis hashes must be equal"));
        }
        let (a, b) = pair;
        bar.set_position(a.height);
        if fork.is_none() && a.header_hash == b.header_hash {
            alike = a.height;
            continue;
        }
        let found = match &mut fork {
            Some(fork) => fork,
            None => fork.insert(Fork::at(&a, &b)?),
        };
        found.convict([&left, &right], accepted, &a, &b)?;
    }
    bar.finish_and_clear();
    let genesis = left.ledger.genesis.as_ref().map(|genesis| hex::encode(genesis.hash)).unwrap_or_default();
    match fork {
        Some(fork) => forked([one, other], anchor, &genesis, fork, out),
        None => Ok(agree(anchor, &genesis, alike)),
    }
}

/// One of the two does not hold, or is not decided, before they part.
fn broken(path: &Path, fault: Fault) -> Report {
    let text = format!("{}: {}\n", recoveries::verdict_of(&fault), path.display()) + &fault_text(&fault);
    let json = json!({
        "ok": false, "anchored": false, "fork": null, "evidence": [], "files": [], "file": path,
        "fault": fault_json(&fault),
    });
    Report::with(recoveries::exit_of(&fault), text, json)
}

const NOT_ANCHORED: &str =
    "Nobody said that this genesis is the right one: give its hash with --genesis-hash.";

fn agree(anchor: Option<Hash>, genesis: &str, alike: u64) -> Report {
    let (exit, note) = match anchor {
        Some(_) => (Exit::Ok, "What lies behind the shorter one's end was not compared."),
        None => (Exit::Undecided, NOT_ANCHORED),
    };
    let text = format!("no fork: one ledger up to height {alike}\n{note}");
    let json = json!({
        "ok": exit == Exit::Ok, "anchored": anchor.is_some(), "genesis_hash": genesis, "alike_to": alike,
        "fork": null, "evidence": [], "files": [], "fault": null,
    });
    Report::with(exit, text, json)
}

fn forked(
    paths: [&Path; 2],
    anchor: Option<Hash>,
    genesis: &str,
    mut fork: Fork,
    out: Option<&Path>,
) -> Result<Report, Failure> {
    let pieces: Vec<Piece> = std::mem::take(&mut fork.pieces).into_values().collect();
    let files = write(out, &pieces)?;
    let exit = if anchor.is_some() { Exit::Verification } else { Exit::Undecided };
    let side = |n: usize| {
        format!("{}, round {}, in {}", hex::encode(fork.hashes[n]), fork.rounds[n], paths[n].display())
    };
    let mut text =
        format!("FORK at height {}: two blocks, each certified by more than 2/3 of the power\n", fork.height);
    text += &fields(&[("one", side(0)), ("other", side(1)), ("signed both", fork.signed_both.join(", "))]);
    text += &pieces.iter().map(piece_text).collect::<String>();
    text += &files_text(out, &files);
    if fork.recovered {
        text += "One of the two went through a recovery of a lost quorum there. Those who remain\n\
                 vote again at that height, as its plan asks of them: that convicts nobody.\n";
    } else if pieces.is_empty() {
        text += "The certificates are of different rounds: no two messages of one round contradict each other.\n\
                 Validators with more than 1/3 of the power signed both, and some of them broke the lock of the\n\
                 earlier round. Which, shows in what they signed in between: ask for their consensus logs.\n";
    }
    if fork.stopped {
        text += "One of the two does not hold behind the fork: it was not searched further.\n";
    }
    if anchor.is_none() {
        text += NOT_ANCHORED;
    }
    let sides = [0, 1].map(
        |n| json!({ "file": paths[n], "header_hash": hex::encode(fork.hashes[n]), "round": fork.rounds[n] }),
    );
    let json = json!({
        "ok": false, "anchored": anchor.is_some(), "genesis_hash": genesis, "alike_to": fork.height - 1,
        "fork": {
            "height": fork.height, "same_round": fork.rounds[0] == fork.rounds[1], "signed_both": fork.signed_both,
            "sides": sides,
        },
        "evidence": pieces.iter().map(piece_json).collect::<Vec<Value>>(), "files": files, "fault": null,
    });
    Ok(Report::with(exit, text, json))
}
