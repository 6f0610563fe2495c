//! Where objects lie, read from a URL.
//!
//! Responsible for: telling folders from buckets, and refusing URLs that name neither.
//! Not responsible for: whether they exist (`objects`), or who may use them (`s3`).

use std::path::PathBuf;

use object_store::path::Path;

/// Longest prefix in bytes: keys have 1024, and most of them belong to the paths of objects.
const MAX_PREFIX: usize = 256;

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, relative to the working folder unless it is absolute.
    Folder(PathBuf),
    /// A bucket of S3.
    Bucket {
        /// Its name.
        bucket: String,
        /// What every key begins with: nothing, or text that ends with a slash.
        prefix: String,
    },
}

impl Place {
    /// The place that `url` names: `file:///var/lake`, `file://data/lake`, `data/lake` or
    /// `s3://bucket/lake`. It is taken as it stands, without percent-decoding.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        match url.split_once("://") {
            Some(("file", rest)) => match rest.strip_prefix("localhost/") {
                Some(absolute) => folder(format!("/{absolute}")),
                None => folder(rest.to_owned()),
            },
            Some(("s3", rest)) => bucket(rest),
            Some(_) => Err("only file:// and s3:// are supported"),
            None => folder(url.to_owned()),
        }
    }

    /// Whether it is a bucket.
    pub fn is_bucket(&self) -> bool {
        matches!(self, Self::Bucket { .. })
    }

    /// What every key begins with; nothing on a disk.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Folder(_) => "",
            Self::Bucket { prefix, .. } => prefix,
        }
    }
}

fn folder(path: String) -> Result<Place, &'static str> {
    if path.is_empty() { Err("it names no folder") } else { Ok(Place::Folder(path.into())) }
}

fn bucket(rest: &str) -> Result<Place, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_name(bucket) {
        return Err("a bucket has a name of 3 to 63 lowercase letters, digits, dots and dashes");
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.len() > MAX_PREFIX {
        return Err("what follows the bucket has more than 256 bytes");
    }
    if !Path::parse(prefix).is_ok_and(|path| path.to_string() == prefix) {
        return Err("what follows the bucket is no path such as a/b/c");
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(Place::Bucket { bucket: bucket.to_owned(), prefix })
}

fn is_name(bucket: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    let is_fit = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
    };
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(is_fit)
        && is_end(bytes.first())
        && is_end(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_folders() {
        let table = [
            ("file:///var/lake", Ok("/var/lake")),
            ("file://localhost/var/lake", Ok("/var/lake")),
            ("file://data/lake", Ok("data/lake")),
            ("data/lake", Ok("data/lake")),
            ("gs://bucket/lake", Err("only file:// and s3:// are supported")),
            ("file://", Err("it names no folder")),
        ];
        for (url, folder) in table {
            assert_eq!(Place::parse(url), folder.map(|path| Place::Folder(path.into())), "{url}");
        }
    }

    #[test]
    fn urls_name_buckets_and_what_keys_begin_with() {
        let table = [
            ("s3://lake", "lake", ""),
            ("s3://lake/", "lake", ""),
            ("s3://my.lake-1/cost/raw", "my.lake-1", "cost/raw/"),
            ("s3://lake/a=%2F/", "lake", "a=%2F/"),
        ];
        for (url, name, prefix) in table {
            let (bucket, prefix) = (name.to_owned(), prefix.to_owned());
            assert_eq!(Place::parse(url), Ok(Place::Bucket { bucket, prefix }), "{url}");
        }
        let long = format!("s3://lake/{}", "x".repeat(257));
        for url in [
            "s3://",
            "s3:///lake",
            "s3://la",
            "s3://Lake",
            "s3://-lake",
            "s3://la_ke",
            "s3://user@lake",
            "s3://lake//a",
            "s3://lake/../a",
            "s3://lake/a\n",
            long.as_str(),
        ] {
            assert!(Place::parse(url).is_err(), "{url}");
        }
    }
}
