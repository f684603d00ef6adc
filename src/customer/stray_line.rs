//! Detects lines that a tool wrote among the rows: an error message, a line of a log or a traceback, totals.
//!
//! Such a line may have as many cells as the header, and a number where the mobile number is, so that it would become a
//! customer. It is recognized by the text in place of the reference. A pattern must be certain: an id may have any
//! characters, but no id begins like an error message with blanks in it.

use super::content::Content;

/// The kind of this line, if a tool wrote it.
pub(crate) fn tool_message(line: &str) -> Option<&'static str> {
    detect(line, Content::of(line))
}

/// The kind of a line with this text in place of a reference, if a tool wrote the line. `content` is that of the text.
pub(super) fn detect(reference: &str, content: Content) -> Option<&'static str> {
    let bytes = reference.as_bytes();
    if matches!(bytes.first()?, b'T' | b't' | b'G' | b'g' | b'S' | b's') && is_total(reference) {
        return Some("the label of a line of totals");
    }
    // Ids rarely contain a blank, and no message consists of one word.
    if !content.has_blank() && !reference.ends_with(':') {
        return None;
    }
    let text = reference.trim_start_matches(['[', '#', '<', '>', '*', ' ']);
    let is_message = is_traceback(text) || is_of_database(text) || is_labelled(text) || is_logged(text);
    is_message.then_some("a line of a log, a traceback or an error message")
}

/// `Total`, `Grand Total: 12`, `Subtotal`, `Total rows 3`; nothing else may follow, because it may be the name of a
/// company.
fn is_total(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let rest = ["grand ", "sub ", "sub-", "sub"].into_iter().find_map(|word| lower.strip_prefix(word));
    let Some(rest) = rest.unwrap_or(&lower).trim_start().strip_prefix("total") else { return false };
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let rest = rest.trim_start();
    let counted = ["rows", "records", "customers", "users", "count"].into_iter();
    let rest = counted.filter_map(|noun| rest.strip_prefix(noun)).next().unwrap_or(rest);
    rest.bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b':' | b'=' | b',' | b'.' | b'(' | b')'))
}

/// A line of a traceback, as interpreters print it.
fn is_traceback(text: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "Traceback (most recent call last)",
        "During handling of the above exception",
        "The above exception was the direct cause",
        "File \"",
        "Caused by: ",
        "Exception in thread ",
        "Unhandled exception",
        "Uncaught ",
        "goroutine ",
        "thread '",
        "Stack trace",
        "Segmentation fault",
    ];
    // `at com.example.Export(Export.java:12)`, `at Object.<anonymous> (/app/export.js:1:2)`
    let is_frame = || text.starts_with("at ") && text.contains('.') && text.contains('(');
    let is_statement =
        || ["raise ", "throw "].into_iter().any(|word| text.starts_with(word)) && text.contains('(');
    BEGINNINGS.into_iter().any(|beginning| text.starts_with(beginning)) || is_frame() || is_statement()
}

/// What a database or its client says: `ERROR 2013 (HY000)`, `ORA-01555: snapshot too old`, `Msg 208, Level 16`,
/// `Lost connection to …`, `Query OK`.
fn is_of_database(text: &str) -> bool {
    const BEGINNINGS: [&str; 13] = [
        "SQLSTATE[",
        "SQL Error",
        "SQL*Plus: ",
        "Query OK",
        "Empty set (",
        "Records: ",
        "Lost connection to",
        "Connection to ",
        "Connection refused",
        "Connection reset",
        "Connection closed",
        "Connection timed out",
        "server closed the connection",
    ];
    let has_number = |mark: &str| {
        text.strip_prefix(mark).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    ["ERROR ", "ORA-", "SP2-", "TNS-", "Msg ", "Elapsed: "].into_iter().any(has_number) && text.contains(' ')
        || BEGINNINGS.into_iter().any(|beginning| text.starts_with(beginning))
}

/// A message behind the name of its level, of an exception or of a tool: `Error: …`, `java.lang.RuntimeException: …`,
/// `psql: …`.
fn is_labelled(text: &str) -> bool {
    const LEVELS: [&str; 12] = [
        "error", "fatal", "warning", "warn", "notice", "info", "debug", "hint", "detail", "panic",
        "critical", "failed",
    ];
    const TOOLS: [&str; 14] = [
        "psql",
        "pg_dump",
        "mysql",
        "mysqldump",
        "mariadb",
        "sqlcmd",
        "bcp",
        "sqlite3",
        "curl",
        "aws",
        "bash",
        "sh",
        "python",
        "java",
    ];
    let Some((label, _)) = text.split_once(": ").or_else(|| Some((text.strip_suffix(':')?, ""))) else {
        return false;
    };
    // `PHP Warning: …`, `mysqldump: Error: …`, `Fatal error: …`
    let last = label.rsplit(' ').next().unwrap_or(label);
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let is_class = |word: &str| {
        ["Error", "Exception", "Warning"].iter().any(|end| word.ends_with(end))
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'$'))
    };
    label.split(' ').count() <= 3 && (is_level(last) || is_class(last)) || TOOLS.contains(&label)
}

