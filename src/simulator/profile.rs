//! As whose API the simulator answers: the one that the reference page prints, or the one that current accounts meet.
//!
//! Owns where the two differ: what an id looks like, which fields are refused, what is filled in, and whether a call
//! has to say whom it is about in a header. The words of a refusal are `refusal`'s. Neither profile is proof of what
//! an account of yours gets: `api.md` says what is documented and what was only observed.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    behavior::Step,
    call::Fields,
    refusal::{Flaw, Refusal},
};

/// The fewest characters of a reference, by the reference page.
const REFERENCE_MIN: usize = 8;

/// What the API fills into an empty country code.
const COUNTRY_CODE: &str = "91";

/// As whose API the simulator answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// To the letter of the reference page: ids of lower case, plain errors, no lengths, no routing id.
    Page,
    /// As current accounts have it: ids of mixed case, errors with `error_info`, lengths, and a routing id on each call.
    #[default]
    Today,
}

impl Profile {
    /// Whether a call without `x-routing-id` is refused.
    pub(super) fn wants_routing_id(self) -> bool {
        self == Profile::Today
    }

    /// Whether merchants whose ids differ only in case are one merchant and a spelling mistake.
    pub(super) fn compares_case_of_merchants(self) -> bool {
        self == Profile::Today
    }

    /// Whether a Get that asks for a client token gets one.
    pub(super) fn has_token_on_get(self) -> bool {
        self == Profile::Today
    }

    /// Why a Create or an Update of these fields is refused. An Update has no reference of its own to judge.
    pub(super) fn refuses(self, step: Step, reference: &str, fields: &Fields) -> Option<Refusal> {
        match self {
            Profile::Page if step == Step::Create => refused_by_page(reference, fields),
            Profile::Page => None,
            Profile::Today => refused_today(step, reference, fields),
        }
    }

    /// Fills in what the API does not leave empty: on a Create also what was not sent.
    pub(super) fn complete(self, step: Step, fields: &mut Fields) {
        let code = &mut fields.mobile_country_code;
        let is_empty = code.as_ref().map_or(step == Step::Create, String::is_empty);
        if self == Profile::Today && is_empty {
            *code = Some(COUNTRY_CODE.to_owned());
        }
    }

    /// A prefix and sixteen characters: at least 82 bits, so two references never meet in one id.
    pub(super) fn customer_id(self, seed: u64, merchant: &str, reference: &str) -> Arc<str> {
        let (prefix, characters): (&str, &[u8]) = match self {
            Profile::Page => ("cst_", b"abcdefghijklmnopqrstuvwxyz0123456789"),
            Profile::Today => ("cth_", b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
        };
        let mut named = Vec::with_capacity(merchant.len() + reference.len() + 1);
        named.extend_from_slice(merchant.as_bytes());
        // A NUL is in no header, so no merchant and reference run together into another pair.
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

fn refused_by_page(reference: &str, fields: &Fields) -> Option<Refusal> {
    let number = fields.mobile_number.as_deref().unwrap_or_default();
    let short = reference.chars().count() < REFERENCE_MIN;
    let flaws = [
        ("object_reference_id", Flaw::Missing, reference.is_empty()),
        ("mobile_number", Flaw::Missing, number.is_empty()),
        ("object_reference_id", Flaw::TooShort, short),
    ];
    first(&flaws)
}

/// What was not sent is judged on a Create alone.
fn refused_today(step: Step, reference: &str, fields: &Fields) -> Option<Refusal> {
    let creates = step == Step::Create;
    let empty_number = fields.mobile_number.as_ref().map_or(creates, String::is_empty);
    let number = fields.mobile_number.as_deref().unwrap_or_default();
    let code = fields.mobile_country_code.as_deref().unwrap_or_default();
    let length = reference.chars().count();
    let exceeds =
        |field: &Option<String>, most| field.as_ref().is_some_and(|text| text.chars().count() > most);
    let flaws = [
        ("object_reference_id", Flaw::Missing, creates && length == 0),
        ("object_reference_id", Flaw::TooShort, creates && length < REFERENCE_MIN),
        ("object_reference_id", Flaw::TooLong, creates && length > 128),
        ("mobile_number", Flaw::Missing, empty_number),
        ("mobile_number", Flaw::Invalid, number.starts_with('-')),
        ("mobile_number", Flaw::TooLong, exceeds(&fields.mobile_number, 16)),
        ("email_address", Flaw::TooLong, exceeds(&fields.email_address, 128)),
        ("first_name", Flaw::TooLong, exceeds(&fields.first_name, 64)),
        ("last_name", Flaw::TooLong, exceeds(&fields.last_name, 64)),
        ("mobile_country_code", Flaw::Invalid, !code.bytes().all(|byte| byte.is_ascii_digit())),
        ("mobile_country_code", Flaw::TooLong, code.len() > 4),
    ];
    first(&flaws)
}

fn first(flaws: &[(&'static str, Flaw, bool)]) -> Option<Refusal> {
    let found = flaws.iter().find(|(.., is_there)| *is_there);
    found.map(|(field, flaw, _)| Refusal::Field(field, *flaw))
}
