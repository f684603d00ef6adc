//! The variant of the API that is simulated: that of the reference page, or that of current accounts.
//!
//! Owns the differences between the two: ids, defaults, tokens and required headers. Which fields are refused, and
//! with which text, is in `refusal`. Neither profile proves how the API responds for a particular account: the one of the
//! reference page is documented, the other one was only observed.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::record::{Endpoint, SentFields};

/// The default of an empty country code.
const COUNTRY_CODE: &str = "91";

/// The variant of the API that is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Exactly as on the reference page: ids of lower case, plain errors, no lengths, no routing id.
    Page,
    /// As for current accounts: ids of mixed case, errors with `error_info`, lengths, and a routing id on each call.
    #[default]
    Today,
}

impl Profile {
    /// Whether a call without `x-routing-id` is refused.
    pub(super) fn requires_routing_id(self) -> bool {
        self == Profile::Today
    }

    /// Whether a merchant id that differs only in case from a known one is refused.
    pub(super) fn compares_case_of_merchants(self) -> bool {
        self == Profile::Today
    }

    /// Whether a Get can request a client token.
    pub(super) fn has_token_on_get(self) -> bool {
        self == Profile::Today
    }

    /// Fills in defaults: of empty fields, and on a Create also of fields that were not sent.
    pub(super) fn complete(self, endpoint: Endpoint, fields: &mut SentFields) {
        let code = &mut fields.mobile_country_code;
        let is_empty = code.as_ref().map_or(endpoint == Endpoint::Create, String::is_empty);
        if self == Profile::Today && is_empty {
            *code = Some(COUNTRY_CODE.to_owned());
        }
    }

    /// A prefix and sixteen characters: at least 82 bits, so two references never share an id.
    pub(super) fn customer_id(self, seed: u64, merchant: &str, reference: &str) -> Arc<str> {
        let (prefix, characters): (&str, &[u8]) = match self {
            Profile::Page => ("cst_", b"abcdefghijklmnopqrstuvwxyz0123456789"),
            Profile::Today => ("cth_", b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
        };
        let mut named = Vec::with_capacity(merchant.len() + reference.len() + 1);
        named.extend_from_slice(merchant.as_bytes());
        // No header contains a NUL, so two different pairs of merchant and reference never concatenate to the same bytes.
        named.push(0);
        named.extend_from_slice(reference.as_bytes());
        let mut hash = xxh3_128_with_seed(&named, seed);
        let mut id = String::with_capacity(20);
        id.push_str(prefix);
        let count = characters.len() as u128;
        for _ in 0..16 {
            id.push(char::from(characters[(hash % count) as usize]));
            hash /= count;
        }
        id.into()
    }
}
