//! A client's own accesses: what it got through this node, for its own records.

use assent_ledger::entry::entry_hash;
use assent_ledger::Hash;
use assent_proto::ledger::v1::{receipt, AccessEvent, Header, Receipt, Signed};
use prost::Message;

use super::Recipient;
use crate::custodian::blocking;
use crate::refusal::Refusal;
use crate::vault::OwnAccess;

/// Accesses on a page when the client names no number.
const DEFAULT_PAGE: usize = 50;
/// Most accesses on a page: at the most that a query holds, such a page stays below the 4 MiB that gRPC clients take.
const MAX_PAGE: usize = 500;
/// Longest page token.
const MAX_TOKEN_BYTES: usize = 256;

impl Recipient {
    /// A page of a client's own accesses, newest first, and the token for the next; empty when there is none.
    pub fn accesses(
        &self,
        client: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<OwnAccess>, String), Refusal> {
        let vault = &self.parts.vault;
        let after = match page_token {
            "" => None,
            token if token.len() > MAX_TOKEN_BYTES => return Err(bad_token()),
            token => Some(vault.read_page_token(client, token).ok_or_else(bad_token)?),
        };
        let size = match page_size {
            0 => DEFAULT_PAGE,
            size => MAX_PAGE.min(size as usize),
        };
        let (accesses, last) = blocking(|| vault.own_accesses(client, after, size))?;
        let next = last.map(|last| vault.page_token(client, last)).transpose()?.unwrap_or_default();
        Ok((accesses, next))
    }

    /// The line of history for a checked receipt.
    pub(super) fn own_access(
        &self,
        request_id: &str,
        hash: &Hash,
        request: &Signed,
        receipt: &Receipt,
    ) -> Result<OwnAccess, Refusal> {
        let broken = || Refusal::unavailable("BAD_ANSWER", "a receipt that does not decode");
        let (Some(anchor), Some(receipt::Claim::Access(claim))) = (&receipt.anchor, &receipt.claim) else {
            return Err(broken());
        };
        let event = AccessEvent::decode(claim.event.as_slice()).map_err(|_| broken())?;
        let header = Header::decode(anchor.header.as_slice()).map_err(|_| broken())?;
        Ok(OwnAccess {
            request_id: request_id.to_owned(),
            request_hash: *hash,
            request: request.body.clone(),
            outcome: event.outcome,
            resources: event.resources,
            height: header.height,
            time_ms: header.time_ms,
            entry_hash: entry_hash(self.parts.chain_id(), &claim.entry),
        })
    }
}

fn bad_token() -> Refusal {
    Refusal::invalid(
        "BAD_PAGE_TOKEN",
        "page_token",
        "page_token: not one that this node gave this client: start again without",
    )
}
