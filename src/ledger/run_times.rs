//! When runs began and ended, corrected where the clock was wrong.
//!
//! A machine without a battery begins in 1970, and a clock may stand in the future during one run. The order of the
//! runs is known nevertheless: a run ends before the next one begins, and none ends after the present time.
//!
//! Pure.

/// The beginning and the end of a run, in UTC milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunTimes {
    /// When the run began.
    pub(crate) began: i64,
    /// When the run ended.
    pub(crate) ended: i64,
}

impl RunTimes {
    /// Corrects the times of all runs of a ledger, which are in their order. A time in the future or before that of an
    /// earlier run is wrong, and becomes the latest one possible: the next time that is right, or `now`.
    pub(crate) fn correct(runs: &mut [RunTimes], now: i64) {
        const WRONG: i64 = i64::MAX;
        let mut latest = i64::MIN;
        for time in runs.iter_mut().flat_map(|run| [&mut run.began, &mut run.ended]) {
            if (latest..=now).contains(time) {
                latest = *time;
            } else {
                *time = WRONG;
            }
        }
        let mut next = now;
        for time in runs.iter_mut().rev().flat_map(|run| [&mut run.ended, &mut run.began]) {
            next = next.min(*time);
            *time = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_moves_a_run_between_its_neighbors() {
        let corrected = |runs: &[(i64, i64)]| {
            let mut runs: Vec<_> = runs.iter().map(|&(began, ended)| RunTimes { began, ended }).collect();
            RunTimes::correct(&mut runs, 1000);
            runs.iter().map(|run| (run.began, run.ended)).collect::<Vec<_>>()
        };
        assert_eq!(corrected(&[(10, 20), (30, 40)]), [(10, 20), (30, 40)], "right");
        assert_eq!(corrected(&[(10, 20), (5000, 5010), (30, 40)]), [(10, 20), (30, 30), (30, 40)], "in 2099");
        assert_eq!(corrected(&[(10, 20), (5000, 5010)]), [(10, 20), (1000, 1000)], "the latest run in 2099");
        assert_eq!(corrected(&[(10, 5010), (30, 40)]), [(10, 30), (30, 40)], "set forward during the run");
        assert_eq!(corrected(&[(5000, 40), (50, 60)]), [(40, 40), (50, 60)], "set back during the run");
        assert_eq!(corrected(&[(10, 20), (0, 1), (30, 40)]), [(10, 20), (30, 30), (30, 40)], "in 1970");
        assert_eq!(corrected(&[(10, 20), (0, 1)]), [(10, 20), (1000, 1000)], "the latest run in 1970");
        assert_eq!(corrected(&[(10, 20), (0, 40)]), [(10, 20), (40, 40)], "from 1970 on");
        assert_eq!(corrected(&[(5000, 5001), (6000, 6001)]), [(1000, 1000), (1000, 1000)], "all in 2099");
        assert_eq!(corrected(&[]), []);
    }
}
