//! Why the API refuses a request, and how it words the refusal in each profile; verbatim where one of Juspay's pages has
//! the text, or a response of a current account was seen.
//!
//! An error of the page has a status, a code and a message. Those of current accounts also have `error_info`, which is more
//! precise: for a disallowed address the top-level message says "Internal Server error.". Errors that no page shows with
//! `error_info` (429, 500, one under a 200) have none in either profile.

use hyper::StatusCode;

use super::{
    answer::{self, Answer},
    profile::Profile,
    record::{Endpoint, SentFields},
};

/// Minimum length of a reference, from the reference page.
const REFERENCE_MIN: usize = 8;

/// Why the API refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A field is wrong.
    Field(&'static str, Flaw),
    /// `x-routing-id` is missing.
    NoRoutingId,
    /// A customer with that reference exists.
    Unique,
    /// No customer has that id or reference.
    NotFound,
    /// The key or the merchant is unknown.
    AccessDenied,
    /// The request of this number comes from an address that is not on the allow-list.
    BadOrigin(u64),
    /// A request with the same identifier is being processed.
    Duplicate,
    /// A fault of one row, in the wording with this number.
    Row(u64),
}

/// What is wrong with a field. The reference page has only the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Missing or empty.
    Missing,
    TooShort,
    TooLong,
    Invalid,
}

impl Flaw {
    fn reason(self) -> &'static str {
        match self {
            Flaw::Missing | Flaw::Invalid => "Invalid value.",
            Flaw::TooShort => "Too short.",
            Flaw::TooLong => "Too long.",
        }
    }
}

impl Refusal {
    /// Why this profile refuses a Create or an Update of these fields, if it does. An Update has no reference of its
    /// own to check.
    pub(super) fn of(
        profile: Profile,
        endpoint: Endpoint,
        reference: &str,
        fields: &SentFields,
    ) -> Option<Refusal> {
        match profile {
            Profile::Page if endpoint == Endpoint::Create => refused_by_page(reference, fields),
            Profile::Page => None,
            Profile::Today => refused_today(endpoint, reference, fields),
        }
    }

    /// The response in the wording of this profile.
    pub(super) fn answer(self, profile: Profile) -> Answer {
        match profile {
            Profile::Page => self.of_page(),
            Profile::Today => self.of_today(),
        }
    }

    fn of_page(self) -> Answer {
        match self {
            Refusal::Field(_, Flaw::TooShort) => answer::TOO_SHORT,
            Refusal::Field(..) | Refusal::NoRoutingId => answer::MANDATORY,
            Refusal::Unique => answer::UNIQUE,
            Refusal::NotFound => answer::OBJECT_NOT_FOUND,
            Refusal::AccessDenied => answer::ACCESS_DENIED,
            Refusal::BadOrigin(number) => Answer::bad_origin(number),
            Refusal::Duplicate => answer::DUPLICATE,
            Refusal::Row(choice) => Answer::row_refusal(choice),
        }
    }

