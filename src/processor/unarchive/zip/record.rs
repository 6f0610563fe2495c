//! The records of a zip archive, field by field.
//!
//! Responsible for: numbers at their places, and extra fields: those that change sizes, names or
//! the meaning of the content, and nothing else.
//! Not responsible for: where records lie (`directory`), or whether they agree (`zip`).

use crate::processor::unarchive::ArchiveError;

/// Extra field with 64-bit sizes (APPNOTE 4.5.3).
const ZIP64: u16 = 0x0001;
/// Extra field with the name in UTF-8 (APPNOTE 4.6.9).
const UNICODE_NAME: u16 = 0x7075;
/// Bytes of it in front of the name.
const UNICODE_HEAD: usize = 5;

/// Stands for "see the zip64 field" in 32 bits.
pub(super) const BEYOND_32: u32 = u32::MAX;

/// The number in two bytes of a record that has them.
pub(super) fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

/// The number in four bytes of a record that has them.
pub(super) fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from(u16_at(record, at)) | (u32::from(u16_at(record, at + 2)) << 16)
}

/// The number in eight bytes of a record that has them.
pub(super) fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | (u64::from(u32_at(record, at + 4)) << 32)
}

/// The extra fields that matter.
#[derive(Debug, Default)]
pub(super) struct Extra<'e> {
    /// 64-bit numbers, in the order of the fields that they stand for.
    zip64: Option<&'e [u8]>,
    /// The name, said again in UTF-8.
    name: Option<&'e [u8]>,
}

impl<'e> Extra<'e> {
    /// Reads all extra fields of a record.
    pub(super) fn parse(mut data: &'e [u8]) -> Result<Self, ArchiveError> {
        let mut extra = Self::default();
        while data.len() >= 4 {
            let (id, length) = (u16_at(data, 0), usize::from(u16_at(data, 2)));
            let Some(content) = data.get(4..4 + length) else {
                return Err(malformed("an extra field that is longer than all of them"));
            };
            let twice = match id {
                ZIP64 => extra.zip64.replace(content).is_some(),
                UNICODE_NAME => {
                    let name = content.get(UNICODE_HEAD..);
                    let name = name.ok_or_else(|| malformed("a name field without a name"))?;
                    extra.name.replace(name).is_some()
                }
                _ => false,
            };
            if twice {
                return Err(malformed("two extra fields of one kind"));
            }
            data = &data[4 + length..];
        }
        // Tools that align content fill up with zeros.
        if data.iter().any(|byte| *byte != 0) {
            return Err(malformed("a piece of an extra field"));
        }
        Ok(extra)
    }

    /// The name in UTF-8, if it is said again.
    pub(super) fn name(&self) -> Option<&'e [u8]> {
        self.name
    }

    /// `number`, or the next 64-bit number where that stands for it.
    pub(super) fn widen(&mut self, number: u32) -> Result<u64, ArchiveError> {
        if number != BEYOND_32 {
            return Ok(u64::from(number));
        }
        let field = self.zip64.unwrap_or_default();
        if field.len() < 8 {
            return Err(malformed("a size beyond 32 bits that is not there"));
        }
        self.zip64 = Some(&field[8..]);
        Ok(u64_at(field, 0))
    }
}

/// An archive that no tool writes.
pub(super) fn malformed(what: &str) -> ArchiveError {
    ArchiveError::Bad(format!("malformed zip archive: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        let record = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(u16_at(&record, 0), 0x0201);
        assert_eq!(u32_at(&record, 1), 0x0504_0302);
        assert_eq!(u64_at(&record, 1), 0x0908_0706_0504_0302);
    }

    #[test]
    fn wide_numbers_are_taken_in_order_and_only_where_they_are_meant() {
        let mut field = vec![1, 0, 16, 0];
        field.extend_from_slice(&(5_u64 << 32).to_le_bytes());
        field.extend_from_slice(&7_u64.to_le_bytes());
        let mut extra = Extra::parse(&field).unwrap();
        assert_eq!(extra.widen(BEYOND_32), Ok(5 << 32));
        assert_eq!(extra.widen(3), Ok(3));
        assert_eq!(extra.widen(BEYOND_32), Ok(7));
        assert!(extra.widen(BEYOND_32).is_err());
    }

    #[test]
    fn extra_fields_that_do_not_fit_are_refused() {
        for data in [&[1, 0, 9, 0, 1][..], &[7, 7, 7], &[0x75, 0x70, 2, 0, 1, 1]] {
            assert!(Extra::parse(data).is_err(), "{data:?}");
        }
        let twice = [1, 0, 0, 0, 1, 0, 0, 0];
        assert!(Extra::parse(&twice).is_err());
        for data in [&[][..], &[0, 0, 0], &[0x55, 0x54, 1, 0, 9]] {
            assert!(Extra::parse(data).is_ok(), "{data:?}");
        }
    }
}
