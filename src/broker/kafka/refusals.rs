//! Why brokers do not let us in.
//!
//! Responsible for: remembering what librdkafka said of connections that failed. A request that is
//! waiting for a connection only learns that there was none in time; the reason comes over another
//! way, to the client that is polled.
//! Not responsible for: deciding when to give up (`admin`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What stands between us and the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// The login is refused.
    Login,
    /// No trust, or no common protocol.
    Tls,
    /// No connection at all.
    Network,
}

/// The last failed connection, until one succeeds.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<(Obstacle, String)>>);

impl Refusals {
    /// Takes what librdkafka says of a connection; other errors are none of it.
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        let obstacle = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Obstacle::Login
            }
            Some(RDKafkaErrorCode::SSL) => Obstacle::Tls,
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
                Obstacle::Network
            }
            _ => return,
        };
        *self.last() = Some((obstacle, reason.to_owned()));
    }

    /// A connection succeeded.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }

    /// Why we are not let in, and what to do; nothing where brokers are merely away.
    pub(super) fn refusal(&self) -> Option<String> {
        match &*self.last() {
            Some((Obstacle::Login, reason)) => Some(format!(
                "kafka refuses the login: {reason}; check `mechanism`, `username` and `password` \
                 of [broker]"
            )),
            Some((Obstacle::Tls, reason)) => Some(format!(
                "no TLS connection to kafka: {reason}; check `security` and `ca_file` of [broker], \
                 and that the brokers' certificate is made out to their host"
            )),
            Some((Obstacle::Network, _)) | None => None,
        }
    }

    /// What was said of the last connection, whatever it was.
    pub(super) fn words(&self) -> Option<String> {
        self.last().as_ref().map(|(_, reason)| reason.clone())
    }

    fn last(&self) -> MutexGuard<'_, Option<(Obstacle, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(code: RDKafkaErrorCode) -> Refusals {
        let refusals = Refusals::default();
        refusals.note(&KafkaError::Global(code), "localhost:9092/1: it is so");
        refusals
    }

    #[test]
    fn a_refused_login_and_missing_trust_are_refusals_with_advice() {
        let login = noted(RDKafkaErrorCode::Authentication).refusal().unwrap();
        assert!(login.contains("refuses the login: localhost:9092/1: it is so"), "{login}");
        assert!(login.contains("`password`"), "{login}");
        let tls = noted(RDKafkaErrorCode::SSL).refusal().unwrap();
        assert!(tls.contains("it is so") && tls.contains("`ca_file`"), "{tls}");
    }

    #[test]
    fn a_broker_that_is_away_is_no_refusal_but_is_told() {
        let away = noted(RDKafkaErrorCode::BrokerTransportFailure);
        assert_eq!(away.refusal(), None);
        assert_eq!(away.words().as_deref(), Some("localhost:9092/1: it is so"));
        assert_eq!(noted(RDKafkaErrorCode::AllBrokersDown).words(), None);
    }

    #[test]
    fn what_was_refused_is_forgotten_once_a_connection_stands() {
        let refusals = noted(RDKafkaErrorCode::Authentication);
        refusals.forget();
        assert_eq!((refusals.refusal(), refusals.words()), (None, None));
    }
}
