//! The rules that a row can break, the faults of a row, and what to do about each fault.
//!
//! The names of the rules are a contract: scripts, exports and the ledger have them. A fault outlives its record in the
//! ledger and may be shown anywhere, so a fault names the field, the rule and what was seen, and never contains a value.
//!
//! Checks nothing: `validation` finds the faults of cells, and the row parser of `source` those of whole records. What
//! was seen decides the remedy where one rule has several causes, so the texts that both sides must agree on are
//! constants here.

use std::fmt;

use super::{
    Field,
    phone::{PhoneError, PhoneErrorKind},
    spreadsheet::{LITERAL_QUOTES, NEGATIVE, OTHER_QUOTES, STRAIGHTEN, TYPOGRAPHIC},
};

/// Part of what was seen if a quote was intended as text.
pub(crate) const BACKSLASH: &str = "and the \\ before that quote does not escape it";

/// What was seen in a line that is a comment.
pub(crate) const COMMENT: &str = "a comment, which CSV does not have";

/// What was seen in a line that `git` wrote.
pub(crate) const CONFLICT: &str = "the mark of a conflict that git could not resolve";

/// What was seen in a record with a line separator of another program.
pub(crate) const LINE_SEPARATOR: &str =
    "a character that ends a line for another program, such as U+2028 or U+0085, stands in the row";

/// What was seen in a row whose cells typographic quotes hold together.
pub(crate) const TEXT_QUOTES: &str =
    "a cell begins and a later one ends with a quote that is not a CSV quote";

/// What was seen in a row of a failed export in another encoding. The encoding of the original file does not apply.
pub(crate) const EXPORT_ENCODING: &str =
    "as the export was written: another program has saved it in its own encoding";

/// What was seen in a reference that the ledger has with leading zeros.
pub(crate) const LOST_ZEROS: &str = "a number without the leading zeros that the ledger has it with";

/// What was seen in a row that was never written.
pub(crate) const NULS: &str = "nothing but NUL characters, as an interrupted copy leaves";

/// What was seen in a row whose whole line is quoted.
pub(crate) const QUOTED_ROW: &str = "the whole line is one quoted cell";

/// Faults that no option can correct.
const NO_OPTION: [&str; 9] = [
    NEGATIVE,
    QUOTED_ROW,
    COMMENT,
    CONFLICT,
    LINE_SEPARATOR,
    NULS,
    TYPOGRAPHIC,
    TEXT_QUOTES,
    EXPORT_ENCODING,
];

