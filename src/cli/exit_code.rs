//! Maps every end of the program to its exit code and its final message.
//!
//! The matches on errors and on reasons to stop are exhaustive, so that a new one gets a code and a message of its own.
//! Prints nothing.

use std::fmt;

use crate::{
    error::Error,
    ledger::{Location, Outcome, Tally},
    report,
    run::{EndReason, StopReason},
    sender::Halt,
};

/// The exit codes. They are a contract with users' scripts.
///
/// | code | means |
/// |---|---|
/// | 0 | every row is created, existing, unchanged, changed or updated |
/// | 1 | an unexpected error; what was recorded stands |
/// | 2 | wrong usage or configuration; nothing was sent |
/// | 3 | finished, and at least one row is duplicate, invalid, rejected or failed |
/// | 4 | run it again: stopped before the end by the program itself, or finished with rows still pending |
/// | 129, 130, 143 | ended by SIGHUP, SIGINT, SIGTERM |
pub(super) mod code {
    pub(crate) const OK: u8 = 0;
    pub(crate) const UNEXPECTED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const ROWS_LEFT: u8 = 3;
    pub(crate) const STOPPED: u8 = 4;
    /// Added to the number of a signal, as shells do.
    pub(crate) const SIGNAL: u8 = 128;
    /// SIGHUP: the terminal is gone.
    pub(crate) const HANGUP: u8 = SIGNAL + 1;
}

/// Why a command did not do everything that was asked of it, and what to do.
#[derive(Clone, Debug)]
pub(super) struct FinalMessage {
    pub(super) text: String,
    pub(super) hint: String,
}

impl FinalMessage {
    pub(super) fn new(text: impl Into<String>, hint: impl Into<String>) -> FinalMessage {
        FinalMessage { text: text.into(), hint: hint.into() }
    }
}

/// As an error line shows it.
impl fmt::Display for FinalMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.hint)
    }
}

pub(super) fn code_of_error(error: &Error) -> u8 {
    match error {
        Error::Usage { .. } | Error::Api(_) => code::USAGE,
        Error::Source(error) if error.is_usage() => code::USAGE,
        Error::Ledger(error) if error.is_usage() => code::USAGE,
        Error::Ledger(error) if error.may_pass() => code::STOPPED,
        Error::Source(_) | Error::Ledger(_) | Error::Output { .. } | Error::Bug(_) => code::UNEXPECTED,
    }
}

pub(super) fn code_of_end(ended: &EndReason, tally: &Tally) -> u8 {
    match ended {
        // Not ROWS_LEFT: there is nothing to correct, and a scheduler must run the command again.
        EndReason::Completed if tally.get(Outcome::Pending) > 0 => code::STOPPED,
        EndReason::Completed if tally.sum(|outcome| !outcome.is_success()) == 0 => code::OK,
        EndReason::Completed => code::ROWS_LEFT,
        EndReason::Stopped(StopReason::OtherSource { .. }) => code::UNEXPECTED,
        EndReason::Stopped(_) => code::STOPPED,
        EndReason::SourceFailed(_) => code::UNEXPECTED,
        EndReason::Interrupted(signal) => code::SIGNAL + signal,
    }
}

/// The hint for a run without an answer: the proxy, if the last trouble names its variable; otherwise `all`, in which
/// `PROXY` stands for the proxy.
fn route_hint(why: &str, proxy: Option<&str>, all: &str, again: &str) -> String {
    let is_named = |variable: &str| why.contains(&format!("({variable})"));
    match proxy {
        Some(variable) if is_named(variable) => format!(
            "see that the proxy of {variable} is up and may connect to the host of --base-url, or name the host in \
             NO_PROXY, {again}"
        ),
        Some(variable) => format!("{}, {again}", all.replace("PROXY", &format!("the proxy of {variable}"))),
        None => format!("{}, {again}", all.replace("PROXY", "a proxy")),
    }
}

