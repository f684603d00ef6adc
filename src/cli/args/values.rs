//! Parsers of option values: rates, durations, pairs.
//!
//! Each error says what is expected; clap prefixes the name of the option.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Ask, RateArg};
use crate::{
    customer::{Field, Validation, check_template},
    run::MaxFailures,
    source::Quote,
};

/// The minimum similarity (Jaro-Winkler) at which a name is suggested for a mistyped word.
const SIMILAR: f64 = 0.8;

/// The name nearest to what was typed, if one is similar enough.
pub(in crate::cli) fn closest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let score = |name: &str| strsim::jaro_winkler(&typed, name);
    names.max_by(|a, b| score(a).total_cmp(&score(b))).filter(|name| score(name) > SIMILAR)
}

pub(super) fn rate(text: &str) -> Result<RateArg, String> {
    if text == "unlimited" {
        return Ok(RateArg(None));
    }
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(RateArg(Some(rate))),
        _ => Err("give a number of requests per second from 0.001 to 1000000, or unlimited".into()),
    }
}

pub(super) fn max_failures(text: &str) -> Result<MaxFailures, String> {
    let wrong = "give a number of rows such as 100, or a percentage from 0% to 100%";
    match text.strip_suffix('%') {
        None => text.parse().map(MaxFailures::Rows).map_err(|_| wrong.into()),
        Some(share) => match share.parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => Ok(MaxFailures::Percent(share)),
            _ => Err(wrong.into()),
        },
    }
}

/// Longer than any sensible timeout, and safe to add to a clock.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if (Duration::from_millis(1)..=DURATION_MAX).contains(&duration) => Ok(duration),
        _ => Err("give a duration such as 500ms, 30s or 10m, from 1ms to 7days".into()),
    }
}

/// A worker writes about once a second.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(lease) if (Duration::from_secs(3)..=Duration::from_secs(3600)).contains(&lease) => Ok(lease),
        _ => Err("give a duration such as 20s, from 3s to 1h".into()),
    }
}

pub(super) fn latency(text: &str) -> Result<(Duration, Duration), String> {
    let wrong = |_| "give a duration such as 20ms, or a range such as 20ms..80ms".to_owned();
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let low = humantime::parse_duration(low).map_err(wrong)?;
    let high = humantime::parse_duration(high).map_err(wrong)?;
    if low > high || high > DURATION_MAX {
        return Err("give the shorter duration first, and at most 7days".into());
    }
    Ok((low, high))
}

pub(super) fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" | "\t" => Ok(b'\t'),
        // A control character in the notation of programs that use it as a delimiter.
        _ if text.starts_with("\\x") => match u8::from_str_radix(&text[2..], 16) {
            Ok(byte @ (0x01..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f)) => Ok(byte),
            _ => Err("give a control character as \\x01 to \\x1f, and no line break".into()),
        },
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_control() && *byte != b'"' => Ok(*byte),
            _ => Err("give one ASCII character other than a quote, or tab, or \\x01".into()),
        },
    }
}

pub(super) fn quote(text: &str) -> Result<Quote, String> {
    match text.as_bytes() {
        b"none" => Ok(Quote::None),
        [byte] if byte.is_ascii_punctuation() => Ok(Quote::Char(*byte)),
        _ => Err("give one ASCII punctuation character, or none".into()),
    }
}

pub(super) fn validation() -> impl TypedValueParser<Value = Validation> {
    PossibleValuesParser::new(["documented", "lenient"]).map(|text| match text.as_str() {
        "lenient" => Validation::Lenient,
        _ => Validation::Documented,
    })
}

pub(super) fn field(name: &str) -> Result<Field, String> {
    Field::from_name(name).ok_or_else(|| {
        let names = Field::ALL.map(Field::name);
        match closest(name, names.into_iter()) {
            Some(likely) => format!("there is no field {name:?}; did you mean {likely}?"),
            None => format!("there is no field {name:?}; the fields are {}", names.join(", ")),
        }
    })
}

pub(super) fn field_and_text(text: &str) -> Result<(Field, String), String> {
    let (name, text) = text.split_once('=').ok_or("give FIELD=VALUE, such as mobile_country_code=91")?;
    Ok((field(name.trim())?, text.trim().into()))
}

pub(super) fn field_and_column(text: &str) -> Result<(Field, String), String> {
    let (name, column) = text.split_once('=').ok_or("give FIELD=COLUMN, such as mobile_number=Phone")?;
    let (name, column) = (name.trim(), column.trim());
    let field = field(name).map_err(|unknown| match Field::from_name(column) {
        Some(meant) => format!("the field stands before the =; did you mean {meant}={name}?"),
        None => unknown,
    })?;
    check_template(column)?;
    Ok((field, column.into()))
}

pub(super) fn date(text: &str) -> Result<SystemTime, String> {
    let midnight = format!("{text}T00:00:00Z");
    let date = humantime::parse_rfc3339(&midnight).or_else(|_| humantime::parse_rfc3339(text));
    date.map_err(|_| "give a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z".into())
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.trim_start_matches(':').trim_start_matches("localhost:");
    let example = if port.parse::<u16>().is_ok() { port } else { "9464" };
    text.parse().map_err(|_| format!("give an IP address and a port, such as 127.0.0.1:{example}"))
}

/// A number of rows, at least 1.
pub(super) fn limit(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(rows @ 1..) => Ok(rows),
        _ => Err("give a number of rows from 1".into()),
    }
}

/// A word that stands for a missing value.
pub(super) fn null_marker(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an empty cell is empty anyway; give a word, such as NULL".into()),
        word => Ok(word.into()),
    }
}

/// A number, of rows or other things.
pub(super) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "give a number from 0".into())
}

/// A whole number in this range.
pub(super) fn whole<const LOW: u32, const HIGH: u32>(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (LOW..=HIGH).contains(number));
    number.ok_or_else(|| format!("give a whole number from {LOW} to {HIGH}"))
}

/// The number of a run.
pub(super) fn run_number(text: &str) -> Result<i64, String> {
    let run = text.parse().ok().filter(|run| *run > 0);
    run.ok_or_else(|| "give the number of a run, such as 1; status lists the runs".into())
}

pub(super) fn ask(text: &str) -> Result<Ask, String> {
    match text {
        "all" => Ok(Ask::All),
        number => {
            sample(number).map(Ask::Sample).map_err(|_| "give a number of rows, such as 500, or all".into())
        }
    }
}

pub(super) fn sample(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(rows @ 1..) => Ok(rows as usize),
        _ => Err("give a number of rows, such as 500".into()),
    }
}
