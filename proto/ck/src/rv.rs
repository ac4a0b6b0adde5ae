//! CKR_* return values: number, name, gRPC code and a sentence for people. The only return-value table of the project.

/// The gRPC status codes that return values map to (gRPC core, `statuscodes.md`), by their canonical number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum GrpcCode {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

macro_rules! return_values {
    ($($name:ident, $code:ident, $sentence:literal;)*) => {
        registry! {
            /// A return value, `CK_RV`.
            Rv { $($name)* }
        }

        impl Rv {
            /// The gRPC code under which this value travels to clients that are not the shim.
            pub const fn grpc_code(self) -> GrpcCode {
                match self {
                    $($name => GrpcCode::$code,)*
                    _ => GrpcCode::Unknown,
                }
            }

            /// What the value says, for people.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $($name => $sentence,)*
                    _ => "an unknown return value",
                }
            }
        }
    };
}

return_values! {
    CKR_OK, Ok, "success";
    CKR_CANCEL, Cancelled, "the function was cancelled";
    CKR_HOST_MEMORY, ResourceExhausted, "the host has not enough memory for the call";
    CKR_SLOT_ID_INVALID, InvalidArgument, "there is no such slot";
    CKR_GENERAL_ERROR, Internal, "an unrecoverable error occurred";
    CKR_FUNCTION_FAILED, Internal, "the function could not be carried out";
    CKR_ARGUMENTS_BAD, InvalidArgument, "an argument is missing or malformed";
    CKR_NO_EVENT, NotFound, "no slot event has occurred";
    CKR_NEED_TO_CREATE_THREADS, FailedPrecondition, "the library would have to create threads";
    CKR_CANT_LOCK, FailedPrecondition, "the requested kind of locking is not available";
    CKR_ATTRIBUTE_READ_ONLY, PermissionDenied, "the attribute cannot be changed";
    CKR_ATTRIBUTE_SENSITIVE, PermissionDenied, "the attribute is sensitive and cannot be revealed";
    CKR_ATTRIBUTE_TYPE_INVALID, InvalidArgument, "the object has no such attribute";
    CKR_ATTRIBUTE_VALUE_INVALID, InvalidArgument, "the value is not valid for the attribute";
    CKR_ACTION_PROHIBITED, PermissionDenied, "the object's attributes or the policy prohibit the action";
    CKR_DATA_INVALID, InvalidArgument, "the input data is not valid for the mechanism";
    CKR_DATA_LEN_RANGE, InvalidArgument, "the input data has a length the mechanism does not take";
    CKR_DEVICE_ERROR, Unavailable, "the token could not complete the operation; its log says why";
    CKR_DEVICE_MEMORY, ResourceExhausted, "the token has not enough memory";
    CKR_DEVICE_REMOVED, Unavailable, "the daemon went away";
    CKR_ENCRYPTED_DATA_INVALID, InvalidArgument, "the ciphertext is not valid";
    CKR_ENCRYPTED_DATA_LEN_RANGE, InvalidArgument, "the ciphertext has a length the mechanism does not take";
    CKR_AEAD_DECRYPT_FAILED, InvalidArgument, "the authentication tag does not match";
    CKR_FUNCTION_CANCELED, Cancelled, "the function was cancelled";
    CKR_FUNCTION_NOT_PARALLEL, FailedPrecondition, "no function is executing in parallel";
    CKR_FUNCTION_NOT_SUPPORTED, Unimplemented, "the function is not supported";
    CKR_KEY_HANDLE_INVALID, NotFound, "the key handle is not valid";
    CKR_KEY_SIZE_RANGE, InvalidArgument, "the key's size is outside the mechanism's range";
    CKR_KEY_TYPE_INCONSISTENT, InvalidArgument, "the key's type does not go with the mechanism";
    CKR_KEY_NOT_NEEDED, InvalidArgument, "a key was given where none is needed";
    CKR_KEY_CHANGED, InvalidArgument, "the key is not the one of the saved state";
    CKR_KEY_NEEDED, InvalidArgument, "the saved state needs a key";
    CKR_KEY_INDIGESTIBLE, PermissionDenied, "the key's value may not be digested";
    CKR_KEY_FUNCTION_NOT_PERMITTED, PermissionDenied, "the key's attributes do not permit the operation";
    CKR_KEY_NOT_WRAPPABLE, PermissionDenied, "the key may not be wrapped under this wrapping key and mechanism";
    CKR_KEY_UNEXTRACTABLE, PermissionDenied, "the key is not extractable";
    CKR_MECHANISM_INVALID, InvalidArgument, "the mechanism is not known, not enabled or not meant for the function";
    CKR_MECHANISM_PARAM_INVALID, InvalidArgument, "the mechanism parameter is not valid";
    CKR_OBJECT_HANDLE_INVALID, NotFound, "the object handle is not valid";
    CKR_OPERATION_ACTIVE, FailedPrecondition, "another operation of this kind is active in the session";
    CKR_OPERATION_NOT_INITIALIZED, FailedPrecondition, "no operation of this kind is active in the session";
    CKR_PIN_INCORRECT, Unauthenticated, "the PIN is wrong";
    CKR_PIN_INVALID, InvalidArgument, "the PIN has characters that are not allowed";
    CKR_PIN_LEN_RANGE, InvalidArgument, "the PIN is too short or too long";
    CKR_PIN_EXPIRED, FailedPrecondition, "the PIN has expired";
    CKR_PIN_LOCKED, PermissionDenied, "the PIN is locked";
    CKR_SESSION_CLOSED, Aborted, "the session was closed during the call";
    CKR_SESSION_COUNT, ResourceExhausted, "no more sessions can be opened";
    CKR_SESSION_HANDLE_INVALID, NotFound, "the session handle is not valid";
    CKR_SESSION_PARALLEL_NOT_SUPPORTED, InvalidArgument, "parallel sessions are not supported";
    CKR_SESSION_READ_ONLY, FailedPrecondition, "the session is read-only";
    CKR_SESSION_EXISTS, FailedPrecondition, "a session with the token is open";
    CKR_SESSION_READ_ONLY_EXISTS, FailedPrecondition, "a read-only session is open, so the SO cannot log in";
    CKR_SESSION_READ_WRITE_SO_EXISTS, FailedPrecondition, "the SO is logged in, so a read-only session cannot be opened";
    CKR_SIGNATURE_INVALID, InvalidArgument, "the signature is not valid";
    CKR_SIGNATURE_LEN_RANGE, InvalidArgument, "the signature has a length the key and mechanism cannot produce";
    CKR_TEMPLATE_INCOMPLETE, InvalidArgument, "the template lacks an attribute that the object needs";
    CKR_TEMPLATE_INCONSISTENT, InvalidArgument, "the template contradicts itself, the mechanism or the policy";
    CKR_TOKEN_NOT_PRESENT, Unavailable, "no token is present in the slot";
    CKR_TOKEN_NOT_RECOGNIZED, FailedPrecondition, "the token in the slot is not recognised or not initialised";
    CKR_TOKEN_WRITE_PROTECTED, FailedPrecondition, "the token is write-protected";
    CKR_UNWRAPPING_KEY_HANDLE_INVALID, NotFound, "the unwrapping key's handle is not valid";
    CKR_UNWRAPPING_KEY_SIZE_RANGE, InvalidArgument, "the unwrapping key's size is outside the mechanism's range";
    CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, InvalidArgument, "the unwrapping key's type does not go with the mechanism";
    CKR_USER_ALREADY_LOGGED_IN, FailedPrecondition, "this user is already logged in";
    CKR_USER_NOT_LOGGED_IN, Unauthenticated, "the operation needs a login";
    CKR_USER_PIN_NOT_INITIALIZED, FailedPrecondition, "the user PIN has not been set by the SO";
    CKR_USER_TYPE_INVALID, InvalidArgument, "there is no such user type";
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN, FailedPrecondition, "another user is already logged in";
    CKR_USER_TOO_MANY_TYPES, ResourceExhausted, "too many users are logged in";
    CKR_WRAPPED_KEY_INVALID, InvalidArgument, "the wrapped key is not valid";
    CKR_WRAPPED_KEY_LEN_RANGE, InvalidArgument, "the wrapped key has a length the mechanism does not take";
    CKR_WRAPPING_KEY_HANDLE_INVALID, NotFound, "the wrapping key's handle is not valid";
    CKR_WRAPPING_KEY_SIZE_RANGE, InvalidArgument, "the wrapping key's size is outside the mechanism's range";
    CKR_WRAPPING_KEY_TYPE_INCONSISTENT, InvalidArgument, "the wrapping key's type does not go with the mechanism";
    CKR_RANDOM_SEED_NOT_SUPPORTED, Unimplemented, "the generator does not take seeds from callers";
    CKR_RANDOM_NO_RNG, Unavailable, "the token has no random number generator";
    CKR_DOMAIN_PARAMS_INVALID, InvalidArgument, "the domain parameters are not valid";
    CKR_CURVE_NOT_SUPPORTED, InvalidArgument, "the curve is not supported";
    CKR_BUFFER_TOO_SMALL, OutOfRange, "the output does not fit the buffer";
    CKR_SAVED_STATE_INVALID, InvalidArgument, "the saved operation state is not valid";
    CKR_INFORMATION_SENSITIVE, PermissionDenied, "the information is sensitive";
    CKR_STATE_UNSAVEABLE, FailedPrecondition, "the operation's state cannot be saved";
    CKR_CRYPTOKI_NOT_INITIALIZED, FailedPrecondition, "C_Initialize has not been called";
    CKR_CRYPTOKI_ALREADY_INITIALIZED, FailedPrecondition, "C_Initialize has already been called";
    CKR_MUTEX_BAD, InvalidArgument, "the mutex is not valid";
    CKR_MUTEX_NOT_LOCKED, FailedPrecondition, "the mutex is not locked";
    CKR_EXCEEDED_MAX_ITERATIONS, Internal, "a generation step was repeated too often";
    CKR_FIPS_SELF_TEST_FAILED, Unavailable, "a power-on self-test failed";
    CKR_LIBRARY_LOAD_FAILED, Unavailable, "a library could not be loaded";
    CKR_PIN_TOO_WEAK, InvalidArgument, "the PIN does not meet the token's policy";
    CKR_PUBLIC_KEY_INVALID, InvalidArgument, "the public key is not valid";
    CKR_FUNCTION_REJECTED, PermissionDenied, "the request was rejected";
    CKR_TOKEN_RESOURCE_EXCEEDED, ResourceExhausted, "the token has no resource left for the request";
    CKR_OPERATION_CANCEL_FAILED, FailedPrecondition, "the operation could not be cancelled";
    CKR_SESSION_ASYNC_NOT_SUPPORTED, Unimplemented, "asynchronous sessions are not supported";
    CKR_KEY_EXHAUSTED, ResourceExhausted, "the key has no signatures left";
    CKR_PARAMETER_SET_NOT_SUPPORTED, InvalidArgument, "the parameter set is not supported";
    CKR_TOKEN_NOT_INITIALIZED, FailedPrecondition, "the token is not initialised";
}

impl core::error::Error for Rv {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_has_two_rows() {
        let mut numbers: Vec<u64> = Rv::ALL.iter().map(|rv| rv.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Rv::ALL.len());
    }

    #[test]
    fn unknown_values_survive() {
        assert_eq!(Rv(0x8000_1234).name(), None);
        assert_eq!(format!("{:?}", Rv(0x8000_1234)), "Rv(0x80001234)");
    }
}
