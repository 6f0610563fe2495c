//! Reads the settings.
//!
//! Responsible for: the list of all keys, where each value comes from (environment, file,
//! default), and the checks between settings.
//! Not responsible for: what the settings are (`config`).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use crate::broker::Assignor;
use crate::config::diagnostic::{Diagnostic, Diagnostics, Report};
use crate::config::document::{self, Context, Section, Value};
use crate::config::secret::Secret;
use crate::config::{
    Api, Config, Consumer, Data, DeadLetters, Ingress, Limits, LogFormat, Restart, Shutdown, State,
    Telemetry, Workers, units,
};

/// What a kind of setting is called, and how its text is understood.
struct Form<T> {
    wanted: &'static str,
    parse: fn(&str) -> Option<T>,
}

const TEXT: Form<String> = Form {
    wanted: "a text that is not empty",
    parse: |text| (!text.trim().is_empty()).then(|| text.to_owned()),
};
const PATH: Form<PathBuf> =
    Form { wanted: "a path", parse: |text| (!text.trim().is_empty()).then(|| PathBuf::from(text)) };
const PATH_OR_NONE: Form<Option<PathBuf>> = Form {
    wanted: "a path, or nothing",
    parse: |text| Some((!text.trim().is_empty()).then(|| PathBuf::from(text))),
};
/// What a token of the API looks like: short ones can be guessed.
const TOKEN: &str = "16 or more letters, digits and signs, without blanks";
const BASE_URL_OR_NONE: Form<Option<String>> = Form {
    wanted: "a URL such as \"http://uploads-0:8080\", without query, or nothing",
    parse: |text| {
        let text = text.trim().trim_end_matches('/');
        let is_base = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
            && !text.contains(['?', '#'])
            && reqwest::Url::parse(text).is_ok();
        (text.is_empty() || is_base).then(|| Some(text.to_owned()).filter(|url| !url.is_empty()))
    },
};
/// What the address of a database looks like.
const DATABASE: &str = "an address such as \"postgres://user:password@host/database\"";
const SIZE: Form<u64> = Form {
    wanted: "a size such as \"64 KiB\" or \"16 MiB\"",
    parse: |text| units::size(text).filter(|size| *size > 0),
};
const TIME: Form<Duration> = Form {
    wanted: "a time such as \"500ms\" or \"30s\"",
    parse: |text| units::duration(text).filter(|time| !time.is_zero()),
};
const COUNT: Form<usize> = Form {
    wanted: "a whole number, 1 or more",
    parse: |text| number::<usize>(text).filter(|number| *number > 0),
};
const COUNT_OR_NONE: Form<usize> = Form { wanted: "a whole number", parse: number };
const LIMIT: Form<u64> = Form { wanted: "a whole number", parse: number };
const TIMES: Form<u32> = Form { wanted: "a whole number", parse: number };
const SAMPLE: Form<u32> = Form {
    wanted: "a whole number, 1 or more",
    parse: |text| number::<u32>(text).filter(|number| *number > 0),
};
const SHARE: Form<f64> = Form {
    wanted: "a share above 0, up to 1",
    parse: |text| number::<f64>(text).filter(|share| *share > 0.0 && *share <= 1.0),
};
const SWITCH: Form<bool> = Form { wanted: "true or false", parse: number };
const ADDRESS: Form<SocketAddr> =
    Form { wanted: "an address such as \"127.0.0.1:8080\"", parse: number };
