//! Checks properties of every phone number that is read, in any spelling.
//!
//! An input is a byte for the region and the mode, a byte for the country code beside the number, and a cell. Ports
//! of libphonenumber have panicked before; this target checks that the program's bounds on its input prevent that. A
//! number that was read must be readable again from its own parts, and in a region without transformations its digits
//! are the last ones of the cell.

#![no_main]

use std::sync::LazyLock;

use customer_import::customer::{PhoneCheck, PhoneErrorKind, PhoneRegion};
use libfuzzer_sys::fuzz_target;

/// Regions with and without a trunk prefix, with a zero that belongs to the number, with transformations, and with
/// several codes.
const REGIONS: [&str; 16] =
    ["IN", "US", "IT", "AR", "MX", "BR", "DE", "GB", "FR", "RU", "CN", "SG", "ID", "CI", "HU", "AU"];

static PHONES: LazyLock<Vec<PhoneRegion>> =
    LazyLock::new(|| REGIONS.iter().map(|region| PhoneRegion::parse(region).expect("a region")).collect());

const CODES: [&str; 8] = ["91", "1", "39", "44", "7", "0", "999", "18446744073709551616"];

fuzz_target!(|input: &[u8]| {
    if let [mode, code, text @ ..] = input
        && let Ok(text) = std::str::from_utf8(text)
    {
        let code = (code & 1 == 1).then(|| CODES[usize::from(code >> 1) % CODES.len()]);
        let rigor = if mode & 16 != 0 { PhoneCheck::NumberingPlan } else { PhoneCheck::Length };
        check(usize::from(mode & 15), rigor, code, text);
    }
});

fn check(region: usize, rigor: PhoneCheck, code: Option<&str>, text: &str) {
    let phones = &PHONES[region];
    match phones.read(text, code, rigor) {
        Ok(number) => {
            let (national, country_code) = (&*number.national, &*number.country_code);
            assert!((2..=17).contains(&national.len()) && is_digits(national), "{national:?}");
            assert!((1..=3).contains(&country_code.len()) && is_digits(country_code), "{country_code:?}");
            assert!(code.is_none_or(|code| code == country_code));
            // The number as sent can be read again and stays the same, so its fingerprint does.
            if rigor == PhoneCheck::NumberingPlan {
                let sent = format!("+{country_code}{national}");
                assert_eq!(phones.read(&sent, None, rigor).as_ref(), Ok(&number), "{text:?}");
            }
            if REGIONS[region] == "IN" && country_code == "91" && text.is_ascii() {
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                assert!(digits.ends_with(national), "{text:?} is not {national:?}");
            }
        }
        Err(error) => {
            assert!(error.kind != PhoneErrorKind::CountryCode || code.is_some());
            assert!(!error.seen.is_empty() && error.seen.len() < 120, "{}", error.seen);
            assert!(!error.seen.contains(char::is_control), "{:?}", error.seen);
        }
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
