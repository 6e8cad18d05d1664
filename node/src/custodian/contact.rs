//! By which channels a patient wants to be contacted, and for what. Committed to beside the consents, and judged only here: a
//! recipient hears a permit or the one answer that it is not released.

use assent_ledger::hash::{framed, sha256, Context};
use assent_proto::ledger::v1::{ContactPreferences, DataRequest};
use prost::Message;

use super::changing::{Reply, Write};
use super::{fresh_bytes, Custodian, PatientName};
use crate::refusal::Refusal;
use crate::vault::ContactRecord;

/// The channels.
pub const CHANNELS: [&str; 5] = ["sms", "email", "phone", "post", "app"];
/// Alone in a list: by none.
pub const NO_CHANNEL: &str = "none";

/// What a patient is contacted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outreach {
    Reminder,
    Survey,
    Campaign,
}

impl Outreach {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Reminder, Self::Survey, Self::Campaign];

    /// The purpose that is decided on. Each kind has one of its own: a signed request says the kind by its purpose.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Reminder => "PATADMIN",
            Self::Survey => "HQUALIMP",
            Self::Campaign => "HMARKT",
        }
    }

    fn of_purpose(purpose: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.purpose() == purpose)
    }

    fn channels(self, preferences: &ContactPreferences) -> &[String] {
        match self {
            Self::Reminder => &preferences.reminder,
            Self::Survey => &preferences.survey,
            Self::Campaign => &preferences.campaign,
        }
    }
}

/// Checks a list of channels as a patient's portal writes it.
pub fn check_channels(channels: &[String]) -> Result<(), String> {
    for (n, channel) in channels.iter().enumerate() {
        if channel == NO_CHANNEL && channels.len() > 1 {
            return Err("\"none\" means by none, and stands alone".to_owned());
        }
        if channel != NO_CHANNEL && !CHANNELS.contains(&channel.as_str()) {
            return Err(format!("number {} is not one of {}, none", n + 1, CHANNELS.join(", ")));
        }
        if channels.iter().take(n).any(|earlier| earlier == channel) {
            return Err(format!("number {} stands there twice", n + 1));
        }
    }
    Ok(())
}

/// What a request that names a channel must look like: it releases nothing, and its purpose says what for.
pub(super) fn outreach_form(request: &DataRequest) -> Result<(), &'static str> {
    if !CHANNELS.contains(&request.outreach_channel.as_str()) {
        return Err("the request names an unknown channel");
    }
    match Outreach::of_purpose(&request.purpose) {
        Some(_) if request.check_only && request.break_glass_reason.is_empty() => Ok(()),
        _ => Err("the request names a channel and is no question about outreach"),
    }
}

/// True unless a request would contact the patient in a way that they don't want. No preference allows any channel.
pub(super) fn contact_allows(contact: Option<&ContactRecord>, request: &DataRequest) -> bool {
    if request.outreach_channel.is_empty() {
        return true;
    }
    let (Some(kind), Some(contact)) = (Outreach::of_purpose(&request.purpose), contact) else {
        return contact.is_none();
    };
    let wanted = kind.channels(&contact.preferences);
    wanted.is_empty() || wanted.contains(&request.outreach_channel)
}

impl Custodian {
    /// Records by which channels a patient wants to be contacted: consent sequence after it, and height.
    pub async fn set_contact(
        &self,
        client: &str,
        request_id: &str,
        patient: PatientName,
        preferences: ContactPreferences,
    ) -> Result<(u64, u64), Refusal> {
        let name = [&patient.system, &patient.value, &patient.birth_date].map(|s| s.as_bytes());
        let lists = preferences.encode_to_vec();
        let body_hash = sha256(&framed(Context::Handle, "contact", &[name[0], name[1], name[2], &lists]));
        let write = Write { client, request_id, body_hash };
        let prepare = || {
            let mut opened = self.open_patient(&self.parts.store.view()?, &patient)?;
            let contact = opened.set.contact.as_ref();
            let preferences = ContactPreferences {
                custodian: self.organization().to_owned(),
                handle: opened.subject.handle.to_vec(),
                revision: contact.map_or(0, |c| c.preferences.revision) + 1,
                ..preferences
            };
            opened.set.contact = Some(ContactRecord { preferences, salt: fresh_bytes() });
            self.queue_set(write, opened, None, Reply::default())
        };
        let (reply, height) = self.change(write, prepare).await?;
        Ok((reply.consent_seq, height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn lists_of_channels() {
        for good in [&[][..], &["none"], &["sms"], &["app", "post", "phone", "email", "sms"]] {
            assert_eq!(check_channels(&texts(good)), Ok(()), "{good:?}");
        }
        for bad in
            [&["none", "sms"][..], &["sms", "none"], &["none", "none"], &["sms", "sms"], &["fax"], &[""]]
        {
            assert!(check_channels(&texts(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_preference_is_for_its_kind_and_none_allows_all() {
        let request = |purpose: &str, channel: &str| DataRequest {
            purpose: purpose.into(),
            outreach_channel: channel.into(),
            check_only: true,
            ..Default::default()
        };
        let preferences = ContactPreferences {
            reminder: texts(&["sms"]),
            campaign: texts(&["none"]),
            ..Default::default()
        };
        let contact = ContactRecord { preferences, salt: [0; 32] };
        let allows = |purpose, channel| contact_allows(Some(&contact), &request(purpose, channel));
        assert!(allows("PATADMIN", "sms") && !allows("PATADMIN", "email"));
        assert!(allows("HQUALIMP", "email") && allows("HQUALIMP", "post"));
        assert!(!allows("HMARKT", "sms") && !allows("TREAT", "sms"));
        // What is no outreach is none of this.
        assert!(allows("TREAT", "") && allows("HMARKT", ""));
        assert!(contact_allows(None, &request("HMARKT", "sms")));

        assert_eq!(outreach_form(&request("PATADMIN", "sms")), Ok(()));
        assert!(outreach_form(&request("TREAT", "sms")).is_err());
        assert!(outreach_form(&request("PATADMIN", "none")).is_err());
        let release = DataRequest { check_only: false, ..request("PATADMIN", "sms") };
        assert!(outreach_form(&release).is_err());
    }
}
