//! The files of certificates and keys that a URL names, looked at before a connection is made.
//!
//! The library reads them while it connects. Its errors do not name the file, and sound like those of the connection.

use std::fs;

/// What is wrong with a file, if anything is. `parameter` is `sslrootcert`, `sslcert` or `sslkey`.
pub(super) fn problem(parameter: &str, path: &str) -> Option<String> {
    let read = match fs::read(path) {
        Ok(read) => read,
        Err(error) => return Some(format!("{parameter}: cannot read {path}: {error}")),
    };
    let contains = |words: &str| read.windows(words.len()).any(|part| part == words.as_bytes());
    let problem = match parameter {
        "sslkey" if contains("BEGIN ENCRYPTED PRIVATE KEY") || contains("Proc-Type: 4,ENCRYPTED") => {
            "is encrypted, and nobody is asked for its passphrase"
        }
        "sslkey" if !contains("PRIVATE KEY-----") => "has no private key in PEM",
        "sslrootcert" | "sslcert" if !contains("-----BEGIN CERTIFICATE-----") => "has no certificate in PEM",
        _ => return None,
    };
    Some(format!("{parameter}: {path} {problem}"))
}
