//! Salted commitments, the Merkle map of a subject's consents, and the hash chain over accesses.

use crate::hash::{hash, Context, Hash};
use crate::log::{leaf_hash, root_of};

/// Commitment to the exact bytes of something, under a fresh 32-byte salt.
pub fn commit(context: Context, chain_id: &str, salt: &[u8; 32], bytes: &[u8]) -> Hash {
    hash(context, chain_id, &[salt, bytes])
}

/// One consent in a subject's map: its id and the commitment of its latest revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsentLeaf {
    /// Consent id.
    pub id: String,
    /// Commitment to the latest revision.
    pub commitment: Hash,
}

/// Commitment to *all* consents of a subject, salted when there is none too: opening it shows that nothing is left out.
/// `leaves` are sorted by id here; ids must be distinct.
pub fn slot_commitment(chain_id: &str, salt: &[u8; 32], leaves: &[ConsentLeaf]) -> Hash {
    let mut leaves: Vec<&ConsentLeaf> = leaves.iter().collect();
    leaves.sort();
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| consent_leaf_hash(chain_id, leaf)).collect();
    slot_commitment_of(chain_id, salt, hashes.len() as u64, &root_of(&hashes))
}

/// Leaf of one consent in the map.
pub fn consent_leaf_hash(chain_id: &str, leaf: &ConsentLeaf) -> Hash {
    leaf_hash(&hash(Context::ConsentMap, chain_id, &[leaf.id.as_bytes(), &leaf.commitment]))
}

/// [`slot_commitment`] of a map of which only number and root of the leaves are known.
pub fn slot_commitment_of(chain_id: &str, salt: &[u8; 32], count: u64, root: &Hash) -> Hash {
    hash(Context::SlotCommitment, chain_id, &[salt, &count.to_be_bytes(), root])
}

/// The access head after access number `n`: with all n commitments a patient sees that nothing was left out.
pub fn next_access_head(chain_id: &str, head: Option<&[u8]>, n: u64, commitment: &[u8]) -> Hash {
    hash(Context::AccessHead, chain_id, &[head.unwrap_or_default(), &n.to_be_bytes(), commitment])
}

/// RFC 6962 root over the SHA-256 digests of released resources, in order.
pub fn digests_root<'a>(resources: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let digests: Vec<Hash> = resources.into_iter().map(crate::hash::sha256).collect();
    root_of_digests(&digests)
}

/// [`digests_root`] for who has the digests alone.
pub fn root_of_digests(digests: &[Hash]) -> Hash {
    root_of(&digests.iter().map(|digest| leaf_hash(digest)).collect::<Vec<_>>())
}

/// The subject's handle: a PRF of a per-subject secret, so that handles can't be linked by their bytes.
pub fn handle(chain_id: &str, custodian: &str, subject_secret: &[u8; 32]) -> Hash {
    hash(Context::Handle, chain_id, &[subject_secret, custodian.as_bytes()])
}
