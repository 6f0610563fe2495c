//! Names in archives.
//!
//! Responsible for: which names reject an archive, and how a hostile name is shown to people.
//! Not responsible for: where a name comes from (`entries`). None ever becomes a file name; the
//! rules are here because an archive that breaks them was made to hurt somebody.

use crate::processor::unarchive::ArchiveError;

/// Longest name in bytes, as on Linux.
const MAX_NAME: usize = 4096;

/// Longest name that an error text shows, in characters.
const MAX_SHOWN: usize = 200;

/// The name of a regular file.
pub(super) fn file(raw: &[u8]) -> Result<String, ArchiveError> {
    let name = relative(raw)?;
    if matches!(name.rsplit('/').next(), None | Some("" | ".")) {
        return Err(bad(raw, "has no name"));
    }
    Ok(name.to_owned())
}

/// Checks the name of a directory. Slashes at its end mean nothing, and it may be empty: real
/// clients put a directory without a name first.
pub(super) fn directory(raw: &[u8]) -> Result<(), ArchiveError> {
    let end = raw.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    relative(&raw[..end]).map(|_name| ())
}

/// The place that a checked name means: its components, without those that lead nowhere.
pub(super) fn place(name: &str) -> String {
    let components = name.split('/').filter(|component| !matches!(*component, "" | "."));
    components.collect::<Vec<_>>().join("/")
}

/// A name for error texts: quoted, escaped and cut.
pub(super) fn shown(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let escaped: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(MAX_SHOWN).is_some() { "..." } else { "" };
    format!("\"{escaped}{more}\"")
}

fn relative(raw: &[u8]) -> Result<&str, ArchiveError> {
    if raw.len() > MAX_NAME {
        return Err(bad(raw, &format!("has a name of more than {MAX_NAME} bytes")));
    }
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(bad(raw, "has a name that is not UTF-8"));
    };
    if name.contains('\0') {
        return Err(bad(raw, "has a NUL in its name"));
    }
    if name.contains('\\') {
        return Err(bad(raw, "has a backslash in its name"));
    }
    if name.starts_with('/') {
        return Err(bad(raw, "has an absolute name"));
    }
    if name.split('/').any(|component| component == "..") {
        return Err(bad(raw, "has a name that leads out of the archive"));
    }
    Ok(name)
}

fn bad(raw: &[u8], what: &str) -> ArchiveError {
    ArchiveError::Bad(format!("member {} {what}", shown(raw)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_exactly_or_reject_the_archive() {
        for name in ["a", "a/b.csv", "./a", "a//b", "...", "..a", "a..", "a b", "\u{fc}", "C:a"] {
            assert_eq!(file(name.as_bytes()).as_deref(), Ok(name));
        }
        let table: [(&[u8], &str); 14] = [
            (b"", "no name"),
            (b".", "no name"),
            (b"a/", "no name"),
            (b"a/.", "no name"),
            (b"..", "leads out"),
            (b"../a", "leads out"),
            (b"a/../../b", "leads out"),
            (b"a/..", "leads out"),
            (b"/a", "absolute"),
            (b"//a", "absolute"),
            (b"a\\b", "backslash"),
            (b"..\\a", "backslash"),
            (b"a\0b", "NUL"),
            (b"a\xff", "not UTF-8"),
        ];
        for (name, expected) in table {
            let error = file(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{name:?}: {error}");
        }
        assert!(file(&[b'a'; MAX_NAME]).is_ok());
        assert!(file(&[b'a'; MAX_NAME + 1]).is_err());
    }

    #[test]
    fn names_that_mean_one_place_are_told_from_those_that_only_look_like_it() {
        for name in ["a/b.csv", "./a/b.csv", "a//b.csv", "a/./b.csv", ".//a/././/b.csv"] {
            assert_eq!(place(name), "a/b.csv", "{name}");
        }
        for name in ["A/b.csv", "a/b.csv ", "a/.b.csv", "a.b.csv", "a/b..csv"] {
            assert_eq!(place(name), name);
        }
    }

    #[test]
    fn a_directory_may_have_no_name_but_not_a_bad_one() {
        for name in ["", "/", "//", "a/", "a", "./", "a/b//"] {
            assert_eq!(directory(name.as_bytes()), Ok(()), "{name}");
        }
        for name in ["/etc/", "../", "a/../", "a\\b/", ".."] {
            assert!(directory(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn hostile_names_are_shown_escaped_and_cut() {
        assert_eq!(shown(b"a\n\x1b[31m\"b"), "\"a\\n\\u{1b}[31m\\\"b\"");
        assert!(shown(&[b'x'; 5000]).len() < 250);
    }
}