/// The final message about answers that are not the API's. A proxy may have given them, also within a tunnel if it
/// decrypts.
fn describe_other_server(status: u16, proxy: Option<&str>, again: &str) -> FinalMessage {
    let what = "something other than the customers API answers at this URL";
    let check = "check --base-url, that this machine's address is allowed, and";
    match proxy {
        Some(variable) => FinalMessage::new(
            format!("{what} (HTTP {status}), perhaps the proxy of {variable}"),
            format!("{check} what that proxy allows, or name the host in NO_PROXY, {again}"),
        ),
        None => FinalMessage::new(
            format!("{what} (HTTP {status})"),
            format!("{check} the proxies and firewalls on the way, {again}"),
        ),
    }
}

/// The final message of a run that stopped by itself. `proxy` is the variable that names the proxy, if there is one.
pub(super) fn describe_stop(ended: &EndReason, proxy: Option<&str>) -> Option<FinalMessage> {
    match ended {
        EndReason::Completed | EndReason::Interrupted(_) => None,
        EndReason::SourceFailed(error) => Some(FinalMessage::new(error.to_string(), error.hint())),
        EndReason::Stopped(stop) => Some(describe_stop_reason(stop, proxy)),
    }
}

fn describe_stop_reason(stop: &StopReason, proxy: Option<&str>) -> FinalMessage {
    let again = "then run the same command again";
    match stop {
        StopReason::Halt(Halt::Credentials(words)) => FinalMessage::new(
            format!("the API refused the credentials ({words})"),
            format!("check the API key, --merchant-id and the environment they belong to, {again}"),
        ),
        StopReason::Halt(Halt::Forbidden(words)) => FinalMessage::new(
            format!("the API refused this machine or key ({words})"),
            format!(
                "check that this machine's address is on the merchant's allow-list, and the key and merchant id, {again}"
            ),
        ),
        StopReason::Halt(Halt::Redirect(status)) => FinalMessage::new(
            format!("the API answered with a redirect (HTTP {status}), which is not followed"),
            format!("give the final address with --base-url, {again}"),
        ),
        StopReason::Halt(Halt::Proxy) => describe_proxy(proxy, again),
        StopReason::Halt(Halt::WrongUrl(status)) => FinalMessage::new(
            format!("there is no customers API at this URL (HTTP {status})"),
            format!("check --base-url (requests go to URL/customers), {again}"),
        ),
        StopReason::Halt(Halt::NotTheApi(status)) => describe_other_server(*status, proxy, again),
        StopReason::Canary { rows, refusal } => FinalMessage::new(
            match rows {
                1 => format!("the first row was refused ({refusal})"),
                rows => format!(
                    "the first {} were refused alike and none succeeded ({refusal})",
                    report::rows(*rows)
                ),
            },
            format!(
                "check --merchant-id, what the key may do, and the columns with validate; the rows stay pending: {again}, with --canary 0 if the rows are at fault"
            ),
        ),
        StopReason::Outage { limit, last_failure: why } => FinalMessage::new(
            format!("no successful answer for {} (the last failure: {why})", report::time(*limit)),
            route_hint(
                why,
                proxy,
                "check the network, PROXY, --base-url, --ca-file and the API's status",
                again,
            ),
        ),
        StopReason::NoAnswer { limit, last_failure: why } => FinalMessage::new(
            format!("no response for {}, and none since the run began ({why})", report::time(*limit)),
            route_hint(
                why,
                proxy,
                "check --base-url (host and port), the network, PROXY and --ca-file",
                again,
            ),
        ),
        StopReason::OtherSource { text, hint } => FinalMessage::new(text, *hint),
        StopReason::OtherWorker(reason) => FinalMessage::new(
            format!("another worker has stopped the run: {reason}"),
            format!("check what that worker says, {again}"),
        ),
        StopReason::TooManyFailures(failures) => FinalMessage::new(
            format!(
                "{} rejected or failed, more than --max-failures allows",
                if *failures == 1 { "1 row was".into() } else { format!("{} were", report::rows(*failures)) }
            ),
            format!("look at them with export failed, {again}"),
        ),
    }
}

