//! Inspects a file and proposes the settings to read it.
//!
//! The evidence is the header and the first rows. Clear evidence becomes a setting, below a comment with the reason;
//! anything uncertain becomes a comment that the user can turn into a setting. Counts come from validating the sample
//! with the proposed settings, so they are those that `validate` would report. The proposal contains column names,
//! counts and countries, never a value.

mod assignment;

mod format;

mod profile;

mod text;

use std::{path::PathBuf, time::Duration};

pub use self::text::proposal_toml;
use self::{
    assignment::{Assigned, Candidate, Evidence, assign},
    format::{Format, find_format},
    profile::{Column, PhoneEvidence},
    text::quoted,
};
use crate::{
    customer::{Field, FieldKind, PhoneRegion},
    error::Error,
    report::{counted, grouped, row_count, rows, short_name, time, visible_text},
    source::{Encoding, HeadingMatch, Quote, RowCount, Source, SourceOptions, SourceSample, Table},
    validate::{Findings, validate},
};

/// The prefix for references if the column's values are too short: with one more character they are long enough.
const REFERENCE_PREFIX: &str = "customer_";

/// If at least this percentage of the references is too short, all get a prefix.
const SHORT_PERCENT: u64 = 5;

/// The minimum percentage of numbers with a country code that must agree on it.
const REGION_PERCENT: u64 = 90;

/// The maximum size of the list of ignored column names in bytes; a settings file has a maximum size.
const IGNORED_MAX_BYTES: usize = 32 * 1024;

/// Requests per second if nothing else is set.
const DEFAULT_RATE: u64 = 50;

/// What the user specifies about the file; the program determines whatever is `None`.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file, or `-` for standard input.
    pub path: PathBuf,
    /// The delimiter.
    pub delimiter: Option<u8>,
    /// The character that quotes a cell.
    pub quote: Option<Quote>,
    /// The text encoding.
    pub encoding: Option<Encoding>,
    /// The region of the phone numbers.
    pub phone_region: Option<PhoneRegion>,
}

/// Whether a line of the proposal has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A setting.
    Set,
    /// A comment that the user may turn into a setting.
    Open,
}

/// A line of a settings file.
struct Line {
    /// The reason for the line.
    why: String,
    /// The key with its value, or an entry of a list; empty for a mere remark.
    toml: String,
    state: State,
}

impl Line {
    fn set(why: impl Into<String>, toml: impl Into<String>) -> Line {
        Line { why: why.into(), toml: toml.into(), state: State::Set }
    }

    fn open(why: impl Into<String>, toml: impl Into<String>) -> Line {
        Line { why: why.into(), toml: toml.into(), state: State::Open }
    }
}

/// The proposed settings for a file.
pub struct Proposal {
    head: Vec<String>,
    format: Vec<Line>,
    map: Vec<Line>,
    ignore: Vec<String>,
    ignore_why: String,
    /// The result of validating the sample.
    tried: String,
    settings: Vec<Line>,
    /// Mandatory fields without a column.
    pub missing: Vec<Field>,
}

