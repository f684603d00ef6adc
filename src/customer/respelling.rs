//! The respellings of values: how a value that is sent differs from its cell.
//!
//! A respelling changes the spelling of a value and keeps its meaning. Every respelling is counted and reported.

use std::fmt;

/// A way in which the spelling of a sent value differs from its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Respelling {
    /// A phone number is sent as its national digits.
    NationalDigits,
    /// A country code is sent as its digits, without separators and without an area code.
    CountryCode,
}

impl Respelling {
    /// The name in JSON. A contract with scripts.
    pub fn name(self) -> &'static str {
        match self {
            Respelling::NationalDigits => "national-digits",
            Respelling::CountryCode => "country-code",
        }
    }
}

/// Completes a sentence that begins with the field: `mobile_number read from another spelling and …`.
impl fmt::Display for Respelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Respelling::NationalDigits => "read from another spelling and sent as national digits",
            Respelling::CountryCode => {
                "read from another spelling and sent as the digits of the country's code"
            }
        })
    }
}