/// A line with a time and a level or, in the log of a server, a process or a request:
/// `2026-11-28 12:00:01 ERROR …`, `Nov 28 12:00:01 host cron[7]: …`, `10.0.0.1 - - [28/Nov/2026:12:00:00 +0000] …`; or
/// with names before its values: `level=error msg=…`.
fn is_logged(text: &str) -> bool {
    const LEVELS: [&str; 12] = [
        "error", "warn", "warning", "fatal", "info", "debug", "trace", "critical", "crit", "notice", "alert",
        "log",
    ];
    const MONTHS: [&str; 12] =
        ["Jan ", "Feb ", "Mar ", "Apr ", "May ", "Jun ", "Jul ", "Aug ", "Sep ", "Oct ", "Nov ", "Dec "];
    if text.contains("level=") && ["ts=", "time=", "msg="].into_iter().any(|name| text.contains(name)) {
        return true;
    }
    let has_time = text.as_bytes().windows(8).any(|at| {
        let is_digit = |index: usize| at[index].is_ascii_digit();
        at[2] == b':' && at[5] == b':' && [0, 1, 3, 4, 6, 7].into_iter().all(is_digit)
    });
    let is_level = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        LEVELS.into_iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    // Of glog, level, month and day: `E1128 12:00:01.123456`.
    let is_glog = || {
        let digits = text.strip_prefix(['E', 'W', 'I', 'F']).and_then(|rest| rest.split_once(' '));
        digits.is_some_and(|(day, _)| day.len() == 4 && day.bytes().all(|byte| byte.is_ascii_digit()))
    };
    has_time
        && (text.contains(" - - [")
            || text.contains("]: ")
            || MONTHS.into_iter().any(|month| text.starts_with(month))
            || is_glog()
            || text.split([' ', '\t']).any(is_level))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(reference: &str) -> Option<&'static str> {
        super::detect(reference, Content::of(reference))
    }

    #[test]
    fn what_a_tool_writes_between_rows_is_no_reference() {
        for line in [
            "Traceback (most recent call last):",
            "File \"/app/export.py\"",
            "at com.example.Export(Export.java:12)",
            "at Object.<anonymous> (/app/export.js:1:2)",
            "Caused by: java.net.SocketException: reset",
            "psycopg2.OperationalError: server closed the connection",
            "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) lost",
            "java.lang.RuntimeException: x",
            "Error: connect ECONNREFUSED",
            "PHP Warning: mysqli_connect(): (HY000/2002)",
            "PHP Fatal error: Uncaught PDOException",
            "Warning: mysqli_connect(): (HY000/2002)",
            "ERROR 2013 (HY000) at line 1: Lost connection",
            "ERROR:  canceling statement due to statement timeout",
            "ORA-01555: snapshot too old",
            "Msg 208 Level 16 State 1",
            "SQLSTATE[HY000] [2002] Connection refused",
            "mysqldump: Got error: 2013: Lost connection",
            "psql: could not connect to server",
            "[2026-11-28T12:00:00Z ERROR app] x",
            "2026-11-28 12:00:01 ERROR retrying",
            "2026-11-28 12:00:01.123 UTC [77] LOG:  duration",
            "Nov 28 12:00:01 host cron[7]: x",
            "2026/11/28 12:00:01 [error] 77#77: *1 upstream timed out",
            "Nov 28 12:00:01 host kernel: Out of memory",
            "level=error ts=2026-11-28T12:00:00Z msg=\"x\"",
            "time=\"2026-11-28T12:00:00Z\" level=error msg=x",
            "E1128 12:00:01.123456 77 main.go:12] failed",
            "raise ValueError(x)",
            "Query OK 0 rows affected (0.00 sec)",
            "Records: 3  Duplicates: 0  Warnings: 0",
            "Lost connection to MySQL server during query",
            "10.0.0.1 - - [28/Nov/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 200",
        ] {
            assert_eq!(detect(line), Some("a line of a log, a traceback or an error message"), "{line}");
        }
        for total in [
            "Total",
            "TOTALS",
            "Subtotal",
            "sub-total",
            "Total:3",
            "total(12)",
            "Grand Total",
            "Total rows: 1,000",
        ] {
            assert_eq!(detect(total), Some("the label of a line of totals"), "{total}");
        }
    }

    #[test]
    fn an_id_of_any_look_is_a_reference() {
        for id in [
            "cust_00001",
            "Total3000",
            "Total Energies",
            "TotalEnergies SE",
            "shop: 12345",
            "IN 2026 000123",
            "Error-9000001",
            "ErrorProne Ltd",
            "Asha Rao",
            "urn:customer:000123",
            "2026-11-28 12:00:01 Asha",
            "at home 12345",
            "user 00:11:22 INFORMATICS",
            "File 0001234",
            "Msg-00012345",
            "ORA-12345678",
            "ERROR12345678",
            "info@shop.example",
            "name: Error Ltd",
        ] {
            assert_eq!(detect(id), None, "{id}");
        }
    }
}
