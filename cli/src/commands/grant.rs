//! `assent grant`: records a consent, lifts a withdrawal, hands over to a new control key. Through any node, signed by the control
//! key, and only after everything that is signed was checked. Needs no client certificate.
//!
//! ```text
//! prepare ─▶ the custodian writes it down ─▶ opened and checked here ─▶ signed ─▶ commit
//! ```

use std::path::PathBuf;
use std::time::Duration;

use assent_ledger::consent::{import_consent, Imported};
use assent_ledger::entry::control_sign_bytes;
use assent_ledger::hash::sha256;
use assent_ledger::keys::{screen, sign};
use assent_proto::ledger::v1::Slot;
use assent_proto::v1::patient_service_client::PatientServiceClient;
use assent_proto::v1::{
    CommitGrantRequest, CommitGrantResponse, GetSlotRequest, Grant, PrepareGrantRequest, PrepareGrantResponse,
};
use prost::Message;
use serde_json::json;
use tonic::transport::Channel;

use crate::commands::custodian::json_file;
use crate::commands::opening::{is_for, open, Opened};
use crate::commands::status::{answer_json, answer_text};
use crate::commands::wallet::{ControlKey, Wallet};
use crate::connect::{self, Node, ServerArgs};
use crate::exit::{printable, Exit, Failure};
use crate::output::{fields, Report};
use crate::profile::{ChainArgs, Profile};
use crate::text;

/// How often the node's ledger is looked at until it is where the custodian's is, with a pause in between.
const MAX_LOOKS: usize = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often a commit whose outcome is unknown is asked for.
const MAX_COMMITS: usize = 3;

/// Arguments of `assent grant`.
#[derive(Debug, clap::Args)]
pub struct GrantArgs {
    /// Wallet
    #[arg(long, value_name = "FILE")]
    wallet: PathBuf,
    /// Organization that holds the records
    #[arg(long, value_name = "ID")]
    custodian: String,
    /// FHIR R4 Consent as JSON; absent, only lift a withdrawal
    #[arg(long, value_name = "FILE")]
    consent: Option<PathBuf>,
    /// Consent whose place the new one takes
    #[arg(long, value_name = "ID", requires = "consent")]
    supersedes: Vec<String>,
    /// Control key of the wallet that takes over, hex
    #[arg(long, value_name = "HEX")]
    new_key: Option<String>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    node: ServerArgs,
}

impl GrantArgs {
    /// Prepares, checks, signs, commits.
    pub fn run(&self, profile: &Profile) -> Result<Report, Failure> {
        let wallet = Wallet::load(&self.wallet)?;
        let control = wallet.control_key(&self.custodian, self.chain.resolve(profile)?)?;
        let (grant, imported) = self.grant()?;
        connect::run(async {
            let node = self.node.connect(profile).await?;
            Granting { client: PatientServiceClient::new(node.channel.clone()), node, control, grant }
                .run(imported.as_ref())
                .await
        })
    }

    /// What is granted, and what it means as this program reads it.
    fn grant(&self) -> Result<(Grant, Option<Imported>), Failure> {
        let consent = self.consent.as_deref().map(json_file).transpose()?;
        let imported = consent.as_deref().map(import_consent).transpose().map_err(|issues| {
            let all: Vec<_> = issues.iter().map(|i| format!("{} at {}", i.reason, i.expression)).collect();
            let what = format!("the Consent can't be imported without loss: {}", all.join(", "));
            Failure::usage("CONSENT_REFUSED", printable(&what)).help("`assent consent lint FILE` says more")
        })?;
        let new_control_key = match &self.new_key {
            Some(hex) => {
                let key = text::hash("--new-key", hex)?;
                screen(&key).map_err(|why| Failure::usage("BAD_CONTROL_KEY", format!("--new-key: {why}")))?;
                key.to_vec()
            }
            None => Vec::new(),
        };
        let consent = consent.unwrap_or_default();
        Ok((Grant { consent, supersedes: self.supersedes.clone(), new_control_key }, imported))
    }
}

struct Granting {
    client: PatientServiceClient<Channel>,
    node: Node,
    control: ControlKey,
    grant: Grant,
}

fn lie(why: &str) -> Failure {
    let what = format!("what the custodian asks to sign does not hold: {}", printable(why));
    Failure::verification("BAD_GRANT", what).help(
        "nothing was signed; ask through another node, and tell the custodian and the other organizations",
    )
}