/// A rule that a field or record can break. The names are stable: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A required field is empty.
    Required,
    /// The reference has fewer than eight characters.
    TooShort,
    /// More characters than the platform stores, or a reference too long for a URL.
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
    /// A character without a shape.
    Invisible,
    /// Bytes that are not text in the file's encoding.
    Encoding,
    /// The record has more or fewer cells than the header.
    Fields,
    /// The record's quotes are malformed, or have swallowed other rows.
    Quotes,
    /// A header whose columns are not those of the file, or a row after it.
    Header,
    /// A spreadsheet has rewritten the value.
    Spreadsheet,
    /// A word that stands for a missing value, such as `NULL`.
    NullMarker,
    /// Not a phone number of its country.
    Impossible,
    /// The country code is not that of the phone number.
    CountryCode,
    /// The line is no row: a tool wrote it among the rows.
    StrayLine,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 19] = [
        Rule::Required,
        Rule::TooShort,
        Rule::TooLong,
        Rule::Digits,
        Rule::Character,
        Rule::Edge,
        Rule::AtSign,
        Rule::Boolean,
        Rule::Control,
        Rule::Invisible,
        Rule::Encoding,
        Rule::Fields,
        Rule::Quotes,
        Rule::Header,
        Rule::Spreadsheet,
        Rule::NullMarker,
        Rule::Impossible,
        Rule::CountryCode,
        Rule::StrayLine,
    ];

    /// The rule with that name.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// The name of the rule.
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
            Rule::Invisible => "invisible",
            Rule::Encoding => "encoding",
            Rule::Fields => "fields",
            Rule::Quotes => "quotes",
            Rule::Header => "header",
            Rule::Spreadsheet => "spreadsheet",
            Rule::NullMarker => "null-marker",
            Rule::Impossible => "impossible",
            Rule::CountryCode => "country-code",
            Rule::StrayLine => "stray-line",
        }
    }

    /// What is wrong, for readers who do not know the rules, without the field: `has an invisible character`.
    pub fn predicate(self) -> &'static str {
        match self {
            Rule::Required => "is missing",
            Rule::TooShort => "has fewer than 8 characters",
            Rule::TooLong => "is too long",
            Rule::Digits => "has something other than digits",
            Rule::Character => "has a character that Juspay does not allow",
            Rule::Edge => "has a dot or an underscore where Juspay does not allow one",
            Rule::AtSign => "does not have exactly one @ with text before and after it",
            Rule::Boolean => "is neither true nor false",
            Rule::Control => "has a line break, a tab or another control character",
            Rule::Invisible => "has an invisible character",
            Rule::Encoding => "has damaged text",
            Rule::Fields => "has more or fewer cells than the header",
            Rule::Quotes => "has quotation marks that do not match",
            Rule::Header => "comes after a header with other columns",
            Rule::Spreadsheet => "was damaged by a spreadsheet program",
            Rule::NullMarker => "has a word such as NULL in place of a value",
            Rule::Impossible => "is not a valid phone number of its country",
            Rule::CountryCode => "does not fit the mobile number",
            Rule::StrayLine => "is text that a tool wrote between the rows",
        }
    }

    /// Whether a fault of a whole record means that its cells cannot be assigned to columns. `field` and `code` are the
    /// names of the fault's field and rule.
    pub fn is_of_layout(field: &str, code: &str) -> bool {
        let is_layout =
            |rule: Rule| matches!(rule, Rule::Fields | Rule::Quotes | Rule::Header | Rule::TooLong);
        Field::from_name(field).is_none() && Rule::from_name(code).is_some_and(is_layout)
    }

    /// How to correct a row with such a fault; `seen` is what the fault reports.
    fn remedy_of(self, field: Option<Field>, seen: &str) -> &'static str {
        match seen {
            // Reading the number in another spelling cannot restore the digits.
            NEGATIVE => Rule::Spreadsheet.remedy(field),
            LOST_ZEROS => {
                "the ledger has this customer's number with leading zeros: restore them, or export the data again; if it \
                 has to go through a spreadsheet, import this column as text (Excel: Data > From Text/CSV, type Text)"
            }
            _ if seen.starts_with(OTHER_QUOTES) => {
                "give --quote \"'\" if all cells of the file stand in such quotes, or remove them"
            }
            _ if seen.starts_with(LITERAL_QUOTES) => {
                "leave out --quote if it is given, or remove the quotes, which are part of the value here"
            }
            _ if seen.starts_with(TYPOGRAPHIC) || seen.contains(TEXT_QUOTES) => STRAIGHTEN,
            _ if seen.ends_with(EXPORT_ENCODING) => {
                "save it as `CSV UTF-8`, or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE | customer-import import -"
            }
            QUOTED_ROW => "remove the quotes around the whole line, and undouble those inside",
            _ if seen.ends_with(COMMENT) => "delete the line",
            _ if seen.ends_with(CONFLICT) => "resolve the conflict, and keep one of the two versions",
            _ if seen.ends_with(LINE_SEPARATOR) => {
                "put line breaks in place of these characters, as perl -CSD -pe does"
            }
            _ if seen.ends_with(NULS) => "copy the file again: part of it is missing",
            seen if seen.contains(BACKSLASH) => {
                r#"double each quote in place of a backslash: sed 's/\\"/""/g' FILE | customer-import import -"#
            }
            seen if seen.starts_with("a blank before the opening quote") => {
                r#"remove the blanks before it: sed -E 's/(^|[,;|\t]) +"/\1"/g' FILE | customer-import import -"#
            }
            seen if seen.starts_with("a blank after the closing quote") => {
                r#"remove the blanks after it: sed -E 's/" +([,;|\t]|\r?$)/"\1/g' FILE | customer-import import -"#
            }
            _ => self.remedy(field),
        }
    }

    /// What the user can do about a fault; `seen` is what the fault reports.
    pub fn advice(self, field: Option<Field>, seen: &str) -> Advice {
        Advice { remedy: self.remedy_of(field, seen), option: self.option_of(field, seen) }
    }

    /// The option that may make a row with such a fault valid; `seen` is what the fault reports.
    fn option_of(self, field: Option<Field>, seen: &str) -> Option<&'static str> {
        if NO_OPTION.iter().any(|of| seen.contains(of)) || seen.contains(BACKSLASH) {
            None
        } else {
            self.option(field)
        }
    }

    /// The option that may make a row with a fault in this field valid, whatever was seen.
    fn option(self, field: Option<Field>) -> Option<&'static str> {
        match (self, field) {
            (Rule::Encoding, _) => Some("--encoding LABEL"),
            (Rule::Fields, _) => Some("--delimiter CHAR"),
            (Rule::Quotes, _) => Some("--quote none"),
            // A constant would be the same customer, or the same number, in every row.
            (Rule::Required, Some(field)) if !field.is_mandatory() => Some("--set FIELD=VALUE"),
            (Rule::NullMarker, Some(field)) if !field.is_mandatory() => Some("--null-marker WORD"),
            (Rule::Digits, Some(Field::MobileNumber)) | (_, Some(Field::MobileCountryCode)) => {
                Some("--phone-region CC")
            }
            (Rule::Impossible, _) => Some("--validation lenient"),
            (_, Some(field)) if !field.is_mandatory() => Some("--drop-invalid-optional"),
            _ => None,
        }
    }

    /// How to correct a row with a fault in this field, whatever was seen.
    fn remedy(self, field: Option<Field>) -> &'static str {
        match (self, field) {
            (Rule::Required | Rule::NullMarker, Some(field)) if field.is_mandatory() => {
                "fill in the missing value; no customer can be created without it"
            }
            (Rule::Required, _) => "fill the cell, or give a constant with --set FIELD=VALUE",
            (Rule::TooShort, _) => {
                "a reference needs at least 8 characters; a template adds a prefix: --map 'object_reference_id=customer_{COLUMN}'"
            }
            (Rule::TooLong, Some(Field::Reference)) => "use a shorter id for the customer",
            (Rule::TooLong, Some(Field::MobileNumber)) => {
                "one number of at most 16 digits, or give --phone-region CC (such as IN) to read any spelling"
            }
            (Rule::TooLong, Some(Field::MobileCountryCode)) => {
                "write the country code as digits only, such as 91"
            }
            (Rule::TooLong, None) => "shorten the cell, or close the quote at its beginning",
            (Rule::TooLong, _) => "shorten it; --validation lenient lets the API decide",
            (Rule::Digits, Some(Field::MobileCountryCode)) => {
                "write the country code as digits only, such as 91"
            }
            (Rule::Digits, _) => {
                "write the number as digits only, or give --phone-region CC (such as IN) to read any spelling"
            }
            (Rule::Character, Some(Field::EmailAddress)) => {
                "use only letters A-Z, digits and !#$%&'*+-/=?^_.{|}~`@"
            }
            (Rule::Character, _) => {
                "use only letters A-Z, digits and ().-_ ; --validation lenient lets the API decide"
            }
            (Rule::Edge, _) => "_ and . can be neither first nor last, before or after the @",
            (Rule::AtSign, _) => "an e-mail address has one @ with something on both sides",
            (Rule::Boolean, _) => "write true or false",
            (Rule::Control, _) => "remove line breaks, tabs and other control characters from the cell",
            (Rule::Invisible, _) => {
                "remove this invisible character, which is often copied along with text from a web page or a chat"
            }
            (Rule::Encoding, _) => {
                "save the file as UTF-8, or name its encoding with --encoding LABEL; a replacement character must be \
                 typed again"
            }
            (Rule::Fields, _) => {
                "quote cells that contain the delimiter; only empty optional cells at the end of a row may be missing"
            }
            (Rule::Quotes, _) => {
                "close the quote, and double each quote inside a quoted cell; \
                 give --quote none if quotes are plain text in this file"
            }
            (Rule::Header, _) => "put that header and the rows after it into a file of their own",
            (Rule::Spreadsheet, _) => {
                "export the data again; if it has to go through a spreadsheet, import this column as text \
                 (Excel: Data > From Text/CSV, type Text)"
            }
            (Rule::NullMarker, _) => {
                "leave the cell empty, or give --null-marker WORD to read that word as empty"
            }
            (Rule::Impossible, _) => {
                "correct the number, or give the region of these rows with --phone-region; \
                 --validation lenient checks only its length"
            }
            (Rule::StrayLine, _) => {
                "delete the line: it is not a customer; after an error message, rows may be missing"
            }
            (Rule::CountryCode, _) => {
                "correct the code; the cell may be empty if the number begins with + and its own code"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the user can do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// How to correct the row.
    pub remedy: &'static str,
    /// The option that may make the row valid as it is.
    pub option: Option<&'static str>,
}

/// One rule that a row breaks, where, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, or `None` if the whole record is at fault.
    pub field: Option<Field>,
    /// The rule that is broken.
    pub rule: Rule,
    /// What was seen: a character and its position, a length, a count; never the value.
    pub seen: String,
}

