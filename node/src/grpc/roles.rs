//! Roles of clients, and which of them may call which method.

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    Crm,
    Ehr,
    Portal,
    Registrar,
    Officer,
    Auditor,
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] =
        [Self::Crm, Self::Ehr, Self::Portal, Self::Registrar, Self::Officer, Self::Auditor, Self::Operator];

    /// The name in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crm => "crm",
            Self::Ehr => "ehr",
            Self::Portal => "portal",
            Self::Registrar => "registrar",
            Self::Officer => "officer",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

/// Which role may call which method: the only place. A method that isn't here is refused.
///
/// Methods of [`CONTROL_KEY_ONLY`] need no certificate but a signature by the control key; `GetHistory`, `GetPack`,
/// `ListNotices`, `GetSlotReceipt` and `GetAccessReceipt` take either.
pub const ROLES: &[(&str, &[Role])] = &[
    ("SubjectService/CreateSubject", &[Role::Registrar]),
    ("SubjectService/ImportSubjects", &[Role::Registrar]),
    ("RecordService/LoadRecords", &[Role::Ehr]),
    ("ConsentService/ImportConsent", &[Role::Portal]),
    ("ConsentService/RecordConsent", &[Role::Portal, Role::Officer]),
    ("ConsentService/PreviewConsent", &[Role::Portal, Role::Officer]),
    ("ConsentService/GetConsent", &[Role::Portal, Role::Officer]),
    ("ConsentService/ListConsents", &[Role::Portal, Role::Officer]),
    ("ConsentService/ListConsentRevisions", &[Role::Portal, Role::Officer]),
    ("ConsentService/ExportConsent", &[Role::Portal, Role::Officer]),
    ("ConsentService/WatchConsents", &[Role::Portal, Role::Officer]),
    ("ConsentService/RevokeConsent", &[Role::Portal]),
    ("ConsentService/SetContactPreferences", &[Role::Portal]),
    ("ConsentService/ListConsentAsks", &[Role::Portal]),
    ("ConsentService/AnswerConsentAsk", &[Role::Portal]),
    ("ConsentService/MarkConsentError", &[Role::Officer]),
    ("ConsentService/AskConsent", &[Role::Crm, Role::Ehr]),
    ("ConsentService/GetConsentAsk", &[Role::Crm, Role::Ehr]),
    ("PolicyService/SetPolicy", &[Role::Officer]),
    ("PolicyService/GetPolicy", &[Role::Officer]),
    ("ReviewService/ListReviews", &[Role::Officer]),
    ("ReviewService/CloseReview", &[Role::Officer]),
    ("DecisionService/CheckConsent", &[Role::Crm, Role::Ehr]),
    ("DecisionService/BatchCheckConsent", &[Role::Crm, Role::Ehr]),
    ("DecisionService/CheckCohort", &[Role::Crm, Role::Ehr]),
    ("DecisionService/CheckOutreach", &[Role::Crm, Role::Ehr]),
    ("DecisionService/ExplainDecision", &[Role::Officer]),
    ("DecisionService/OpenDecisions", &[Role::Officer]),
    ("ExchangeService/RequestRecords", &[Role::Crm, Role::Ehr]),
    ("ExchangeService/VerifyRecords", &[Role::Crm, Role::Ehr]),
    ("ExchangeService/ListAccesses", &[Role::Crm, Role::Ehr]),
    ("AuditService/ExportLedger", &[Role::Auditor, Role::Operator]),
    ("AuditService/GetBlock", &[Role::Auditor, Role::Operator]),
    ("ReceiptService/GetSlotReceipt", &[Role::Portal, Role::Officer, Role::Auditor]),
    ("ReceiptService/GetAccessReceipt", &[Role::Crm, Role::Ehr, Role::Portal, Role::Officer]),
    ("ReceiptService/GetDecisionReceipt", &[Role::Crm, Role::Ehr]),
    ("GovernanceService/Propose", &[Role::Operator]),
    ("GovernanceService/Approve", &[Role::Operator]),
    ("GovernanceService/Suspend", &[Role::Operator]),
    ("GovernanceService/RotateKey", &[Role::Operator]),
    ("GovernanceService/SetAddresses", &[Role::Operator]),
    ("GovernanceService/GetMembership", &Role::ALL),
    ("NodeService/GetStatus", &Role::ALL),
    ("PatientService/GetHistory", &[Role::Portal]),
    ("PatientService/GetPack", &[Role::Portal]),
    ("PatientService/ListNotices", &[Role::Portal]),
    ("PatientService/ReplaceControlKey", &[Role::Registrar]),
];

/// Methods that the control key alone opens.
pub const CONTROL_KEY_ONLY: &[&str] = &[
    "PatientService/GetSlot",
    "PatientService/Withdraw",
    "PatientService/PrepareGrant",
    "PatientService/CommitGrant",
    "PatientService/CancelReplacement",
];

/// What the operator of an organization may call that is no member yet: how its node stands, and who the members are.
pub const APPLICANT: &[&str] = &["NodeService/GetStatus", "GovernanceService/GetMembership"];

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Every method of the services stands in exactly one of the two tables.
    #[test]
    fn no_method_is_forgotten() {
        let set = prost_types::FileDescriptorSet::decode(assent_proto::DESCRIPTORS).unwrap();
        let mut methods = Vec::new();
        for file in set.file.iter().filter(|f| f.package() == "assent.v1") {
            for service in &file.service {
                methods.extend(service.method.iter().map(|m| format!("{}/{}", service.name(), m.name())));
            }
        }
        assert!(methods.len() > 10);
        for method in &methods {
            let with_role = ROLES.iter().filter(|(name, _)| name == method).count();
            let without = CONTROL_KEY_ONLY.iter().filter(|name| *name == method).count();
            assert_eq!(with_role + without, 1, "{method}");
        }
        assert_eq!(methods.len(), ROLES.len() + CONTROL_KEY_ONLY.len());
    }
}