/// What to do after a run, in one line. `stop` is the final message, if there is one.
pub(super) fn next_step(
    ended: &EndReason,
    tally: &Tally,
    stop: Option<&FinalMessage>,
    ledger: &Location,
) -> String {
    let export = |rows: &str| {
        let ledger = shell_word(&ledger.to_string());
        format!("customer-import export {rows} --ledger {ledger} --output {rows}.csv")
    };
    let [pending, failed] = [Outcome::Pending, Outcome::Failed].map(|outcome| tally.get(outcome));
    match (ended, stop) {
        (EndReason::Stopped(StopReason::TooManyFailures(_)), _) => export("failed"),
        (_, Some(message)) => message.hint.clone(),
        (EndReason::Completed, _) if pending > 0 => {
            format!("run the same command again: {} still pending", are(pending))
        }
        (EndReason::Completed, _) if tally.sum(|outcome| outcome.is_to_correct()) > 0 => export("failed"),
        (EndReason::Completed, _) if failed > 0 => {
            format!("run the same command again: {} failed and may succeed now", report::rows(failed))
        }
        (EndReason::Completed, _) if tally.rows() == 0 => {
            "check that the file is complete: it has no rows".into()
        }
        (EndReason::Completed, _) => export("created"),
        _ => "run the same command again to continue".into(),
    }
}

fn are(rows: u64) -> String {
    format!("{} {}", report::rows(rows), if rows == 1 { "is" } else { "are" })
}

/// Quotes a text for a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if text.chars().all(is_plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn describe_proxy(variable: Option<&str>, again: &str) -> FinalMessage {
    match variable {
        Some(variable) => FinalMessage::new(
            format!("the proxy of {variable} refuses the login, or requires one (HTTP 407)"),
            format!("correct the name and the password in {variable}, or name the host in NO_PROXY, {again}"),
        ),
        None => FinalMessage::new(
            "a proxy on the way requires credentials (HTTP 407)",
            format!("name the proxy with its login in HTTPS_PROXY or HTTP_PROXY, {again}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn rows_that_failed_only_are_sent_again_by_the_same_command() {
        let step = |counts: &[(Outcome, u64)]| {
            let tally: Tally = counts.iter().copied().collect();
            next_step(&EndReason::Completed, &tally, None, &Path::new("a.db").into())
        };
        let failed = (Outcome::Failed, 2);
        assert_eq!(step(&[failed]), "run the same command again: 2 rows failed and may succeed now");
        let export = "customer-import export failed --ledger a.db --output failed.csv";
        assert_eq!(step(&[failed, (Outcome::Duplicate, 1)]), export);
        let pending = step(&[failed, (Outcome::Pending, 1)]);
        assert_eq!(pending, "run the same command again: 1 row is still pending");
    }

    #[test]
    fn too_many_failures_are_looked_at_first() {
        let ended = EndReason::Stopped(StopReason::TooManyFailures(7));
        let stop = describe_stop(&ended, None);
        let step = next_step(&ended, &Tally::default(), stop.as_ref(), &Path::new("my ledger.db").into());
        assert_eq!(step, "customer-import export failed --ledger 'my ledger.db' --output failed.csv");
    }

    #[test]
    fn a_server_that_is_not_the_api_may_be_the_proxy() {
        let ended = EndReason::Stopped(StopReason::Halt(Halt::NotTheApi(403)));
        let [direct, proxied] = [None, Some("HTTP_PROXY")].map(|proxy| describe_stop(&ended, proxy).unwrap());
        assert!(
            !direct.text.contains("proxy") && direct.hint.contains("the proxies and firewalls"),
            "{direct:?}"
        );
        assert!(proxied.text.ends_with("(HTTP 403), perhaps the proxy of HTTP_PROXY"), "{proxied:?}");
        assert!(proxied.hint.contains("NO_PROXY"), "{proxied:?}");
    }

    #[test]
    fn a_shell_reads_a_word_back() {
        let words = ["a.db", "/var/lib/x_1.db", "a b", "it's", "$(rm)"].map(shell_word);
        assert_eq!(words, ["a.db", "/var/lib/x_1.db", "'a b'", r"'it'\''s'", "'$(rm)'"]);
    }
}