/// Inspects the file.
///
/// # Errors
/// If the file cannot be read, or its first line is not a header.
pub fn propose(given: &Given) -> Result<Proposal, Error> {
    let sample = SourceSample::open(&given.path, given.encoding.unwrap_or_default())?;
    let Format { mut options, table, lines: format } = find_format(&sample, given)?;
    let columns: Vec<Column> =
        (0..table.header.len()).map(|at| Column::of(&table.header, at, &table.rows)).collect();
    let assigned = assign(&columns)?;
    let mut map = Vec::new();
    for field in Field::ALL {
        let of_field = &assigned[field as usize];
        if let Some((text, why)) = of_field.column.map(|chosen| set_column(field, &columns, chosen)) {
            map.push(Line::set(why, format!("{field}={text}")));
            options.read.map.push((field, text));
        } else if field.is_mandatory() {
            map.push(missing_column(field, &columns, &of_field.others));
        } else if field != Field::GetClientAuthToken && of_field.others.is_empty() {
            map.push(Line::open(format!("{field}: no column has this name or looks like it."), ""));
        }
        map.extend(other_columns(field, &columns, &of_field.others));
    }
    let has_column = |field: &Field| assigned[*field as usize].column.is_some();
    let missing: Vec<Field> =
        Field::ALL.into_iter().filter(|field| field.is_mandatory() && !has_column(field)).collect();
    let try_out = |options: &SourceOptions| match missing.as_slice() {
        [] => try_out(&sample, options, table.count).map(Some),
        _ => Ok(None),
    };
    let at = |field: Field| assigned[field as usize].column.map(|column| column.at);
    let phones = PhoneEvidence::of(&table.rows, at(Field::MobileNumber), at(Field::MobileCountryCode));
    let region = region(given, &phones, &mut options, try_out)?;
    let findings = try_out(&options)?;
    let (ignore, ignore_why) = ignored(&columns, &assigned);
    let mut settings = vec![region];
    settings.extend(code_constant(&assigned, &options));
    settings.extend(choices(findings.as_ref(), &ignore));
    settings.extend(of_sending(estimate(given, &options, &missing)));
    Ok(Proposal {
        head: head(given, &table, &missing, options.quote),
        format,
        map,
        ignore,
        ignore_why,
        tried: tried(findings.as_ref(), &missing),
        settings,
        missing,
    })
}

/// Validates the sample with these settings.
fn try_out(sample: &SourceSample, options: &SourceOptions, rows: u64) -> Result<Findings, Error> {
    let (findings, read) = validate(&mut sample.source(options, rows)?)?;
    read?;
    Ok(findings)
}

/// Number of rows of the whole file; none if it cannot be determined.
fn estimate(given: &Given, options: &SourceOptions, missing: &[Field]) -> Option<RowCount> {
    let options = SourceOptions { path: given.path.clone(), ..options.clone() };
    // An error further down in the file is left to `validate`.
    if missing.is_empty() { Source::count(&options).ok().flatten() } else { None }
}

fn head(given: &Given, table: &Table, missing: &[Field], quote: Quote) -> Vec<String> {
    let name = visible_text(&given.path.display().to_string());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let argument =
        if name.chars().all(is_plain) { name.clone() } else { format!("'{}'", name.replace('\'', "'\\''")) };
    let delimiter = match table.delimiter {
        b',' => "comma".into(),
        b';' => "semicolon".into(),
        b'\t' => "tab".into(),
        byte => short_name(&char::from(byte).to_string()),
    };
    let looked = match (table.count, table.is_whole) {
        (0, _) => "only the header, because there are no rows".into(),
        (count, true) => format!("all {}", rows(count)),
        (count, false) => format!("the first {}", rows(count)),
    };
    let quotes = if quote == Quote::default() { "" } else { ", unusual quotes" };
    let mut head = vec![
        format!("Settings for {name}, proposed by customer-import init. Each line says why it is there."),
        format!(
            "Inspected: {looked}; {}, delimiter {delimiter}, {}{quotes}. Comments contain \
             column names and counts, never the content of a cell. A line that begins with # has no effect: remove the # to use it.",
            counted(table.header.len() as u64, "column"),
            table.encoding.name(),
        ),
        format!("Next: customer-import validate --config THIS_FILE {argument}"),
        "The API key is not a setting: it comes from JUSPAY_API_KEY or from a file that api-key-file names."
            .into(),
    ];
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|field| field.name()).collect();
        let text = "has no column yet, but the API requires it: fill in the line below; until then, validate reports it as missing";
        head.insert(1, format!("INCOMPLETE: {} {text}.", names.join(" and ")));
    }
    if table.is_export {
        head.push(
            "The file is a failed export of this program: import reads it like the file that it came from, \
             and needs only the settings of that file."
                .into(),
        );
    }
    head
}

