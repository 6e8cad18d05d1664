//! A consent on the command line: in a file as FHIR, or in few words as a directive.

use std::path::PathBuf;

use assent_proto::ledger::v1::{Grantor, LegalBasis};
use assent_proto::v1::{new_consent::Form, Directive, DirectiveScope, Effect, NewConsent};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use crate::commands::custodian::json_file;
use crate::exit::Failure;
use crate::text;

/// The law that a consent rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Basis {
    /// HIPAA authorization
    HipaaAuthorization,
    /// 42 CFR Part 2, treatment, payment, operations
    Part2Tpo,
    /// 42 CFR Part 2, a named recipient and purpose
    Part2Specific,
    /// GDPR, article 9(2)(a)
    GdprExplicitConsent,
    /// Paid by the patient: not to be told to plans
    SelfPayRestriction,
    /// A policy of the domain
    DomainPolicy,
}

impl From<Basis> for LegalBasis {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::HipaaAuthorization => Self::HipaaAuthorization,
            Basis::Part2Tpo => Self::Part2Tpo,
            Basis::Part2Specific => Self::Part2Specific,
            Basis::GdprExplicitConsent => Self::GdprExplicitConsent,
            Basis::SelfPayRestriction => Self::SelfPayRestriction,
            Basis::DomainPolicy => Self::DomainPolicy,
        }
    }
}

/// What a consent says. Exactly one of a file, a permit and a deny.
#[derive(Debug, clap::Args)]
pub struct ConsentArgs {
    /// FHIR R4 Consent as JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["permit", "deny"])]
    file: Option<PathBuf>,
    /// A directive that permits, with the conditions below
    #[arg(long, conflicts_with = "deny")]
    permit: bool,
    /// A directive that denies, with the conditions below
    #[arg(long)]
    deny: bool,
    /// To this organization of the network, repeatable
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    organization: Vec<String>,
    /// To this person, repeatable: Practitioner/x or SYSTEM|VALUE
    #[arg(long, value_name = "REF", conflicts_with = "file")]
    practitioner: Vec<String>,
    /// For this purpose of v3 ActReason, repeatable
    #[arg(long, value_name = "CODE", conflicts_with = "file")]
    purpose: Vec<String>,
    /// For this FHIR consent action, repeatable
    #[arg(long, value_name = "CODE", conflicts_with = "file")]
    action: Vec<String>,
    /// About this FHIR resource type, repeatable
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "file")]
    resource_types: Vec<String>,
    /// About records of this sensitivity, repeatable
    #[arg(long, value_name = "CODE", conflicts_with = "file")]
    sensitivity: Vec<String>,
    /// From this day or RFC 3339 moment on
    #[arg(long, value_name = "TIME", conflicts_with = "file")]
    from: Option<String>,
    /// Through this day, or before this RFC 3339 moment
    #[arg(long, value_name = "TIME", conflicts_with = "file")]
    until: Option<String>,
    /// Where the contrary holds, repeatable: KEY=VALUE,...
    ///
    /// Keys: organization, practitioner, purpose, action, type, sensitivity;
    /// such as 'sensitivity=PSY' or 'organization=birch,purpose=TREAT'
    #[arg(long, value_name = "SCOPE", conflicts_with = "file", verbatim_doc_comment)]
    except: Vec<String>,
    /// Take a scope in category, and known aliases of systems
    #[arg(long)]
    lenient: bool,
    /// Take the place of this consent, repeatable
    #[arg(long, value_name = "ID")]
    pub supersedes: Vec<String>,
    /// Law that it rests on, when the FHIR does not say it
    #[arg(long, value_enum, value_name = "BASIS", hide_possible_values = true)]
    legal_basis: Option<Basis>,
    /// SHA-256 of the signed form, hex
    #[arg(long, value_name = "HEX")]
    evidence: Option<String>,
    /// A minor's own, hidden from representatives
    #[arg(long)]
    confidential: bool,
    /// Who grants it for the patient: parent, guardian...
    #[arg(long, value_name = "TEXT", requires_all = ["authority_evidence", "authority_until"])]
    authority: Option<String>,
    /// SHA-256 of the evidence of that authority, hex
    #[arg(long, value_name = "HEX", requires = "authority")]
    authority_evidence: Option<String>,
    /// End of that authority: last day, or RFC 3339 moment
    #[arg(long, value_name = "TIME", requires = "authority")]
    authority_until: Option<String>,
}