const ASSIGNOR: Form<Assignor> = Form {
    wanted: "\"range\" or \"cooperative-sticky\"",
    parse: |text| match text {
        "range" => Some(Assignor::Range),
        "cooperative-sticky" => Some(Assignor::CooperativeSticky),
        _ => None,
    },
};
const LOG_FORMAT: Form<LogFormat> = Form {
    wanted: "\"text\" or \"json\"",
    parse: |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    },
};
const TOPIC_SUFFIX: Form<String> = Form {
    wanted: "a text of letters, digits, `.`, `_` and `-`",
    parse: |text| {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!text.is_empty() && text.len() <= 64 && text.chars().all(is_fit)).then(|| text.to_owned())
    },
};

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// Settings from `text` and the environment; all errors at once.
pub(super) fn config(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Diagnostics> {
    let report = Report::default();
    let config = document::parse(text, &report).map(|table| {
        let cx = Context { text, report: &report, variables: None };
        let root = Section::new(cx, "the settings", &table, 0..0);
        let reader = Reader { root, env, keys: RefCell::default() };
        let config = reader.config();
        reader.root.finish();
        config
    });
    report.conclude(file, text, config)
}

/// All keys, found by reading an empty file.
pub(super) fn keys() -> Vec<String> {
    let report = Report::default();
    let table = toml::de::DeTable::new();
    let cx = Context { text: "", report: &report, variables: None };
    let root = Section::new(cx, "the settings", &table, 0..0);
    let reader = Reader { root, env: &|_| None, keys: RefCell::default() };
    reader.config();
    reader.keys.into_inner()
}

struct Reader<'a> {
    root: Section<'a>,
    env: &'a dyn Fn(&str) -> Option<String>,
    keys: RefCell<Vec<String>>,
}

/// One section of the settings, whether or not the file has it.
struct Group<'r, 'a> {
    reader: &'r Reader<'a>,
    name: &'static str,
    section: Option<Section<'a>>,
}

impl<'a> Reader<'a> {
    fn config(&self) -> Config {
        Config {
            data: self.data(),
            workers: self.workers(),
            limits: self.limits(),
            consumer: self.consumer(),
            dead_letters: self.dead_letters(),
            shutdown: self.shutdown(),
            restart: self.restart(),
            ingress: self.ingress(),
            telemetry: self.telemetry(),
            state: self.state(),
            api: self.api(),
        }
    }

    fn group(&self, name: &'static str) -> Group<'_, 'a> {
        let section = self.root.value(name).and_then(|value| value.section(format!("[{name}]")));
        Group { reader: self, name, section }
    }

    fn data(&self) -> Data {
        let group = self.group("data");
        let dir = group.get("dir", &PATH, Data::default().dir);
        group.finish();
        Data { dir }
    }

    fn workers(&self) -> Workers {
        let group = self.group("workers");
        let per_stage = group.get("per_stage", &COUNT_OR_NONE, Workers::default().per_stage);
        group.finish();
        Workers { per_stage }
    }

    fn limits(&self) -> Limits {
        let group = self.group("limits");
        let or = Limits::default();
        let limits = Limits {
            buffer_bytes: group.get("buffer_bytes", &SIZE, or.buffer_bytes),
            buffer_records: group.get("buffer_records", &COUNT, or.buffer_records),
            buffer_total: group.get("buffer_total", &SIZE, or.buffer_total),
            batch_records: group.get("batch_records", &COUNT, or.batch_records),
            batch_bytes: group.get("batch_bytes", &SIZE, or.batch_bytes),
            in_flight_records: group.get("in_flight_records", &COUNT, or.in_flight_records),
            lane_batches: group.get("lane_batches", &COUNT, or.lane_batches),
            sink_batches: group.get("sink_batches", &COUNT, or.sink_batches),
            spool_bytes: group.get("spool_bytes", &SIZE, or.spool_bytes),
            record_time_limit: group.get("record_time_limit", &TIME, or.record_time_limit),
            max_hung_threads: group.get("max_hung_threads", &COUNT, or.max_hung_threads),
        };
        if limits.batch_records > limits.in_flight_records {
            let message = "`batch_records` is larger than `in_flight_records`";
            let help = "a batch has to fit into what may be in flight".to_owned();
            group.report("batch_records", Diagnostic::new(message).help(help));
        }
        group.finish();
        limits
    }

