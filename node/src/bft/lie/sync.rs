//! Lies to a peer that catches up.

use assent_ledger::certificate::{precommit, vote_sign_bytes};
use assent_ledger::keys::{sign, SigningKey};
use bytes::{BufMut, Bytes, BytesMut};
use bytesize::ByteSize;
use malachite_app_channel::app::types::codec::Codec;
use malachite_app_channel::app::types::core::ExtendedCommitSignature;
use malachite_app_channel::app::types::sync::{Response, Status};
use malachite_sync::ValueResponse;

use super::super::codec::WireCodec;
use super::super::scheme::Signature;
use super::super::types::{Address, BftContext, Height};
use super::{Answer, Liar, Lie, Said};

/// What a liar's own transport lets pass.
pub const LONGEST_LIE: ByteSize = ByteSize::mib(256);
/// Longer than what a peer's transport takes.
const ENDLESS_BYTES: usize = 64 << 20;
/// What the transport takes and the codec does not.
const LONG_BYTES: usize = 20 << 20;
/// Where absurd heights begin.
const ABSURD: u64 = 1 << 63;
/// Blocks in an answer to a question for at most five.
const MANY: usize = 50;

impl Liar {
    /// Its own tip, as it tells it.
    pub(super) fn status(&self, status: &Status<BftContext>) -> Said<Status<BftContext>> {
        match self.lie {
            Lie::Sync(Answer::Heights) => {
                Said::Instead(Status { tip_height: Height(ABSURD), ..status.clone() })
            }
            _ => self.unless_silent(),
        }
    }

    /// Blocks for one that catches up.
    pub(super) fn answer(&self, response: &Response<BftContext>) -> Said<Response<BftContext>> {
        let Lie::Sync(answer) = self.lie else {
            return self.unless_silent();
        };
        let Response::ValueResponse(asked) = response;
        if asked.values.is_empty() {
            return Said::Truth; // the peer is told that there is nothing
        }
        let told = self.count(asked.start_height.0);
        let (mut start, mut values) = (asked.start_height, asked.values.clone());
        match answer {
            Answer::Heights => {
                if told.is_multiple_of(2) {
                    start = Height(ABSURD);
                }
                for (value, n) in values.iter_mut().zip(0..) {
                    value.certificate.height = Height(ABSURD + n);
                }
            }
            Answer::Gap => drop(values.remove(values.len() / 2)),
            Answer::BadSignature => {
                let signatures = values[0].certificate.commit_signatures.first_mut();
                signatures.into_iter().for_each(|s| s.signature.0[0] ^= 1);
            }
            Answer::OldSet => {
                for value in &mut values {
                    let c = &mut value.certificate;
                    let round = c.round.as_u32().unwrap_or(0);
                    let signed = |seed: u8| {
                        let key = SigningKey::from_bytes(&[seed; 32]);
                        let address = key.verifying_key().to_bytes();
                        let vote = precommit(c.height.0, round, &c.value_id.0, &address);
                        let signature = sign(&key, &vote_sign_bytes(&self.chain_id, &vote));
                        ExtendedCommitSignature::new(Address(address), Signature(signature), None)
                    };
                    c.commit_signatures = (1..=4).map(signed).collect();
                }
            }
            Answer::Endless => match told % 3 {
                0 => return Said::Bytes(Bytes::from(vec![0; ENDLESS_BYTES])),
                1 => return self.long(response),
                _ => values = values.into_iter().cycle().take(MANY).collect(),
            },
        }
        Said::Instead(Response::ValueResponse(ValueResponse::new(start, values)))
    }

    /// The truth, and then more and more of it.
    fn long(&self, response: &Response<BftContext>) -> Said<Response<BftContext>> {
        let Ok(truth) = WireCodec::default().encode(response) else {
            return Said::Nothing;
        };
        let mut bytes = BytesMut::with_capacity(LONG_BYTES + truth.len());
        while bytes.len() < LONG_BYTES {
            bytes.put_slice(&truth);
        }
        Said::Bytes(bytes.freeze())
    }
}
