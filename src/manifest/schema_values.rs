//! The values a manifest's keys take, as JSON Schema: bounds in the type, so that a key's line says all of it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::tenancy::{Bytes, Millis};

/// The smallest and largest value of a quantity, as people write it: JSON Schema has no keyword for it.
pub(super) const FROM: &str = "x-from";
pub(super) const TO: &str = "x-to";

/// A schema without a name of its own, written out wherever it is used.
macro_rules! inline {
    ($(#[$doc:meta])* $name:ident $(<$($bound:ident),+>)?, $schema:expr) => {
        $(#[$doc])*
        pub(super) struct $name$(<$(const $bound: u64),+>)?;

        impl $(<$(const $bound: u64),+>)? JsonSchema for $name$(<$($bound),+>)? {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inline!(
    /// A whole number.
    Count<MIN, MAX>,
    json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
);
inline!(
    /// A size, bounds in bytes.
    Size<MIN, MAX>,
    json_schema!({
        "type": ["string", "integer"], "pattern": "^[0-9]+(Ki|Mi|Gi|Ti)?$", "minimum": MIN, "maximum": MAX,
        FROM: Bytes(MIN).to_string(), TO: Bytes(MAX).to_string(),
    })
);
inline!(
    /// A span of time, bounds in milliseconds.
    Time<MIN, MAX>,
    json_schema!({
        "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$",
        FROM: Millis(MIN).to_string(), TO: Millis(MAX).to_string(),
    })
);
inline!(
    /// Whole percent.
    Share,
    json_schema!({ "type": "string", "pattern": "^(100|[0-9]{1,2})%$", FROM: "0%", TO: "100%" })
);
inline!(
    /// Dollars, exact to nine decimals.
    Dollars,
    json_schema!({ "type": "number", "minimum": 0, "maximum": 1_000_000 })
);
inline!(
    /// Virtual CPUs, exact to three decimals.
    VirtualCpus,
    json_schema!({ "type": "number", "minimum": 0.05, "maximum": 2_400 })
);
inline!(
    /// One line of text.
    Line<MAX>,
    json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX, "pattern": "\\S" })
);
inline!(
    /// A DNS label of at most so many characters.
    Label<MAX>,
    json_schema!({ "type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": MAX })
);
inline!(
    /// What follows `<tenant>_` in the name of a declared role.
    RoleLabel,
    json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 61 })
);
inline!(
    /// `<pool>-<n>`.
    InstanceLabel,
    json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9-]*-[1-9][0-9]*$", "maxLength": 32 })
);
inline!(Region, json_schema!({ "type": "string", "pattern": "^[a-z0-9-]+$", "maxLength": 64 }));
inline!(Image, json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", "maxLength": 255 }));
inline!(WebAddress, json_schema!({ "type": "string", "pattern": "^https?://[!-~]+$", "maxLength": 2_048 }));
inline!(
    KeysAddress,
    json_schema!({
        "type": "string", "maxLength": 2_048,
        "pattern": "^(https://[!-~]+|http://(localhost|127\\.0\\.0\\.1|\\[::1\\]|[^/?#@]+\\.railway\\.internal)(:[0-9]{1,5})?([/?#][!-~]*)?)$",
    })
);
inline!(
    HostName,
    json_schema!({
        "type": "string", "maxLength": 253,
        "pattern": "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    })
);
inline!(
    VariableName,
    json_schema!({
        "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 128,
        "not": { "pattern": "^(O7S_|RAILWAY_)" },
    })
);
inline!(
    /// Words of people's own.
    Labels,
    json_schema!({
        "type": "object", "maxProperties": 64,
        "propertyNames": { "pattern": "^[A-Za-z0-9._/-]{1,63}$" },
        "additionalProperties": { "type": "string", "pattern": "^[A-Za-z0-9._/-]{1,63}$" },
    })
);
inline!(
    /// A share of the live tenants, or a number of them.
    Removals,
    json_schema!({
        "type": ["string", "integer"], "pattern": "^(100|[0-9]{1,2})%$", "minimum": 0, "maximum": 10_000,
    })
);
