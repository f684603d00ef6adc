//! How a value that is sent differs from the cell that it was read from.
//!
//! A respelling changes the spelling of a value and keeps its meaning. Every one is counted and reported.

use std::fmt;

/// One way in which a value is sent in another spelling than its cell has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Respelling {
    /// A phone number is sent as its national digits.
    NationalDigits,
    /// A country code is sent as its digits, without the spelling or the area code that its cell has.
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

/// Completes a sentence that begins with the field: `mobile_number sent as national digits, …`.
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
