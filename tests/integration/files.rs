//! Files as other programs write them: encodings, compression, delimiters, broken structure.
//!
//! The disaster: a file from SAP, Excel or a twenty-year-old script is misread without anybody noticing, because most
//! of its rows look right: an umlaut in a name, the last thousand rows of a truncated download, a column shifted by
//! one, everything after a quote that was never closed.

use std::{collections::BTreeMap, io::Write, path::Path, process::Command};

use crate::world::{MERCHANT, World, cells, finish, knob};

const HEADER: &str = "object_reference_id,mobile_number,first_name\n";

/// `export failed` as `line: fault, message`.
fn failed(world: &World) -> Vec<String> {
    let text = |row: BTreeMap<String, String>| {
        format!("{}: {}:{}, {}", row["_line"], row["_field"], row["_error_code"], row["_error_message"])
    };
    world.failed_rows().into_iter().map(text).collect()
}

fn utf16(text: &str, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
    ['\u{feff}'].into_iter().chain(text.chars()).collect::<String>().encode_utf16().flat_map(unit).collect()
}

fn in_encoding(text: &str, label: &str) -> Vec<u8> {
    let (bytes, _, failed) = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap().encode(text);
    assert!(!failed, "{text:?} in {label}");
    bytes.into_owned()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

#[test]
fn every_encoding_gives_the_same_customer() {
    let world = World::new();
    for (number, (name, label, bytes)) in [
        ("Müller", "utf-8", None),
        ("Müller", "windows-1252", None),
        ("Müller", "Latin1", None),
        ("Müller", "macintosh", None),
        ("Łukasz", "windows-1250", None),
        ("Ирина", "koi8-r", None),
        // The second bytes of these characters look like a backslash, a bar and a neighbor of the quote.
        ("ソ表ポ能", "shift_jis", None),
        ("ソ表", "iso-2022-jp", None),
        ("𠮷㐀鎔", "gb18030", None),
        ("許功蓋", "big5", None),
        ("한국", "euc-kr", None),
        ("नेहा😀", "utf-8", Some(u16::to_le_bytes as fn(u16) -> [u8; 2])),
        ("नेहा😀", "utf-8", Some(u16::to_be_bytes)),
        ("नेहा", "windows-1252", Some(u16::to_le_bytes)),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("{HEADER}reference-{number},1,\"{name}\"\r\n");
        let bytes = match bytes {
            Some(unit) => utf16(&text, unit),
            None => in_encoding(&text, label),
        };
        let file = world.file("users.csv", bytes);
        let done = world.import(&file, &["--validation", "lenient", "--encoding", label]);
        assert_eq!(done.code, 0, "{name} in {label}: {done:?}");
        let customer = world.journal().customer(MERCHANT, &format!("reference-{number}")).unwrap();
        assert_eq!(customer.first_name, name, "{label}");
    }
}

#[test]
fn bytes_that_do_not_decode_are_named_with_line_column_and_byte() {
    let world = World::new();
    for (label, bytes, message) in [
        ("utf-8", &b"cust-0001,1,M\xfcller\n"[..], "byte 0xFC at position 2 of column 3 is not UTF-8"),
        ("shift_jis", b"cust-0001,1,\x83\x5c\xfeX\n", "byte 0xFE at position 2 of column 3 is not Shift_JIS"),
        ("gb18030", b"cust-0001\xff,1,x\n", "byte 0xFF at position 10 of column 1 is not gb18030"),
        ("euc-kr", b"cust-0001,\"1\n2\xb0\",x\n", "byte 0xB0 at position 4 of column 2 is not EUC-KR"),
    ] {
        let rest = b"cust-0002,2,ok\n";
        let file = world.file("users.csv", [HEADER.as_bytes(), bytes, rest].concat());
        let done = world.import(&file, &["--encoding", label, "--ledger", &format!("{label}.db")]);
        assert_eq!(done.code, 3, "{done:?}");
        assert_eq!(world.summary()["invalid"], 1, "{label}");
        let done = world.run(&["validate", "users.csv", "--encoding", label]);
        assert!(done.stdout.contains(&format!("line 2: {message}")), "{done:?}");
    }
    let mut bytes = utf16(&format!("{HEADER}cust-0003,1,ab"), u16::to_le_bytes);
    bytes.extend([0x00, 0xd8, b'\n', 0]);
    bytes.extend(&utf16("cust-0004,2,x\n", u16::to_le_bytes)[2..]);
    let file = world.file("users.csv", bytes);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=1");
    let text = failed(&world).pop().unwrap();
    assert!(
        text.starts_with(
            "2: record:encoding, record has damaged text: byte 0x00 at position 3 of column 3 is not UTF-16LE (encoding); "
        ),
        "{text}"
    );
}

#[test]
fn an_encoding_that_nobody_knows_or_a_header_that_is_in_another_is_said_before_anything_is_sent() {
    let world = World::new();
    world.rows("users.csv", 1);
    let done = world.run(&["validate", "users.csv", "--encoding", "windows-1522"]);
    done.assert_error_line(2, &["windows-1522", "did you mean windows-1252"]);
    world.file("latin.csv", b"object_reference_id,mobile_number,Stra\xdfe\ncust-0001,1,x\n");
    let done = world.run(&["validate", "latin.csv"]);
    done.assert_error_line(2, &["byte 0xDF at position 5 of column 3", "--encoding"]);
    assert_eq!(world.run(&["validate", "latin.csv", "--encoding", "iso-8859-1"]).code, 0);
    let bytes = &utf16("object_reference_id,mobile_number\ncust-0001,1\n", u16::to_le_bytes)[2..];
    world.file("bare.csv", bytes);
    world
        .run(&["validate", "bare.csv"])
        .assert_error_line(2, &["UTF-16 text without a byte order mark", "--encoding utf-16le"]);
    assert_eq!(world.run(&["validate", "bare.csv", "--encoding", "utf-16le"]).code, 0);
    let done = world.run(&["validate", "users.csv", "--encoding", "unicode"]);
    done.assert_error_line(2, &["not UTF-16LE", "leave out --encoding"]);
    // A byte order mark takes precedence.
    world.file("marked.csv", "\u{feff}object_reference_id,mobile_number\ncust-0001,1\n");
    assert_eq!(world.run(&["validate", "marked.csv", "--encoding", "unicode"]).code, 0);
}

#[test]
fn the_name_that_another_system_has_for_an_encoding_is_answered_with_its_label() {
    let world = World::new();
    world.rows("users.csv", 1);
    for (name, meant) in [
        ("cp932", "shift_jis"),
        ("cp65001", "utf-8"),
        ("macroman", "macintosh"),
        ("cp936", "gbk"),
        ("cp949", "euc-kr"),
        ("cp950", "big5"),
        ("ansi", "windows-1252"),
        ("utf8mb4", "utf-8"),
    ] {
        let done = world.run(&["validate", "users.csv", "--encoding", name]);
        done.assert_error_line(2, &[&format!("did you mean {meant}?")]);
    }
    world.run(&["validate", "users.csv", "--encoding", "utf-32"]).assert_error_line(2, &["iconv -f UTF-32 "]);
    assert_eq!(world.run(&["validate", "users.csv", "--encoding", "latin1"]).code, 0);
}

#[test]
fn the_conversion_of_a_utf_32_file_fits_its_byte_order() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\ncust-0001,1\n";
    let little: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let big: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    for (bytes, name) in [
        ([&b"\xff\xfe\0\0"[..], &little].concat(), "UTF-32"),
        ([&b"\0\0\xfe\xff"[..], &big].concat(), "UTF-32"),
        (little, "UTF-32LE"),
        (big, "UTF-32BE"),
    ] {
        let file = world.file("wide.csv", bytes);
        let done = world.run(&["validate", "wide.csv"]);
        done.assert_error_line(2, &["UTF-32 text", &format!("iconv -f {name} -t UTF-8 FILE")]);
        let converted = Command::new("iconv").args(["-f", name, "-t", "UTF-8"]).arg(&file).output().unwrap();
        world.file("users.csv", converted.stdout);
        assert_eq!(world.run(&["validate", "users.csv"]).code, 0, "{name}");
    }
}