/// The text of `--map` for the column of a field, with the reason.
fn set_column(field: Field, columns: &[Column], chosen: Candidate) -> (String, String) {
    let column = &columns[chosen.at];
    let mut why =
        format!("{field}: {}; {}.", by_heading(field, column, chosen.evidence), by_cells(field, column));
    let is_short = field == Field::Reference && column.short * 100 > column.filled * SHORT_PERCENT;
    // A column whose name contains a brace or occurs twice cannot be part of a template.
    let can_be_in_template = column.is_mappable && !column.name.contains('}');
    let text = if is_short && can_be_in_template {
        why.push_str(&format!(
            " {} of them have fewer than 8 characters, which the API does not accept, so each gets a prefix. \
             Any prefix of 7 characters or more will do; it becomes part of the customer's identity, so keep it for \
             all later imports.",
            grouped(column.short)
        ));
        format!("{REFERENCE_PREFIX}{{{}}}", column.name)
    } else {
        if field == Field::Reference && column.short > 0 {
            why.push_str(&format!(
                " {} of them have fewer than 8 characters and are invalid.",
                grouped(column.short)
            ));
        }
        // If `--map` cannot express the column's name, the name of the field finds the column.
        if column.is_mappable { column.name.clone() } else { field.name().into() }
    };
    (text, why)
}

fn by_heading(field: Field, column: &Column, evidence: Evidence) -> String {
    let name = short_name(&column.name);
    match evidence {
        Evidence::Heading(HeadingMatch::Own) if column.name == field.name() => {
            "the column with this name".into()
        }
        Evidence::Heading(HeadingMatch::Own) => {
            format!("column {name}, the same name except for case and punctuation")
        }
        Evidence::Heading(HeadingMatch::Alias(_)) => format!("column {name}, a usual name for it"),
        Evidence::Heading(HeadingMatch::Words) => {
            format!("GUESSED from words in the name of column {name}")
        }
        Evidence::Cells => format!("GUESSED from the cells of column {name}; its name gives no hint"),
    }
}

/// The evidence of a column's cells for a field, as text.
fn by_cells(field: Field, column: &Column) -> String {
    let filled = grouped(column.filled);
    let fits = grouped(column.fits[field as usize]);
    match field.kind() {
        _ if column.filled == 0 => "empty in every inspected row, so only the name suggests it".into(),
        FieldKind::Reference if column.distinct == column.filled => format!("{filled} values, all different"),
        FieldKind::Reference => {
            let repeated = grouped(column.filled - column.distinct);
            format!("{filled} values, {repeated} of which repeat an earlier one")
        }
        FieldKind::MobileNumber => format!("{fits} of {filled} values look like phone numbers"),
        FieldKind::EmailAddress => format!("{fits} of {filled} values look like e-mail addresses"),
        FieldKind::CountryCode => format!("{fits} of {filled} values are country codes"),
        FieldKind::PersonName if column.spaced > 0 => format!(
            "{fits} of {filled} values look like names; {} with a space, which the documented rules do not allow",
            grouped(column.spaced)
        ),
        FieldKind::PersonName => format!("{fits} of {filled} values look like names"),
        FieldKind::Boolean => format!("{fits} of {filled} values are true or false"),
    }
}

/// The line of a mandatory field without a column.
fn missing_column(field: Field, columns: &[Column], others: &[Candidate]) -> Line {
    let mut why = format!(
        "{field}: NO COLUMN IS CERTAIN, but the API requires it; until one is set, validate reports it as missing."
    );
    why.push_str(match others {
        [] => " Replace COLUMN with the name of the column and remove the #.",
        _ => " Remove the # from one of the next lines, or name another column there.",
    });
    if columns.len() == 1 {
        why.push_str(" The file seems to have one column: if it has more, give init --delimiter CHAR.");
    }
    if let Some(column) = columns.iter().find(|column| is_unmappable(field, column)) {
        why.push_str(&format!(
            " Column {} has a fitting name, but no setting can select it: two columns have this name, or it contains a \
             brace. Rename it in the file.",
            short_name(&column.name)
        ));
    }
    let toml = if others.is_empty() { format!("{field}=COLUMN") } else { String::new() };
    Line::open(why, toml)
}

/// Whether the heading of a column is one of the field, but no setting can name the column.
fn is_unmappable(field: Field, column: &Column) -> bool {
    !column.is_mappable && column.names(field).is_some()
}

/// The lines of other columns that may be meant.
fn other_columns(field: Field, columns: &[Column], others: &[Candidate]) -> Vec<Line> {
    let line = |other: &Candidate| {
        let column = &columns[other.at];
        let heading = by_heading(field, column, other.evidence).replace("GUESSED from", "possible by");
        let why = format!("{field}, not set: {heading}; {}.", by_cells(field, column));
        Line::open(why, format!("{field}={}", column.name))
    };
    others.iter().map(line).collect()
}

