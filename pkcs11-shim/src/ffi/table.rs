//! THE function table: one line per C function (PKCS#11 v3.0 chapter 5; the last block is version 3.2's).
//!
//! A line names the symbol, its C arguments, and the handler with the claims it takes.
//! From the lines come the exported symbols, each behind the guard, and the function lists that C_GetFunctionList,
//! C_GetInterface and C_GetInterfaceList hand out. In a line, `run` is a function that needs C_Initialize and `bare` one
//! that does not; `claim[a b]` is the claim of that name over the C arguments `a` and `b`.
#![expect(unsafe_code, reason = "symbols for C are exported here")]

use std::ffi::{CStr, c_void};

use ck::Rv;
use ck::rv::CKR_FUNCTION_FAILED;
use cryptoki_sys::{
    CK_ASYNC_DATA, CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_FUNCTION_LIST_3_2,
    CK_INFO, CK_INTERFACE, CK_MECHANISM, CK_MECHANISM_INFO, CK_NOTIFY, CK_RV, CK_SESSION_INFO, CK_SLOT_INFO,
    CK_TOKEN_INFO, CK_ULONG, CK_VERSION,
};

use super::{claim, guard};
use crate::fns::message::{
    decrypt as message_decrypt, encrypt as message_encrypt, sign as message_sign, verify as message_verify,
};
use crate::fns::{
    decrypt, digest, dual, encrypt, general, kem, key, legacy, object, random, recover, session, sign, slot, state,
    verify, verify_signature,
};

type Num = CK_ULONG;
type Bytes = *mut CK_BYTE;
type Len = *mut CK_ULONG;
type Mechanism = *mut CK_MECHANISM;
type Attributes = *mut CK_ATTRIBUTE;
type Anything = *mut c_void;

/// One exported symbol.
macro_rules! symbol {
    ($name:ident ($($arg:ident : $type:ty),*) run $room:ident :: $handler:ident ($($claim:ident [$($raw:ident)*]),*)) => {
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> CK_RV {
            guard::run(|run| {
                let call = claim::Call::begin();
                // SAFETY: the C caller vouches for its arguments, as PKCS#11 asks of it.
                $room::$handler(run, $(unsafe { claim::$claim(&call, $($raw),*) }),*)
            })
        }
    };
    ($name:ident ($($arg:ident : $type:ty),*) bare $room:ident :: $handler:ident ($($claim:ident [$($raw:ident)*]),*)) => {
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> CK_RV {
            guard::bare(|| {
                let call = claim::Call::begin();
                // SAFETY: the C caller vouches for its arguments, as PKCS#11 asks of it.
                $room::$handler($(unsafe { claim::$claim(&call, $($raw),*) }),*)
            })
        }
    };
}

macro_rules! functions {
    (
        v2_40 { $($n1:ident $a1:tt => { $($b1:tt)* })* }
        v3_0 { $($n2:ident $a2:tt => { $($b2:tt)* })* }
        v3_2 { $($n3:ident $a3:tt => { $($b3:tt)* })* }
    ) => {
        $(symbol! { $n1 $a1 $($b1)* })*
        $(symbol! { $n2 $a2 $($b2)* })*
        $(symbol! { $n3 $a3 $($b3)* })*

        static LIST_2_40: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            $($n1: Some($n1),)*
        };
        static LIST_3_0: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
            version: CK_VERSION { major: 3, minor: 0 },
            $($n1: Some($n1),)*
            $($n2: Some($n2),)*
        };
        static LIST_3_2: CK_FUNCTION_LIST_3_2 = CK_FUNCTION_LIST_3_2 {
            version: CK_VERSION { major: 3, minor: 2 },
            $($n1: Some($n1),)*
            $($n2: Some($n2),)*
            $($n3: Some($n3),)*
        };

        #[cfg(test)]
        const NAMES: [&[&str]; 3] = [&[$(stringify!($n1)),*], &[$(stringify!($n2)),*], &[$(stringify!($n3)),*]];
    };
}

