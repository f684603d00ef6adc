//! Explains an unknown name of an encoding: which label of the Encoding Standard to use instead, or how to convert
//! the file.
//!
//! Windows, Oracle, `MySQL`, Java and Apple have their own names for the same encodings. The message names the label;
//! the other names are not accepted, because one encoding has one name in settings and messages.

/// The message about an unknown label.
pub(super) fn unknown(label: &str) -> String {
    let bare = bare(label);
    if let Some(page) = dos_code_page(&bare) {
        return format!(
            "code page {page} of DOS is not supported; {} (windows-1252 is near it for ASCII only)",
            conversion(&format!("CP{page}"))
        );
    }
    if let Some((_, name)) = UNSUPPORTED.into_iter().find(|(known, _)| *known == bare) {
        return format!("{name} is not supported; {}", conversion(name));
    }
    if matches!(bare.as_str(), "ansi" | "acp" | "mbcs" | "windowsansi" | "ansicodepage") {
        return "no such encoding; did you mean windows-1252? ANSI is what the computer that wrote the file is set to: \
                windows-1250 in central Europe, windows-1251 for Cyrillic"
            .into();
    }
    if let Some(meant) = other_name(&bare).or_else(|| of_code_page(&bare)).or_else(|| spelled_alike(&bare)) {
        return format!("no such encoding; did you mean {meant}?");
    }
    let score = |name: &str| strsim::jaro_winkler(&bare, &self::bare(name));
    let mut near: Vec<&str> = LABELS.into_iter().filter(|name| score(name) > 0.7).collect();
    near.sort_by(|a, b| score(b).total_cmp(&score(a)));
    near.truncate(3);
    if near.is_empty() {
        return "no such encoding; some are windows-1252, shift_jis, gb18030, utf-16le".into();
    }
    format!("no such encoding; did you mean {}?", near.join(" or "))
}

/// How to convert a file whose encoding is not supported.
pub(super) fn conversion(iconv_name: &str) -> String {
    format!("convert the file: iconv -f {iconv_name} -t UTF-8 FILE | customer-import import -")
}

/// Encodings that the Encoding Standard has no label for, by their names in `iconv`.
const UNSUPPORTED: [(&str, &str); 22] = [
    ("utf32", "UTF-32"),
    ("utf32le", "UTF-32LE"),
    ("utf32be", "UTF-32BE"),
    ("ucs4", "UTF-32"),
    ("ucs4le", "UTF-32LE"),
    ("ucs4be", "UTF-32BE"),
    ("cp12000", "UTF-32LE"),
    ("cp12001", "UTF-32BE"),
    ("utf7", "UTF-7"),
    ("cp65000", "UTF-7"),
    ("ebcdic", "IBM1047"),
    ("cp037", "IBM037"),
    ("ibm037", "IBM037"),
    ("cp500", "IBM500"),
    ("ibm500", "IBM500"),
    ("cp1047", "IBM1047"),
    ("ibm1047", "IBM1047"),
    ("johab", "JOHAB"),
    ("cp1361", "JOHAB"),
    ("viscii", "VISCII"),
    ("iso2022kr", "ISO-2022-KR"),
    ("iso2022cn", "ISO-2022-CN"),
];

/// The number of a DOS code page: `cp850`, `ibm850`, `dos-850`, `850`.
fn dos_code_page(bare: &str) -> Option<&'static str> {
    const PAGES: [&str; 15] = [
        "437", "720", "737", "775", "850", "852", "855", "857", "858", "860", "861", "862", "863", "865",
        "869",
    ];
    PAGES.into_iter().find(|page| *page == number(bare))
}

/// A name without the words before a code page's number.
fn number(bare: &str) -> &str {
    const WORDS: [&str; 11] =
        ["cswindows", "windows", "windowscp", "codepage", "cp", "mscp", "ms", "win", "ibm", "dos", "oem"];
    let numbers = WORDS.iter().filter_map(|word| bare.strip_prefix(word));
    numbers.min_by_key(|rest| rest.len()).unwrap_or(bare)
}

