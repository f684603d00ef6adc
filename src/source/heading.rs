//! Determines which field a heading names, from its text alone: by the field's own name, a name in other systems, or
//! words of the name.
//!
//! Only the first kind maps a column by itself. The others are suggested in messages, and `init` compares them with
//! the cells below the heading.

use crate::customer::{Field, mapped_columns};

/// How a heading names a field; the more certain variant is the lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeadingMatch {
    /// The name is the field's own, as headings are compared.
    Own,
    /// A name of the field in other systems. The number is its index in the list, the most common first.
    Alias(usize),
    /// The heading contains the words of the field.
    Words,
}

/// The field that a heading names, and how certain that is.
pub fn named_field(heading: &str) -> Option<(Field, HeadingMatch)> {
    let own = Field::ALL.into_iter().find(|field| plain(field.name()) == plain(heading));
    let alias = || Field::ALL.into_iter().find_map(|field| Some((field, alias_rank(field, heading)?)));
    own.map(|field| (field, HeadingMatch::Own))
        .or_else(|| alias().map(|(field, rank)| (field, HeadingMatch::Alias(rank))))
        .or_else(|| field_of_words(heading).map(|field| (field, HeadingMatch::Words)))
}

/// Whether a header has a column of that name.
pub(super) fn has_column(header: &[String], name: &str) -> bool {
    header.iter().any(|column| plain(column) == plain(name))
}

/// Whether a header has every column that the text of a `--map` names.
pub(super) fn has_columns_of(header: &[String], text: &str) -> bool {
    mapped_columns(text).iter().all(|name| has_column(header, name))
}