/// The columns to be listed as ignored, with the reason: they feed no field and are not suggested for one.
fn ignored(columns: &[Column], assigned: &[Assigned]) -> (Vec<String>, String) {
    let is_mentioned = |at: &usize| {
        assigned
            .iter()
            .any(|field| field.column.iter().chain(&field.others).any(|mentioned| mentioned.at == *at))
    };
    let is_unused = |at: &usize| {
        let is_unmappable = |field: &Field| is_unmappable(*field, &columns[*at]);
        !is_mentioned(at) && !Field::ALL.iter().any(is_unmappable)
    };
    let unused = (0..columns.len()).filter(is_unused).map(|at| &columns[at].name);
    let (mut listed, mut bytes, mut left) = (Vec::new(), 0, 0);
    for name in unused.filter(|name| !name.is_empty() && !name.starts_with('_')) {
        bytes += 6 * name.len() + 16;
        match bytes {
            _ if listed.contains(name) => {}
            ..=IGNORED_MAX_BYTES => listed.push(name.clone()),
            _ => left += 1,
        }
    }
    let mut why =
        "Columns that feed no field, because neither their names nor their values fit one: they are not sent. \
         strict-columns accepts the columns in this list."
            .to_owned();
    if left > 0 {
        why.push_str(&format!(" {} more are not listed.", grouped(left)));
    }
    (listed, why)
}

/// The line about the region of the phone numbers. Sets the region in the options if the numbers agree on it and it
/// makes rows valid.
fn region(
    given: &Given,
    phones: &PhoneEvidence,
    options: &mut SourceOptions,
    try_out: impl Fn(&SourceOptions) -> Result<Option<Findings>, Error>,
) -> Result<Line, Error> {
    let line = |region: &str, why: String, state| {
        Ok(Line { why, toml: format!("phone-region = {}", quoted(region)), state })
    };
    if let Some(region) = &given.phone_region {
        options.read.rules.phone_region = Some(region.clone());
        return line(&String::from(region.clone()), "As given to init.".into(), State::Set);
    }
    let (regions, what) = phones.regions();
    let total: u64 = regions.iter().map(|(_, count)| count).sum();
    let spelled = grouped(phones.spelled);
    let Some((region, count)) = regions.first().copied() else {
        let zeros = match phones.trunk_zeros {
            0 => String::new(),
            zeros => format!(" {} begin with a zero, which is sent unchanged.", grouped(zeros)),
        };
        let spelling = if phones.spelled == 0 {
            "All numbers are digits only".to_owned()
        } else {
            format!("{spelled} numbers are not digits only, and are invalid without a region")
        };
        let why = format!(
            "{spelling}; none has a country code, so no region is proposed.{zeros} With one, such as IN, numbers are \
             read in any spelling and checked against its numbering plan."
        );
        return line("IN", why, State::Open);
    };
    let share = format!("{} of {} {what} are of {region}", grouped(count), grouped(total));
    if phones.spelled == 0 {
        let why = format!(
            "Not needed: numbers and codes are digits only. {share}. With a region, numbers are checked against its numbering plan."
        );
        return line(region, why, State::Open);
    }
    let mut with = options.clone();
    with.read.rules.phone_region = PhoneRegion::parse(region).ok();
    let (before, after) = (try_out(options)?, try_out(&with)?);
    let invalid = |findings: &Option<Findings>| findings.as_ref().map(Findings::invalid);
    // If every number contains its country code, any region reads them alike.
    let agrees = phones.national == 0 || count * 100 >= total * REGION_PERCENT;
    if agrees && invalid(&after) <= invalid(&before) {
        options.read.rules.phone_region = with.read.rules.phone_region;
        let national = match phones.national {
            0 => "Every number has its country code, so any region will do.".to_owned(),
            count => {
                format!("{} numbers without a country code are read as numbers of {region}.", grouped(count))
            }
        };
        let why = format!(
            "{share}; {spelled} numbers or codes are not digits only; this setting reads them. {national}"
        );
        return line(region, why, State::Set);
    }
    let why = if agrees {
        format!("Not set, because more rows would be invalid with it: {share}.")
    } else {
        format!(
            "Not set, because the numbers do not agree: {share}. {spelled} are not digits only, and are invalid without a \
             region. Set the region of the numbers without a country code."
        )
    };
    line(region, why, State::Open)
}