#[test]
fn control_characters_make_a_row_invalid_in_any_column() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,notes\ncust-0001,1,a\u{0}b\ncust-0002,2,\"tab\t and\r\nline\"\n\
                cust-0003,3,\u{1b}[31m\ncust-0004,4,x\u{9b}\ncust-0005,\u{0}5,\u{7f}\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=4");
    let failed = failed(&world);
    for (row, words) in failed.iter().zip([
        "2: record:control, record has a line break, a tab or another control character: a control character (U+0000) at position 2 of column 3",
        "5: record:control, record has a line break, a tab or another control character: a control character (U+001B) at position 1 of column 3",
        "6: record:control, record has a line break, a tab or another control character: a control character (U+009B) at position 2 of column 3",
        "7: record;mobile_number:control;control, ",
    ]) {
        assert!(row.starts_with(words), "{row}");
    }
    // The export contains what was read.
    let file = world.file("again.csv", world.run(&["export", "failed"]).stdout);
    world.import(&file, &[]);
    assert_eq!(world.outcomes(), "invalid=4");
}

#[test]
fn compressed_files_are_known_by_their_content() {
    let world = World::new();
    let text = crate::world::rows(0..3000);
    let (head, tail) = text.as_bytes().split_at(50_001);
    for (name, bytes, word) in [
        ("users.csv", gzip(text.as_bytes()), "gzip"),
        ("users.gz", [gzip(head), gzip(tail)].concat(), "gzip"),
        ("users.txt", zstd(text.as_bytes()), "zstd"),
        ("users.zst", [zstd(head), zstd(tail)].concat(), "zstd"),
        ("utf16.csv.gz", gzip(&utf16(&text, u16::to_be_bytes)), "UTF-16BE, gzip"),
        ("plain.csv.gz", text.clone().into_bytes(), "UTF-8\n"),
    ] {
        let file = world.file(name, &bytes);
        let done = world.run(&["validate", name]);
        assert!(done.code == 0 && done.stdout.contains("3,000 rows, 3,000 valid"), "{name}: {done:?}");
        assert_eq!(world.run_with_input(&["validate", "-"], &bytes).code, 0, "{name} on standard input");
        let done = world.import(&file, &["--ledger", &format!("{name}.db"), "--limit", "2"]);
        assert!(done.code == 0 && done.stdout.contains(word), "{name}: {done:?}");
    }
    world.file("empty.gz", gzip(b""));
    world.run(&["validate", "empty.gz"]).assert_error_line(2, &["empty"]);
    world.file("users.xlsx", b"PK\x03\x04\x14\0\x06\0\x08\0");
    world.run(&["validate", "users.xlsx"]).assert_error_line(2, &["Excel workbook", "save it as CSV"]);
}

