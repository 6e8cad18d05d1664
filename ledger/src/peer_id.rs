//! libp2p's names for Ed25519 keys: base58 of the identity multihash over the key's protobuf encoding, `12D3KooW...`
//! ([libp2p peer ids](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md)).

use crate::keys::PublicKey;

/// Multihash "identity" of 36 bytes, which are protobuf: key type Ed25519, then 32 bytes.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Longest peer id of an Ed25519 key, in bytes.
pub const MAX_PEER_ID_BYTES: usize = 52;

/// Name of a key.
pub fn peer_id(key: &PublicKey) -> String {
    bs58::encode([PREFIX.as_slice(), key].concat()).into_string()
}

/// Key of a name; none for anything but the one name of an Ed25519 key.
pub fn peer_key(peer_id: &str) -> Option<PublicKey> {
    if peer_id.len() > MAX_PEER_ID_BYTES {
        return None;
    }
    bs58::decode(peer_id).into_vec().ok()?.strip_prefix(&PREFIX)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_key() {
        // From the specification of libp2p: the peer id of an Ed25519 key.
        let id = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        let key = peer_key(id).unwrap();
        assert_eq!(peer_id(&key), id);
        assert!(peer_id(&[0xff; 32]).len() <= MAX_PEER_ID_BYTES);
        for bad in
            ["", "Qm", &id[1..], &format!("1{id}"), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "0OIl"]
        {
            assert_eq!(peer_key(bad), None, "{bad}");
        }
    }
}
