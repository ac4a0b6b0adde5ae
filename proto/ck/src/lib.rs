//! The words of PKCS#11: return values, mechanisms, attributes, object classes, key types and flags.
//!
//! Every number comes from `cryptoki-sys` (generated from the OASIS PKCS#11 3.2 header) and is never retyped here; this
//! crate adds types, names and, for attributes and return values, what a reader or a wire needs to know of each one.
//! It allocates nothing and knows no object, session or key.

/// Declares one registry of PKCS#11 numbers: a newtype, its constants under their standard names, and a name for each.
/// Values without a name survive unchanged, because a caller may use any number.
macro_rules! registry {
    ($(#[$doc:meta])* $type:ident { $($name:ident)* } $(vendor { $($own:ident = $number:literal)* })?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub u64);

        $(
            #[doc = concat!("`", stringify!($name), "` of the PKCS#11 3.2 header.")]
            pub const $name: $type = $type(cryptoki_sys::$name as u64);
        )*

        $($(
            #[doc = concat!("`", stringify!($own), "`: ours, in the range that the standard leaves to vendors.")]
            pub const $own: $type = $type($number);
        )*)?

        impl $type {
            /// Every value that has a name here, in the order of the table.
            pub const ALL: &'static [$type] = &[$($name,)* $($($own),*)?];

            /// The standard's name, if this table has the value.
            #[allow(unreachable_patterns, reason = "the standard gives some values two names; the first row wins")]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $($name => Some(stringify!($name)),)*
                    $($($own => Some(stringify!($own)),)*)?
                    _ => None,
                }
            }
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($type), "({:#x})"), self.0),
                }
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt(self, f)
            }
        }

        impl From<u64> for $type {
            fn from(value: u64) -> Self {
                $type(value)
            }
        }
    };
}

pub mod attribute;
pub mod flags;
pub mod mechanism;
pub mod object;
pub mod parameter;
pub mod rv;

pub use attribute::Attribute;
pub use mechanism::Mechanism;
pub use object::{CertificateType, KeyType, ObjectClass};
pub use rv::Rv;
