//! Maps the columns of the header to the fields of the API.
//!
//! A column matches by the API's own field name or by `--map`: exactly first, then ignoring case and blanks. A missing
//! column is an error that lists the columns found and suggests the one that is probably meant.

use super::{EXPORT_COLUMNS, Error, ReadOptions};
use crate::customer::Field;

/// Where each field stands in a record, as the header says.
pub(super) struct ColumnMap {
    /// Number of columns.
    pub(super) width: usize,
    /// The column of each field of the API.
    pub(super) by_field: [Option<usize>; Field::COUNT],
    /// The columns of the source itself, without those that an earlier failed export added.
    pub(super) kept: Vec<usize>,
    /// The columns `_line`, `_outcome` and `_error_code` of an earlier failed export.
    pub(super) correction: Option<[usize; 3]>,
    /// The column `_field` of that export.
    pub(super) field: Option<usize>,
    /// The column `_error_message` of that export.
    pub(super) message: Option<usize>,
    /// Whether each row ends with an additional empty field.
    pub(super) rows_trail: bool,
}

impl ColumnMap {
    /// Maps the header. Fails if a required column is missing or ambiguous.
    pub(super) fn find(name: &str, header: &[String], options: &ReadOptions) -> Result<ColumnMap, Error> {
        let kept = (0..header.len()).filter(|at| !EXPORT_COLUMNS.contains(&header[*at].as_str())).collect();
        let place = |name: &str| header.iter().position(|column| column == name);
        let correction = place("_line").zip(place("_outcome")).zip(place("_error_code"));
        Ok(ColumnMap {
            width: header.len(),
            by_field: find_columns(name, header, options)?,
            kept,
            correction: correction.map(|((line, outcome), code)| [line, outcome, code]),
            field: place("_field"),
            message: place("_error_message"),
            rows_trail: false,
        })
    }
}

fn find_columns(
    name: &str,
    header: &[String],
    options: &ReadOptions,
) -> Result<[Option<usize>; Field::COUNT], Error> {
    let mut places = [None; Field::COUNT];
    for field in Field::ALL {
        let mapped = options.map.iter().find(|(of, _)| *of == field).map(|(_, column)| column.as_str());
        let wanted = mapped.unwrap_or(field.name());
        let exact: Vec<usize> = (0..header.len()).filter(|at| header[*at] == wanted).collect();
        let found = if exact.is_empty() {
            (0..header.len()).filter(|at| plain(&header[*at]) == plain(wanted)).collect()
        } else {
            exact
        };
        let constant = options.rules.constants.iter().any(|(of, _)| *of == field);
        let required = field.is_mandatory() || options.rules.require.contains(&field);
        places[field as usize] = match found.as_slice() {
            [one] => Some(*one),
            [_, _, ..] => {
                return Err(Error::AmbiguousColumn { field, column: wanted.into() });
            }
            [] if mapped.is_some() => {
                return Err(Error::UnknownColumn {
                    field,
                    column: wanted.into(),
                    found: header.to_vec(),
                    likely: closest(wanted, header),
                });
            }
            [] if required && !constant => {
                return Err(Error::MissingColumn {
                    name: name.into(),
                    field,
                    found: header.to_vec(),
                    likely: likely_column(field, header),
                });
            }
            [] => None,
        };
    }
    Ok(places)
}

/// Whether a header has a column of that name.
pub(super) fn has_column(header: &[String], name: &str) -> bool {
    header.iter().any(|column| plain(column) == plain(name))
}

/// A name without case and blanks, for comparison.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| !c.is_whitespace());
    // Through upper case, so that `ß` equals `SS` and both lower-case sigmas are equal.
    letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// What other systems call the fields; compared ignoring case, blanks, `_` and `-`.
fn aliases(field: Field) -> &'static [&'static str] {
    match field {
        Field::Reference => {
            &["customerid", "id", "userid", "custid", "reference", "referenceid", "externalid", "uid", "uuid"]
        }
        Field::MobileNumber => {
            &["mobile", "phone", "phonenumber", "mobileno", "phoneno", "msisdn", "cell", "contact", "telefon"]
        }
        Field::EmailAddress => &["email", "mail", "emailid", "useremail"],
        Field::FirstName => &["firstname", "givenname", "name", "fname", "vorname"],
        Field::LastName => &["lastname", "surname", "familyname", "lname", "nachname"],
        Field::MobileCountryCode => {
            &["countrycode", "phonecountrycode", "dialcode", "isdcode", "callingcode"]
        }
        Field::GetClientAuthToken => &["getclientauthtoken"],
    }
}

fn likely_column(field: Field, header: &[String]) -> Option<String> {
    let bare = |name: &str| name.to_lowercase().replace([' ', '_', '-'], "");
    let alias = |column: &&String| aliases(field).contains(&bare(column).as_str());
    header.iter().find(alias).cloned().or_else(|| closest(field.name(), header))
}

/// The most similar column name, if it is similar enough to be meant (Jaro-Winkler above 0.8).
fn closest(wanted: &str, header: &[String]) -> Option<String> {
    let score = |column: &String| strsim::jaro_winkler(&plain(wanted), &plain(column));
    let best = header.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.8).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn places(columns: &str, options: &ReadOptions) -> Result<[Option<usize>; Field::COUNT], String> {
        find_columns("f.csv", &header(columns), options).map_err(|error| format!("{error}; {}", error.hint()))
    }

    #[test]
    fn columns_are_found_by_name_and_by_map() {
        let plain = places("x,mobile_number,Object_Reference_ID,_line", &ReadOptions::default()).unwrap();
        assert_eq!(plain[..3], [Some(2), Some(1), None]);
        let map = vec![(Field::Reference, "Id".into()), (Field::MobileNumber, "phone".into())];
        let mapped = places("Id,PHONE", &ReadOptions { map, ..ReadOptions::default() }).unwrap();
        assert_eq!(mapped[..2], [Some(0), Some(1)]);
    }

    #[test]
    fn a_missing_column_names_what_was_found_and_what_is_likely() {
        let missing = |columns: &str| places(columns, &ReadOptions::default()).unwrap_err();
        assert_eq!(
            missing("object_reference_id,Phone"),
            "no column mobile_number in f.csv (columns found: object_reference_id, Phone); \
             did you mean --map 'mobile_number=Phone'?"
        );
        assert!(missing("object_referense_id,mobile_number").contains("=object_referense_id'"));
        assert!(missing("a,b").contains("--set object_reference_id=VALUE"));
        let options =
            ReadOptions { map: vec![(Field::LastName, "sirname".into())], ..ReadOptions::default() };
        let unknown = places("object_reference_id,mobile_number,surname", &options).unwrap_err();
        assert!(unknown.contains("did you mean --map 'last_name=surname'?"), "{unknown}");
        assert!(missing("mobile_number,mobile_number,object_reference_id").contains("ambiguous"));
    }
}
