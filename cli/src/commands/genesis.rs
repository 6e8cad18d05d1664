//! `assent genesis`: the file that every node starts from, made from the organizations' cards.

use std::collections::BTreeSet;
use std::path::PathBuf;

use assent_ledger::genesis::{make_genesis_file, CheckedGenesis};
use assent_proto::ledger::v1::{Validator, ValidatorSet};
use serde_json::json;

use crate::card::Card;
use crate::exit::Failure;
use crate::files::{self, PUBLIC};
use crate::output::{table, Report};
use crate::text;

/// Voting power of every organization: one vote each.
const POWER: u64 = 1;

/// Arguments of `assent genesis`.
#[derive(Debug, clap::Args)]
pub struct GenesisArgs {
    /// Chain to start: a-z, 0-9, -
    #[arg(long, value_name = "ID")]
    chain_id: String,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Cards of all organizations
    #[arg(required = true, value_name = "CARD.json")]
    cards: Vec<PathBuf>,
}

impl GenesisArgs {
    /// Makes the file and says its hash.
    pub fn run(&self) -> Result<Report, Failure> {
        text::id("--chain-id", &self.chain_id)?;
        files::refuse_existing(&self.out)?;
        let cards = self.cards.iter().map(|path| Card::load(path)).collect::<Result<Vec<_>, _>>()?;
        let (file, genesis) = make(&self.chain_id, text::now_ms(), &cards)?;
        files::write_new(&self.out, &file, PUBLIC)?;
        let hash = hex::encode(genesis.hash);
        let members = table(
            ["organization", "name", "power", "vote key"],
            cards.iter().map(|c| [c.id.clone(), c.name.clone(), POWER.to_string(), c.vote_key.clone()]),
        );
        let text = format!("{members}\n{} written.\ngenesis hash {hash}", self.out.display());
        let organizations: Vec<&str> = genesis.organizations.iter().map(|o| o.id.as_str()).collect();
        let json = json!({
            "ok": true, "file": self.out, "chain_id": genesis.chain_id, "genesis_hash": hash,
            "time_ms": genesis.time_ms, "organizations": organizations,
        });
        Ok(Report::ok(text, json))
    }
}

/// Genesis for these organizations, all voting with equal power. No key may serve two of them.
pub fn make(chain_id: &str, time_ms: u64, cards: &[Card]) -> Result<(Vec<u8>, CheckedGenesis), Failure> {
    let mut taken = BTreeSet::new();
    for card in cards {
        if card.chain_id != chain_id {
            let what = format!("the card of {} is for chain {:?}, not {chain_id:?}", card.id, card.chain_id);
            return Err(
                Failure::usage("CHAIN_ID", what).help("its keys and certificates name that chain: init anew")
            );
        }
        let unique = [
            &card.id,
            &card.vote_key,
            &card.entry_key,
            &card.checkpoint_key,
            &card.consensus_peer_id,
            &card.exchange_peer_id,
        ];
        for value in unique {
            if !taken.insert(value.to_ascii_lowercase()) {
                return Err(Failure::usage("DUPLICATE", format!("{value} stands twice in the cards"))
                    .help("give each organization's card once; no key may serve twice"));
            }
        }
    }
    let (mut validators, mut organizations) = (Vec::new(), Vec::new());
    for card in cards {
        let vote_key = text::hash("vote_key", &card.vote_key)?.to_vec();
        validators.push(Validator { organization: card.id.clone(), vote_key, power: POWER });
        organizations.push(card.organization()?);
    }
    make_genesis_file(chain_id, time_ms, ValidatorSet { validators, ..Default::default() }, organizations)
        .map_err(|e| Failure::usage("GENESIS", e))
}
