//! The clock: seconds since 1970, read at the doors and handed inward; and how people read an instant.

use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now.
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// An instant in RFC 3339, or null for none.
pub(crate) fn instant(unix_seconds: i64) -> Value {
    if unix_seconds == 0 {
        return Value::Null;
    }
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|instant| instant.format(&Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}
