//! The parts of an answer that matter, as they may stand there.
//!
//! One odd field must not make the others unreadable: what is not there, or no text, is none.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::customer::Fields;

/// An answer, customer or error.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) customer_id: Text<'a>,
    // An alias would make an answer with both unreadable.
    #[serde(borrow, rename = "Customer_id")]
    pub(super) customer_id_of_table: Text<'a>,
    #[serde(borrow)]
    pub(super) object_reference_id: Text<'a>,
    #[serde(borrow)]
    pub(super) mobile_number: Text<'a>,
    #[serde(borrow)]
    pub(super) email_address: Text<'a>,
    #[serde(borrow)]
    pub(super) first_name: Text<'a>,
    #[serde(borrow)]
    pub(super) last_name: Text<'a>,
    #[serde(borrow)]
    pub(super) mobile_country_code: Text<'a>,
    #[serde(borrow)]
    pub(super) date_created: Text<'a>,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    #[serde(borrow)]
    pub(super) error_code: Text<'a>,
    #[serde(borrow)]
    pub(super) error_message: Text<'a>,
    #[serde(borrow)]
    pub(super) juspay_request_id: Text<'a>,
}

impl Body<'_> {
    /// In the order of a fingerprint.
    pub(super) fn facts(&self) -> [Option<&str>; Fields::FACTS.len()] {
        [
            &self.mobile_number,
            &self.email_address,
            &self.first_name,
            &self.last_name,
            &self.mobile_country_code,
        ]
        .map(Text::get)
    }
}

/// A JSON string that is not empty, or `None` for any other value.
#[derive(Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

impl Text<'_> {
    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        // A raw value is well-formed JSON; only a string begins with a quote.
        let escaped = raw.get().contains('\\');
        Ok(Text(match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !escaped => Some(Cow::Borrowed(plain)),
            Some(_) => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
            None => None,
        }))
    }
}
