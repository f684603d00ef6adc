//! TLS: the roots that are trusted, the client certificate, and explanations of why a server's certificate is
//! refused.
//!
//! reqwest receives the finished configuration. The library's messages about a refused certificate contain neither
//! the issuer nor the date. An operator needs both: the issuer is often a firewall that decrypts connections.
//!
//! A private key is read, but never part of a message.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};
use rustls_platform_verifier::Verifier;

use super::{Error, response::short};

/// The files of the client certificate and its key.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate in PEM, with the intermediate certificates, if there are any.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

/// The configuration for all connections.
///
/// # Errors
/// If a file cannot be used, or the system has no roots.
pub(super) fn config(ca: Option<&Path>, identity: Option<&ClientIdentity>) -> Result<ClientConfig, Error> {
    let setup = |error: rustls::Error| Error::Client(error.to_string());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = ca.map_or(Ok(Vec::new()), read_roots)?;
    let inner = match (roots.is_empty(), ca) {
        (false, Some(path)) => {
            Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(|error| {
                // Missing system roots are no error here, because an additional root was given.
                Error::CaFile { path: path.into(), error: error.to_string() }
            })?
        }
        _ => Verifier::new(Arc::clone(&provider)).map_err(setup)?,
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(setup)?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(ExplainingVerifier { inner }));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = (read_chain(&identity.certificate)?, read_key(&identity.key)?);
            config.with_client_auth_cert(chain, key).map_err(|error| mismatch(identity, &error))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn mismatch(identity: &ClientIdentity, error: &rustls::Error) -> Error {
    let ClientIdentity { certificate, key } = identity.clone();
    match error {
        rustls::Error::InconsistentKeys(_) => Error::KeyOfAnother { certificate, key },
        _ => Error::ClientKey { path: key, error: error.to_string() },
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(path).map_err(|error| Error::CaFile { path: path.into(), error })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(path).map_err(|error| Error::ClientCertificate { path: path.into(), error })
}

/// All certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| match error {
        // The library prints this line as a list of numbers.
        pem::Error::MissingSectionEnd { .. } => "it breaks off before an END line".into(),
        error => error.to_string(),
    })?;
    if found.is_empty() { Err("no certificate in it".into()) } else { Ok(found) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let error = |error: String| Error::ClientKey { path: path.into(), error };
    let pem = std::fs::read(path).map_err(|cause| error(cause.to_string()))?;
    let contains = |words: &str| pem.windows(words.len()).any(|part| part == words.as_bytes());
    // The older format marks encryption in a header line only, and would be reported as a damaged key.
    if contains("BEGIN ENCRYPTED PRIVATE KEY") || contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::EncryptedKey { path: path.into() });
    }
    // The library's message may quote the file.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| error("no private key in it".into()))
}

/// The system's certificate verifier, with an explanation of each refusal.
#[derive(Debug)]
struct ExplainingVerifier {
    inner: Verifier,
}

impl ServerCertVerifier for ExplainingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| explain(error, end_entity, server_name))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a certificate is refused, as a complete sentence.
#[derive(Debug)]
pub(super) struct RefusedCertificate(String);

impl fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RefusedCertificate {}

fn explain(error: rustls::Error, certificate: &[u8], host: &ServerName<'_>) -> rustls::Error {
    let rustls::Error::InvalidCertificate(cause) = &error else { return error };
    let host = host.to_str();
    let why = match cause {
        CertificateError::ExpiredContext { not_after, .. } => format!("it expired on {}", day(*not_after)),
        CertificateError::Expired => "it has expired".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}", day(*not_before))
        }
        CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName => {
            "it belongs to another host".into()
        }
        CertificateError::UnknownIssuer => "its issuer is not trusted here".into(),
        // The verifier's own error has no public type.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is an authority's (CA:TRUE), not a server's".into()
        }
        other => other.to_string(),
    };
    let issuer = issuer(certificate).unwrap_or_else(|| "not readable".into());
    let text = short(&format!("the certificate of {host} is refused: {why} (issuer: {issuer})"));
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(RefusedCertificate(text)))))
}

/// The day of a time, in UTC.
fn day(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The issuer of a certificate: its common name and its organization.
fn issuer(certificate: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    /// The tag of the optional version.
    const VERSION: u8 = 0xa0;
    let signed = element(certificate)?.content;
    let mut rest = element(signed)?.content;
    let first = element(rest)?;
    if first.tag == VERSION {
        rest = first.rest;
    }
    // Skips the serial number and the algorithm.
    let rest = element(element(rest)?.rest)?.rest;
    let (mut names, mut organizations) = (Vec::new(), Vec::new());
    let mut sets = element(rest)?.content;
    while let Some(set) = element(sets) {
        sets = set.rest;
        let pair = element(element(set.content)?.content)?;
        let value = || Some(String::from_utf8_lossy(element(pair.rest)?.content).into_owned());
        match pair.content {
            COMMON_NAME => names.push(value()?),
            ORGANIZATION => organizations.push(value()?),
            _ => {}
        }
    }
    names.append(&mut organizations);
    Some(names.join(", ")).filter(|name| !name.is_empty())
}

/// An element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// The bytes after the element.
    rest: &'a [u8],
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&length, bytes) = bytes.split_first()?;
    let (length, bytes) = match length {
        0..=0x7f => (usize::from(length), bytes),
        // A length of one to four bytes; no certificate is longer.
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), bytes)
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some(Element { tag, content, rest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_expired_certificate_is_told_with_its_day() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let host = ServerName::try_from("a.example").unwrap();
        for (cause, words) in [
            (
                CertificateError::ExpiredContext { time: at(20), not_after: at(10) },
                "it expired on 1970-01-01T00:00:10Z",
            ),
            (
                CertificateError::NotValidYetContext { time: at(1), not_before: at(86_400) },
                "before 1970-01-02",
            ),
            (CertificateError::NotValidForName, "it belongs to another host"),
        ] {
            let error = explain(rustls::Error::InvalidCertificate(cause), b"no DER", &host);
            let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
                panic!("{error:?}")
            };
            let text = other.0.to_string();
            assert!(text.contains("the certificate of a.example is refused"), "{text}");
            assert!(text.contains(words) && text.ends_with("(issuer: not readable)"), "{text}");
        }
    }

    #[test]
    fn an_issuer_is_named_by_its_common_name_and_organization() {
        let mut of_ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        of_ca.distinguished_name.push(rcgen::DnType::CountryName, "IN");
        of_ca.distinguished_name.push(rcgen::DnType::OrganizationName, "Wall Ltd");
        of_ca.distinguished_name.push(rcgen::DnType::CommonName, "Inspection é");
        let ca = rcgen::CertifiedIssuer::self_signed(of_ca, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let of_server = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let server = of_server.signed_by(&key, &ca).unwrap();
        assert_eq!(issuer(server.der()).as_deref(), Some("Inspection é, Wall Ltd"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = issuer(&bytes);
        }
    }
}
