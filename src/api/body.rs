//! The members of a response body that are read.
//!
//! One unexpected member must not make the others unreadable: a missing one, or one that is no text, counts as none.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::customer::Fields;

/// The maximum number of faulty fields that are read: a customer has seven.
const FIELDS_MAX: usize = 16;

/// A response body, customer or error.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) customer_id: Text<'a>,
    // An alias would make a body with both unreadable.
    #[serde(borrow, rename = "Customer_id")]
    pub(super) customer_id_of_table: Text<'a>,
    #[serde(borrow)]
    pub(super) object: Text<'a>,
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
    pub(super) user_message: Text<'a>,
    #[serde(borrow)]
    pub(super) juspay_request_id: Text<'a>,
    #[serde(borrow)]
    pub(super) error_info: ErrorInfo<'a>,
}

impl Body<'_> {
    /// The fields of the customer, in the order of a fingerprint.
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

    /// Whether it describes an error, whatever the HTTP status.
    pub(super) fn is_error(&self) -> bool {
        let info = &self.error_info;
        let words =
            [&self.error_code, &self.error_message, &info.code, &info.developer_message, &info.user_message];
        words.into_iter().any(|text| text.get().is_some())
            || self.status.get().is_some_and(|status| status.to_ascii_lowercase().contains("error"))
    }

    /// Whether the API may have written it: it has one of the members of the API's errors. A member that is null counts
    /// (the API writes such), a number does not: frameworks write `"status": 404`.
    pub(super) fn has_api_shape(&self) -> bool {
        let members = [
            &self.status,
            &self.error_code,
            &self.error_message,
            &self.user_message,
            &self.juspay_request_id,
        ];
        members.into_iter().any(|text| matches!(text, Text::Null | Text::String(_)))
            || self.error_info.is_there
    }
}

/// The error object of current accounts.
#[derive(Default)]
pub(super) struct ErrorInfo<'a> {
    is_there: bool,
    pub(super) code: Text<'a>,
    pub(super) user_message: Text<'a>,
    pub(super) developer_message: Text<'a>,
    pub(super) fields: Vec<ErrorField<'a>>,
}

/// One field that the API names as faulty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorField<'a> {
    #[serde(borrow)]
    pub(super) field_name: Text<'a>,
    #[serde(borrow)]
    pub(super) reason: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ErrorInfo<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorInfo<'a>, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members<'a> {
            #[serde(borrow)]
            code: Text<'a>,
            #[serde(borrow)]
            user_message: Text<'a>,
            #[serde(borrow)]
            developer_message: Text<'a>,
            #[serde(borrow)]
            fields: Option<&'a RawValue>,
        }
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        // Anything but an object counts as none; serde would read an array as the members in their order.
        if !raw.get().starts_with('{') {
            return Ok(ErrorInfo::default());
        }
        let members: Members<'a> = serde_json::from_str(raw.get()).unwrap_or_default();
        let fields =
            members.fields.and_then(|fields| serde_json::from_str::<Vec<&RawValue>>(fields.get()).ok());
        let fields = fields.unwrap_or_default().into_iter().filter(|field| field.get().starts_with('{'));
        Ok(ErrorInfo {
            is_there: true,
            code: members.code,
            user_message: members.user_message,
            developer_message: members.developer_message,
            fields: fields
                .filter_map(|field| serde_json::from_str(field.get()).ok())
                .take(FIELDS_MAX)
                .collect(),
        })
    }
}

/// A member that may be a text.
#[derive(Default)]
pub(super) enum Text<'a> {
    /// Nothing.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A JSON string.
    String(Cow<'a, str>),
    /// A value of another type.
    Other,
}

impl Text<'_> {
    /// The text, if it is not empty.
    pub(super) fn get(&self) -> Option<&str> {
        match self {
            Text::String(text) => Some(&**text).filter(|text| !text.is_empty()),
            Text::Absent | Text::Null | Text::Other => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        let raw = raw.get();
        // A raw value is well-formed JSON; only a string begins with a quote.
        Ok(match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Text::String(Cow::Borrowed(plain)),
            Some(_) => serde_json::from_str(raw).map_or(Text::Other, |text| Text::String(Cow::Owned(text))),
            None if raw == "null" => Text::Null,
            None => Text::Other,
        })
    }
}