impl Fault {
    /// The fault of a value of this field.
    pub(crate) fn of_field(field: Field, rule: Rule, seen: impl Into<String>) -> Fault {
        Fault { field: Some(field), rule, seen: seen.into() }
    }

    /// The field's name, or `record`.
    pub fn field_name(&self) -> &'static str {
        self.field.map_or("record", Field::name)
    }

    /// What was seen, from a message that consists of the faults of a row, separated by `;` without a blank. `name` is
    /// the fault's [`Fault::field_name`].
    pub fn seen_in<'a>(message: &'a str, name: &str, rule: Rule) -> Option<&'a str> {
        // Earlier versions wrote `first_name breaks character: …`, and a ledger keeps their messages.
        let (end, earlier) = (format!(" ({rule})"), format!("breaks {rule}: "));
        let mut starts = std::iter::once(0).chain(message.match_indices(';').map(|(at, _)| at + 1));
        starts.find_map(|start| {
            let fault = message[start..].strip_prefix(name)?.strip_prefix(' ')?;
            if let Some(earlier) = fault.strip_prefix(&earlier) {
                return earlier.split("; ").next();
            }
            let fault = &fault[..fault.find(&end)?];
            let seen = &fault[fault.find(": ")? + 2..];
            // A fault with another rule, with the intended one behind it.
            (!is_next_fault(seen)).then_some(seen)
        })
    }
}