/// The label of a code page by its number, in the notations of Windows, IBM and Java: `cp932`, `ms932`, `65001`,
/// `cp28591`.
fn of_code_page(bare: &str) -> Option<String> {
    let iso = |part: u32| (1..=16).contains(&part) && part != 12;
    let page: u32 = match bare.trim_start_matches("iso").strip_prefix("8859") {
        Some(part) => 28590 + part.trim_start_matches('p').parse::<u32>().ok()?,
        None => number(bare).parse().ok()?,
    };
    let label = match page {
        65001 => "utf-8",
        1200 => "utf-16le",
        1201 => "utf-16be",
        1250..=1258 => return Some(format!("windows-{page}")),
        874 | 28601 => "windows-874",
        31 | 932 | 942 | 943 => "shift_jis",
        936 | 20936 | 51936 | 1386 => "gbk",
        949 | 970 | 1363 | 51949 => "euc-kr",
        950 | 951 => "big5",
        54936 => "gb18030",
        954 | 20932 | 51932 => "euc-jp",
        50220..=50222 => "iso-2022-jp",
        20127 => "us-ascii",
        819 => "iso-8859-1",
        912 => "iso-8859-2",
        915 => "iso-8859-5",
        923 => "iso-8859-15",
        878 | 20866 => "koi8-r",
        1168 | 21866 => "koi8-u",
        10000 => "macintosh",
        10007 | 10017 => "x-mac-cyrillic",
        28591..=28606 if iso(page - 28590) => return Some(format!("iso-8859-{}", page - 28590)),
        _ => return None,
    };
    Some(label.into())
}

/// The label of an encoding by its name in another system.
fn other_name(bare: &str) -> Option<String> {
    let label = match bare {
        "utf8mb3" | "utf8mb4" | "utf8bom" | "utf8sig" | "utf8withbom" | "utf8withoutbom" | "utf8nobom"
        | "utf8withsignature" | "utf8signature" | "al32utf8" | "unicodeutf8" | "csvutf8" => "utf-8",
        "ucs2le"
        | "unicodele"
        | "unicodelittle"
        | "unicodelittleendian"
        | "utf16lebom"
        | "utf16littleendian"
        | "unicodetext" => "utf-16le",
        "ucs2be" | "unicodebe" | "unicodebig" | "unicodebigendian" | "bigendianunicode" | "utf16bebom"
        | "utf16bigendian" | "al16utf16" => "utf-16be",
        "we8mswin1252" | "western" | "westerneuropean" | "winlatin1" | "windowslatin1" | "ansilatin1" => {
            "windows-1252"
        }
        "we8iso8859p1" => "iso-8859-1",
        "we8iso8859p15" | "latin9" => "iso-8859-15",
        "ee8mswin1250" | "centraleuropean" => "windows-1250",
        "cl8mswin1251" | "cyrillicwindows" | "ru8win1251" => "windows-1251",
        "macroman" | "macosroman" | "applemacroman" | "applemacintosh" | "applemac" | "macos"
        | "macwestern" | "westernmac" => "macintosh",
        "maccyrillic" | "macukrainian" | "macosukrainian" => "x-mac-cyrillic",
        "sjiswin" | "mskanji" | "ja16sjis" | "ja16sjistilde" | "japanese" | "windowsj" | "xmscp932" => {
            "shift_jis"
        }
        "ujis" | "eucjpms" | "eucjpwin" | "ja16euc" | "ja16euctilde" | "eucjis" => "euc-jp",
        "jis" | "jis7" | "iso2022jpms" => "iso-2022-jp",
        "zhs16gbk" | "euccn" | "simplifiedchinese" | "chinesesimplified" | "gb" => "gbk",
        "zhs32gb18030" => "gb18030",
        "zht16big5" | "zht16mswin950" | "traditionalchinese" | "chinesetraditional" | "big5eten"
        | "bigfive" => "big5",
        "uhc" | "ko16mswin949" | "ko16ksc5601" | "wansung" | "hangul" | "ksx1001" => "euc-kr",
        _ => return None,
    };
    Some(label.into())
}

