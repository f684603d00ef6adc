//! The key of the requests, which may be replaced in mid-run: a refused key is read once more from its file.
//!
//! Keys are replaced on a day, not by a run's clock: whoever writes the new key into the file need not stop the run that
//! has the old one. Requests in flight together are refused together, so a refusal counts only against the key that
//! its request had. Every key that was sent is withheld from texts.
//!
//! The lock is held for a comparison and, after a refusal, for reading a file of a line; never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::{Error, repeats};

/// Reads the key once more; none where it cannot be read.
pub type KeyReader = Box<dyn Fn() -> Option<SecretString> + Send + Sync>;

/// Which of a run's keys a request had: 0 is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyNumber(u32);

/// What came of a refused key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRenewal {
    /// There is no other.
    None,
    /// There is another one in the file, which requests have from now on.
    Renewed,
    /// Another request was refused earlier, and requests have another key already.
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
    /// Of the current key, unless it is the first, whose header is every request's default.
    header: Option<HeaderValue>,
    /// Each key as it is and as it is sent: a response may repeat either.
    secrets: Vec<SecretString>,
}

impl Keys {
    pub(super) fn new(key: &SecretString, reader: Option<KeyReader>) -> Keys {
        let secrets = vec![key.clone(), encoded(key).into()];
        let state = State { number: KeyNumber(0), current: key.clone(), header: None, secrets };
        Keys { reader, state: Mutex::new(state) }
    }

    /// The header that a request needs in place of the default, and the number of its key.
    pub(super) fn current(&self) -> (Option<HeaderValue>, KeyNumber) {
        let state = self.state();
        (state.header.clone(), state.number)
    }

    /// Reads the key once more, after one was refused.
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

    /// The current key itself.
    pub(super) fn secret(&self) -> SecretString {
        self.state().current.clone()
    }

    /// Replaces a text that repeats a key.
    pub(super) fn withhold(&self, text: &mut String) {
        if self.state().secrets.iter().any(|secret| repeats(text, secret.expose_secret())) {
            *text = "(withheld: it repeats the API key)".into();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header with a key.
///
/// # Errors
/// Where the key cannot be sent.
pub(super) fn header(key: &SecretString) -> Result<HeaderValue, Error> {
    let text = key.expose_secret();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::Key);
    }
    let mut header = HeaderValue::from_str(&format!("Basic {}", encoded(key))).map_err(|_| Error::Key)?;
    header.set_sensitive(true);
    Ok(header)
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
}