impl Granting {
    async fn run(mut self, imported: Option<&Imported>) -> Result<Report, Failure> {
        let prepared = self.prepare().await?;
        let opened = open(&self.control, &self.grant, imported, &prepared).map_err(|why| lie(&why))?;
        let slot = self.slot_for(&prepared).await?;
        let committed = self.commit(&prepared, &opened).await?;
        let rules = imported.map(|imported| imported.sentences.as_slice()).unwrap_or_default();
        Ok(report(&self.control, &self.grant, &slot, &opened, rules, &committed))
    }

    async fn prepare(&mut self) -> Result<PrepareGrantResponse, Failure> {
        let method = format!("PrepareGrant/{}", hex::encode(sha256(&self.grant.encode_to_vec())));
        let request = PrepareGrantRequest {
            request_id: text::request_id(&None)?,
            proof: Some(self.control.proof(&method)),
            grant: Some(self.grant.clone()),
        };
        self.node.answer(self.client.prepare_grant(request)).await
    }

    /// The slot for which the custodian wants a signature, as this node has it.
    async fn slot_for(&mut self, prepared: &PrepareGrantResponse) -> Result<Slot, Failure> {
        for _ in 0..MAX_LOOKS {
            let request = GetSlotRequest { proof: Some(self.control.proof("GetSlot")) };
            let slot = self.node.answer(self.client.get_slot(request)).await?.slot.unwrap_or_default();
            if is_for(&slot, prepared) {
                return Ok(slot);
            }
            if slot.consent_seq > prepared.consent_seq {
                let what = "the custodian answered for an older state of the slot than this node has";
                return Err(Failure::new(Exit::Unavailable, "STALE_CONSENT_SEQUENCE", what)
                    .help("try again soon: the custodian's ledger lags, or a withdrawal came in between"));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(lie("it is for a state of the slot that this node's ledger has not reached"))
    }

    async fn commit(
        &mut self,
        prepared: &PrepareGrantResponse,
        opened: &Opened,
    ) -> Result<CommitGrantResponse, Failure> {
        let (control, key) = (&self.control, &self.grant.new_control_key);
        let message = control_sign_bytes(
            &control.chain_id,
            &control.custodian,
            &control.handle,
            prepared.consent_seq,
            &opened.commitment,
            (!key.is_empty()).then_some(key.as_slice()),
        );
        let signature = sign(&control.key, &message).to_vec();
        let request = CommitGrantRequest {
            // Named by what is signed: asking again while the outcome is unknown does not grant twice.
            request_id: hex::encode(&sha256(&signature)[..16]),
            custodian: control.custodian.clone(),
            handle: control.handle.to_vec(),
            commitment: opened.commitment.to_vec(),
            control_signature: signature,
            consent_seq: prepared.consent_seq,
            new_control_key: key.clone(),
        };
        let mut commits = 1;
        loop {
            match self.node.answer(self.client.commit_grant(request.clone())).await {
                Err(failure) if failure.reason == "COMMIT_UNKNOWN" && commits < MAX_COMMITS => commits += 1,
                outcome => return outcome,
            }
        }
    }
}

fn report(
    control: &ControlKey,
    grant: &Grant,
    slot: &Slot,
    opened: &Opened,
    rules: &[String],
    committed: &CommitGrantResponse,
) -> Report {
    let mut text = format!("granted at {}\n", control.custodian);
    if slot.frozen {
        text += "the withdrawal is lifted\n";
    }
    if let Some((id, revision)) = &opened.consent {
        text += &fields(&[("consent", format!("{}, revision {revision}", printable(id)))]);
    }
    if !grant.new_control_key.is_empty() {
        text += "from now on only the wallet with the new key signs here: assent wallet add it\n";
    }
    text += &fields(&[
        ("sequence", committed.consent_seq.to_string()),
        ("consents", opened.consents.to_string()),
        ("recorded", format!("height {}", committed.height)),
        ("ledger", answer_text(&committed.answer)),
    ]);
    for rule in rules {
        text += &format!("rule: {}\n", printable(rule));
    }
    let new_key = (!grant.new_control_key.is_empty()).then(|| hex::encode(&grant.new_control_key));
    let json = json!({
        "ok": true, "custodian": control.custodian, "lifted": slot.frozen,
        "consent_id": opened.consent.as_ref().map(|(id, _)| id),
        "revision": opened.consent.as_ref().map(|(_, revision)| revision),
        "rules": rules, "superseded": grant.supersedes, "consents": opened.consents, "new_control_key": new_key,
        "consent_seq": committed.consent_seq, "height": committed.height, "answer": answer_json(&committed.answer),
    });
    Report::ok(text, json)
}
