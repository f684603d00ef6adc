//! Compares the parser of `Retry-After` with a simple evaluation of the same text.
//!
//! An input is four bytes for the current time, in minutes, and a value. Whatever a server sends: digits, with or
//! without a fraction, are that many seconds; a date is the time until then; anything else is nothing.

#![no_main]

mod date;

use std::time::{Duration, SystemTime};

use customer_import::api::parse_retry_after;
use libfuzzer_sys::fuzz_target;

/// The last second of a date.
const LAST: u64 = 253_402_300_799;

fuzz_target!(|input: &[u8]| {
    if let Some((now, value)) = input.split_first_chunk() {
        // A header is bytes; values that are not text are dropped earlier.
        if let Ok(value) = std::str::from_utf8(value) {
            check(u64::from(u32::from_be_bytes(*now)) * 60, value);
        }
    }
});

fn check(now: u64, value: &str) {
    let got = parse_retry_after(value, SystemTime::UNIX_EPOCH + Duration::from_secs(now));
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
        let is_number = !fraction.contains('.') && !(whole.is_empty() && fraction.is_empty());
        let seconds =
            whole.bytes().try_fold(0_u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        match (got, seconds.filter(|_| is_number)) {
            (Some(got), Some(seconds)) => {
                // A floating-point number has 53 bits of precision, and a fraction may round up to a whole second.
                let tolerance = 1 + seconds / (1 << 50);
                assert!(got.as_secs().abs_diff(seconds) <= tolerance, "{got:?} is not {seconds}");
            }
            // A number out of range, or almost.
            (None, seconds) => assert!(!is_number || seconds.is_none_or(|n| n > u64::MAX - (1 << 12))),
            (Some(got), None) => assert!(is_number && got.as_secs() > u64::MAX - (1 << 12)),
        }
        return;
    }
    let date = date(value);
    if let Some(date) = date {
        let left = Duration::from_secs(date.saturating_sub(now));
        assert_eq!(got, Some(left));
    } else {
        assert_eq!(got, None);
    }
    assert!(got.is_none_or(|got| got.as_secs() <= LAST));
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
fn date(value: &str) -> Option<u64> {
    // httpdate ignores what is between the date and the time of the second form.
    let value = match value.split_once(", ") {
        Some((weekday, rest)) if rest.len() == 22 && rest.is_ascii() => {
            format!("{weekday}, {} {}", &rest[..9], &rest[10..])
        }
        _ => value.to_owned(),
    };
    let words: Vec<&str> = value.split(' ').collect();
    let (weekday, day, month, year, time) = match *words.as_slice() {
        [weekday, day, month, year, time, "GMT"] => {
            (short(weekday.strip_suffix(',')?)?, two(day)?, month, four(year)?, time)
        }
        [weekday, date, time, "GMT"] => {
            let [day, month, year] = *date.split('-').collect::<Vec<_>>().as_slice() else { return None };
            let year = two(year)?;
            let century = if year < 70 { 2000 } else { 1900 };
            (long(weekday.strip_suffix(',')?)?, two(day)?, month, century + year, time)
        }
        [weekday, month, "", day, time, year] => (short(weekday)?, digits(day, 1)?, month, four(year)?, time),
        [weekday, month, day, time, year] => (short(weekday)?, two(day)?, month, four(year)?, time),
        _ => return None,
    };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let [hour, minute, second] = *time.split(':').collect::<Vec<_>>().as_slice() else { return None };
    let seconds = date::seconds(year, month, day, [two(hour)?, two(minute)?, two(second)?])?;
    // The first day of 1970 was a Thursday.
    ((seconds / 86_400 + 3) % 7 == weekday).then_some(seconds)
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn long(name: &str) -> Option<u64> {
    DAYS.iter().position(|day| *day == name).map(|at| at as u64)
}

fn short(name: &str) -> Option<u64> {
    DAYS.iter().position(|day| day[..3] == *name).map(|at| at as u64)
}

fn two(text: &str) -> Option<u64> {
    digits(text, 2)
}

fn four(text: &str) -> Option<u64> {
    digits(text, 4)
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let all = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.bytes().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}
