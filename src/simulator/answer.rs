//! The responses of the API: every text and body, verbatim where one of Juspay's pages has it. Refusals here are those of
//! the reference page; those of current accounts are in `refusal`.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{behavior::LimitResponse, record::Customer};

/// The documented lifetime of a client token.
const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// The body of the `flood` fault: 16 MiB, larger than any sensible limit; allocated once.
static FLOOD: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b' '; 16 << 20]));

const RESPONSE_ID: HeaderName = HeaderName::from_static("x-response-id");

const JSON: &str = "application/json;charset=utf-8";
const HTML: &str = "text/html";

pub(super) const MANDATORY: Answer = Answer::fixed(
    StatusCode::BAD_REQUEST,
    JSON,
    br#"{"status":"Bad Request","error_code":"Mandatory fields are missing","error_message":"Mandatory fields are missing"}"#,
);
pub(super) const TOO_SHORT: Answer = Answer::fixed(
    StatusCode::BAD_REQUEST,
    JSON,
    br#"{"status":"invalid_request_error","error_code":"INVALID_INPUT","error_message":"object_reference_id must be at least 8 characters long."}"#,
);
pub(super) const UNIQUE: Answer = Answer::fixed(
    StatusCode::BAD_REQUEST,
    JSON,
    br#"{"status":"invalid_request_error","error_code":"unique","error_message":"Customer with given object reference id already exist for your account."}"#,
);
pub(super) const OBJECT_NOT_FOUND: Answer = Answer::fixed(
    StatusCode::NOT_FOUND,
    JSON,
    br#"{"status":"invalid_request_error","error_code":"object_not_found","error_message":"Cannot find what you are looking for"}"#,
);
pub(super) const ACCESS_DENIED: Answer =
    Answer::fixed(StatusCode::UNAUTHORIZED, JSON, br#"{"status":"error","error_code":"access_denied"}"#);
pub(super) const INTERNAL: Answer = Answer::fixed(
    StatusCode::INTERNAL_SERVER_ERROR,
    JSON,
    br#"{"status":"INTERNAL_ERROR","error_code":"INTERNAL_ERROR","error_message":"Something went wrong. Please try again."}"#,
);
pub(super) const OK_ERROR: Answer = Answer::fixed(
    StatusCode::OK,
    JSON,
    br#"{"status":"ERROR","status_id":40,"error_message":"Invalid request.","error_code":"INVALID_REQUEST"}"#,
);
pub(super) const DUPLICATE: Answer = Answer::fixed(
    StatusCode::BAD_REQUEST,
    JSON,
    br#"{"status":"DUPLICATE_REQUEST","error_code":"DUPLICATE_REQUEST","error_message":"A request with the same identifier is being processed."}"#,
);
const THROTTLED: Answer = Answer::fixed(
    StatusCode::TOO_MANY_REQUESTS,
    JSON,
    br#"{"status":"error","error_code":"too_many_requests","error_message":"Rate limit exceeded."}"#,
);
pub(super) const NO_SUCH_PATH: Answer =
    Answer::fixed(StatusCode::NOT_FOUND, JSON, br#"{"status":"error","error_code":"not_found"}"#);
const WRONG_METHOD: Answer = Answer::fixed(
    StatusCode::METHOD_NOT_ALLOWED,
    JSON,
    br#"{"status":"error","error_code":"method_not_allowed"}"#,
);
pub(super) const TOO_LARGE: Answer = Answer::fixed(
    StatusCode::PAYLOAD_TOO_LARGE,
    JSON,
    br#"{"status":"error","error_code":"payload_too_large"}"#,
);
pub(super) const NOT_JSON: Answer = Answer::fixed(
    StatusCode::BAD_REQUEST,
    JSON,
    br#"{"status":"Bad Request","error_code":"Bad Request","error_message":"The body is not a JSON object."}"#,
);
pub(super) const UNAVAILABLE: Answer = Answer::fixed(
    StatusCode::SERVICE_UNAVAILABLE,
    HTML,
    b"<html>\n<head><title>503 Service Temporarily Unavailable</title></head>\n<body>\n<center><h1>503 Service Temporarily Unavailable</h1></center>\n</body>\n</html>\n",
);

/// A truncated response with a byte that is not UTF-8.
pub(super) const GARBAGE: Answer =
    Answer::fixed(StatusCode::OK, JSON, b"{\"id\":\"cst_\xff\x00\",\"object\":\"custo");

/// How the API words a refusal of one row; all three members may be null.
pub(super) const ROW_REFUSALS: [&str; 3] = [
    r#"{"status":"invalid_request_error","error_code":"INVALID_INPUT","error_message":"Invalid mobile number."}"#,
    r#"{"status":"Bad Request","error_code":"MISSING_MANDATORY_PARAMETER","error_message":"A mandatory parameter is missing."}"#,
    r#"{"status":null,"error_code":null,"error_message":null}"#,
];

/// A response; its request number is added when it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    content_type: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    const fn fixed(status: StatusCode, content_type: &'static str, body: &'static [u8]) -> Answer {
        Answer { status, content_type, header: None, body: Bytes::from_static(body) }
    }

    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
        Answer { status, content_type: JSON, header: None, body: body.into() }
    }

    /// Adds a header. A value that is invalid in a header, which only a test can set, is omitted.
    fn with(mut self, name: HeaderName, value: &str) -> Answer {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    /// 405 with the allowed methods.
    pub(super) fn wrong_method(allowed: &str) -> Answer {
        WRONG_METHOD.with(ALLOW, allowed)
    }

    pub(super) fn redirect(to: &str) -> Answer {
        Answer::fixed(StatusCode::FOUND, HTML, b"").with(LOCATION, to)
    }

    /// The response to a request above the rate limit; an empty `retry_after` omits the header.
    pub(super) fn above_limit(response: LimitResponse, retry_after: &str) -> Answer {
        let answer = match response {
            LimitResponse::Api429 => THROTTLED,
            LimitResponse::Api503 => Answer { status: StatusCode::SERVICE_UNAVAILABLE, ..INTERNAL },
            LimitResponse::Proxy503 => UNAVAILABLE,
        };
        if retry_after.is_empty() { answer } else { answer.with(RETRY_AFTER, retry_after) }
    }

    pub(super) fn bad_origin(number: u64) -> Answer {
        let id = response_id(number);
        let body = format!(
            r#"{{"error_code":"bad_origin","error_message":"Bad Origin. Permission denied.","juspay_request_id":"{id}"}}"#
        );
        Answer::json(StatusCode::FORBIDDEN, body)
    }

    /// A refusal of one row, in one of the wordings.
    pub(super) fn row_refusal(choice: u64) -> Answer {
        let choice = choice % ROW_REFUSALS.len() as u64;
        Answer::json(StatusCode::BAD_REQUEST, ROW_REFUSALS[choice as usize])
    }

    pub(super) fn flood() -> Answer {
        Answer::json(StatusCode::OK, FLOOD.clone())
    }

    /// The customer in the form of the reference page: an empty field is absent, none is null.
    pub(super) fn customer(customer: &Customer, juspay: Option<Token>) -> Answer {
        let body = CustomerBody {
            id: &customer.id,
            object: "customer",
            object_reference_id: &customer.object_reference_id,
            mobile_country_code: &customer.mobile_country_code,
            mobile_number: &customer.mobile_number,
            email_address: &customer.email_address,
            first_name: &customer.first_name,
            last_name: &customer.last_name,
            date_created: timestamp(customer.date_created),
            last_updated: timestamp(customer.last_updated),
            juspay,
        };
        // Strings always serialize.
        Answer::json(StatusCode::OK, serde_json::to_vec(&body).unwrap_or_default())
    }

    pub(super) fn into_response(self, number: u64) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Ok(id) = HeaderValue::from_str(&response_id(number)) {
            headers.insert(RESPONSE_ID, id);
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

fn response_id(number: u64) -> String {
    format!("simulator-{number}")
}

#[derive(serde::Serialize)]
struct CustomerBody<'a> {
    id: &'a str,
    object: &'static str,
    object_reference_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mobile_country_code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mobile_number: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    email_address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    first_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_name: &'a str,
    date_created: String,
    last_updated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    juspay: Option<Token>,
}

/// The client token that `options.get_client_auth_token=true` adds.
#[derive(Debug, serde::Serialize)]
pub(super) struct Token {
    client_auth_token: String,
    client_auth_token_expiry: String,
}

impl Token {
    pub(super) fn new(seed: u64, id: &str, attempt: u32, now: SystemTime) -> Token {
        let hash = xxh3_128_with_seed(format!("{id} {attempt}").as_bytes(), seed);
        Token {
            client_auth_token: format!("tkn_{hash:032x}"),
            client_auth_token_expiry: timestamp(now + TOKEN_LIFE),
        }
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
