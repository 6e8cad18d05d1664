//! Asks for consent, at the recipient: signed once under the client's request id, and told to the custodian again each time
//! somebody wants to know where they stand.

use assent_ledger::hash::{framed, sha256, Context};
use assent_ledger::receipt::{ask_hash, sign_message};
use assent_ledger::Hash;
use assent_proto::ledger::v1::{ConsentAsk, ConsentAskState, Signed};
use prost::Message;

use super::Recipient;
use crate::chain::now_ms;
use crate::custodian::{blocking, fresh_bytes};
use crate::exchange::asks::{check_form, check_state, tell};
use crate::refusal::{Kind, Refusal};
use crate::vault::{AskWrite, OwnAsk, Pending, RequestRecord, MAX_OPEN_ASKS};

/// Time that a patient has to answer, unless the consent that is asked for ends before.
const ASK_LIFE_MS: u64 = 14 * 24 * 3_600_000;

/// What a client asks a patient for.
#[derive(Clone)]
pub struct NewAsk {
    /// Organization that holds the records.
    pub custodian: String,
    /// The patient there.
    pub patient: crate::custodian::PatientName,
    /// Purposes.
    pub purposes: Vec<String>,
    /// Consent actions; empty means access.
    pub actions: Vec<String>,
    /// Resource types; empty means any.
    pub resource_types: Vec<String>,
    /// End of the consent that is asked for.
    pub valid_until_ms: u64,
    /// Why, in words for the patient.
    pub reason: String,
}

opaque_debug!(NewAsk);

/// An ask by its id.
#[derive(Debug, Clone)]
pub struct AskMade {
    /// Its id.
    pub id: Hash,
    /// When it expires unanswered.
    pub not_after_ms: u64,
}

/// Where an own ask stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AskStanding {
    Pending,
    Granted,
    Expired,
}

fn unreadable() -> Refusal {
    Refusal::unavailable("NODE_FAILING", "a stored ask does not decode")
}

fn read(signed: &Signed) -> Result<ConsentAsk, Refusal> {
    ConsentAsk::decode(signed.body.as_slice()).map_err(|_| unreadable())
}

impl Recipient {
    /// Asks a patient for consent. A retry with the same request id tells the custodian the same ask again.
    pub async fn ask_consent(&self, client: &str, request_id: &str, new: NewAsk) -> Result<AskMade, Refusal> {
        self.must_be_fresh()?;
        let ask = self.ask_of(client, new)?;
        let body_hash = sha256(&framed(Context::Ask, "client", &[&ask.encode_to_vec()]));
        let guard = self.preparing.lock().await;
        let signed = match self.asked_before(client, request_id, &body_hash)? {
            Some(signed) => signed,
            None => blocking(|| self.prepare_ask(client, request_id, body_hash, ask))?,
        };
        drop(guard);
        let ask = read(&signed)?;
        let id = ask_hash(self.parts.chain_id(), &signed.body);
        self.ask_state(&ask.custodian, &id, &signed).await?;
        Ok(AskMade { id, not_after_ms: ask.not_after_ms })
    }

    /// What is asked, without what makes one ask of it: nonce and expiry.
    fn ask_of(&self, client: &str, new: NewAsk) -> Result<ConsentAsk, Refusal> {
        if self.parts.known(&new.custodian).is_none() {
            let message = format!("patient.custodian: {:?} is no member of this network", new.custodian);
            return Err(Refusal::invalid("UNKNOWN_CUSTODIAN", "patient.custodian", message));
        }
        let ask = ConsentAsk {
            chain_id: self.parts.chain_id().to_owned(),
            custodian: new.custodian,
            recipient: self.parts.organization.clone(),
            client: client.to_owned(),
            identifier_system: new.patient.system,
            identifier_value: new.patient.value,
            birth_date: new.patient.birth_date,
            purposes: new.purposes,
            actions: new.actions,
            resource_types: new.resource_types,
            valid_until_ms: new.valid_until_ms,
            reason: new.reason,
            nonce: Vec::new(),
            not_after_ms: 0,
        };
        check_form(&ask).map_err(|fault| Refusal::invalid("BAD_ASK", fault.field, fault.to_string()))?;
        Ok(ask)
    }

