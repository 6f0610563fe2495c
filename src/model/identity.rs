//! Names and identities: pipelines, nodes, manifests, members, digests.
//!
//! Responsible for: types that keep these strings apart, and the digest that makes two attempts
//! at one member the same.
//! Not responsible for: where a key comes from (a program of the topology) or what it means.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// Name of a topology and of the pipeline that runs it; prefixes its internal topics.
    PipelineName
);
name_type!(
    /// Name of a node of the graph, unique within a topology.
    NodeName
);
name_type!(
    /// Key of a manifest: what its parts have in common.
    ManifestKey
);
name_type!(
    /// Identity of one member within its manifest.
    MemberId
);

/// Hash over a member's bytes and the definition of the nodes between it and the sink.
///
/// Two attempts at a member with equal digests write the same objects and rows; with different
/// digests they are different content, and only one of them is accepted. BLAKE3, 128 bits of it:
/// members come from outside, so the hash has to resist crafted collisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of `content` under the definition hashed into `definition`.
    pub fn of(definition: &Digest, content: &[u8]) -> Self {
        let mut hasher = DigestBuilder::new(definition);
        hasher.update(content);
        hasher.finish()
    }

    /// A digest from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let raw = text.as_bytes();
        if raw.len() != 32 {
            return Err(InvalidDigest);
        }
        let mut bytes = [0u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(raw.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 32 hexadecimal digits")]
pub struct InvalidDigest;

/// Computes a [`Digest`] while the bytes stream by.
pub struct DigestBuilder(blake3::Hasher);

impl DigestBuilder {
    /// Starts a digest under the definition hashed into `definition`.
    pub fn new(definition: &Digest) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(definition.as_bytes());
        Self(hasher)
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(&self) -> Digest {
        let hash = self.0.finalize();
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Digest(bytes)
    }
}
