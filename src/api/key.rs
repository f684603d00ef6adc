//! The API key of the requests. A key that is refused during a run is read again from its file.
//!
//! Keys are rotated without regard to running imports: a new key that is written to the file takes effect without a
//! restart. Requests in flight are refused together, so a refusal counts only against the key that the request was
//! sent with. Every key that was sent is removed from texts of the API.
//!
//! The lock is held for a comparison and, after a refusal, while a one-line file is read; never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::{Error, repeats};
use crate::customer::{describe_invisible, is_invisible};

/// Reads the key again; returns none if the key cannot be read.
pub type KeyReader = Box<dyn Fn() -> Option<SecretString> + Send + Sync>;

/// The number of a key within a run; the first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyNumber(u32);

/// The result of reading a refused key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRenewal {
    /// No other key was found.
    None,
    /// Another key was found; new requests use it.
    Renewed,
    /// The key was already replaced after the refusal of an earlier request.
    AlreadyRenewed,
}

/// The keys of one run.
pub(super) struct Keys {
    reader: Option<KeyReader>,
    state: Mutex<State>,
}

struct State {
    number: KeyNumber,
    current: SecretString,
    /// The header of the current key. None for the first key, which is part of every request's defaults.
    header: Option<HeaderValue>,
    /// Each key, plain and as encoded in the header: a response may repeat either.
    secrets: Vec<SecretString>,
}

impl Keys {
    pub(super) fn new(key: &SecretString, reader: Option<KeyReader>) -> Keys {
        let secrets = vec![key.clone(), encoded(key).into()];
        let state = State { number: KeyNumber(0), current: key.clone(), header: None, secrets };
        Keys { reader, state: Mutex::new(state) }
    }

    /// The header to set in place of the default, and the number of its key.
    pub(super) fn current(&self) -> (Option<HeaderValue>, KeyNumber) {
        let state = self.state();
        (state.header.clone(), state.number)
    }

    /// Reads the key again after the key `refused` was refused.
    pub(super) fn renew(&self, refused: KeyNumber) -> KeyRenewal {
        let mut state = self.state();
        if state.number != refused {
            return KeyRenewal::AlreadyRenewed;
        }
        let Some(key) = self.reader.as_ref().and_then(|read| read()) else { return KeyRenewal::None };
        let is_same = key.expose_secret() == state.current.expose_secret();
        let Some(header) = header(&key).ok().filter(|_| !is_same) else { return KeyRenewal::None };
        state.number.0 += 1;
        state.header = Some(header);
        state.secrets.extend([key.clone(), encoded(&key).into()]);
        state.current = key;
        KeyRenewal::Renewed
    }

    /// The current key.
    pub(super) fn secret(&self) -> SecretString {
        self.state().current.clone()
    }