/// A name in the form for comparison: without case, blanks, `_`, `-`, `.` (as R writes a blank), invisible characters and
/// a trailing `:` or `*` of a form, so that `First Name:`, `first-name`, `First.Name` and `FIRST_NAME*` are `first_name`.
pub(super) fn plain(name: &str) -> String {
    let is_kept = |c: &char| {
        !c.is_whitespace()
            && !matches!(c, '_' | '-' | '.' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let letters = name.trim_end_matches([':', '*', ' ']).chars().filter(is_kept);
    // By way of upper case, so that `ß` equals `SS` and both lower-case sigmas are equal.
    letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Names of the fields in other systems, in the form for comparison.
fn aliases(field: Field) -> &'static [&'static str] {
    match field {
        Field::Reference => &[
            "customerid",
            "id",
            "userid",
            "custid",
            "reference",
            "referenceid",
            "externalid",
            "uid",
            "uuid",
            "customernumber",
            "customerno",
            "clientid",
            "kundennummer",
            "kundennr",
        ],
        Field::MobileNumber => &[
            "mobile",
            "phone",
            "phonenumber",
            "mobileno",
            "phoneno",
            "msisdn",
            "cell",
            "contact",
            "telefon",
            "telephone",
            "mobilephone",
            "cellphone",
            "contactnumber",
            "tel",
        ],
        Field::EmailAddress => {
            &["email", "mail", "emailid", "useremail", "emailadresse", "correo", "courriel"]
        }
        Field::FirstName => {
            &["firstname", "givenname", "name", "fname", "vorname", "forename", "prenom", "prénom", "nombre"]
        }
        Field::LastName => {
            &["lastname", "surname", "familyname", "lname", "nachname", "apellido", "apellidos", "cognome"]
        }
        Field::MobileCountryCode => {
            &["countrycode", "phonecountrycode", "dialcode", "isdcode", "callingcode"]
        }
        Field::GetClientAuthToken => &["getclientauthtoken"],
    }
}

pub(super) fn is_alias(field: Field, name: &str) -> bool {
    alias_rank(field, name).is_some()
}

/// Whether a column that feeds nothing is probably meant for the field: its name is that of the field in another system,
/// also behind the name of a table (`customer_email`), or the field's own name with a typing error.
pub(super) fn is_likely(field: Field, name: &str) -> bool {
    /// Similarity (Jaro-Winkler) from which two names are the same but for a typing error.
    const ALIKE: f64 = 0.95;
    /// Shorter names are the end of other words: `full_name` ends with `lname`.
    const LONG: usize = 8;
    let (letters, own) = (plain(name), plain(field.name()));
    let ends = |of: &&str| (of.len() >= LONG || **of == *"email") && letters.ends_with(*of);
    is_alias(field, name)
        || ends_with_own(field, name)
        || aliases(field).iter().any(ends)
        || strsim::jaro_winkler(&own, &letters) >= ALIKE
}

/// Whether a name ends with the field's own: `customer.mobile_number`.
pub(super) fn ends_with_own(field: Field, name: &str) -> bool {
    plain(name).ends_with(&plain(field.name()))
}

fn alias_rank(field: Field, name: &str) -> Option<usize> {
    let name = plain(name);
    aliases(field).iter().position(|alias| *alias == name)
}

/// The field whose words a heading contains: `Customer's e-mail (work)`, `phone_1`, `shop_user_id`.
fn field_of_words(heading: &str) -> Option<Field> {
    let letters: String = plain(heading).chars().filter(|c| c.is_alphanumeric()).collect();
    let has = |words: &[&str]| words.iter().any(|word| letters.contains(word));
    let ends = |words: &[&str]| words.iter().any(|word| letters.ends_with(word));
    let is_of_person = has(&["customer", "user", "client", "member", "subscriber", "buyer", "kunde"])
        || letters.starts_with("cust") && !letters.starts_with("custom");
    match () {
        () if has(&["countrycode", "dialcode", "dialingcode", "callingcode", "isdcode"]) => {
            Some(Field::MobileCountryCode)
        }
        () if has(&["email"]) || ends(&["mail", "mailaddress", "mailid"]) => Some(Field::EmailAddress),
        () if has(&["phone", "mobile", "msisdn", "whatsapp", "telefon", "handy", "contactn", "cellular"])
            || letters == "tel" =>
        {
            Some(Field::MobileNumber)
        }
        () if has(&["firstname", "givenname", "forename", "vorname"]) => Some(Field::FirstName),
        () if has(&["lastname", "surname", "familyname", "nachname"]) => Some(Field::LastName),
        () if is_of_person
            && ends(&["id", "no", "nr", "number", "num", "key", "ref", "reference", "code"]) =>
        {
            Some(Field::Reference)
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_names_a_field_more_or_less_surely() {
        for (heading, expected) in [
            ("Mobile Number", Some((Field::MobileNumber, HeadingMatch::Own))),
            ("Phone Number", Some((Field::MobileNumber, HeadingMatch::Alias(2)))),
            ("Phone No. (1)", Some((Field::MobileNumber, HeadingMatch::Words))),
            ("phone_country_code", Some((Field::MobileCountryCode, HeadingMatch::Alias(1)))),
            ("Customer's E-Mail", Some((Field::EmailAddress, HeadingMatch::Words))),
            ("shop_user_id", Some((Field::Reference, HeadingMatch::Words))),
            ("cust_ref", Some((Field::Reference, HeadingMatch::Words))),
            ("custom_code", None),
            ("First.Name", Some((Field::FirstName, HeadingMatch::Own))),
            ("options_get_client_auth_token", Some((Field::GetClientAuthToken, HeadingMatch::Own))),
            ("order_id", None),
            ("city", None),
            ("", None),
        ] {
            assert_eq!(named_field(heading), expected, "{heading}");
        }
    }

    #[test]
    fn a_column_that_feeds_nothing_is_likely_meant_for_a_field() {
        for (field, names) in [
            (Field::EmailAddress, "email_adress customer_email Customer.Email_Address E-Mail"),
            (Field::FirstName, "frist_name customer.first_name user_firstname Vorname"),
            (Field::LastName, "last_nme surname customer_last_name"),
            (Field::MobileCountryCode, "mobile_country country_code phone_country_code"),
        ] {
            for name in names.split(' ') {
                assert!(is_likely(field, name), "{name}");
            }
        }
        for (field, names) in [
            (Field::EmailAddress, "email_verified address mailing"),
            (Field::FirstName, "last_name company_name first_order full_name"),
            (Field::LastName, "full_name first_name last_login"),
            (Field::MobileCountryCode, "mobile country"),
        ] {
            for name in names.split(' ') {
                assert!(!is_likely(field, name), "{name}");
            }
        }
    }
}
