//! What the patient sees: all n of n accesses, with proof that none is left out.

use assent_ledger::Hash;
use assent_proto::ledger::v1::{AccessEvent, AccessHistory};
use prost::Message;

use super::{blocking, Custodian};
use crate::chain::pinned::Heights;
use crate::chain::receipts::StartAt;
use crate::chain::View;
use crate::refusal::{Kind, Refusal};

impl Custodian {
    /// Encoded `AccessHistory` of a subject at this custodian.
    pub async fn history(&self, handle: Hash, start: StartAt) -> Result<Vec<u8>, Refusal> {
        blocking(|| Ok(self.history_in(&self.parts.store.view()?, &handle, start)?.encode_to_vec()))
    }

    /// A subject's history as one view of the ledger has it.
    pub(super) fn history_in(
        &self,
        view: &View<'_>,
        handle: &Hash,
        start: StartAt,
    ) -> Result<AccessHistory, Refusal> {
        let not_found = || Refusal::new(Kind::NotFound, "SLOT_NOT_FOUND", "no such slot, or not yours");
        let slot = view.slot(self.organization(), handle)?.ok_or_else(not_found)?;
        let incomplete = || {
            Refusal::unavailable(
                "HISTORY_INCOMPLETE",
                "the custodian's vault lacks an access event: its operator must restore it",
            )
        };
        let genesis = &self.parts.genesis;
        let (mut found, mut heights) = (Vec::new(), Vec::new());
        for n in 1..=slot.access_seq {
            let place = view.access_place(self.organization(), handle, n)?;
            let place = match (place, view.own_gap()?) {
                (Some(place), _) => place,
                (None, Some((height, _))) => return Err(Refusal::pruned(height, view.whole_from()?)),
                (None, None) => return Err(incomplete()),
            };
            let commitment: Hash = place.commitment.as_slice().try_into().map_err(|_| incomplete())?;
            let access = self.parts.vault.access(&commitment)?.ok_or_else(incomplete)?;
            let decided = AccessEvent::decode(access.event.as_slice()).map_err(|_| incomplete())?.height;
            heights.push(Heights { recorded: place.height, decided });
            found.push((place, access));
        }
        let tip = view.tip.height;
        let pin = match start {
            StartAt::Genesis => None,
            StartAt::Checkpoint(size) => Some(view.pin(genesis, size, tip, &heights)?),
        };
        let shown = |(place, access)| view.history_access(genesis, &place, access, pin);
        let accesses = found.into_iter().map(shown).collect::<Result<_, _>>()?;
        Ok(AccessHistory {
            custodian: self.organization().to_owned(),
            handle: handle.to_vec(),
            state_proof: view.prove_slot(self.organization(), handle, Some(&slot))?,
            slot: Some(slot),
            anchor: Some(view.anchor_from(genesis, tip, pin)?),
            accesses,
        })
    }
}
