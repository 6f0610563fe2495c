//! Values, spoilt: each decodes to something that can be written and read again, or is refused.

use proptest::prelude::*;

use super::*;
use crate::testing::mutation::{Words, cases, noise, spoilt};

const WORDS: Words = &[
    b"{\"a\":",
    b"[[[[[[[[[[[[[[[[[[[[",
    b"]}",
    b"null",
    b"-0",
    b"1e308",
    b"1e-999",
    b"9223372036854775808",
    b"340282366920938463463374607431768211456",
    b"0.1000000000000000055511151231257827",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\u0000",
    b"\"\"",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"//",
    b"NaN",
];

fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"uuid":"3e1f6af5","files":["a.csv","b.csv"],"size":123456789012,"cost":0.1}"#,
        r#" [ {"a":{"b":{"c":[true,false,null,-1.5e-7]}}}, "gr\u00fc\u00dfe \ud83d\ude00" ] "#,
        r#"{"a":1,"a":2,"":{"":[]},"\u0000":"\u0000"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn decodes_or_is_refused(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let bytes = Bytes::from(bytes);
    for format in [Format::Json, Format::Text] {
        match Decoder::new(format).decode(Some(&bytes)) {
            Ok(Fields::Tree(tree)) => {
                let written = fields::to_json(&tree);
                let again = fields::parse(&written).ok();
                prop_assert_eq!(again.as_ref(), Some(&tree), "{:?}", format);
            }
            Ok(Fields::Raw(_)) => return Err(TestCaseError::fail("decoding parses")),
            Err(failure) => {
                let undecodable = FailureClass::UNDECODABLE;
                prop_assert_eq!(failure.class(), Some(&undecodable));
                let is_poison = matches!(failure, Failure::Poison { .. });
                prop_assert!(is_poison);
                prop_assert!(failure.why().len() < 200, "{failure}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn spoilt_values_are_decoded_or_refused(bytes in spoilt(seeds(), WORDS)) {
        decodes_or_is_refused(bytes)?;
    }

    #[test]
    fn noise_is_decoded_or_refused(bytes in noise(300)) {
        decodes_or_is_refused(bytes)?;
    }
}
