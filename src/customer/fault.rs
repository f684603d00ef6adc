//! What can be wrong with a row: the rules' words, what the user can do, and what was seen.
//!
//! Faults outlive the record in the ledger and are shown anywhere, so they name the field, the rule and
//! what was seen, and never repeat a value.

use std::fmt;

use super::Field;

/// One way in which a field can be wrong; the words are stable, scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A required field is empty.
    Required,
    /// The reference has fewer than eight characters.
    TooShort,
    /// More characters than the platform keeps of the field, or a reference that no URL can carry.
    TooLong,
    /// Something other than the digits 0 to 9.
    Digits,
    /// A character outside the documented set.
    Character,
    /// `_` or `.` first or last, before or after the `@`.
    Edge,
    /// Not exactly one `@` with something on both sides.
    AtSign,
    /// Neither `true` nor `false`.
    Boolean,
    /// A control character.
    Control,
    /// Bytes that are not text in the file's encoding.
    Encoding,
    /// The record has more or fewer fields than the header.
    Fields,
    /// A spreadsheet turned the value into something else.
    Spreadsheet,
    /// No phone number of its country.
    Impossible,
    /// The country code is not that of the phone number.
    CountryCode,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 14] = [
        Rule::Required,
        Rule::TooShort,
        Rule::TooLong,
        Rule::Digits,
        Rule::Character,
        Rule::Edge,
        Rule::AtSign,
        Rule::Boolean,
        Rule::Control,
        Rule::Encoding,
        Rule::Fields,
        Rule::Spreadsheet,
        Rule::Impossible,
        Rule::CountryCode,
    ];

    /// The rule of that word.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// The rule's word.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Required => "required",
            Rule::TooShort => "too-short",
            Rule::TooLong => "too-long",
            Rule::Digits => "digits",
            Rule::Character => "character",
            Rule::Edge => "edge",
            Rule::AtSign => "at-sign",
            Rule::Boolean => "boolean",
            Rule::Control => "control",
            Rule::Encoding => "encoding",
            Rule::Fields => "fields",
            Rule::Spreadsheet => "spreadsheet",
            Rule::Impossible => "impossible",
            Rule::CountryCode => "country-code",
        }
    }

    /// The option that may let such a row pass, for the field in which it occurred.
    pub fn option(self, field: Option<Field>) -> Option<&'static str> {
        match (self, field) {
            (Rule::Encoding, _) => Some("--encoding LABEL"),
            (Rule::Fields, _) => Some("--delimiter CHAR"),
            (Rule::Required, _) => Some("--set FIELD=VALUE"),
            (Rule::Digits, Some(Field::MobileNumber)) => Some("--phone-region CC"),
            (Rule::Impossible, _) => Some("--validation lenient"),
            (_, Some(field)) if !field.is_mandatory() => Some("--drop-invalid-optional"),
            _ => None,
        }
    }

    /// What the user can do about it, for the field in which it occurred.
    pub fn remedy(self, field: Option<Field>) -> &'static str {
        match (self, field) {
            (Rule::Required, _) => "fill the cell, or give a constant with --set FIELD=VALUE",
            (Rule::TooShort, _) => "a reference needs at least 8 characters; a prefix such as cust_ helps",
            (Rule::TooLong, Some(Field::Reference)) => "use a shorter id of the customer",
            (Rule::TooLong, Some(Field::MobileNumber)) => {
                "one number of at most 16 digits, or give --phone-region CC (such as IN) to read any spelling"
            }
            (Rule::TooLong, Some(Field::MobileCountryCode)) => {
                "write the country code as digits only, such as 91"
            }
            (Rule::TooLong, _) => "shorten it; --validation lenient lets the API judge",
            (Rule::Digits, Some(Field::MobileCountryCode)) => {
                "write the country code as digits only, such as 91"
            }
            (Rule::Digits, _) => {
                "write the number as digits only, or give --phone-region CC (such as IN) to read any spelling"
            }
            (Rule::Character, Some(Field::EmailAddress)) => {
                "allowed are letters A-Z, digits and !#$%&'*+-/=?^_.{|}~`@"
            }
            (Rule::Character, _) => {
                "allowed are letters A-Z, digits and ().-_ ; --validation lenient lets the API judge"
            }
            (Rule::Edge, _) => "_ and . cannot stand first or last, neither before nor after the @",
            (Rule::AtSign, _) => "an e-mail address has one @ with something on both sides",
            (Rule::Boolean, _) => "write true or false",
            (Rule::Control, _) => "remove line breaks, tabs and other control characters from the cell",
            (Rule::Encoding, _) => "save the file as UTF-8; a replacement character must be typed anew",
            (Rule::Fields, _) => "quote cells that contain the delimiter, and give each row every column",
            (Rule::Spreadsheet, _) => {
                "export the data anew and let the spreadsheet read this column as text \
                 (Excel: Data > From Text/CSV, type Text) before it saves as CSV"
            }
            (Rule::Impossible, _) => {
                "correct the number, or give the region of these rows with --phone-region; \
                 --validation lenient looks at its length only"
            }
            (Rule::CountryCode, _) => "correct the code, or empty the cell: the number fills it",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One rule that a row breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, or `None` where the whole record is at fault.
    pub field: Option<Field>,
    /// The rule.
    pub rule: Rule,
    /// What was seen: a character and its place, a length, a count; never the value.
    pub seen: String,
}

impl Fault {
    /// The field's name, or `record`.
    pub fn field_name(&self) -> &'static str {
        self.field.map_or("record", Field::name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks {}: {}", self.field_name(), self.rule, self.seen)
    }
}

impl Faults {
    /// The reference, if there is one and it is no fault itself: other rows may have the same.
    pub fn named(&self) -> Option<&str> {
        let is_at_fault = self.list.iter().any(|fault| fault.field == Some(Field::Reference));
        self.reference.as_deref().filter(|_| !is_at_fault)
    }
}

/// All the faults of one row (at least one), and its reference where that is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// In field order.
    pub list: Vec<Fault>,
    /// The reference as given, if the row has one; it need not be valid.
    pub reference: Option<String>,
}
