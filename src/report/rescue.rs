//! Says what the options that were not given would make of invalid rows, as text and JSON.

use serde::Serialize;

use super::format::{rows, share};
use crate::customer::Rescue;

/// The effect of giving one additional option.
#[derive(Debug, Serialize)]
pub struct RescueJson {
    option: String,
    /// Rows that are invalid now and would then be valid.
    rows: u64,
}

impl RescueJson {
    /// `would make 4 rows valid (57.1 %)`, of `all` rows.
    fn effect(&self, all: u64) -> String {
        let most = if self.option.ends_with(" CC") { "at most " } else { "" };
        format!("would make {most}{} valid ({})", rows(self.rows), share(self.rows, all))
    }
}

/// What each option that is not given would do, for JSON.
pub(super) fn rescue_list(rescues: &[Rescue]) -> Vec<RescueJson> {
    let rescue = |Rescue { option, rows }: &Rescue| RescueJson { option: option.clone(), rows: *rows };
    rescues.iter().map(rescue).collect()
}

/// What each option would do, a line each.
pub(super) fn rescue_lines(rescues: &[RescueJson], all: u64) -> String {
    rescues.iter().map(|rescue| format!("  {} {}\n", rescue.option, rescue.effect(all))).collect()
}

/// The options with their effects, for a page.
pub(super) fn effects(rescues: &[RescueJson], all: u64) -> Vec<(&str, String)> {
    rescues.iter().map(|rescue| (rescue.option.as_str(), rescue.effect(all))).collect()
}
