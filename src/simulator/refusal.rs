//! How the API words a refusal, in each profile: word for word where `api.md` or Juspay's pages have the words.
//!
//! The page's errors have a status, a code and a message. Today's have `error_info` beside them, which tells more, and
//! at times the truth: of an address that is not allowed the message on top says "Internal Server error.". Errors
//! that no page shows with `error_info` (429, 500, one under a 200) have none in either profile.

use hyper::StatusCode;

use super::{
    answer::{self, Answer},
    profile::Profile,
};

/// Why the API does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A field, and what is wrong with it.
    Field(&'static str, Flaw),
    /// No `x-routing-id`.
    NoRoutingId,
    /// There is a customer of that reference.
    Unique,
    /// There is none of that name.
    NotFound,
    /// The key or the merchant is not known.
    AccessDenied,
    /// The request of this number comes from an address that is not on the allow-list.
    BadOrigin(u64),
    /// A request with the same identifier is being processed.
    Duplicate,
    /// One row's fault, whatever it is: in one of the API's wordings, of which this is the number.
    Row(u64),
}

/// What is wrong with a field. The page knows the first two alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not there, or empty.
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
    /// The refusal as this profile words it.
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
            Refusal::Row(choice) => Answer::rejection(choice),
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

/// The part of `error_info` that is text.
struct Info<'a> {
    code: &'a str,
    user: &'a str,
    developer: &'a str,
}

/// Status, code and message on top (an empty one is left out), and `error_info` below.
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

/// On top there is no code, and a message that is not true.
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

/// The page's wordings of a row's fault, with what is known today beside them; the last says nothing in both.
fn row(choice: u64) -> Answer {
    const WRONG: StatusCode = StatusCode::BAD_REQUEST;
    match choice % answer::REJECTIONS.len() as u64 {
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
        _ => Answer::rejection(choice),
    }
}