/// Whether another fault of a row begins within the text.
fn is_next_fault(text: &str) -> bool {
    text.match_indices(';').any(|(at, _)| {
        let names = Field::ALL.map(Field::name).into_iter().chain(["record"]);
        let rest = &text[at + 1..];
        names.into_iter().any(|name| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))
    })
}

impl From<PhoneError> for Fault {
    fn from(PhoneError { kind, seen }: PhoneError) -> Fault {
        let (field, rule) = match kind {
            PhoneErrorKind::Impossible => (Field::MobileNumber, Rule::Impossible),
            PhoneErrorKind::ZeroDropped => (Field::MobileNumber, Rule::Spreadsheet),
            PhoneErrorKind::CountryCode | PhoneErrorKind::OtherCountryCode => {
                (Field::MobileCountryCode, Rule::CountryCode)
            }
            PhoneErrorKind::CountryCodeDigits => (Field::MobileCountryCode, Rule::Digits),
        };
        Fault::of_field(field, rule, seen)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let predicate = self.rule.predicate();
        write!(f, "{} {predicate}: {} ({})", self.field_name(), self.seen, self.rule)
    }
}

/// All faults of one row, at least one, and its reference if that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// In field order.
    pub list: Vec<Fault>,
    /// The reference as given, if it could be read; it may be invalid.
    pub reference: Option<String>,
}

impl Faults {
    /// The reference, unless it breaks a rule itself: a later row with the same reference is a duplicate.
    pub fn named(&self) -> Option<&str> {
        let is_at_fault = self.list.iter().any(|fault| fault.field == Some(Field::Reference));
        self.reference.as_deref().filter(|_| !is_at_fault)
    }
}
