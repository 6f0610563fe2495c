//! Which functions a program may call.
//!
//! Responsible for: the list that a program is compiled with, and the reason why a known function
//! is not on it.
//! Not responsible for: what the functions do (`vrl::stdlib`), or reporting a call to one that is
//! missing (`expr::diagnostic`).
//!
//! The sets were drawn up by reading the standard library of vrl 0.38 for uses of the clock, of
//! random numbers, of files and of the environment. Names that today's feature set leaves out are
//! listed too, so that a feature switched on elsewhere in the build does not let them in.

use vrl::compiler::Function;

use crate::expr::Purpose;

/// Reads the clock, if only for a missing year or a zone's offset of today, or rolls dice.
const CLOCK_OR_RANDOM: [&str; 11] = [
    "now",
    "parse_groks",
    "parse_klog",
    "parse_linux_authorization",
    "parse_syslog",
    "random_bool",
    "random_bytes",
    "random_float",
    "random_int",
    "uuid_v4",
    "uuid_v7",
];

/// Reaches beyond the record: environment, network, files, secrets.
const OUTSIDE: [&str; 13] = [
    "dns_lookup",
    "encode_proto",
    "get_env_var",
    "get_hostname",
    "get_secret",
    "get_timezone_name",
    "http_request",
    "parse_etld",
    "parse_proto",
    "remove_secret",
    "reverse_dns",
    "set_secret",
    "validate_json_schema",
];

/// Inflates input without a limit: a record of a kilobyte could take all memory.
const UNBOUNDED: [&str; 5] =
    ["decode_gzip", "decode_lz4", "decode_snappy", "decode_zlib", "decode_zstd"];

/// Why a program of that purpose must not call `name`; `None` if it may, or if there is no such
/// function at all.
pub(crate) fn refusal(name: &str, purpose: Purpose) -> Option<&'static str> {
    if OUTSIDE.contains(&name) {
        return Some(
            "programs see the record only: no environment, network, files or secrets; declare \
             what they need in `[vars]` or send it in the record",
        );
    }
    if UNBOUNDED.contains(&name) {
        return Some(
            "it inflates its input without a limit; let `unarchive` unpack bodies under its caps",
        );
    }
    if name == "log" {
        return Some("nothing is logged per record; say what is wrong with `abort` or `assert!`");
    }
    if purpose != Purpose::Map && CLOCK_OR_RANDOM.contains(&name) {
        return Some(
            "it depends on clock or chance, so a second attempt at the record could decide \
             otherwise; use `%timestamp`, or call it in a `remap` before",
        );
    }
    None
}

/// The functions that a program of that purpose may call.
pub(crate) fn allowed(purpose: Purpose) -> Vec<Box<dyn Function>> {
    let mut functions = vrl::stdlib::all();
    functions.retain(|function| refusal(function.identifier(), purpose).is_none());
    functions
}