    /// Signs an ask and keeps it, under the request id and under its own.
    fn prepare_ask(
        &self,
        client: &str,
        request_id: &str,
        body_hash: Hash,
        ask: ConsentAsk,
    ) -> Result<Signed, Refusal> {
        let now_ms = now_ms();
        if ask.valid_until_ms <= now_ms {
            let message = "valid_until_ms: the consent that is asked for would be over already";
            return Err(Refusal::invalid("BAD_ASK", "valid_until_ms", message));
        }
        let ask = ConsentAsk {
            nonce: fresh_bytes().to_vec(),
            not_after_ms: ask.valid_until_ms.min(now_ms + ASK_LIFE_MS),
            ..ask
        };
        let (vault, chain_id) = (&self.parts.vault, self.parts.chain_id());
        let patient = [&ask.custodian, &ask.identifier_system, &ask.identifier_value, &ask.birth_date]
            .map(String::as_str);
        if !vault.may_ask(patient, now_ms)? {
            // Counted here, whether anybody knows the patient or not.
            let message = format!(
                "this organization has {MAX_OPEN_ASKS} asks open for this patient: wait until some are over"
            );
            return Err(Refusal::new(Kind::ResourceExhausted, "TOO_MANY_ASKS", message));
        }
        let (organization, key) = (&self.parts.organization, &self.parts.entry_key());
        let signed = sign_message(Context::Ask, chain_id, organization, key, ask.encode_to_vec());
        let id = ask_hash(chain_id, &signed.body);
        let own = OwnAsk { client: client.to_owned(), signed: signed.clone() };
        let reply = signed.encode_to_vec();
        let record = RequestRecord { body_hash, reply, entry_hash: None, created_ms: now_ms };
        let not_after_ms = ask.not_after_ms;
        vault.put_pending(&[
            Pending::Asks(AskWrite::Own { id: &id, ask: &own, patient, now_ms, not_after_ms }),
            Pending::Request { client, request_id, record: &record },
        ])?;
        Ok(signed)
    }

    /// Where an ask of this client stands, as the custodian says it now. Other clients' asks are not found.
    pub async fn own_ask(&self, client: &str, id: &Hash) -> Result<(AskStanding, AskMade), Refusal> {
        self.must_be_fresh()?;
        let own = blocking(|| self.parts.vault.own_ask(id))?.filter(|own| own.client == client);
        let own = own.ok_or_else(|| {
            Refusal::new(Kind::NotFound, "ASK_NOT_FOUND", "this client has not asked this through this node")
        })?;
        let ask = read(&own.signed)?;
        let state = self.ask_state(&ask.custodian, id, &own.signed).await?;
        let is_over = self.parts.tip().time_ms.max(now_ms()) > ask.not_after_ms;
        let standing = match (state.granted, is_over) {
            (true, _) => AskStanding::Granted,
            (false, true) => AskStanding::Expired,
            (false, false) => AskStanding::Pending,
        };
        Ok((standing, AskMade { id: *id, not_after_ms: ask.not_after_ms }))
    }

    /// What the custodian says about an ask, checked.
    async fn ask_state(&self, custodian: &str, id: &Hash, ask: &Signed) -> Result<ConsentAskState, Refusal> {
        let state = if custodian == self.parts.organization {
            self.custodian.take_ask(custodian, ask.clone()).await?
        } else if let Some(peers) = &self.parts.peers {
            tell(peers, custodian, ask).await?
        } else {
            let message = "this node runs alone and has no peers";
            return Err(Refusal::unavailable("CUSTODIAN_UNREACHABLE", message));
        };
        check_state(&self.parts, custodian, id, &state)
    }
}