    fn of_today(self) -> Answer {
        const PARAMS: &str = "Invalid request params. Please verify your input.";
        const WRONG: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Refusal::Field(name, flaw) => {
                let message = format!("Wrong value in {name}");
                let info = Info { code: "INVALID_INPUT", user: PARAMS, developer: "Invalid request params" };
                body(
                    WRONG,
                    ["Invalid Request", "Invalid Request", &message],
                    &info,
                    Some((name, flaw.reason())),
                )
            }
            Refusal::NoRoutingId => {
                let words = ["Bad Request", "MISSING_MANDATORY_PARAMETER", "x-routing-id is missing"];
                let developer = "The header x-routing-id is missing.";
                body(WRONG, words, &Info { code: words[1], user: PARAMS, developer }, None)
            }
            Refusal::Unique => {
                let message = "Customer with given object reference id already exist for your account.";
                let developer = "Customer account with given object reference already exists.";
                let info = Info { code: "ALREADY_EXISTS", user: "Already exists.", developer };
                body(WRONG, ["invalid_request_error", "unique", message], &info, None)
            }
            Refusal::NotFound => {
                let words =
                    ["invalid_request_error", "object_not_found", "Cannot find what you are looking for"];
                let user = "Cannot process your request as customer account not found.";
                let info =
                    Info { code: "RESOURCE_NOT_FOUND", user, developer: "Customer account not found." };
                body(StatusCode::NOT_FOUND, words, &info, None)
            }
            Refusal::AccessDenied => {
                let developer = "Invalid API Key. Please pass a valid and active api key.";
                let info = Info { code: "UNAUTHORIZED", user: "Unauthorized.", developer };
                body(StatusCode::UNAUTHORIZED, ["error", "access_denied", ""], &info, None)
            }
            Refusal::BadOrigin(_) => bad_origin(),
            Refusal::Duplicate => {
                let message = "A request with the same identifier is being processed.";
                let info = Info { code: "DUPLICATE_REQUEST", user: message, developer: message };
                body(WRONG, ["DUPLICATE_REQUEST", "DUPLICATE_REQUEST", message], &info, None)
            }
            Refusal::Row(choice) => row(choice),
        }
    }
}

/// The texts of `error_info`.
struct Info<'a> {
    code: &'a str,
    user: &'a str,
    developer: &'a str,
}

/// A body with status, code and message at the top level (an empty message is omitted), and `error_info`.
fn body(status: StatusCode, top: [&str; 3], info: &Info<'_>, field: Option<(&str, &str)>) -> Answer {
    let [state, code, message] = top;
    let mut body = serde_json::json!({ "status": state, "error_code": code, "error_info": described(info) });
    if !message.is_empty() {
        body["error_message"] = message.into();
    }
    if let Some((name, reason)) = field {
        body["error_info"]["fields"] = serde_json::json!([{ "field_name": name, "reason": reason }]);
    }
    Answer::json(status, body.to_string())
}

fn described(info: &Info<'_>) -> serde_json::Value {
    serde_json::json!({
        "code": info.code,
        "user_message": info.user,
        "developer_message": info.developer,
        "category": "USER_ERROR",
    })
}

/// The top level has no code, and its message is misleading.
fn bad_origin() -> Answer {
    let info = Info { code: "BAD_ORIGIN", user: "Bad Origin.", developer: "IP Verification Failed" };
    let body = serde_json::json!({
        "error": true,
        "error_message": "Internal Server error.",
        "user_message": info.user,
        "error_info": described(&info),
    });
    Answer::json(StatusCode::FORBIDDEN, body.to_string())
}

/// The reference page's wordings of a row's fault, with `error_info` as far as it is known; the last one has none.
fn row(choice: u64) -> Answer {
    const WRONG: StatusCode = StatusCode::BAD_REQUEST;
    match choice % answer::ROW_REFUSALS.len() as u64 {
        0 => {
            let message = "Invalid mobile number.";
            let info = Info { code: "INVALID_INPUT", user: message, developer: message };
            let field = Some(("mobile_number", message));
            body(WRONG, ["invalid_request_error", "INVALID_INPUT", message], &info, field)
        }
        1 => {
            let (code, message) = ("MISSING_MANDATORY_PARAMETER", "A mandatory parameter is missing.");
            body(
                WRONG,
                ["Bad Request", code, message],
                &Info { code, user: message, developer: message },
                None,
            )
        }
        _ => Answer::row_refusal(choice),
    }
}

fn refused_by_page(reference: &str, fields: &SentFields) -> Option<Refusal> {
    let number = fields.mobile_number.as_deref().unwrap_or_default();
    let short = reference.chars().count() < REFERENCE_MIN;
    let flaws = [
        ("object_reference_id", Flaw::Missing, reference.is_empty()),
        ("mobile_number", Flaw::Missing, number.is_empty()),
        ("object_reference_id", Flaw::TooShort, short),
    ];
    first(&flaws)
}

/// A missing field is refused on a Create only.
fn refused_today(endpoint: Endpoint, reference: &str, fields: &SentFields) -> Option<Refusal> {
    let creates = endpoint == Endpoint::Create;
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
