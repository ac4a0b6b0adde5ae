//! The messages of OTLP that carry traces, as far as they are used here: names and numbers are those of the protocol's
//! `trace.proto`, `common.proto`, `resource.proto` and `trace_service.proto`, version 1.

use std::time::{Duration, SystemTime};

use prost::Message;

use super::Span;

/// ExportTraceServiceRequest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Export {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

/// The spans of one program.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

/// The program.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

/// The spans of one part of it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<SpanMessage>,
}

/// InstrumentationScope.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// Span.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<Status>,
}

/// Status: nothing said, or an error and its name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Text>,
}

/// AnyValue, of whose kinds only text is used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(string, tag = "1")]
    pub(super) string_value: String,
}

/// SPAN_KIND_SERVER.
const SERVER: i32 = 2;
/// STATUS_CODE_ERROR.
const ERROR: i32 = 2;

/// An attribute with a text.
pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(Text { string_value: value.to_owned() }) }
}

/// The message for a batch.
pub(super) fn export(resource: &[KeyValue], batch: &[Span]) -> Vec<u8> {
    let scope = Scope { name: "craton-hsm-daemon".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: batch.iter().map(span).collect() };
    let resource = Some(Resource { attributes: resource.to_vec() });
    Export { resource_spans: vec![ResourceSpans { resource, scope_spans: vec![scope_spans] }] }.encode_to_vec()
}

fn span(span: &Span) -> SpanMessage {
    let Span { chosen, answered, end } = span;
    let attributes =
        vec![attribute("craton.hsm.mechanism", answered.mechanism), attribute("craton.hsm.result", answered.result)];
    let error = (!answered.ok).then(|| Status { message: answered.result.to_owned(), code: ERROR });
    SpanMessage {
        trace_id: chosen.trace.to_vec(),
        span_id: chosen.span.to_vec(),
        parent_span_id: chosen.parent.map(Vec::from).unwrap_or_default(),
        name: answered.operation.to_owned(),
        kind: SERVER,
        start_time_unix_nano: nanos(*end).saturating_sub(count(answered.took)),
        end_time_unix_nano: nanos(*end),
        attributes,
        status: error,
    }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map(count).unwrap_or_default()
}

fn count(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