impl ConsentArgs {
    /// True when neither a file nor a directive is given.
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && !self.permit && !self.deny
    }

    /// The consent; what the node judges is left to it.
    pub fn parse(&self) -> Result<NewConsent, Failure> {
        let form = match &self.file {
            Some(file) => Form::Fhir(json_file(file)?),
            None => Form::Directive(self.directive()?),
        };
        let evidence = self.evidence.as_ref().map(|hex| text::hash("--evidence", hex)).transpose()?;
        Ok(NewConsent {
            lenient: self.lenient,
            grantor: self.grantor()?,
            legal_basis: self.legal_basis.map_or(LegalBasis::Unspecified, LegalBasis::from).into(),
            evidence_sha256: evidence.map_or(Vec::new(), |hash| hash.to_vec()),
            confidential: self.confidential,
            form: Some(form),
        })
    }

    fn directive(&self) -> Result<Directive, Failure> {
        let effect = match (self.permit, self.deny) {
            (true, _) => Effect::Permit,
            (_, true) => Effect::Deny,
            (false, false) => {
                let what = "what the consent says is missing: give --file, --permit or --deny";
                return Err(Failure::usage("NO_CONSENT", what));
            }
        };
        let scope = DirectiveScope {
            organizations: self.organization.clone(),
            practitioners: self.practitioner.clone(),
            purposes: self.purpose.clone(),
            actions: self.action.clone(),
            resource_types: self.resource_types.clone(),
            sensitivity: self.sensitivity.clone(),
        };
        let from = self.from.as_ref().map(|text| moment("--from", text, false)).transpose()?;
        let until = self.until.as_ref().map(|text| moment("--until", text, true)).transpose()?;
        Ok(Directive {
            effect: effect.into(),
            scope: Some(scope),
            valid_from_ms: from.unwrap_or_default(),
            valid_until_ms: until.unwrap_or_default(),
            exceptions: self.except.iter().map(|text| exception(text)).collect::<Result<_, _>>()?,
        })
    }

    fn grantor(&self) -> Result<Option<Grantor>, Failure> {
        let (Some(authority), Some(evidence), Some(until)) =
            (&self.authority, &self.authority_evidence, &self.authority_until)
        else {
            return Ok(None);
        };
        Ok(Some(Grantor {
            authority: authority.clone(),
            evidence_sha256: text::hash("--authority-evidence", evidence)?.to_vec(),
            valid_until_ms: moment("--authority-until", until, true)?,
        }))
    }
}

/// A moment in milliseconds since 1970; of a day, its first moment, or the one behind its last.
fn moment(flag: &str, text: &str, is_end: bool) -> Result<u64, Failure> {
    let day = time::macros::format_description!("[year]-[month]-[day]");
    let days = i64::from(is_end);
    let at = match time::Date::parse(text, day) {
        Ok(date) => date.checked_add(time::Duration::days(days)).map(|date| date.midnight().assume_utc()),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok(),
    };
    let ms = at.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    // The protocol's 0 means none.
    ms.filter(|ms| *ms > 0).ok_or_else(|| {
        Failure::usage("MALFORMED_TIME", format!("{flag} must be YYYY-MM-DD or RFC 3339, not {text:?}"))
    })
}

fn exception(text: &str) -> Result<DirectiveScope, Failure> {
    let mut scope = DirectiveScope::default();
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let list = match key {
            "organization" => &mut scope.organizations,
            "practitioner" => &mut scope.practitioners,
            "purpose" => &mut scope.purposes,
            "action" => &mut scope.actions,
            "type" => &mut scope.resource_types,
            "sensitivity" => &mut scope.sensitivity,
            _ => {
                let what = format!("--except must be KEY=VALUE,..., not {text:?}");
                let help = "keys: organization, practitioner, purpose, action, type, sensitivity";
                return Err(Failure::usage("MALFORMED_EXCEPTION", what).help(help));
            }
        };
        if value.is_empty() {
            return Err(Failure::usage(
                "MALFORMED_EXCEPTION",
                format!("--except {text:?}: {key} has no value"),
            ));
        }
        list.push(value.to_owned());
    }
    Ok(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("f", "2027-01-01", false).unwrap(), 1_798_761_600_000);
        assert_eq!(moment("f", "2026-12-31", true).unwrap(), 1_798_761_600_000);
        assert_eq!(moment("f", "2027-01-01T01:00:00+01:00", true).unwrap(), 1_798_761_600_000);
        for bad in ["", "soon", "2027-13-01", "1969-12-31", "1970-01-01", "2027-01-01T00:00:00"] {
            assert_eq!(moment("f", bad, false).unwrap_err().reason, "MALFORMED_TIME", "{bad}");
        }
    }

    #[test]
    fn exceptions() {
        let scope =
            exception("organization=birch,organization=elm,practitioner=urn:x|7,type=Observation").unwrap();
        assert_eq!((scope.organizations.len(), scope.practitioners[0].as_str()), (2, "urn:x|7"));
        assert_eq!(scope.resource_types, ["Observation"]);
        for bad in ["", "PSY", "sensitivity=", "colour=blue", "purpose=TREAT,"] {
            assert_eq!(exception(bad).unwrap_err().reason, "MALFORMED_EXCEPTION", "{bad}");
        }
    }
}
