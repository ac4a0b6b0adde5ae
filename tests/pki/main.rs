//! The PKI on our token: the tenant's own tests run on another module; here it meets the one that it will live on.
