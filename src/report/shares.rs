//! Shares of a whole, in per cent, that add up to 100.
//!
//! Pure. Each share is rounded down to a tenth, and the remaining tenths are given to the largest remainders. No
//! count is rounded away: all but one of a million is not 100 %, and one is not 0 %.

/// Tenths of a per cent in the whole.
const WHOLE: u64 = 1000;

/// A share of a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    count: u64,
    tenths: u64,
    /// Whether the count is less than a tenth of a per cent.
    is_less: bool,
}

impl Share {
    /// The count itself.
    pub(super) fn count(self) -> u64 {
        self.count
    }

    /// `12.3 %`, `none`, `< 0.1 %`.
    pub(super) fn words(self) -> String {
        match self.tenths {
            _ if self.count == 0 => "none".into(),
            _ if self.is_less => "< 0.1 %".into(),
            WHOLE => "100 %".into(),
            tenths => format!("{}.{} %", tenths / 10, tenths % 10),
        }
    }

    /// The combined share of both.
    pub(super) fn with(self, other: Share) -> Share {
        match (self.count, other.count) {
            (0, _) => other,
            (_, 0) => self,
            _ => Share {
                count: self.count.saturating_add(other.count),
                tenths: self.tenths + other.tenths,
                is_less: false,
            },
        }
    }
}

/// The share of each count in their sum.
pub(super) fn shares<const N: usize>(counts: [u64; N]) -> [Share; N] {
    let all: u128 = counts.iter().copied().map(u128::from).sum();
    let exact = |count: u64| u128::from(count) * u128::from(WHOLE);
    let mut shares = counts.map(|count| {
        let tenths = exact(count).checked_div(all).unwrap_or(0) as u64;
        let is_less = count > 0 && tenths == 0;
        Share { count, tenths: if is_less { 1 } else { tenths }, is_less }
    });
    let given: u64 = shares.iter().map(|share| share.tenths).sum();
    if all == 0 {
        return shares;
    }
    let mut order: Vec<usize> = (0..N).filter(|at| counts[*at] > 0 && !shares[*at].is_less).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exact(counts[*at]) % all));
    for at in order.iter().take(WHOLE.saturating_sub(given) as usize) {
        shares[*at].tenths += 1;
    }
    // The smallest shares are rounded up, at the expense of the largest.
    if let Some(largest) = shares.iter_mut().max_by_key(|share| share.tenths) {
        largest.tenths -= given.saturating_sub(WHOLE).min(largest.tenths - 1);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for counts in [
            [1, 1, 1],
            [839, 160, 1],
            [2, 3, 1],
            [999_999, 1, 0],
            [7, 0, 0],
            [u64::MAX, 1, u64::MAX],
            [5, 1, 1],
        ] {
            let shares = shares(counts);
            assert_eq!(shares.iter().map(|share| share.tenths).sum::<u64>(), WHOLE, "{counts:?}");
            assert_eq!(shares[0].with(shares[1]).with(shares[2]).words(), "100 %");
        }
        let words = |counts: [u64; 2]| shares(counts).map(Share::words);
        assert_eq!(words([251_980, 48_020]), ["84.0 %", "16.0 %"]);
        assert_eq!(words([2, 1]), ["66.7 %", "33.3 %"]);
    }

    #[test]
    fn all_but_one_is_not_all() {
        let words = |counts: [u64; 2]| shares(counts).map(Share::words);
        assert_eq!(words([999_999, 1]), ["99.9 %", "< 0.1 %"]);
        assert_eq!(words([9, 0]), ["100 %", "none"]);
        assert_eq!(words([0, 0]), ["none", "none"]);
        let many = shares([1_000_000, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((many[0].words().as_str(), many[9].words().as_str()), ("99.1 %", "< 0.1 %"));
    }
}
