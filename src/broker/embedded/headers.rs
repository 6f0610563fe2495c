//! How the headers of a record lie in one column.
//!
//! Responsible for: the encoding: for each header name and value, each behind its length in four
//! bytes, little endian.
//! Not responsible for: which records have any; without headers the column is null.

use bytes::Bytes;

use crate::model::Headers;

const LENGTH: usize = size_of::<u32>();

/// Appends the encoded headers to `to`.
pub(super) fn encode(headers: &[(String, Bytes)], to: &mut Vec<u8>) {
    for (name, value) in headers {
        for part in [name.as_bytes(), value.as_ref()] {
            to.extend_from_slice(&(part.len() as u32).to_le_bytes());
            to.extend_from_slice(part);
        }
    }
}

/// Reads headers back; `None` if these bytes were not written by [`encode`].
pub(super) fn decode(mut encoded: Bytes) -> Option<Headers> {
    let mut headers = Headers::new();
    while !encoded.is_empty() {
        let name = String::from_utf8(part(&mut encoded)?.to_vec()).ok()?;
        headers.push((name, part(&mut encoded)?));
    }
    Some(headers)
}

fn part(encoded: &mut Bytes) -> Option<Bytes> {
    let length = u32::from_le_bytes(encoded.get(..LENGTH)?.try_into().ok()?) as usize;
    let end = LENGTH.checked_add(length)?;
    if encoded.len() < end {
        return None;
    }
    let part = encoded.slice(LENGTH..end);
    *encoded = encoded.slice(end..);
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            headers in prop::collection::vec(
                (".{0,8}", prop::collection::vec(any::<u8>(), 0..9)),
                0..5,
            )
        ) {
            let headers: Headers =
                headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
            let mut encoded = Vec::new();
            encode(&headers, &mut encoded);
            prop_assert_eq!(decode(Bytes::from(encoded)), Some(headers));
        }

        #[test]
        fn foreign_bytes_are_refused_or_read_but_never_panic(
            encoded in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            decode(Bytes::from(encoded));
        }
    }

    #[test]
    fn a_cut_blob_is_refused() {
        let mut encoded = Vec::new();
        encode(&[("name".to_owned(), Bytes::from_static(b"value"))], &mut encoded);
        encoded.pop();
        assert_eq!(decode(Bytes::from(encoded)), None);
    }
}
