//! General-purpose functions (PKCS#11 v3.0 §5.4): initialise, finalise, function lists, interfaces.

use acceptance::module::{path, pin};
use acceptance::module_test;
use acceptance::raw::Raw;
use acceptance::world::PIN;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::UserType;
use cryptoki_sys::{
    CKF_LIBRARY_CANT_CREATE_OS_THREADS, CKF_OS_LOCKING_OK, CKR_ARGUMENTS_BAD, CKR_CRYPTOKI_ALREADY_INITIALIZED,
    CKR_CRYPTOKI_NOT_INITIALIZED, CKR_OK,
};

module_test! {
    fn initialize_and_finalize_are_a_pair(_world) {
        let raw = Raw::load(&path());
        assert_eq!(raw.finalize(), CKR_CRYPTOKI_NOT_INITIALIZED);
        assert_eq!(raw.slots().unwrap_err(), CKR_CRYPTOKI_NOT_INITIALIZED);
        assert_eq!(raw.initialize_null(), CKR_OK);
        assert_eq!(raw.initialize_null(), CKR_CRYPTOKI_ALREADY_INITIALIZED);
        assert!(raw.slots().is_ok());
        assert_eq!(raw.finalize(), CKR_OK);
        assert_eq!(raw.slots().unwrap_err(), CKR_CRYPTOKI_NOT_INITIALIZED);
        assert_eq!(raw.initialize(), CKR_OK);
        assert_eq!(raw.finalize(), CKR_OK);
    }
}

module_test! {
    fn a_library_that_may_not_create_threads_is_initialized_all_the_same(_world) {
        // GnuTLS and NSS say so; refusing them would lose them.
        let raw = Raw::load(&path());
        assert_eq!(raw.initialize_with(CKF_OS_LOCKING_OK | CKF_LIBRARY_CANT_CREATE_OS_THREADS, None), CKR_OK);
        assert!(raw.slots().is_ok());
    }
}

module_test! {
    fn reserved_argument_is_refused(_world) {
        let raw = Raw::load(&path());
        assert_eq!(raw.initialize_with(CKF_OS_LOCKING_OK, Some(&mut 0)), CKR_ARGUMENTS_BAD);
        assert_eq!(raw.slots().unwrap_err(), CKR_CRYPTOKI_NOT_INITIALIZED);
    }
}

module_test! {
    fn both_interfaces_are_offered_and_no_function_is_null(_world) {
        let raw = Raw::load(&path());
        let interfaces = raw.interfaces().expect("C_GetInterfaceList");
        for version in [(3, 0), (2, 40)] {
            let found = interfaces.iter().any(|(name, major, minor)| name == "PKCS 11" && (*major, *minor) == version);
            assert!(found, "{version:?} is missing in {interfaces:?}");
        }
        assert!(raw.interface(0).is_ok_and(|(name, ..)| name == "PKCS 11"));
        assert_eq!(raw.null_functions().expect("C_GetFunctionList"), (0, 68));
    }
}

module_test! {
    fn library_info_names_the_standard_and_the_library(_world) {
        let pkcs11 = acceptance::module::load();
        let info = pkcs11.get_library_info().expect("C_GetInfo");
        assert!(info.cryptoki_version().major() >= 2);
        assert!(!info.manufacturer_id().trim().is_empty());
        assert!(!info.library_description().trim().is_empty());
    }
}

module_test! {
    fn finalize_ends_the_login(_world) {
        // An application that finalises and comes back is a new application: it starts logged out.
        for _ in 0..2 {
            let pkcs11 = Pkcs11::new(path()).expect("the module loads");
            pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("C_Initialize");
            let slot = pkcs11.get_slots_with_initialized_token().expect("slots")[0];
            let session = pkcs11.open_rw_session(slot).expect("a session");
            session.login(UserType::User, Some(&pin(PIN))).expect("nobody is logged in at the start");
            drop(session);
            pkcs11.finalize().expect("C_Finalize");
        }
    }
}
