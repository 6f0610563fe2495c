//! A setting that must not be seen.
//!
//! Responsible for: keeping passwords and tokens out of logs, errors and debugging output, also
//! where whole settings are printed.
//! Not responsible for: comparing what a stranger sent with a secret (`api`).

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A secret among the settings. What prints settings prints a word in its place.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret, for whoever has to hand it on.
    pub fn reveal(&self) -> &SecretString {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Settings are compared with their defaults, never with what a stranger sent.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debugging_output_does_not_show_it() {
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "[secret]");
    }
}
