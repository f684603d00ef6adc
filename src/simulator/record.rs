//! The records that the simulator's other parts share: what a request names and sends, and a customer.
//!
//! Plain data, so that no two of those parts need each other.

use std::{mem, sync::Arc, time::SystemTime};

/// The endpoint that a request calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST …/customers`.
    Create,
    /// `GET …/customers/{id}`.
    Get,
    /// `POST …/customers/{id}`.
    Update,
    /// Anything else: an unknown path, a wrong method.
    Other,
}

/// The fields of a request; `None` was not sent.
#[derive(Debug, Default)]
pub(super) struct SentFields {
    pub(super) object_reference_id: Option<String>,
    pub(super) mobile_country_code: Option<String>,
    pub(super) mobile_number: Option<String>,
    pub(super) email_address: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) client_auth_token: bool,
}

/// A customer as the API stores it; an absent field is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// A prefix and sixteen letters or digits, which depend on the profile.
    pub id: Arc<str>,
    /// The merchant's reference.
    pub object_reference_id: Arc<str>,
    /// As it was sent, or as the profile fills it in.
    pub mobile_country_code: String,
    /// As it was sent.
    pub mobile_number: String,
    /// As it was sent.
    pub email_address: String,
    /// As it was sent.
    pub first_name: String,
    /// As it was sent.
    pub last_name: String,
    /// When it was created.
    pub date_created: SystemTime,
    /// When it was created or last updated.
    pub last_updated: SystemTime,
    /// Number of Creates that created it; any number but 1 is a bug of the simulator.
    pub times_created: u32,
}

impl Customer {
    /// A customer with these fields, not stored yet.
    pub(super) fn new(
        id: Arc<str>,
        reference: Arc<str>,
        mut fields: SentFields,
        now: SystemTime,
    ) -> Customer {
        let take = |field: &mut Option<String>| mem::take(field).unwrap_or_default();
        Customer {
            id,
            object_reference_id: reference,
            mobile_country_code: take(&mut fields.mobile_country_code),
            mobile_number: take(&mut fields.mobile_number),
            email_address: take(&mut fields.email_address),
            first_name: take(&mut fields.first_name),
            last_name: take(&mut fields.last_name),
            date_created: now,
            last_updated: now,
            times_created: 0,
        }
    }
}