#[test]
fn a_stream_that_breaks_off_settles_what_came_and_names_the_place() {
    let world = World::new();
    // Long cells that hardly compress, so that many rows precede the truncation.
    let word = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let row = |n: u64| format!("cust-{n:06},9{n:06},{}{}\n", word(n), word(n + 7_000_000));
    let text = format!("{HEADER}{}", (0..4000).map(row).collect::<String>());
    for (name, whole) in [("users.gz", gzip(text.as_bytes())), ("users.zst", zstd(text.as_bytes()))] {
        let world_of = World::new();
        let file = world_of.file(name, &whole[..whole.len() * 9 / 10]);
        let done = world_of.import(&file, &[]);
        let position = format!("breaks off at byte {} of the file", whole.len() * 9 / 10);
        done.assert_error_line(1, &[&position, "at line ", "get the file whole"]);
        let created = world_of.summary()["created"].as_u64().unwrap();
        assert!((1..4000).contains(&created), "{created} of 4000");
        assert_eq!(world_of.summary()["rows"], created, "half a row is none");
        assert_eq!(world_of.summary()["state"], "stopped");
        let file = world_of.file(name, &whole);
        assert_eq!(world_of.import(&file, &[]).code, 0);
        assert_eq!(world_of.outcomes(), format!("created={} unchanged={created}", 4000 - created));
    }
    let whole = gzip(text.as_bytes());
    world.file("users.gz", &whole[..whole.len() * 9 / 10]);
    for format in ["text", "json", "csv"] {
        let done = world.run(&["validate", "users.gz", "--format", format]);
        done.assert_error_line(1, &["breaks off at byte"]);
        assert!(done.stdout.contains("valid") || format == "csv", "what came before is told: {done:?}");
    }
    // The data ends within the part that is inspected first.
    let padded = [gzip(HEADER.as_bytes()), vec![0; 100], gzip(b"cust-000001,1,x\n")].concat();
    let file = world.file("users.gz", padded);
    world.import(&file, &[]).assert_error_line(1, &["damaged at byte", "data behind the zeros"]);
    world.file("users.gz", &whole[..20]);
    world.run(&["validate", "users.gz"]).assert_error_line(1, &["breaks off at byte 20"]);
}