/// A label that differs only in case, blanks and punctuation: `Shift JIS`, `latin-1`, `x-eucjp`.
fn spelled_alike(given: &str) -> Option<String> {
    let spellings = [given, given.trim_start_matches("iso"), given.trim_start_matches('x')];
    let listed = |spelling: &&str| LABELS.into_iter().find(|label| bare(label) == **spelling);
    let is_known =
        |label: &&&str| encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).is_some();
    spellings
        .iter()
        .find_map(listed)
        .map(str::to_owned)
        .or_else(|| spellings.iter().find(is_known).map(|label| (**label).to_owned()))
}

/// Labels that are suggested for an unknown one.
pub(super) const LABELS: [&str; 44] = [
    "utf-8",
    "utf-16le",
    "utf-16be",
    "windows-1252",
    "latin1",
    "iso-8859-1",
    "iso-8859-15",
    "windows-1250",
    "windows-1251",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "windows-874",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-9",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-16",
    "cp1252",
    "macintosh",
    "x-mac-cyrillic",
    "ibm866",
    "koi8-r",
    "koi8-u",
    "tis-620",
    "shift_jis",
    "sjis",
    "euc-jp",
    "iso-2022-jp",
    "gb18030",
    "gbk",
    "gb2312",
    "big5",
    "euc-kr",
];

/// A label in the form for comparison: without case and punctuation.
fn bare(label: &str) -> String {
    label.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_label(label: &str) -> bool {
        encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).is_some()
    }

    #[test]
    fn what_is_suggested_is_a_label() {
        for label in LABELS {
            assert!(is_label(label), "{label}");
        }
        for page in 0..66_000 {
            if let Some(label) = of_code_page(&format!("cp{page}")) {
                assert!(is_label(&label), "cp{page}: {label}");
            }
        }
    }

    #[test]
    fn names_of_other_systems_are_answered_with_the_label() {
        for (given, meant) in [
            ("cp932", "shift_jis"),
            ("MS932", "shift_jis"),
            ("cp65001", "utf-8"),
            ("65001", "utf-8"),
            ("utf8mb4", "utf-8"),
            ("UTF-8-SIG", "utf-8"),
            ("macroman", "macintosh"),
            ("mac_roman", "macintosh"),
            ("cp936", "gbk"),
            ("cp949", "euc-kr"),
            ("uhc", "euc-kr"),
            ("cp950", "big5"),
            ("ansi", "windows-1252"),
            ("WE8MSWIN1252", "windows-1252"),
            ("win-1251", "windows-1251"),
            ("windows1252", "windows-1252"),
            ("1250", "windows-1250"),
            ("cp28605", "iso-8859-15"),
            ("8859-2", "iso-8859-2"),
            ("cp1200", "utf-16le"),
            ("Unicode Big Endian", "utf-16be"),
            ("Shift JIS", "shift_jis"),
            ("latin-2", "latin2"),
            ("eucjp", "euc-jp"),
            ("ujis", "euc-jp"),
            ("windows-1522", "windows-1252"),
            ("shiftjis2", "shift_jis"),
            ("utf16-le", "utf-16le"),
        ] {
            let answer = unknown(given);
            assert!(answer.contains(&format!("did you mean {meant}")), "{given}: {answer}");
        }
        assert!(unknown("klingon").contains("some are"));
    }

    #[test]
    fn what_is_not_read_is_answered_with_the_conversion() {
        for (given, name) in [
            ("cp850", "CP850"),
            ("oem-437", "CP437"),
            ("utf-32", "UTF-32"),
            ("UTF-32BE", "UTF-32BE"),
            ("utf-7", "UTF-7"),
            ("cp037", "IBM037"),
            ("EBCDIC", "IBM1047"),
        ] {
            let answer = unknown(given);
            assert!(answer.contains(&format!("iconv -f {name} -t UTF-8 FILE")), "{given}: {answer}");
        }
    }
}
