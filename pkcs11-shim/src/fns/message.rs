//! Message-based encryption, decryption, signing and verification (PKCS#11 v3.0 sections 5.9, 5.11, 5.14, 5.16): the C functions,
//! each one line over `crate::message`.

use ck::Rv;
use ck::flags::message::CKF_END_OF_MESSAGE;
use ck::rv::CKR_ARGUMENTS_BAD;
use hsm_proto::v1::OperationKind;

use crate::ffi::claim::{InBytes, InMechanism, OutBuf};
use crate::ffi::parameter::Parameter;
use crate::library::Run;
use crate::message::{self, End, Message};

/// How the operation of a kind begins and ends.
macro_rules! ends {
    ($kind:ident) => {
        const KIND: OperationKind = OperationKind::$kind;

        /// C_Message*Init.
        pub(crate) fn init(run: &Run, handle: u64, mechanism: InMechanism<'_>, key: u64) -> Result<(), Rv> {
            super::super::init::init(run, handle, KIND, &mechanism, key)
        }

        /// C_Message*Final.
        pub(crate) fn close(run: &Run, handle: u64) -> Result<(), Rv> {
            message::close(&*run.session(handle)?, KIND)
        }
    };
}

/// The functions of a kind that seals or opens.
macro_rules! sealed {
    ($room:ident, $kind:ident) => {
        pub(crate) mod $room {
            use super::*;

            ends!($kind);

            /// C_*Message.
            pub(crate) fn whole(
                run: &Run,
                handle: u64,
                parameter: Parameter<'_>,
                aad: InBytes<'_>,
                data: InBytes<'_>,
                mut out: OutBuf<'_>,
            ) -> Result<(), Rv> {
                let message = Message { parameter, aad, data };
                message::whole(run, &*run.session(handle)?, KIND, message, End::Output(&mut out))
            }

            /// C_*MessageBegin.
            pub(crate) fn begin(run: &Run, handle: u64, parameter: Parameter<'_>, aad: InBytes<'_>) -> Result<(), Rv> {
                let message = Message { parameter, aad, data: InBytes::over(&[]) };
                message::begin(run, &*run.session(handle)?, KIND, message)
            }

            /// C_*MessageNext.
            pub(crate) fn next(
                run: &Run,
                handle: u64,
                parameter: Parameter<'_>,
                data: InBytes<'_>,
                mut out: OutBuf<'_>,
                flags: u64,
            ) -> Result<(), Rv> {
                let session = run.session(handle)?;
                match flags {
                    0 => message::next(run, &session, KIND, data, Some(&mut out)),
                    CKF_END_OF_MESSAGE => {
                        let message = Message { parameter, aad: InBytes::over(&[]), data };
                        message::finish(run, &session, KIND, message, End::Output(&mut out))
                    }
                    _ => Err(CKR_ARGUMENTS_BAD),
                }
            }
        }
    };
}

sealed!(encrypt, OperationMessageEncrypt);
sealed!(decrypt, OperationMessageDecrypt);

/// The last arguments of a signature's functions: where the signature goes, or the signature.
trait Signature<'c> {
    /// Whether this is the end of the message: a place for the signature's length, or a signature, comes with it.
    fn is_there(&self) -> bool;
    fn end(&mut self) -> End<'_, 'c>;
}

impl<'c> Signature<'c> for OutBuf<'c> {
    fn is_there(&self) -> bool {
        !self.is_nowhere()
    }

    fn end(&mut self) -> End<'_, 'c> {
        End::Output(self)
    }
}

impl<'c> Signature<'c> for InBytes<'c> {
    fn is_there(&self) -> bool {
        // NULL with a length is no signature, and not the promise of more data either: it is refused.
        !self.is_null() || self.len() > 0
    }

    fn end(&mut self) -> End<'_, 'c> {
        End::Signature(*self)
    }
}

/// The functions of a kind that signs or verifies.
macro_rules! signed {
    ($room:ident, $kind:ident, $last:ty) => {
        pub(crate) mod $room {
            use super::*;

            ends!($kind);

            /// C_*Message.
            pub(crate) fn whole(
                run: &Run,
                handle: u64,
                parameter: Parameter<'_>,
                data: InBytes<'_>,
                mut last: $last,
            ) -> Result<(), Rv> {
                let message = Message { parameter, aad: InBytes::over(&[]), data };
                message::whole(run, &*run.session(handle)?, KIND, message, last.end())
            }

            /// C_*MessageBegin.
            pub(crate) fn begin(run: &Run, handle: u64, parameter: Parameter<'_>) -> Result<(), Rv> {
                let none = InBytes::over(&[]);
                message::begin(run, &*run.session(handle)?, KIND, Message { parameter, aad: none, data: none })
            }

            /// C_*MessageNext.
            pub(crate) fn next(
                run: &Run,
                handle: u64,
                parameter: Parameter<'_>,
                data: InBytes<'_>,
                mut last: $last,
            ) -> Result<(), Rv> {
                let session = run.session(handle)?;
                if !last.is_there() {
                    return message::next(run, &session, KIND, data, None);
                }
                let message = Message { parameter, aad: InBytes::over(&[]), data };
                message::finish(run, &session, KIND, message, last.end())
            }
        }
    };
}

signed!(sign, OperationMessageSign, OutBuf<'_>);
signed!(verify, OperationMessageVerify, InBytes<'_>);
