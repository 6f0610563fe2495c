//! Whether a topic that exists will do.
//!
//! Responsible for: comparing a setting of a topic with what a pipeline needs, the same way for
//! every broker.
//! Not responsible for: finding the settings, or changing them; a person does that.

/// Settings that bound the size of what a topic takes: more room than needed is fine.
const ROOM: [&str; 1] = ["max.message.bytes"];

/// Whether a topic whose `setting` is `found` will do for a pipeline that needs `wanted`.
pub(super) fn suffices(setting: &str, found: &str, wanted: &str) -> bool {
    match (found.parse::<i64>(), wanted.parse::<i64>()) {
        (Ok(found), Ok(wanted)) if ROOM.contains(&setting) => found >= wanted,
        (Ok(found), Ok(wanted)) => found == wanted,
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_room_will_do_less_will_not_and_the_rest_has_to_be_the_same() {
        let table = [
            ("max.message.bytes", "1114124", "1114124", true),
            ("max.message.bytes", "5000000", "1114124", true),
            ("max.message.bytes", "1048588", "1114124", false),
            ("max.message.bytes", "much", "1114124", false),
            ("retention.ms", "-1", "-1", true),
            ("retention.ms", "0100", "100", true),
            ("retention.ms", "604800000", "-1", false),
            ("retention.ms", "-1", "604800000", false),
            ("cleanup.policy", "compact", "delete", false),
            ("cleanup.policy", "delete", "delete", true),
        ];
        for (setting, found, wanted, does) in table {
            assert_eq!(suffices(setting, found, wanted), does, "{setting} {found} {wanted}");
        }
    }
}