    fn consumer(&self) -> Consumer {
        let group = self.group("consumer");
        let or = Consumer::default();
        let consumer = Consumer {
            session_timeout: group.get("session_timeout", &TIME, or.session_timeout),
            max_poll_interval: group.get("max_poll_interval", &TIME, or.max_poll_interval),
            revoke_drain_deadline: group.get(
                "revoke_drain_deadline",
                &TIME,
                or.revoke_drain_deadline,
            ),
            commit_interval: group.get("commit_interval", &TIME, or.commit_interval),
            stall_limit: group.get("stall_limit", &TIME, or.stall_limit),
            prefetch_bytes: group.get("prefetch", &SIZE, or.prefetch_bytes),
            assignor: group.get("assignor", &ASSIGNOR, or.assignor),
        };
        let most = consumer.max_poll_interval / 2;
        if consumer.revoke_drain_deadline > most {
            let message = format!(
                "`revoke_drain_deadline` is {}, more than half of `max_poll_interval` ({})",
                units::show_duration(consumer.revoke_drain_deadline),
                units::show_duration(consumer.max_poll_interval),
            );
            let help = format!(
                "a drain that takes longer loses the partitions: at most {}",
                units::show_duration(most)
            );
            group.report("revoke_drain_deadline", Diagnostic::new(message).help(help));
        }
        if consumer.session_timeout > consumer.max_poll_interval {
            let message = "`session_timeout` is longer than `max_poll_interval`";
            group.report("session_timeout", Diagnostic::new(message));
        }
        group.finish();
        consumer
    }

    fn dead_letters(&self) -> DeadLetters {
        let group = self.group("dead_letters");
        let or = DeadLetters::default();
        let dead_letters = DeadLetters {
            max_consecutive: group.get("max_consecutive", &LIMIT, or.max_consecutive),
            max_ratio: group.get("max_ratio", &SHARE, or.max_ratio),
            min_sample: group.get("min_sample", &SAMPLE, or.min_sample),
            topic_suffix: group.get("topic_suffix", &TOPIC_SUFFIX, or.topic_suffix),
        };
        group.finish();
        dead_letters
    }

    fn shutdown(&self) -> Shutdown {
        let group = self.group("shutdown");
        let drain_deadline = group.get("drain_deadline", &TIME, Shutdown::default().drain_deadline);
        group.finish();
        Shutdown { drain_deadline }
    }

    fn restart(&self) -> Restart {
        let group = self.group("restart");
        let or = Restart::default();
        let restart = Restart {
            max: group.get("max", &TIMES, or.max),
            within: group.get("within", &TIME, or.within),
        };
        group.finish();
        restart
    }

    fn ingress(&self) -> Ingress {
        let group = self.group("ingress");
        let or = Ingress::default();
        let ingress = Ingress {
            listen: group.get("listen", &ADDRESS, or.listen),
            public_url: group.get("public_url", &BASE_URL_OR_NONE, or.public_url),
            retain: group.get("retain", &TIME, or.retain),
            adopt_after: group.get("adopt_after", &TIME, or.adopt_after),
        };
        group.finish();
        ingress
    }

    fn telemetry(&self) -> Telemetry {
        let group = self.group("telemetry");
        let or = Telemetry::default();
        let telemetry = Telemetry {
            log_level: group.get("log_level", &TEXT, or.log_level),
            log_format: group.get("log_format", &LOG_FORMAT, or.log_format),
        };
        group.finish();
        telemetry
    }

    fn state(&self) -> State {
        let group = self.group("state");
        let or = State::default();
        let state = State {
            path: group.get("path", &PATH, or.path),
            url: group.secret("url", DATABASE, |text| {
                ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
            }),
            ca_file: group.get("ca_file", &PATH_OR_NONE, or.ca_file),
            connections: group.get("connections", &COUNT, or.connections),
            statement_timeout: group.get("statement_timeout", &TIME, or.statement_timeout),
            lock_timeout: group.get("lock_timeout", &TIME, or.lock_timeout),
            idle_transaction_timeout: group.get(
                "idle_transaction_timeout",
                &TIME,
                or.idle_transaction_timeout,
            ),
        };
        group.finish();
        state
    }

