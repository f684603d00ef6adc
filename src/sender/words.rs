//! Replies in words, for who asks why nothing goes on. Never a customer's field: the API's words are bounded and
//! kept from repeating the key where they are read.

use super::verdict::trouble_of;
use crate::{
    api::{Answer, Reply},
    ledger::RowError,
};

/// What a bad answer was.
pub(super) fn trouble_in_words(reply: &Reply) -> String {
    let RowError { message, http_status, .. } = trouble_of(reply);
    match (http_status, message) {
        (Some(status), Some(message)) => format!("HTTP {status}, {message}"),
        (Some(status), None) => format!("HTTP {status}"),
        (None, message) => message.unwrap_or_default(),
    }
}

/// The pause that the API asked for, before it was capped.
pub(super) fn asked_in_words(reply: &Reply) -> String {
    match reply {
        Reply::Answer(Answer { retry_after: Some(asked), .. })
        | Reply::Foreign(Answer { retry_after: Some(asked), .. }) => format!("{} s", asked.as_secs_f64()),
        _ => "nothing".into(),
    }
}
