//! The programs that people use with a token: one file per client. Each runs its page of `docs/clients`, on the default profile, as a
//! reader would type it; and what a page cannot show (a daemon that is killed under a running server) is told here.

mod apache;
mod curl;
mod git;
mod gnutls;
mod go;
mod java;
mod nginx;
mod node;
mod nss;
mod openssh;
mod openssl;
mod pages;
mod python;
mod stunnel;
mod suites;
