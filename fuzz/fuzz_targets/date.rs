//! Computes the seconds of a calendar day independently of all libraries that the program uses.

/// Seconds since the beginning of 1970; none if there is no such second.
pub(crate) fn seconds(year: u64, month: u64, day: u64, [hour, minute, second]: [u64; 3]) -> Option<u64> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let long = |month| match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap(year)),
        _ => 31,
    };
    let is_there = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=long(month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_there {
        return None;
    }
    let before = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>();
    let days = before + (1..month).map(long).sum::<u64>() + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}