    fn api(&self) -> Api {
        let group = self.group("api");
        let or = Api::default();
        let api = Api {
            enabled: group.get("enabled", &SWITCH, or.enabled),
            listen: group.get("listen", &ADDRESS, or.listen),
            token: group.secret("token", TOKEN, |text| {
                text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic())
            }),
        };
        if api.enabled && !api.listen.ip().is_loopback() && api.token.is_none() {
            let message = format!("the API listens on {} and has no `token`", api.listen);
            let help = "others can reach that address: set TIDEMILL_API_TOKEN in the environment, \
                        or listen on 127.0.0.1";
            group.report("listen", Diagnostic::new(message).help(help.to_owned()));
        }
        group.finish();
        api
    }
}

impl Group<'_, '_> {
    /// The setting `key`: from the environment, else from the file, else `default`. An error is
    /// reported and leaves the default.
    fn get<T>(&self, key: &'static str, form: &Form<T>, default: T) -> T {
        self.reader.keys.borrow_mut().push(format!("{}.{key}", self.name));
        let in_file = self.section.as_ref().and_then(|section| section.value(key));
        let from_file = in_file.and_then(|value| self.parsed(&value, form));
        let variable = format!("TIDEMILL_{}_{key}", self.name).to_uppercase();
        let Some(text) = (self.reader.env)(&variable) else { return from_file.unwrap_or(default) };
        (form.parse)(&text).unwrap_or_else(|| {
            let message = format!("environment variable {variable} has to be {}", form.wanted);
            let help = format!("it is `{text}`");
            self.reader.root.context().report.push(Diagnostic::new(message).help(help));
            default
        })
    }

    /// The secret `key`, from the environment or else from the file; empty is none. No error shows
    /// its value, so errors have no place either: the line would be printed.
    fn secret(
        &self,
        key: &'static str,
        wanted: &'static str,
        is_fit: fn(&str) -> bool,
    ) -> Option<Secret> {
        self.reader.keys.borrow_mut().push(format!("{}.{key}", self.name));
        let in_file = self.section.as_ref().and_then(|section| section.value(key));
        let in_file = in_file.map(|value| plain(&value).unwrap_or_default());
        let variable = format!("TIDEMILL_{}_{key}", self.name).to_uppercase();
        let in_env = (self.reader.env)(&variable);
        let place = match &in_env {
            Some(_) => format!("environment variable {variable}"),
            None => format!("`{key}` of [{}]", self.name),
        };
        let text = in_env.or(in_file).filter(|text| !text.is_empty())?;
        if !is_fit(&text) {
            let message = format!("{place} has to be {wanted}, or empty");
            let help = "its value is not shown, since it is a secret".to_owned();
            self.reader.root.context().report.push(Diagnostic::new(message).help(help));
        }
        Some(Secret::from(text))
    }

    fn parsed<T>(&self, value: &Value<'_>, form: &Form<T>) -> Option<T> {
        let Some(text) = plain(value) else { return value.wrong(form.wanted) };
        (form.parse)(&text).or_else(|| value.not(&text, form.wanted))
    }

    /// Reports an error at the value of `key`, or without a place if the file does not have it.
    fn report(&self, key: &'static str, diagnostic: Diagnostic) {
        let diagnostic = match self.place(key) {
            Some(place) => diagnostic.at(place),
            None => diagnostic,
        };
        self.reader.root.context().report.push(diagnostic);
    }

    fn place(&self, key: &'static str) -> Option<Range<usize>> {
        Some(self.section.as_ref()?.value(key)?.span())
    }

    fn finish(self) {
        if let Some(section) = self.section {
            section.finish();
        }
    }
}

/// A value as the text that the environment would hold for it.
fn plain(value: &Value<'_>) -> Option<String> {
    match value.item() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
