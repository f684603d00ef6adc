//! A number with its noun, for messages.

/// The noun of a number: `row` for 1, `rows` for any other. Nouns that only take an `s` are all that messages need.
pub fn noun(count: u64, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}

/// A number with its noun: `1 row`, `2 rows`.
pub fn counted(count: usize, one: &str) -> String {
    format!("{count} {}", noun(count as u64, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        for (count, text) in [(0, "0 rows"), (1, "1 row"), (2, "2 rows")] {
            assert_eq!(counted(count, "row"), text);
        }
    }
}
