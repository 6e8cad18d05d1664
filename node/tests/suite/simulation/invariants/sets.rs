//! Sets: the validators that voted at a height are those that the ledger's state named for it, and more than 2/3 of them, counted here by
//! hand. From one height to the next one validator changes at most; a vote key that is out of the set never votes again; and of
//! every set more than 2/3 can sign entries: a quorum that can decide remains.

use std::collections::{BTreeMap, BTreeSet};

use assent_ledger::certificate::{precommit, validator_set_hash, vote_sign_bytes};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{Certificate, Header, Membership, ValidatorSet};

use crate::simulation::consortium::CHAIN;
use crate::simulation::keys::{short, Signer};

/// Vote keys by organization.
type Keys = BTreeMap<String, Vec<u8>>;

/// The sets as the state named them, by the height that they vote at.
pub struct Sets {
    named: BTreeMap<u64, ValidatorSet>,
    retired: BTreeSet<Vec<u8>>,
}

fn keys(set: &ValidatorSet) -> Keys {
    set.validators.iter().map(|v| (v.organization.clone(), v.vote_key.clone())).collect()
}

fn is_quorum(some: usize, all: usize) -> bool {
    some * 3 > all * 2
}

impl Sets {
    /// As genesis names the first.
    pub fn new(genesis: &ValidatorSet) -> Self {
        Self { named: [(1, genesis.clone())].into(), retired: BTreeSet::new() }
    }

    /// Most validators at once.
    pub fn largest(&self) -> usize {
        self.named.values().map(|set| set.validators.len()).max().unwrap_or_default()
    }

