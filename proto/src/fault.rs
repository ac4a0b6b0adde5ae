//! `Fault` and `tonic::Status`: the exact return value travels in the status details, so that nobody maps twice.

use ck::Rv;

use crate::v1::Fault;

impl Fault {
    /// A fault with a sentence for people.
    pub fn new(rv: Rv, detail: impl Into<String>) -> Self {
        Fault { rv: rv.0, detail: detail.into(), needed: 0 }
    }
}

#[cfg(feature = "grpc")]
mod status {
    use prost::Message;

    use super::{Fault, Rv};

    impl From<Fault> for tonic::Status {
        fn from(fault: Fault) -> Self {
            let rv = Rv(fault.rv);
            let name = rv.name().unwrap_or("CKR_?");
            let sentence = if fault.detail.is_empty() { rv.sentence() } else { fault.detail.as_str() };
            let code = tonic::Code::from_i32(i32::from(rv.grpc_code() as u8));
            tonic::Status::with_details(code, format!("{name}: {sentence}"), fault.encode_to_vec().into())
        }
    }

    impl Fault {
        /// The fault that a status carries; a status of another origin becomes `otherwise` with the status's message.
        pub fn from_status(status: &tonic::Status, otherwise: Rv) -> Self {
            match Fault::decode(status.details()) {
                Ok(fault) if fault.rv != 0 => fault,
                _ => Fault::new(otherwise, status.message()),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_return_value_survives_the_status() {
            for &rv in Rv::ALL.iter().filter(|rv| rv.0 != 0) {
                let status = tonic::Status::from(Fault { rv: rv.0, detail: "why".into(), needed: 9 });
                let back = Fault::from_status(&status, ck::rv::CKR_GENERAL_ERROR);
                assert_eq!((back.rv, back.detail.as_str(), back.needed), (rv.0, "why", 9), "{rv}");
            }
        }

        #[test]
        fn a_foreign_status_gets_the_given_value() {
            let fault = Fault::from_status(&tonic::Status::unavailable("gone"), ck::rv::CKR_DEVICE_REMOVED);
            assert_eq!((fault.rv, fault.detail.as_str()), (ck::rv::CKR_DEVICE_REMOVED.0, "gone"));
        }
    }
}
