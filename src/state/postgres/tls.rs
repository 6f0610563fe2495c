//! Encrypted connections.
//!
//! Responsible for: which certificates are trusted, and with which cryptography they are checked.
//! Not responsible for: whether a connection is encrypted (`settings`).

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::state::StateError;
use crate::state::postgres::settings::Encryption;

/// What makes connections encrypted; `None` if they are not.
pub(super) fn connector(
    encryption: Encryption,
    ca_file: Option<&Path>,
) -> Result<Option<MakeRustlsConnect>, StateError> {
    if encryption == Encryption::Never {
        return Ok(None);
    }
    let settings = match ca_file {
        Some(path) => trusting_file(path),
        None => trusting_system(),
    };
    match settings {
        Ok(settings) => Ok(Some(MakeRustlsConnect::new(settings))),
        // Without roots nothing encrypted can be checked, and nobody insists on it.
        Err(why) if encryption == Encryption::IfPossible && ca_file.is_none() => {
            tracing::warn!(why, "connections to the state store are not encrypted");
            Ok(None)
        }
        Err(why) => Err(StateError::Mismatch(format!(
            "connections to the state store cannot be encrypted: {why}"
        ))),
    }
}

fn trusting_file(path: &Path) -> Result<ClientConfig, String> {
    let roots = read_roots(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot be read: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("is no PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| format!("has a bad certificate: {error}"))?;
    }
    if roots.is_empty() { Err("has no certificates".to_owned()) } else { Ok(roots) }
}

fn trusting_system() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| error.to_string())?;
    Ok(builder.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, empty) = (folder.path().join("none.pem"), folder.path().join("empty.pem"));
        std::fs::write(&empty, "no certificate\n").unwrap();
        for path in [missing, empty] {
            for encryption in [Encryption::IfPossible, Encryption::Always] {
                let refused = connector(encryption, Some(&path)).err();
                let why = refused.map(|error| error.to_string()).unwrap_or_default();
                assert!(why.contains(&path.display().to_string()), "{why}");
            }
            assert!(connector(Encryption::Never, Some(&path)).unwrap().is_none());
        }
    }
}
