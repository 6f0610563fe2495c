//! Progress on the terminal.
//!
//! Responsible for: bars while somebody looks at a terminal, plain lines now and then otherwise.
//! Not responsible for: where the numbers come from (`watch`).

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::runtime::clock::Monotonic;

/// How often a plain line is written, if anything has changed.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// How far a demo has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Payloads that were uploaded.
    pub(super) uploads: u64,
    /// Files that are settled.
    pub(super) files: u64,
    /// Reports that are complete.
    pub(super) reports: u64,
    /// Rows of settled files.
    pub(super) rows: u64,
    /// Unpacked bytes of the files that were settled in this run.
    pub(super) bytes: u64,
}

/// Shows progress towards a goal.
pub(super) struct Display {
    goal: Progress,
    began: Monotonic,
    bars: Option<Bars>,
    line: Option<(Monotonic, Progress)>,
}

struct Bars {
    all: MultiProgress,
    uploads: ProgressBar,
    files: ProgressBar,
    reports: ProgressBar,
    rows: ProgressBar,
}

impl Display {
    /// Begins at `now`. A goal without rows does not show them against one.
    pub(super) fn new(goal: Progress, now: Monotonic) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| Bars::new(&goal));
        Self { goal, began: now, bars, line: None }
    }

    /// Shows how far it has come.
    pub(super) fn update(&mut self, progress: Progress, now: Monotonic) {
        let rate = rate(progress.bytes, now - self.began);
        match &self.bars {
            Some(bars) => bars.update(&progress, &rate),
            None => {
                let due = self
                    .line
                    .is_none_or(|(last, shown)| shown != progress && now - last >= LINE_EVERY);
                if due {
                    self.line = Some((now, progress));
                    eprintln!("{}", line(&progress, &self.goal, &rate));
                }
            }
        }
    }

    /// Takes the bars away, so that the result stands alone.
    pub(super) fn close(self) {
        if let Some(bars) = self.bars {
            // A terminal that has gone away needs no tidying.
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn new(goal: &Progress) -> Self {
        let all = MultiProgress::new();
        let bar = |name: &'static str, goal: u64| {
            let template = "{prefix:>8} {bar:40} {human_pos} of {human_len} {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(goal).with_style(style).with_prefix(name))
        };
        let (uploads, files) = (bar("uploads", goal.uploads), bar("files", goal.files));
        let (reports, rows) = (bar("reports", goal.reports), bar("rows", goal.rows));
        Self { uploads, files, reports, rows, all }
    }

    fn update(&self, progress: &Progress, rate: &str) {
        self.uploads.set_position(progress.uploads);
        self.files.set_position(progress.files);
        self.reports.set_position(progress.reports);
        if progress.rows > self.rows.length().unwrap_or(0) {
            self.rows.set_length(progress.rows);
        }
        self.rows.set_position(progress.rows);
        self.rows.set_message(rate.to_owned());
    }
}

/// Megabytes a second, over all of this run.
fn rate(bytes: u64, passed: Duration) -> String {
    let seconds = passed.as_secs_f64();
    if seconds == 0.0 {
        return String::new();
    }
    format!("{:.1} MB/s", bytes as f64 / 1e6 / seconds)
}

fn line(progress: &Progress, goal: &Progress, rate: &str) -> String {
    let of = |done, goal| format!("{} of {}", HumanCount(done), HumanCount(goal));
    let rows = if goal.rows == 0 {
        HumanCount(progress.rows).to_string()
    } else {
        of(progress.rows, goal.rows)
    };
    format!(
        "uploads {}, files {}, reports {}, rows {rows}, {rate}",
        of(progress.uploads, goal.uploads),
        of(progress.files, goal.files),
        of(progress.reports, goal.reports),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_everything_is() {
        let progress = Progress { uploads: 3, files: 2, reports: 0, rows: 1234, bytes: 5_000_000 };
        let goal = Progress { uploads: 12, files: 12, reports: 2, rows: 20_000, bytes: 0 };
        let rate = rate(progress.bytes, Duration::from_secs(2));
        assert_eq!(
            line(&progress, &goal, &rate),
            "uploads 3 of 12, files 2 of 12, reports 0 of 2, rows 1,234 of 20,000, 2.5 MB/s"
        );
        let unknown = Progress { rows: 0, ..goal };
        assert!(line(&progress, &unknown, &rate).contains("rows 1,234, 2.5 MB/s"));
    }

    #[test]
    fn there_is_no_rate_before_any_time_has_passed() {
        assert_eq!(rate(1, Duration::ZERO), "");
    }
}