functions! {
    v2_40 {
        // 5.4 general purpose
        C_Initialize(args: Anything) => { bare general::initialize(init_args[args]) }
        C_Finalize(reserved: Anything) => { bare general::finalize(init_args[reserved]) }
        C_GetInfo(info: *mut CK_INFO) => { run general::info(place[info]) }
        C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) => { bare self::function_list(place[list]) }
        // 5.5 slots and tokens
        C_GetSlotList(present: CK_BBOOL, slots: Len, count: Len) => { run slot::list(flag[present], list[slots count]) }
        C_GetSlotInfo(s: Num, info: *mut CK_SLOT_INFO) => { run slot::info(number[s], place[info]) }
        C_GetTokenInfo(s: Num, info: *mut CK_TOKEN_INFO) => { run slot::token_info(number[s], place[info]) }
        C_GetMechanismList(s: Num, types: Len, count: Len) => { run slot::mechanisms(number[s], list[types count]) }
        C_GetMechanismInfo(s: Num, m: Num, info: *mut CK_MECHANISM_INFO) => { run slot::mechanism_info(number[s], number[m], place[info]) }
        C_InitToken(s: Num, pin: Bytes, pin_len: Num, label: Bytes) => { run slot::init_token(number[s], bytes[pin pin_len], label[label]) }
        C_InitPIN(h: Num, pin: Bytes, pin_len: Num) => { run slot::init_pin(number[h], bytes[pin pin_len]) }
        C_SetPIN(h: Num, old: Bytes, old_len: Num, new: Bytes, new_len: Num) => { run slot::set_pin(number[h], bytes[old old_len], bytes[new new_len]) }
        // 5.6 sessions
        C_OpenSession(s: Num, flags: Num, _application: Anything, _notify: CK_NOTIFY, h: Len) => { run session::open(number[s], number[flags], place[h]) }
        C_CloseSession(h: Num) => { run session::close(number[h]) }
        C_CloseAllSessions(s: Num) => { run session::close_all(number[s]) }
        C_GetSessionInfo(h: Num, info: *mut CK_SESSION_INFO) => { run session::info(number[h], place[info]) }
        C_GetOperationState(h: Num, state: Bytes, len: Len) => { run state::save(number[h], out[state len]) }
        C_SetOperationState(h: Num, state: Bytes, len: Num, encryption_key: Num, authentication_key: Num) => { run state::restore(number[h], bytes[state len], number[encryption_key], number[authentication_key]) }
        C_Login(h: Num, user: Num, pin: Bytes, pin_len: Num) => { run session::login(number[h], number[user], bytes[pin pin_len]) }
        C_Logout(h: Num) => { run session::logout(number[h]) }
        // 5.7 objects
        C_CreateObject(h: Num, t: Attributes, n: Num, o: Len) => { run object::create(number[h], template[t n], place[o]) }
        C_CopyObject(h: Num, from: Num, t: Attributes, n: Num, o: Len) => { run object::copy(number[h], number[from], template[t n], place[o]) }
        C_DestroyObject(h: Num, o: Num) => { run object::destroy(number[h], number[o]) }
        C_GetObjectSize(h: Num, o: Num, size: Len) => { run object::size(number[h], number[o], place[size]) }
        C_GetAttributeValue(h: Num, o: Num, t: Attributes, n: Num) => { run object::attributes(number[h], number[o], template[t n]) }
        C_SetAttributeValue(h: Num, o: Num, t: Attributes, n: Num) => { run object::set_attributes(number[h], number[o], template[t n]) }
        C_FindObjectsInit(h: Num, t: Attributes, n: Num) => { run object::find_init(number[h], template[t n]) }
        C_FindObjects(h: Num, objects: Len, max: Num, count: Len) => { run object::find(number[h], handles[objects max count]) }
        C_FindObjectsFinal(h: Num) => { run object::find_final(number[h]) }
        // 5.8 encryption
        C_EncryptInit(h: Num, m: Mechanism, k: Num) => { run encrypt::init(number[h], mechanism[m], number[k]) }
        C_Encrypt(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run encrypt::encrypt(number[h], bytes[d dl], out[o ol]) }
        C_EncryptUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run encrypt::update(number[h], bytes[d dl], out[o ol]) }
        C_EncryptFinal(h: Num, o: Bytes, ol: Len) => { run encrypt::finish(number[h], out[o ol]) }
        // 5.10 decryption
        C_DecryptInit(h: Num, m: Mechanism, k: Num) => { run decrypt::init(number[h], mechanism[m], number[k]) }
        C_Decrypt(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run decrypt::decrypt(number[h], bytes[d dl], out[o ol]) }
        C_DecryptUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run decrypt::update(number[h], bytes[d dl], out[o ol]) }
        C_DecryptFinal(h: Num, o: Bytes, ol: Len) => { run decrypt::finish(number[h], out[o ol]) }
        // 5.12 digesting
        C_DigestInit(h: Num, m: Mechanism) => { run digest::init(number[h], mechanism[m]) }
        C_Digest(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run digest::digest(number[h], bytes[d dl], out[o ol]) }
        C_DigestUpdate(h: Num, d: Bytes, dl: Num) => { run digest::update(number[h], bytes[d dl]) }
        C_DigestKey(h: Num, k: Num) => { run digest::key(number[h], number[k]) }
        C_DigestFinal(h: Num, o: Bytes, ol: Len) => { run digest::finish(number[h], out[o ol]) }
        // 5.13 signing
        C_SignInit(h: Num, m: Mechanism, k: Num) => { run sign::init(number[h], mechanism[m], number[k]) }
        C_Sign(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run sign::sign(number[h], bytes[d dl], out[o ol]) }
        C_SignUpdate(h: Num, d: Bytes, dl: Num) => { run sign::update(number[h], bytes[d dl]) }
        C_SignFinal(h: Num, o: Bytes, ol: Len) => { run sign::finish(number[h], out[o ol]) }
        C_SignRecoverInit(h: Num, m: Mechanism, k: Num) => { run recover::sign_init(number[h], mechanism[m], number[k]) }
        C_SignRecover(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run recover::sign(number[h], bytes[d dl], out[o ol]) }
        // 5.15 verification
        C_VerifyInit(h: Num, m: Mechanism, k: Num) => { run verify::init(number[h], mechanism[m], number[k]) }
        C_Verify(h: Num, d: Bytes, dl: Num, s: Bytes, sl: Num) => { run verify::verify(number[h], bytes[d dl], bytes[s sl]) }
        C_VerifyUpdate(h: Num, d: Bytes, dl: Num) => { run verify::update(number[h], bytes[d dl]) }
        C_VerifyFinal(h: Num, s: Bytes, sl: Num) => { run verify::finish(number[h], bytes[s sl]) }
        C_VerifyRecoverInit(h: Num, m: Mechanism, k: Num) => { run recover::verify_init(number[h], mechanism[m], number[k]) }
        C_VerifyRecover(h: Num, s: Bytes, sl: Num, o: Bytes, ol: Len) => { run recover::verify(number[h], bytes[s sl], out[o ol]) }
        // 5.17 dual-function operations
        C_DigestEncryptUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run dual::digest_encrypt(number[h], bytes[d dl], out[o ol]) }
        C_DecryptDigestUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run dual::decrypt_digest(number[h], bytes[d dl], out[o ol]) }
        C_SignEncryptUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run dual::sign_encrypt(number[h], bytes[d dl], out[o ol]) }
        C_DecryptVerifyUpdate(h: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run dual::decrypt_verify(number[h], bytes[d dl], out[o ol]) }
        // 5.18 key management
        C_GenerateKey(h: Num, m: Mechanism, t: Attributes, n: Num, k: Len) => { run key::generate(number[h], mechanism[m], template[t n], place[k]) }
        C_GenerateKeyPair(h: Num, m: Mechanism, pt: Attributes, pn: Num, st: Attributes, sn: Num, p: Len, s: Len) => {
            run key::generate_pair(number[h], mechanism[m], template[pt pn], template[st sn], place[p], place[s])
        }
        C_WrapKey(h: Num, m: Mechanism, w: Num, k: Num, o: Bytes, ol: Len) => { run key::wrap(number[h], mechanism[m], number[w], number[k], out[o ol]) }
        C_UnwrapKey(h: Num, m: Mechanism, u: Num, d: Bytes, dl: Num, t: Attributes, n: Num, k: Len) => {
            run key::unwrap(number[h], mechanism[m], number[u], bytes[d dl], template[t n], place[k])
        }
        C_DeriveKey(h: Num, m: Mechanism, b: Num, t: Attributes, n: Num, k: Len) => { run key::derive(number[h], mechanism[m], number[b], template[t n], place[k]) }
        // 5.19 random numbers
        C_SeedRandom(h: Num, d: Bytes, dl: Num) => { run random::seed(number[h], bytes[d dl]) }
        C_GenerateRandom(h: Num, d: Bytes, dl: Num) => { run random::generate(number[h], exact[d dl]) }
        // 5.20 parallel function management
        C_GetFunctionStatus(h: Num) => { run legacy::status(number[h]) }
        C_CancelFunction(h: Num) => { run legacy::cancel(number[h]) }
        // 5.5 again
        C_WaitForSlotEvent(flags: Num, s: Len, reserved: Anything) => { run slot::wait_for_event(number[flags], place[s], init_args[reserved]) }
    }
    v3_0 {
        C_GetInterfaceList(interfaces: *mut CK_INTERFACE, count: Len) => { bare self::interface_list(interfaces[interfaces count]) }
        C_GetInterface(name: Bytes, version: *mut CK_VERSION, interface: *mut *mut CK_INTERFACE, flags: Num) => {
            bare self::interface(wanted[name version], place[interface], number[flags])
        }
        C_LoginUser(h: Num, user: Num, pin: Bytes, pin_len: Num, name: Bytes, name_len: Num) => {
            run session::login_user(number[h], number[user], bytes[pin pin_len], bytes[name name_len])
        }
        C_SessionCancel(h: Num, flags: Num) => { run session::cancel(number[h], number[flags]) }
        // 5.9, 5.11, 5.14, 5.16: message-based operations
        C_MessageEncryptInit(h: Num, m: Mechanism, k: Num) => { run message_encrypt::init(number[h], mechanism[m], number[k]) }
        C_EncryptMessage(h: Num, p: Anything, pl: Num, a: Bytes, al: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => {
            run message_encrypt::whole(number[h], parameter[p pl], bytes[a al], bytes[d dl], out[o ol])
        }
        C_EncryptMessageBegin(h: Num, p: Anything, pl: Num, a: Bytes, al: Num) => { run message_encrypt::begin(number[h], parameter[p pl], bytes[a al]) }
        C_EncryptMessageNext(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, o: Bytes, ol: Len, flags: Num) => {
            run message_encrypt::next(number[h], parameter[p pl], bytes[d dl], out[o ol], number[flags])
        }
        C_MessageEncryptFinal(h: Num) => { run message_encrypt::close(number[h]) }
        C_MessageDecryptInit(h: Num, m: Mechanism, k: Num) => { run message_decrypt::init(number[h], mechanism[m], number[k]) }
        C_DecryptMessage(h: Num, p: Anything, pl: Num, a: Bytes, al: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => {
            run message_decrypt::whole(number[h], parameter[p pl], bytes[a al], bytes[d dl], out[o ol])
        }
        C_DecryptMessageBegin(h: Num, p: Anything, pl: Num, a: Bytes, al: Num) => { run message_decrypt::begin(number[h], parameter[p pl], bytes[a al]) }
        C_DecryptMessageNext(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, o: Bytes, ol: Len, flags: Num) => {
            run message_decrypt::next(number[h], parameter[p pl], bytes[d dl], out[o ol], number[flags])
        }
        C_MessageDecryptFinal(h: Num) => { run message_decrypt::close(number[h]) }
        C_MessageSignInit(h: Num, m: Mechanism, k: Num) => { run message_sign::init(number[h], mechanism[m], number[k]) }
        C_SignMessage(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run message_sign::whole(number[h], parameter[p pl], bytes[d dl], out[o ol]) }
        C_SignMessageBegin(h: Num, p: Anything, pl: Num) => { run message_sign::begin(number[h], parameter[p pl]) }
        C_SignMessageNext(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, o: Bytes, ol: Len) => { run message_sign::next(number[h], parameter[p pl], bytes[d dl], out[o ol]) }
        C_MessageSignFinal(h: Num) => { run message_sign::close(number[h]) }
        C_MessageVerifyInit(h: Num, m: Mechanism, k: Num) => { run message_verify::init(number[h], mechanism[m], number[k]) }
        C_VerifyMessage(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, s: Bytes, sl: Num) => { run message_verify::whole(number[h], parameter[p pl], bytes[d dl], bytes[s sl]) }
        C_VerifyMessageBegin(h: Num, p: Anything, pl: Num) => { run message_verify::begin(number[h], parameter[p pl]) }
        C_VerifyMessageNext(h: Num, p: Anything, pl: Num, d: Bytes, dl: Num, s: Bytes, sl: Num) => { run message_verify::next(number[h], parameter[p pl], bytes[d dl], bytes[s sl]) }
        C_MessageVerifyFinal(h: Num) => { run message_verify::close(number[h]) }
    }
    v3_2 {
        C_EncapsulateKey(h: Num, m: Mechanism, k: Num, t: Attributes, n: Num, o: Bytes, ol: Len, new: Len) => {
            run kem::encapsulate(number[h], mechanism[m], number[k], template[t n], out[o ol], place[new])
        }
        C_DecapsulateKey(h: Num, m: Mechanism, k: Num, t: Attributes, n: Num, d: Bytes, dl: Num, new: Len) => {
            run kem::decapsulate(number[h], mechanism[m], number[k], template[t n], bytes[d dl], place[new])
        }
        C_VerifySignatureInit(h: Num, m: Mechanism, k: Num, s: Bytes, sl: Num) => { run verify_signature::init(number[h], mechanism[m], number[k], bytes[s sl]) }
        C_VerifySignature(h: Num, d: Bytes, dl: Num) => { run verify_signature::verify(number[h], bytes[d dl]) }
        C_VerifySignatureUpdate(h: Num, d: Bytes, dl: Num) => { run verify_signature::update(number[h], bytes[d dl]) }
        C_VerifySignatureFinal(h: Num) => { run verify_signature::finish(number[h]) }
        C_GetSessionValidationFlags(h: Num, which: Num, flags: Len) => { run state::validation_flags(number[h], number[which], place[flags]) }
        C_AsyncComplete(h: Num, _name: Bytes, _result: *mut CK_ASYNC_DATA) => { run state::asynchronous(number[h]) }
        C_AsyncGetID(h: Num, _name: Bytes, _id: Len) => { run state::asynchronous(number[h]) }
        C_AsyncJoin(h: Num, _name: Bytes, _id: Num, _d: Bytes, _dl: Num) => { run state::asynchronous(number[h]) }
        C_WrapKeyAuthenticated(h: Num, m: Mechanism, w: Num, k: Num, a: Bytes, al: Num, o: Bytes, ol: Len) => {
            run key::wrap_authenticated(number[h], mechanism[m], number[w], number[k], bytes[a al], out[o ol])
        }
        C_UnwrapKeyAuthenticated(h: Num, m: Mechanism, u: Num, d: Bytes, dl: Num, t: Attributes, n: Num, a: Bytes, al: Num, k: Len) => {
            run key::unwrap_authenticated(number[h], mechanism[m], number[u], bytes[d dl], template[t n], bytes[a al], place[k])
        }
    }
}

// --- the lists -------------------------------------------------------------------------------------------------------

/// The name of the standard's own interface (PKCS#11 v3.0 section 5.4.5).
const PKCS_11: &CStr = c"PKCS 11";

/// The interfaces, the default first. It is 3.0, not 3.2: who knows 3.2 asks for it by its number, and who does not may compare the
/// version of what it is given.
struct Interfaces([CK_INTERFACE; 3]);

// SAFETY: the pointers lead to statics that nobody writes.
unsafe impl Sync for Interfaces {}

const fn offer(list: *const c_void) -> CK_INTERFACE {
    CK_INTERFACE { pInterfaceName: PKCS_11.as_ptr().cast_mut().cast(), pFunctionList: list.cast_mut(), flags: 0 }
}

static INTERFACES: Interfaces = Interfaces([
    offer((&raw const LIST_3_2).cast()),
    offer((&raw const LIST_3_0).cast()),
    offer((&raw const LIST_2_40).cast()),
]);
static VERSIONS: [CK_VERSION; 3] =
    [CK_VERSION { major: 3, minor: 2 }, CK_VERSION { major: 3, minor: 0 }, CK_VERSION { major: 2, minor: 40 }];

/// C_GetFunctionList: version 2.40, whatever else there is (PKCS#11 v3.0 section 5.4.4).
fn function_list(list: claim::Out<'_, *mut CK_FUNCTION_LIST>) -> Result<(), Rv> {
    list.there()?.put((&raw const LIST_2_40).cast_mut());
    Ok(())
}

/// C_GetInterfaceList (PKCS#11 v3.0 section 5.4.5).
fn interface_list(list: claim::OutInterfaces<'_>) -> Result<(), Rv> {
    list.put(&INTERFACES.0)
}

/// C_GetInterface (PKCS#11 v3.0 section 5.4.6): no name or version means any, the first is the default. No flag is
/// offered: a caller that asks for CKF_INTERFACE_FORK_SAFE gets an error and asks again without it.
fn interface(wanted: claim::Wanted<'_>, place: claim::Out<'_, *mut CK_INTERFACE>, flags: u64) -> Result<(), Rv> {
    let place = place.there()?;
    if flags != 0 || !wanted.is_named(PKCS_11) {
        return Err(CKR_FUNCTION_FAILED);
    }
    let version = wanted.version();
    let fits = |offered: &CK_VERSION| version.is_none_or(|v| (v.major, v.minor) == (offered.major, offered.minor));
    let index = VERSIONS.iter().position(fits).ok_or(CKR_FUNCTION_FAILED)?;
    let interface = INTERFACES.0.get(index).ok_or(CKR_FUNCTION_FAILED)?;
    place.put(std::ptr::from_ref(interface).cast_mut());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ck::rv::{CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL};
    use std::ptr;

    /// The pointers of a list as numbers: they follow the version, which is padded to a pointer.
    fn pointers<T>(list: &T) -> Vec<usize> {
        let count = size_of::<T>() / size_of::<usize>();
        let start = ptr::from_ref(list).cast::<usize>();
        // SAFETY: after the version and its padding the list is an array of pointers.
        (1..count).map(|index| unsafe { start.add(index).read() }).collect()
    }

    #[test]
    fn the_lists_have_all_functions_and_no_null() {
        assert_eq!(NAMES.map(<[_]>::len), [68, 24, 12]);
        for (list, count) in [(pointers(&LIST_2_40), 68), (pointers(&LIST_3_0), 92), (pointers(&LIST_3_2), 104)] {
            assert_eq!(list.len(), count);
            assert!(list.iter().all(|&pointer| pointer != 0));
        }
        assert_eq!(pointers(&LIST_2_40), pointers(&LIST_3_0)[..68]);
    }

    #[test]
    fn the_default_interface_is_3_2_and_asking_too_much_is_refused() {
        let mut other = *b"Vendor\0\0";
        let mut name = *b"PKCS 11\0";
        let mut longer = *b"PKCS 11x\0";
        let version = |major, minor| CK_VERSION { major, minor };
        type Row<'r> = (Option<&'r mut [u8]>, Option<CK_VERSION>, u64, Option<(u8, u8)>);
        let rows: [Row<'_>; 10] = [
            (None, None, 0, Some((3, 2))),
            (Some(&mut name.clone()), None, 0, Some((3, 2))),
            (Some(&mut name.clone()), Some(version(2, 40)), 0, Some((2, 40))),
            (Some(&mut name.clone()), Some(version(3, 0)), 0, Some((3, 0))),
            (Some(&mut name.clone()), Some(version(3, 2)), 0, Some((3, 2))),
            (Some(&mut name.clone()), Some(version(3, 1)), 0, None),
            (Some(&mut name), None, 1, None),
            (Some(&mut other), None, 0, None),
            (Some(&mut longer), None, 0, None),
            (None, Some(version(2, 40)), 0, Some((2, 40))),
        ];
        for (index, (name, mut version, flags, expected)) in rows.into_iter().enumerate() {
            let mut interface: *mut CK_INTERFACE = ptr::null_mut();
            let name = name.map_or(ptr::null_mut(), |name| name.as_mut_ptr());
            let version = version.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
            // SAFETY: NUL-terminated names and places of this function.
            let rv = unsafe { C_GetInterface(name, version, &raw mut interface, flags) };
            assert_eq!(rv == 0, expected.is_some(), "row {index}");
            if let Some(expected) = expected {
                // SAFETY: C_GetInterface succeeded, so the pointers lead to our statics.
                let got = unsafe { *(*interface).pFunctionList.cast::<CK_VERSION>() };
                assert_eq!((got.major, got.minor), expected, "row {index}");
            }
        }
    }

    #[test]
    fn the_interface_list_is_counted_then_given() {
        let mut count = 0;
        // SAFETY: places of this function.
        unsafe {
            assert_eq!(C_GetInterfaceList(ptr::null_mut(), &raw mut count), 0);
            assert_eq!(count, 3);
            let mut list = INTERFACES.0;
            count = 2;
            assert_eq!(C_GetInterfaceList(list.as_mut_ptr(), &raw mut count), CKR_BUFFER_TOO_SMALL.0);
            assert_eq!(count, 3);
            assert_eq!(C_GetInterfaceList(list.as_mut_ptr(), &raw mut count), 0);
            assert_eq!(C_GetInterfaceList(list.as_mut_ptr(), ptr::null_mut()), CKR_ARGUMENTS_BAD.0);
        }
    }
}
