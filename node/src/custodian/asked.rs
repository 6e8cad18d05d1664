//! Why the glass is broken, as a request says it.

use assent_proto::ledger::v1::DataRequest;

/// Longest reason for breaking the glass, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// What is wrong with a reason, if anything; none given is fine.
pub fn check_reason(reason: &str) -> Result<(), &'static str> {
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err("the reason for breaking the glass has more than 500 characters");
    }
    if reason.chars().any(char::is_control) || reason.trim() != reason {
        return Err("the reason for breaking the glass holds a control character, or white space at an end");
    }
    Ok(())
}

/// True when a request gives a reason for breaking the glass.
pub(super) fn breaks_glass(request: &DataRequest) -> bool {
    !request.break_glass_reason.is_empty()
}