    /// The state after a height names the set of the next one. What has changed, when it is new.
    pub fn named(&mut self, height: u64, members: &Membership) -> Result<Option<&'static str>, String> {
        let next = height + 1;
        let set = members.validators.clone().unwrap_or_default();
        if let Some(known) = self.named.get(&next) {
            return match *known == set {
                true => Ok(None),
                false => Err(format!("two sets are named for height {next}")),
            };
        }
        let (before, after) = match self.named.get(&height) {
            Some(before) => (keys(before), keys(&set)),
            None => return Err(format!("nobody named a set for height {height}")),
        };
        let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> = all.into_iter().filter(|id| before.get(*id) != after.get(*id)).collect();
        if changed.len() > 1 {
            return Err(format!("at height {next} the votes of {changed:?} change at once"));
        }
        if let Some((id, _)) = after.iter().find(|(_, key)| self.retired.contains(*key)) {
            return Err(format!("at height {next} {id} votes with a key of before"));
        }
        let able =
            |id: &&String| members.organizations.iter().any(|o| o.id == **id && !o.entry_key.is_empty());
        if !is_quorum(after.keys().filter(able).count(), after.len()) {
            return Err(format!("at height {next} no quorum can sign entries"));
        }
        let what = changed.first().map(|id| match (before.get(*id), after.get(*id)) {
            (None, _) => "gets a vote",
            (_, None) => "loses its vote",
            _ => "has a new vote key",
        });
        self.retired.extend(changed.first().and_then(|id| before.get(*id)).cloned());
        self.named.insert(next, set);
        Ok(what)
    }

    /// Who voted on a block, by a validator's certificate over it.
    pub fn voted(
        &self,
        signer: &Signer,
        hash: &Hash,
        header: &Header,
        certificate: &Certificate,
    ) -> Result<(), String> {
        let height = header.height;
        let set = self.named.get(&height).ok_or(format!("nobody named a set for height {height}"))?;
        if header.validator_set_hash != validator_set_hash(CHAIN, set) {
            return Err(format!("the header of height {height} names another set than the state"));
        }
        let in_set = |key: &[u8]| set.validators.iter().any(|v| v.vote_key == key);
        if !in_set(&header.proposer) {
            return Err(format!("{} proposed {height}, without a vote", short(&header.proposer)));
        }
        let mut voters = BTreeSet::new();
        for signed in &certificate.signatures {
            let name = short(&signed.address);
            if !in_set(&signed.address) {
                return Err(format!("{name} voted at height {height}, without a vote"));
            }
            let address: Hash = signed.address.as_slice().try_into().map_err(|_| "an odd address")?;
            let signature = signed.signature.as_slice().try_into().map_err(|_| "an odd signature")?;
            let vote = precommit(height, certificate.round, hash, &address);
            if !signer.holds(address, vote_sign_bytes(CHAIN, &vote), signature) {
                return Err(format!("{name} did not sign its vote at height {height}"));
            }
            voters.insert(address);
        }
        match is_quorum(voters.len(), set.validators.len()) {
            true => Ok(()),
            false => Err(format!("{} of {} voted at height {height}", voters.len(), set.validators.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::consortium::Consortium;
    use assent_proto::ledger::v1::{CommitSignature, Validator};

    fn members(consortium: &Consortium) -> Membership {
        let genesis = &consortium.genesis;
        Membership {
            validators: Some(genesis.validators.clone()),
            organizations: genesis.organizations.clone(),
            ..Default::default()
        }
    }

    fn set(members: &mut Membership) -> &mut Vec<Validator> {
        &mut members.validators.as_mut().unwrap().validators
    }

    #[test]
    fn a_set_that_must_not_be_named_is_found() {
        let consortium = Consortium::new(5, 1);
        let fresh = || Sets::new(&consortium.genesis.validators);
        let unchanged = members(&consortium);
        let after = |change: &dyn Fn(&mut Membership)| {
            let mut next = unchanged.clone();
            change(&mut next);
            fresh().named(1, &next)
        };
        assert_eq!(after(&|_| {}), Ok(None));
        assert_eq!(after(&|m| drop(set(m).pop())), Ok(Some("loses its vote")));
        assert_eq!(after(&|m| set(m)[0].vote_key = vec![7; 32]), Ok(Some("has a new vote key")));
        let joins = Validator { organization: "org-4".into(), vote_key: vec![8; 32], power: 1 };
        assert_eq!(after(&|m| set(m).push(joins.clone())), Ok(Some("gets a vote")));
        assert!(after(&|m| set(m).truncate(2)).unwrap_err().contains("at once"));
        let stop = |m: &mut Membership| m.organizations.iter_mut().take(2).for_each(|o| o.entry_key.clear());
        assert!(after(&stop).unwrap_err().contains("no quorum"));

        let mut sets = fresh();
        let mut other = unchanged.clone();
        set(&mut other)[0].vote_key = vec![7; 32];
        sets.named(1, &other).unwrap();
        assert!(sets.named(1, &unchanged).unwrap_err().contains("two sets"));
        assert!(sets.named(2, &unchanged).unwrap_err().contains("key of before"));
        assert!(sets.named(9, &unchanged).unwrap_err().contains("nobody"));
    }

    #[test]
    fn who_votes_without_a_vote_is_found() {
        let consortium = Consortium::new(5, 1);
        let genesis = &consortium.genesis.validators;
        let sets = Sets::new(genesis);
        let (signer, hash) = (&consortium.signer, [9; 32]);
        let address = |who: usize| consortium.new_key(who, "vote", 0);
        let header = Header {
            height: 1,
            validator_set_hash: validator_set_hash(CHAIN, genesis).to_vec(),
            proposer: address(0).to_vec(),
            ..Default::default()
        };
        let signed = |who: usize| {
            let vote = precommit(1, 0, &hash, &address(who));
            let signature = signer.sign(address(who), vote_sign_bytes(CHAIN, &vote)).to_vec();
            CommitSignature { address: address(who).to_vec(), signature }
        };
        let judge = |header: &Header, who: &[usize]| {
            let signatures = who.iter().map(|who| signed(*who)).collect();
            sets.voted(signer, &hash, header, &Certificate { height: 1, signatures, ..Default::default() })
        };
        assert_eq!(judge(&header, &[0, 1, 2]), Ok(()));
        assert!(judge(&header, &[0, 1]).unwrap_err().contains("2 of 4"));
        assert!(judge(&header, &[0, 1, 1]).unwrap_err().contains("2 of 4"), "one voice, counted twice");
        assert!(judge(&header, &[0, 1, 2, 4]).unwrap_err().contains("without a vote"));
        let stranger = Header { proposer: address(4).to_vec(), ..header.clone() };
        assert!(judge(&stranger, &[0, 1, 2]).unwrap_err().contains("proposed"));
        let other = Header { validator_set_hash: vec![0; 32], ..header.clone() };
        assert!(judge(&other, &[0, 1, 2]).unwrap_err().contains("another set"));
        let later = Header { height: 2, ..header.clone() };
        assert!(judge(&later, &[0, 1, 2]).unwrap_err().contains("nobody"));
        let mut signatures: Vec<_> = [0, 1, 2].map(signed).into();
        signatures[2].signature[0] ^= 1;
        let forged = Certificate { height: 1, signatures, ..Default::default() };
        assert!(sets.voted(signer, &hash, &header, &forged).unwrap_err().contains("did not sign"));
    }
}
