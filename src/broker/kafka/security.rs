//! How a client proves who it is, and what it accepts as proof.
//!
//! Responsible for: login and TLS as librdkafka is told them, what of it needs OpenSSL inside
//! librdkafka, and keeping the password out of everything that is shown.
//! Not responsible for: reading the topology (`topology`).

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

/// Login and encryption; the default has neither.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Who we are, where brokers want to know it.
    pub login: Option<Login>,
    /// Encryption, where brokers speak it.
    pub tls: Option<Tls>,
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Login {
    /// How it is proven.
    pub mechanism: Mechanism,
    /// Name of the user.
    pub username: String,
    /// The password; shown nowhere.
    pub password: SecretString,
}

/// How a login is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password goes over the line as it is.
    Plain,
    /// It does not; SHA-256.
    ScramSha256,
    /// It does not; SHA-512.
    ScramSha512,
}

/// Whom we trust, and what we show to those who ask.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates that sign those of the brokers; without one the system's.
    pub ca_file: Option<String>,
    /// Our own certificate.
    pub certificate: Option<Certificate>,
}

/// A certificate of our own.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate and those above it, PEM.
    pub certificate_file: String,
    /// Its key, PEM.
    pub key_file: String,
}

impl Mechanism {
    /// As Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    /// As librdkafka calls it.
    pub fn protocol(&self) -> &'static str {
        match (&self.login, &self.tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }

    /// What needs OpenSSL inside librdkafka, if anything does.
    pub fn needs_openssl(&self) -> Option<&'static str> {
        if self.tls.is_some() {
            return Some("TLS");
        }
        let mechanism = self.login.as_ref().map(|login| login.mechanism);
        mechanism.filter(|mechanism| *mechanism != Mechanism::Plain).map(Mechanism::name)
    }

    /// Tells librdkafka.
    pub(super) fn apply(&self, client: &mut ClientConfig) {
        client.set("security.protocol", self.protocol());
        if let Some(login) = &self.login {
            client
                .set("sasl.mechanism", login.mechanism.name())
                .set("sasl.username", &login.username)
                .set("sasl.password", login.password.expose_secret());
        }
        if let Some(tls) = &self.tls {
            // OpenSSL is linked in, and looks where it was built; a probe looks where systems keep
            // their certificates.
            client.set("ssl.ca.location", tls.ca_file.as_deref().unwrap_or("probe"));
            if let Some(own) = &tls.certificate {
                client
                    .set("ssl.certificate.location", &own.certificate_file)
                    .set("ssl.key.location", &own.key_file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(mechanism: Mechanism) -> Option<Login> {
        let (username, password) = ("alice".to_owned(), SecretString::from("hunter2"));
        Some(Login { mechanism, username, password })
    }

    #[test]
    fn login_and_encryption_make_the_protocol_and_say_what_they_need() {
        let tls = || Some(Tls::default());
        let plain = login(Mechanism::Plain);
        let table = [
            (None, None, "plaintext", None),
            (None, tls(), "ssl", Some("TLS")),
            (plain.clone(), None, "sasl_plaintext", None),
            (login(Mechanism::ScramSha256), None, "sasl_plaintext", Some("SCRAM-SHA-256")),
            (plain, tls(), "sasl_ssl", Some("TLS")),
        ];
        for (login, tls, protocol, needs) in table {
            let security = Security { login, tls };
            assert_eq!(security.protocol(), protocol);
            assert_eq!(security.needs_openssl(), needs, "{protocol}");
        }
    }

    #[test]
    fn librdkafka_is_told_everything_and_output_shows_no_password() {
        let own = Certificate { certificate_file: "me.pem".into(), key_file: "me.key".into() };
        let tls = Tls { ca_file: Some("ca.pem".into()), certificate: Some(own) };
        let security = Security { login: login(Mechanism::ScramSha512), tls: Some(tls) };
        let mut client = ClientConfig::new();
        security.apply(&mut client);
        for (name, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", "hunter2"),
            ("ssl.ca.location", "ca.pem"),
            ("ssl.certificate.location", "me.pem"),
            ("ssl.key.location", "me.key"),
        ] {
            assert_eq!(client.get(name), Some(value));
        }
        assert!(!format!("{security:?} {client:?}").contains("hunter2"));
    }

    #[test]
    fn without_a_file_certificates_are_looked_for_where_systems_keep_them() {
        let mut client = ClientConfig::new();
        Security { login: None, tls: Some(Tls::default()) }.apply(&mut client);
        assert_eq!(client.get("ssl.ca.location"), Some("probe"));
    }
}
