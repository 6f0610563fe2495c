//! Runs of a row and what comes of them.
//!
//! Responsible for: running each side in a process of its own, engine and baseline in turn, so
//! that CPU time and memory are a side's own and a change of the machine meets both; medians; the
//! line of the table.
//! Not responsible for: what is measured.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Percentiles, Sample};
use super::{About, Row, Setting, Side, Tried, Unit};

/// Head of the table. It is Markdown, to be kept in `docs/performance.md` as it stands.
pub const HEADER: &str = "\
| row | engine | baseline | ratio (lowest to highest) | goal | CPU-s per 1M, engine / baseline | \
peak MB, engine / baseline | note |
|---|---|---|---|---|---|---|---|";

/// One line of the table.
pub struct Line {
    about: About,
    engine: Vec<Sample>,
    baseline: Vec<Sample>,
}

/// Runs both sides of a row in turn, so many times each.
pub fn measure(row: &dyn Row, setting: &Setting, pairs: usize) -> Tried<Line> {
    let about = row.about();
    let fixture = row.prepare(setting)?;
    let mut line = Line { about, engine: Vec::new(), baseline: Vec::new() };
    for pair in 1..=pairs {
        let engine = spawn(&line.about, Side::Engine, setting, &fixture.handle)?;
        let baseline = spawn(&line.about, Side::Baseline, setting, &fixture.handle)?;
        if engine.items != baseline.items {
            let (engine, baseline) = (engine.items, baseline.items);
            return Err(format!("the engine did {engine} items, the baseline {baseline}").into());
        }
        let (name, unit) = (&line.about.name, line.about.unit);
        let ratio = unit.speed(&engine) / unit.speed(&baseline);
        let speeds = (unit.show(&engine), unit.show(&baseline));
        eprintln!("{name} {pair}/{pairs}: {} against {}, {ratio:.2}", speeds.0, speeds.1);
        line.engine.push(engine);
        line.baseline.push(baseline);
    }
    Ok(line)
}

/// Hands a sample to the process that asked for it.
pub fn print_sample(sample: &Sample) -> Tried {
    println!("{}", serde_json::to_string(sample)?);
    Ok(())
}

/// Runs one side once, in a process of its own.
fn spawn(about: &About, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--row", &about.name, "--side", side.as_str()]);
    command.arg(format!("--fixture={fixture}"));
    if setting.quick {
        command.arg("--quick");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the {} ended with {}", side.as_str(), output.status).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    let sample = printed.lines().last().ok_or("a run printed nothing")?;
    Ok(serde_json::from_str(sample)?)
}

impl Unit {
    /// What samples are compared by; more is better. Where the rate is given that is the time
    /// that 99 of 100 items keep to.
    fn speed(self, sample: &Sample) -> f64 {
        match (self, &sample.latency) {
            (Self::Latency, Some(latency)) => 1.0 / latency.p99.as_secs_f64(),
            _ => sample.speed(),
        }
    }

    fn show(self, sample: &Sample) -> String {
        let speed = sample.speed();
        match self {
            Self::PerSecond(items) if speed >= 1e6 => format!("{:.2} M {items}/s", speed / 1e6),
            Self::PerSecond(items) if speed >= 1e4 => format!("{:.0} k {items}/s", speed / 1e3),
            Self::PerSecond(items) => format!("{speed:.0} {items}/s"),
            Self::Nanoseconds(item) => format!("{:.0} ns/{item}", 1e9 / speed),
            Self::Megabytes => {
                let speed = sample.bytes as f64 / sample.wall.as_secs_f64();
                format!("{:.0} MB/s", speed / 1e6)
            }
            Self::Latency => sample.latency.map_or("no times".to_owned(), |latency| {
                let millis = |time: Duration| time.as_secs_f64() * 1e3;
                let Percentiles { p50, p99, p999 } = latency;
                format!("{:.1} / {:.1} / {:.1} ms", millis(p50), millis(p99), millis(p999))
            }),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { name, goal, unit, .. } = &self.about;
        let engine = by_speed(*unit, &self.engine);
        let baseline = by_speed(*unit, &self.baseline);
        let (Some(engine), Some(baseline)) = (engine, baseline) else { return Ok(()) };
        let pairs = self.engine.iter().zip(&self.baseline);
        let ratio = |(engine, baseline)| unit.speed(engine) / unit.speed(baseline);
        let ratios = sorted(pairs.map(ratio));
        let (lowest, highest) = (ratios[0], ratios[ratios.len() - 1]);
        let cpu = |side| middle(side, Sample::cpu_per_million);
        let peak = |side| middle(side, |sample| sample.peak as f64 / 1e6);
        write!(
            f,
            "| {name} | {} | {} | {:.2} ({lowest:.2} to {highest:.2}) | {goal} \
             | {:.2} / {:.2} | {:.0} / {:.0} | {} |",
            unit.show(engine),
            unit.show(baseline),
            ratios[ratios.len() / 2],
            cpu(&self.engine),
            cpu(&self.baseline),
            peak(&self.engine),
            peak(&self.baseline),
            engine.note,
        )
    }
}

/// The sample of median speed.
fn by_speed(unit: Unit, samples: &[Sample]) -> Option<&Sample> {
    let mut sorted: Vec<&Sample> = samples.iter().collect();
    sorted.sort_by(|one, other| unit.speed(one).total_cmp(&unit.speed(other)));
    sorted.get(sorted.len() / 2).copied()
}

fn middle(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    let sorted = sorted(samples.iter().map(figure));
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}