/// What damaged data decompresses to looks like rows, with references and numbers of nobody.
#[test]
fn of_a_damaged_file_nothing_is_sent() {
    let text =
        format!("{HEADER}{}", (0..4000).map(|n| format!("cust-{n:06},9{n:06},x\n")).collect::<String>());
    let (half, rest) = text.split_at(40_000);
    let damaged = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0x10;
        bytes
    };
    let (first, second, packed) = (gzip(half.as_bytes()), gzip(rest.as_bytes()), gzip(text.as_bytes()));
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(text.as_bytes()).unwrap();
    let zstd = zstd.finish().unwrap();
    let checksum = zstd.len() - 1;
    for (name, bytes) in [
        ("users.gz", damaged(packed.clone(), packed.len() / 3)),
        ("users.gz", [damaged(first.clone(), first.len() - 6), second.clone()].concat()),
        ("users.gz", [first, damaged(second.clone(), second.len() / 2)].concat()),
        ("users.zst", damaged(zstd, checksum)),
    ] {
        let world = World::new();
        let file = world.file(name, &bytes);
        let done = world.import(&file, &[]);
        done.assert_error_line(1, &["cannot be used", "is damaged at byte", "none of its rows was sent"]);
        assert_eq!((world.journal().requests(), &world.summary()["rows"]), (0, &serde_json::json!(0)));
        let file = world.file(name, &packed);
        assert_eq!(world.import(&file, &[]).code, 0);
        assert_eq!(world.outcomes(), "created=4000");
    }
    // A pipe cannot be read twice, so its rows are sent before the damage is known.
    let world = World::new();
    let checksum = packed.len() - 6;
    let done = world.run_with_input(&world.import_args(Path::new("-"), &[]), &damaged(packed, checksum));
    done.assert_error_line(1, &["is damaged at byte", "rows before it may be damaged too", "verify"]);
}

#[test]
fn a_zstd_file_that_needs_more_than_itself_is_answered_with_the_command_that_unpacks_it() {
    let world = World::new();
    let mut window = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    window.window_log(28).unwrap();
    window.write_all(HEADER.as_bytes()).unwrap();
    // The header of a frame that names the dictionary 7, and an empty block.
    let dictionary = [0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x58, 7, 1, 0, 0];
    world.file("window.zst", window.finish().unwrap());
    world.file("dictionary.zst", dictionary);
    world
        .run(&["validate", "window.zst"])
        .assert_error_line(1, &["window of more than", "zstd -dc --long=31"]);
    world.run(&["validate", "dictionary.zst"]).assert_error_line(1, &["needs the dictionary", "zstd -dc -D"]);
}