/// The line that sets one country code for all rows, if neither a column nor a region gives it.
fn code_constant(assigned: &[Assigned], options: &SourceOptions) -> Option<Line> {
    let is_assigned = assigned[Field::MobileCountryCode as usize].column.is_some()
        || options.read.rules.phone_region.is_some();
    let why = "No column has the country code. The API uses 91 (India) if none is sent.";
    (!is_assigned).then(|| Line::open(why, "set = [\"mobile_country_code=91\"]"))
}

/// A description of the sample as read with the proposed settings.
fn tried(findings: Option<&Findings>, missing: &[Field]) -> String {
    let Some(findings) = findings else {
        let names: Vec<&str> = missing.iter().map(|field| field.name()).collect();
        return format!("No row was validated, because {} has no column.", names.join(" and "));
    };
    let mut text = format!(
        "With these settings, {} of {} inspected are valid",
        grouped(findings.valid()),
        rows(findings.rows())
    );
    if findings.duplicates.rows > 0 {
        text.push_str(&format!(
            ", {} repeat the reference of an earlier row",
            grouped(findings.duplicates.rows)
        ));
    }
    if findings.invalid() > 0 {
        let groups = findings.faults_by_rows().into_iter().take(5);
        let each = groups.map(|((field, rule), group)| {
            format!("{} {rule} {}", field.map_or("record", Field::name), grouped(group.rows))
        });
        let each: Vec<String> = each.collect();
        text.push_str(&format!(", {} invalid ({})", grouped(findings.invalid()), each.join(", ")));
    }
    text + ". The comment on each choice below says what it would change."
}

/// The settings that decide about invalid rows and unknown columns.
fn choices(findings: Option<&Findings>, ignore: &[String]) -> Vec<Line> {
    let rescued = |option: &str| {
        let rescues = findings.map(|findings| findings.rescues.as_slice()).unwrap_or_default();
        let rows_of = rescues.iter().find(|rescue| rescue.option == option).map_or(0, |rescue| rescue.rows);
        match (findings, rows_of) {
            (None, _) => "It is not known yet how many rows would change".to_owned(),
            (_, 0) => "None of the invalid rows inspected would become valid".into(),
            (_, count) => format!("{} of the invalid rows inspected would become valid", grouped(count)),
        }
    };
    let strict = if ignore.is_empty() { "" } else { " and is not listed under ignore" };
    vec![
        Line::open(
            format!(
                "{}: an optional field that breaks a rule is left out.",
                rescued("--drop-invalid-optional")
            ),
            "drop-invalid-optional = true",
        ),
        Line::open(
            format!(
                "{}: the API decides about names, e-mail addresses and lengths. Try some of these rows in the sandbox first.",
                rescued("--validation lenient")
            ),
            "validation = \"lenient\"",
        ),
        Line::open(
            format!(
                "Refuse a file with a column that feeds no field{strict}, for example after a heading was renamed."
            ),
            "strict-columns = true",
        ),
    ]
}

/// The settings of an import that cannot be derived from a file.
fn of_sending(total: Option<RowCount>) -> Vec<Line> {
    let takes = match total {
        None | Some(RowCount::Exact(0) | RowCount::Estimated(0)) => ".".into(),
        Some(total @ (RowCount::Exact(count) | RowCount::Estimated(count))) => {
            let duration = time(Duration::from_millis(count.saturating_mul(1000) / DEFAULT_RATE));
            format!(", which takes {duration} for {}.", row_count(total))
        }
    };
    vec![
        Line::open(
            format!("Requests per second, of any kind; the default is {DEFAULT_RATE}{takes}"),
            format!("rate = {DEFAULT_RATE}"),
        ),
        Line::open("Your merchant id; import requires it.", "merchant-id = \"your_merchant_id\""),
        Line::open(
            "The sandbox is the default. Production needs a ledger of its own.",
            "environment = \"production\"",
        ),
    ]
}
