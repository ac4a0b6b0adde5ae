//! Claims over Rust references, which keep every promise: the handlers' tests are safe code.

use std::marker::PhantomData;
use std::ptr;

use ck::Attribute;
use cryptoki_sys::{CK_ATTRIBUTE, CK_MECHANISM};

use super::{InBytes, InMechanism, Out, OutBuf, OutExact, OutList, Template};

pub(crate) fn bytes(bytes: &[u8]) -> InBytes<'_> {
    InBytes { start: bytes.as_ptr(), len: bytes.len() as u64, call: PhantomData }
}

pub(crate) fn no_bytes(len: u64) -> InBytes<'static> {
    InBytes { start: ptr::null(), len, call: PhantomData }
}

pub(crate) fn buffer<'c>(buffer: &'c mut [u8], len: &'c mut u64) -> OutBuf<'c> {
    *len = buffer.len() as u64;
    OutBuf { start: buffer.as_mut_ptr(), len, call: PhantomData }
}

pub(crate) fn query(len: &mut u64) -> OutBuf<'_> {
    OutBuf { start: ptr::null_mut(), len, call: PhantomData }
}

pub(crate) fn nowhere() -> OutBuf<'static> {
    OutBuf { start: ptr::null_mut(), len: ptr::null_mut(), call: PhantomData }
}

pub(crate) fn exact(buffer: &mut [u8]) -> OutExact<'_> {
    OutExact { start: buffer.as_mut_ptr(), len: buffer.len() as u64, call: PhantomData }
}

pub(crate) fn place<T: Copy>(place: &mut T) -> Out<'_, T> {
    Out { place, call: PhantomData }
}

pub(crate) fn list<'c>(list: &'c mut [u64], count: &'c mut u64) -> OutList<'c> {
    *count = list.len() as u64;
    OutList { start: list.as_mut_ptr(), count, call: PhantomData }
}

pub(crate) fn count(count: &mut u64) -> OutList<'_> {
    OutList { start: ptr::null_mut(), count, call: PhantomData }
}

/// Rows without buffers: a length query, or an empty search template.
pub(crate) fn rows(rows: &mut [CK_ATTRIBUTE]) -> Template<'_> {
    assert!(rows.iter().all(|row| row.pValue.is_null()), "only NULL values are safe here");
    Template { start: rows.as_mut_ptr(), count: rows.len() as u64, call: PhantomData }
}

pub(crate) fn row(kind: Attribute) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE { type_: kind.0, pValue: ptr::null_mut(), ulValueLen: 0 }
}

/// A mechanism without a parameter.
pub(crate) fn mechanism(mechanism: &CK_MECHANISM) -> InMechanism<'_> {
    assert!(mechanism.pParameter.is_null(), "only NULL parameters are safe here");
    InMechanism { place: mechanism, call: PhantomData }
}

pub(crate) fn plain(number: ck::Mechanism) -> CK_MECHANISM {
    CK_MECHANISM { mechanism: number.0, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

pub(crate) fn no_mechanism() -> InMechanism<'static> {
    InMechanism { place: ptr::null(), call: PhantomData }
}