    /// Replaces a text that contains a key.
    pub(super) fn withhold(&self, text: &mut String) {
        if self.state().secrets.iter().any(|secret| repeats(text, secret.expose_secret())) {
            *text = "(withheld: it repeats the API key)".into();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authorization header for a key.
///
/// # Errors
/// If the key cannot be sent in a header.
pub(super) fn header(key: &SecretString) -> Result<HeaderValue, Error> {
    let text = key.expose_secret();
    if text.is_empty() {
        return Err(Error::Key(KeyFlaw { seen: "is empty".into(), hint: ALONE }));
    }
    check_key(text).map_err(Error::Key)?;
    // Base64 has only characters that are valid in a header.
    let mut header = HeaderValue::from_str(&format!("Basic {}", encoded(key)))
        .map_err(|_| Error::Key(KeyFlaw { seen: "cannot be sent".into(), hint: ALONE }))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why a text cannot be a key. Neither the message nor the hint contains any of the text; positions count characters
/// from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{seen}")]
pub struct KeyFlaw {
    /// What was found, and where: `has a space at position 5`.
    seen: String,
    /// What to do about it.
    hint: &'static str,
}

impl KeyFlaw {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}

const ALONE: &str = "give the key alone, as the dashboard shows it";

/// Finds what is often copied along with a key: quotes, a variable name, the scheme of a header, a blank or an
/// invisible character. Any other printable ASCII may be part of a key.
///
/// # Errors
/// The first thing found.
pub fn check_key(text: &str) -> Result<(), KeyFlaw> {
    let flaw = |seen: String, hint| Err(KeyFlaw { seen, hint });
    let length = text.chars().count();
    if let Some(seen) = unresolved(text) {
        return flaw(seen.into(), "set it to the key itself: nothing replaces such a placeholder");
    }
    if let Some(characters) = assignment(text) {
        let seen = format!("begins with the name of a variable, positions 1 to {characters}");
        return flaw(seen, "leave out the name and the =, and give the key alone");
    }
    if let Some(scheme) = SCHEMES.into_iter().find(|scheme| begins_with_word(text, scheme)) {
        let seen = format!("begins with {scheme}, at position 1");
        return flaw(seen, "give the key alone: the scheme and the Base64 of the header are added to it");
    }
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`');
    for (at, position) in [(text.chars().next(), 1), (text.chars().next_back(), length)] {
        if at.is_some_and(is_quote) {
            return flaw(format!("has a quote around it, at position {position}"), "leave the quotes out");
        }
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
        return flaw(format!("has {}", describe_character(c, at + 1)), ALONE);
    }
    if text.ends_with(':') {
        let seen = format!("ends with a colon, at position {length}");
        return flaw(seen, "leave it out: curl -u has it after the key, but it is not part of the key");
    }
    Ok(())
}

/// Schemes that precede a key in a header.
const SCHEMES: [&str; 3] = ["Basic", "Bearer", "Authorization"];

/// Whether the text begins with this word, in any letter case, followed by a separator.
fn begins_with_word(text: &str, word: &str) -> bool {
    let Some((start, rest)) = text.split_at_checked(word.len()) else { return false };
    start.eq_ignore_ascii_case(word) && rest.starts_with(|c: char| c == ':' || c.is_whitespace())
}

/// The number of characters before the key in a line of a script or an `.env` file: `export KEY=`, `api_key: `.
fn assignment(text: &str) -> Option<usize> {
    const COMMANDS: [&str; 6] = ["export ", "set ", "setx ", "env ", "declare -x ", "$env:"];
    // A key may itself contain `=` or `:`, so the name before the sign must be that of a key.
    const NAMES: [&str; 4] = ["key", "token", "secret", "password"];
    let is_begun =
        |command: &&str| text.get(..command.len()).is_some_and(|start| start.eq_ignore_ascii_case(command));
    let command = COMMANDS.into_iter().find(is_begun).unwrap_or_default();
    let rest = text[command.len()..].trim_start();
    let name = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')));
    let (name, behind) = rest.split_at(name?);
    let tells = !command.is_empty() || NAMES.iter().any(|word| name.to_ascii_lowercase().ends_with(word));
    let value = behind.trim_start();
    // `setx NAME VALUE` separates the two by a blank only.
    let sign = match value.chars().next() {
        Some('=' | ':') => 1,
        _ if !command.is_empty() && value.len() < behind.len() => 0,
        _ => return None,
    };
    let value = value[sign..].trim_start();
    let is_value = !name.is_empty() && !value.is_empty() && tells;
    is_value.then(|| text[..text.len() - value.len()].chars().count())
}

/// A placeholder that a shell, a template or a person has not replaced by the key.
fn unresolved(text: &str) -> Option<&'static str> {
    let is_around = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        name.contains('_') && name.chars().all(is_part)
    };
    let is_variable = is_around("${", "}")
        || is_around("$(", ")")
        || is_around("{{", "}}")
        || text.strip_prefix('$').is_some_and(is_name)
        || text.strip_prefix('%').and_then(|name| name.strip_suffix('%')).is_some_and(is_name);
    match () {
        () if is_variable => Some("is a variable that nothing has replaced, from position 1"),
        () if is_around("<", ">") => Some("is a placeholder in < and >, from position 1"),
        () => None,
    }
}

/// Describes a character that no key contains, with its position.
pub(crate) fn describe_character(c: char, position: usize) -> String {
    match c {
        ' ' => format!("a space at position {position}"),
        '\n' | '\r' => format!("a line break at position {position}"),
        '\t' => format!("a tab at position {position}"),
        '\u{a0}' | '\u{202f}' => {
            format!("U+{:04X}, a no-break space, at position {position}", u32::from(c))
        }
        '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => {
            format!("U+{:04X}, a typographic quote, at position {position}", u32::from(c))
        }
        c if is_invisible(c) => describe_invisible(c, position),
        c if c.is_control() => format!("U+{:04X}, a control character, at position {position}", u32::from(c)),
        c if c.is_ascii() => format!("`{c}` at position {position}"),
        c => format!("U+{:04X}, which is not ASCII, at position {position}", u32::from(c)),
    }
}

fn encoded(key: &SecretString) -> String {
    STANDARD.encode(format!("{}:", key.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_renewed_once_for_all_that_were_refused_with_it() {
        let keys = Keys::new(&"old-key".into(), Some(Box::new(|| Some("new-key".into()))));
        let (none, first) = keys.current();
        assert!(none.is_none());
        assert_eq!(keys.renew(first), KeyRenewal::Renewed);
        assert_eq!(keys.renew(first), KeyRenewal::AlreadyRenewed, "it was in flight");
        let (header, second) = keys.current();
        assert_eq!(header.unwrap().to_str().unwrap(), "Basic bmV3LWtleTo=");
        assert_eq!(keys.renew(second), KeyRenewal::None, "the new one is refused too");
        for text in ["no old-key here", "bmV3LWtleTo="] {
            let mut withheld = text.to_owned();
            keys.withhold(&mut withheld);
            assert!(withheld.starts_with("(withheld"), "{withheld}");
        }
        let keys = Keys::new(&"old-key".into(), Some(Box::new(|| Some("line\nbreak".into()))));
        assert_eq!(keys.renew(KeyNumber(0)), KeyRenewal::None);
    }

    #[test]
    fn what_may_be_a_key_is_one() {
        for key in [
            "D4F8E6B9A1C34F6E",
            "a-b_c.d/e+f=g:h",
            "MTIzNDU2Nzg5MA==",
            "key_live=abc",
            "basicabc",
            "bearer-1",
            "set-1=2",
            "it's",
            "$5p%x{y}<z>",
            "monkey-42",
            "export",
        ] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
    }

    #[test]
    fn what_was_copied_along_with_a_key_is_named() {
        for (text, words) in [
            ("\"s3cr3t\"", "a quote around it, at position 1"),
            ("s3cr3t'", "a quote around it, at position 7"),
            ("\u{201c}s3cr3t\u{201d}", "U+201C, a typographic quote, at position 1"),
            ("JUSPAY_API_KEY=s3cr3t", "the name of a variable, positions 1 to 15"),
            ("export K=s3cr3t", "positions 1 to 9"),
            ("export K='s3cr3t'", "positions 1 to 9"),
            ("setx JUSPAY_API_KEY s3cr3t", "positions 1 to 20"),
            ("$env:JUSPAY_API_KEY = s3cr3t", "positions 1 to 22"),
            ("api-key: s3cr3t", "positions 1 to 9"),
            ("Basic s3cr3t", "begins with Basic, at position 1"),
            ("Authorization: Basic s3cr3t", "begins with Authorization"),
            ("bearer\ts3cr3t", "begins with Bearer"),
            ("s3c r3t", "a space at position 4"),
            (" s3cr3t", "a space at position 1"),
            ("s3cr3t\u{200b}", "U+200B, a zero width space, at position 7"),
            ("\u{feff}s3cr3t", "U+FEFF, a byte order mark, at position 1"),
            ("s3cr3t\u{a0}", "U+00A0, a no-break space, at position 7"),
            ("s3c\nr3t", "a line break at position 4"),
            ("s3c\x1br3t", "U+001B, a control character, at position 4"),
            ("s3cr\u{435}t", "U+0435, which is not ASCII, at position 5"),
            ("s3cr3t:", "a colon, at position 7"),
            ("${S3CR3T}", "a variable that nothing has replaced"),
            ("$MY_S3CR3T", "a variable that nothing has replaced"),
            ("%MY_S3CR3T%", "a variable that nothing has replaced"),
            ("<s3cr3t>", "a placeholder"),
        ] {
            let flaw = check_key(text).unwrap_err();
            assert!(flaw.to_string().contains(words), "{text:?}: {flaw}");
            assert!(!format!("{flaw} {}", flaw.hint()).to_lowercase().contains("s3cr3t"), "{flaw}");
        }
    }
}