#[test]
fn the_delimiter_is_found_and_shown() {
    let world = World::new();
    for (number, (text, shown)) in [
        ("ID;M;\"a,b,c,d,e\"\nREF;1;x\n", "semicolon, UTF-8"),
        ("ID\tM\tF\nREF\t1\tx\n", "tab, UTF-8"),
        ("Umsatz, netto, EUR, alt;ID;M\n1;REF;2\n3;REF;4\n", "semicolon, UTF-8"),
        ("ID|M|a;b;c;d\nREF|1|x\nREF|1|x\n", "pipe, UTF-8"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = text.replace("ID", "object_reference_id").replace('M', "mobile_number");
        let file = world.file("users.csv", text.replace("REF", &format!("reference-{number}")));
        let done = world.import(&file, &[]);
        assert!(done.stdout.contains(&format!("  source: {shown}\n")), "{text:?}: {done:?}");
        assert_eq!(world.journal().customers(), number + 1);
    }
}

#[test]
fn a_delimiter_at_the_end_of_every_line_leads_to_no_field() {
    let world = World::new();
    for (number, (header, rows, outcomes)) in [
        ("ID,M,F,\n", "REFa,1,x,\nREFb,2,,\n", "created=2"),
        ("ID,M,F\n", "REFa,1,x,\nREFb,2,,\n", "created=2"),
        ("ID,M,F,\n", "REFa,1,x\nREFb,2,\n", "created=2"),
        // In one row only, an additional empty cell is ignored, and counted.
        ("ID,M,F\n", "REFa,1,x\nREFb,2,432,\n", "created=2"),
        ("ID,M,F\n", "REFb,2,432,\nREFa,1,x\n", "created=2"),
        // If it is the style of the file, a row without it lacks an empty cell, and one with text there has too many.
        (
            "ID,M,F\n",
            &("REFa,1,x,\n".to_owned() + &"REFa,1,x,\n".repeat(10) + "REFb,2,\nREFc,2,x,y\n"),
            "created=2 duplicate=10 invalid=1",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let header = header.replace("ID", "object_reference_id").replace('M', "mobile_number");
        let text = header.replace('F', "first_name") + &rows.replace("REF", &format!("reference-{number}-"));
        let file = world.file("users.csv", &text);
        world.import(&file, &["--ledger", &format!("{number}.db")]);
        assert_eq!(world.outcomes(), outcomes, "{text:?}");
    }
}

#[test]
fn an_open_quote_is_one_fault_with_the_lines_it_swallowed_and_nothing_behind_it_is_sent() {
    let world = World::new();
    let row = |n: usize| format!("cust-{n:06},9{n:06},x\n");
    let mut text = String::from(HEADER);
    text.extend((0..10).map(row));
    text.push_str("cust-open1,1,\"never closed\n");
    text.extend((10..10_000).map(row));
    let file = world.file("users.csv", &text);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    let failed = failed(&world);
    assert_eq!(failed.len(), 1, "{failed:?}");
    let words = "12: record:quotes, record has quotation marks that do not match: a quote in column 3 of line 12 is never closed; \
                 it swallowed 9990 lines, 13 to 10002 (quotes); ";
    assert!(failed[0].starts_with(words), "{failed:?}");
    assert_eq!(world.summary()["created"], 10);
    assert_eq!(world.summary()["adjustments"][0]["adjustment"], "swallowed-line");
    assert_eq!(world.summary()["adjustments"][0]["rows"], 9990);
}

#[test]
fn memory_does_not_grow_with_a_quote_that_never_closes_or_a_bomb() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let mebibytes = knob("FILE_MEBIBYTES").map_or(96, |count| count.parse().unwrap());
    let world = World::new();
    let line = "swallowed, \"\"and\"\" swallowed again".repeat(1000);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(HEADER.as_bytes()).unwrap();
    for _ in 0..mebibytes {
        bomb.write_all(&[b' '; 1024 * 1024]).unwrap();
    }
    let open = std::iter::once(format!("{HEADER}cust-0001,1,\"").into_bytes())
        .chain(std::iter::repeat_n(line.into_bytes(), mebibytes * 1024 / 32));
    for (name, pieces, words) in [
        (
            "an open quote",
            Box::new(open) as Box<dyn Iterator<Item = Vec<u8>>>,
            "column 3 of line 2 is never closed",
        ),
        ("a bomb", Box::new(std::iter::once(bomb.finish().unwrap())), "in column 1, where 64 KiB may be"),
    ] {
        let mut command = world.command(&["validate", "-"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        for piece in pieces {
            input.write_all(&piece).unwrap();
        }
        // Everything has been read except what the pipe holds.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kibibytes < 48 * 1024, "{name}: {kibibytes} KiB");
        drop(input);
        let done = finish(child);
        assert_eq!(done.code, 3, "{name}: {done:?}");
        assert!(done.stdout.contains(words), "{name}: {done:?}");
    }
}

#[test]
fn the_sample_with_foreign_headings_is_read() {
    let world = World::new();
    let file = world.file("foreign.csv", include_bytes!("../../samples/foreign.csv"));
    let settings = world.file("foreign.toml", include_bytes!("../../samples/foreign.toml"));
    let done = world.import(&file, &["--config", &settings.display().to_string()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("semicolon, windows-1252"), "{done:?}");
    let customer = world.journal().customer(MERCHANT, "KD-2024-0005").unwrap();
    assert_eq!((customer.mobile_country_code.as_str(), customer.first_name.as_str()), ("41", "Markus"));
    assert_eq!(
        world.journal().customers(),
        cells(&encoding_rs::mem::decode_latin1(include_bytes!("../../samples/foreign.csv"))).len()
    );
}

#[test]
fn columns_of_any_script_are_mapped_exactly_or_by_likeness_if_that_is_unambiguous() {
    let world = World::new();
    for (number, (header, reference, phone, trouble)) in [
        ("顧客番号,電話番号", "顧客番号", "電話番号", None),
        ("ग्राहक संख्या,मोबाइल", "ग्राहकसंख्या", "मोबाइल", None),
        ("КЛИЕНТ №,Телефон", "клиент№", "ТЕЛЕФОН", None),
        ("ΚΩΔΙΚΟΣ,ΤΗΛΕΦΩΝΟ", "κωδικός", "τηλέφωνο", Some("no such column")),
        ("ΚΩΔΙΚΟΣ,ΤΗΛΕΦΩΝΟ", "κωδικος", "τηλεφωνο", None),
        ("Straße,TELEFON", "STRASSE", "telefon", None),
        ("id,Phone,PHONE", "id", "phone", Some("two columns are named phone")),
        ("id,Phone,PHONE", "ID", "PHONE", None),
        ("\u{3000}番号\u{a0},Tel.", "番号", "tel.", None),
    ]
    .into_iter()
    .enumerate()
    {
        let row = format!("reference-{number},1{}\n", ",2".repeat(header.matches(',').count() - 1));
        let file = world.file("users.csv", format!("{header}\n{row}"));
        let map = [format!("--map=object_reference_id={reference}"), format!("--map=mobile_number={phone}")];
        let done = world.import(&file, &[&map[0], &map[1]]);
        match trouble {
            None => {
                assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{header}: {done:?}")
            }
            Some(words) => done.assert_error_line(2, &[words]),
        }
    }
}

#[test]
fn a_first_line_that_is_no_header_is_named_with_what_to_do() {
    let world = World::new();
    for (text, words) in [
        ("sep=;\nobject_reference_id;mobile_number\ncustomer-1;1\n", "delete it, and give --delimiter ';'"),
        ("Customers\n\nobject_reference_id,mobile_number\ncustomer-1,1\n", "tail -n +3 FILE"),
        ("\"object_reference_id,mobile_number\"\n\"customer-1,1\"\n", "each line is one quoted cell"),
        ("object_reference_id~mobile_number\ncustomer-1~1\n", "add --delimiter '~'"),
        ("object_reference_id\u{1}mobile_number\ncustomer-1\u{1}1\n", "add --delimiter '\\x01'"),
        ("customer-1,9876500110\ncustomer-2,9876500111\n", "the first line looks like a row"),
        ("{\"object_reference_id\": \"customer-1\"}\n", "JSON, not a CSV file; convert it"),
        ("<!DOCTYPE html>\n<title>Sign in</title>\n", "sign in and download"),
        ("-- MySQL dump 10.13\n--\n", "an SQL dump, not a CSV file; load it"),
        ("BEGIN:VCARD\nVERSION:3.0\n", "a vCard file, not a CSV file; convert it"),
    ] {
        let file = world.file("users.csv", text);
        world.import(&file, &[]).assert_error(2, &[words]);
        assert!(!world.ledger().exists(), "{text:?}");
    }
    assert_eq!(world.journal().requests(), 0);
    let file = world.file("users.csv", "object_reference_id\u{1}mobile_number\ncustomer-1\u{1}1\n");
    assert_eq!(world.import(&file, &["--delimiter", "\\x01"]).code, 0);
    for delimiter in ["\\x0a", "\\x", "\\x41", "\\x00"] {
        world.import(&file, &["--delimiter", delimiter]).assert_error(2, &["\\x01"]);
    }
    world.import(&file, &["--encoding", "ibm850"]).assert_error(2, &["iconv -f CP850"]);
}

#[test]
fn a_file_of_another_kind_is_named_with_the_one_thing_to_do() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\ncustomer-1,9876500101\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let behind_mark = [&b"\xef\xbb\xbf"[..], &utf16].concat();
    for (bytes, words) in [
        (&b"\x01\x02\0\xff\xff\xff\xff"[..], "a binary file, not a CSV file; get the data as CSV"),
        (b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow IPC file, not a CSV file; convert it to CSV"),
        (b"\x80\x04\x95\x10\0\0\0\n\x01", "a Python pickle, not a CSV file; convert it to CSV"),
        (b"\x1f\x9d\x90\x61\x04", "unpack it: gzip -dc FILE"),
        (b"\x96\x82\x91\x85\x83\xa3\x6d\x89\x84\x6b\x97\x88\x96\x95\x85\x25", "iconv -f IBM037 -t UTF-8"),
        (b"+/v8-object_reference_id,mobile_number\n", "iconv -f UTF-7 -t UTF-8"),
        (&behind_mark, "tail -c +4 FILE | customer-import import - --encoding utf-16le"),
        (b"- object_reference_id: customer-1\n  mobile_number: 9876500101\n", "YAML, not a CSV file"),
        (b"--\n-- PostgreSQL database dump\n--\n", "an SQL dump, not a CSV file; load it"),
        (b"dn: cn=x,dc=example\ncn: x\n", "an LDIF file, not a CSV file"),
        (b"ID;PWXL;N;E\nC;Y1;X1\n", "a SYLK file, not a CSV file; open it"),
        (
            b"b2JqZWN0X3JlZmVyZW5jZV9pZCxtb2JpbGVfbnVtYmVyLGVtYWlsX2FkZHJlc3MsZmlyc3RfbmFt\nZQo=\n",
            "base64 -d FILE",
        ),
        (b"--- a/users.csv\n+++ b/users.csv\n@@ -1 +1,2 @@\n", "a diff, "),
        (
            b"object_reference_id  mobile_number\ncustomer-1           9876500101\n",
            "the columns are aligned with spaces",
        ),
        (b"error: sign in first\n", "the first line is a line of a log, a traceback or an error message"),
        // Every row would be part of the header, and the file would have no customers.
        (
            b"object_reference_id,mobile_number,x\x0bcustomer-1,9876500101,y\x0b",
            "perl -CSD -pe 's/\\x{b}/\\n/g' FILE",
        ),
        ("object_reference_id,mobile_number,x\u{2028}customer-1,9876500101,y".as_bytes(), "has U+2028 in it"),
    ] {
        let file = world.file("users.csv", bytes);
        world.import(&file, &[]).assert_error(2, &[words]);
        assert!(!world.ledger().exists(), "{words}");
    }
    let file = world
        .file("users.csv", "Object Reference Id:,mobile_number*,First Name:\ncustomer-1,9876500101,Ann\n");
    assert_eq!(world.import(&file, &[]).code, 0, "the signs of a form are no part of a heading");
}

#[test]
fn a_delimiter_or_a_quote_that_is_not_detected_is_named_with_the_option_to_paste() {
    let world = World::new();
    let names = ["object_reference_id", "mobile_number", "first_name"];
    let cells = ["customer1", "9876500110", "Ann"];
    for sign in ["#", "*", "!", "&", "%", " ", "/", "\\", "$", "@", "?", "-", "~", "^", ":"] {
        world.file("users.csv", format!("{}\n{}\n", names.join(sign), cells.join(sign)));
        let done = world.run(&["validate", "users.csv"]);
        done.assert_error(2, &[&format!("add --delimiter '{sign}'")]);
        let done = world.run(&["validate", "users.csv", "--delimiter", sign]);
        assert_eq!(done.code, 0, "{sign}: {done:?}");
    }
    // The file's own column names do not hide it.
    world.file("users.csv", "Id#Phone\ncustomer1#9876500110\n");
    let map = ["--map", "object_reference_id=Id", "--map", "mobile_number=Phone"];
    let done = world.run(&[&["validate", "users.csv"], &map[..]].concat());
    done.assert_error(2, &["the header is one cell; add --delimiter '#'"]);
    for (quote, option) in [("'", "--quote \"'\""), ("`", "--quote '`'")] {
        let line = |cells: [&str; 3]| cells.map(|cell| format!("{quote}{cell}{quote}")).join(",");
        world.file("users.csv", format!("{}\n{}\n", line(names), line(["customer1", "9876500110", "Ann,B"])));
        world.run(&["validate", "users.csv"]).assert_error(2, &[option]);
        let done = world.run(&["validate", "users.csv", "--quote", quote, "--drop-invalid-optional"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    for sign in ["~|~", "\u{a6}", "<>"] {
        world.file("users.csv", format!("{}\n{}\n", names.join(sign), cells.join(sign)));
        let done = world.run(&["validate", "users.csv"]);
        done.assert_error(2, &[&format!("sed 's/{sign}/\\x1f/g' FILE"), "--delimiter '\\x1f'"]);
    }
}

#[test]
fn a_row_that_is_quoted_as_a_whole_is_named_for_it() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\n\"customer-1,9876500110,Ann\"\n\
                \"customer-2,9876500111,\"\"Bo\"\"\"\ncustomer-3,9876500112,Cy\n";
    let file = world.file("users.csv", text);
    let done = world.run(&["validate", "users.csv"]);
    for words in ["3 rows, 1 valid", "line 2: the whole line is one quoted cell", "to do: remove the quotes"]
    {
        assert!(done.stdout.contains(words), "{words}: {done:?}");
    }
    // Nor is it a reference if the other fields are constants.
    let constant = ["--set", "mobile_number=9876500110", "--validation", "lenient"];
    let text = text.replace("mobile_number", "city");
    let file = world.file(file.file_name().unwrap().to_str().unwrap(), text);
    assert_eq!(world.import(&file, &constant).code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=2");
}

#[test]
fn fewer_rows_than_expected_are_exit_code_3() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &["--expect-rows", "3"]).code, 0);
    for command in [
        world.import(&file, &["--expect-rows", "4"]),
        world.run(&["validate", "users.csv", "--expect-rows", "4"]),
    ] {
        assert_eq!(command.code, 3, "{command:?}");
        assert!(command.stderr.contains("has 3 rows, and at least 4 are expected"), "{command:?}");
    }
    assert_eq!((&world.summary()["state"], &world.summary()["exit_code"]), (&"completed".into(), &3.into()));
    let verified = world.aim("verify", &["users.csv", "--expect-rows", "4"]);
    verified.assert_error_line(3, &["has 3 rows, and at least 4 are expected"]);
    assert_eq!(world.summary()["exit_code"], 3);
    assert_eq!(world.aim("verify", &["users.csv", "--expect-rows", "3"]).code, 0);
    // The number of a settings file is that of the file's rows; a retry has its own.
    let retried = world.aim("retry", &["--expect-rows", "1"]);
    retried.assert_error_line(3, &["has 0 rows to retry, and at least 1 are expected"]);
    let settings = world.file("settings.toml", "expect-rows = 4\n");
    assert_eq!(world.aim("retry", &["--config", settings.to_str().unwrap()]).code, 0);
    // A file of corrections has as many rows as there were faults.
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("short,9876500101,,,\n");
    let done = world.import(&world.file("users.csv", text), &["--expect-rows", "4"]);
    assert_eq!(done.code, 3, "{done:?}");
    let corrected = world.failed_text().replace("short,", "long-enough,");
    let file = world.file("failed.csv", corrected);
    let done = world.run(&["validate", "failed.csv", "--expect-rows", "4"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.import(&file, &["--expect-rows", "4"]).code, 0);
    // A header without rows is only a warning, so that a nightly export that is sometimes empty can be imported.
    let file = world.rows("empty.csv", 0);
    let done = world.import(&file, &[]);
    assert!(done.code == 0 && done.stderr.contains("has no data rows"), "{done:?}");
    assert_eq!(world.import(&file, &["--expect-rows", "1"]).code, 3);
}

#[test]
fn a_header_that_is_too_long_is_named_and_one_of_many_columns_is_listed_in_part() {
    let world = World::new();
    let wide: String = (0..200_000).map(|at| format!(",column_{at}")).collect();
    world.file("wide.csv", format!("object_reference_id,mobile_number{wide}\ncustomer-1,1\n"));
    world
        .run(&["validate", "wide.csv"])
        .assert_error(2, &["the header of wide.csv cannot be read: more than"]);
    world.file("open.csv", "object_reference_id,\"mobile_number\ncustomer-1,1\n");
    let done = world.run(&["validate", "open.csv"]);
    done.assert_error(2, &["a quote in column 2 of line 1 is never closed", "--quote none"]);
    let many: String = (0..30).map(|at| format!(",{}{at}", "x".repeat(100))).collect();
    world.file(
        "many.csv",
        format!("object_reference_id,mobile_number{many}\ncustomer-1,1{}\n", ",".repeat(30)),
    );
    let done = world.run(&["validate", "many.csv"]);
    assert!(done.code == 0 && done.stdout.contains("…, and 10 more\n"), "{done:?}");
    assert!(!done.stdout.contains(&"x".repeat(61)), "{done:?}");
}
