//! Connections of applications: how they come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Hsm;
use crate::application::Application;
use crate::crypto::rng;
use crate::error::{Error, Kind, Result};
use crate::peer::Peer;
use crate::session::objects::SessionObjects;

/// One connection of an application. When the last one is dropped, the application's sessions, logins and session objects end.
pub struct Caller {
    hsm: Arc<Hsm>,
    application: Arc<Application>,
}

impl Caller {
    /// A connection of an application; made under the front desk's application lock.
    fn new(hsm: Arc<Hsm>, application: Arc<Application>) -> Self {
        application.connections.fetch_add(1, Ordering::AcqRel);
        Caller { hsm, application }
    }

    /// The application's secret name, with which further connections join it.
    pub fn application(&self) -> [u8; 16] {
        self.application.id
    }

    /// The peer that attached.
    pub fn peer(&self) -> &Peer {
        &self.application.peer
    }

    /// Whether the application has a session open.
    pub fn has_sessions(&self) -> bool {
        !self.application.sessions.read().is_empty()
    }

    pub(crate) fn app(&self) -> &Arc<Application> {
        &self.application
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.hsm.leave(&self.application);
    }
}

impl Hsm {
    /// A new application for a connection that attaches without one.
    ///
    /// # Errors
    /// [`Kind::Internal`] when there is no randomness.
    pub fn attach(&self, peer: Peer, _program: &str) -> Result<Caller> {
        let mut id = [0; 16];
        rng::fill(&mut id)?;
        let application = Arc::new(Application::new(id, peer));
        let me = self.me.upgrade().ok_or(Kind::Internal)?;
        let mut applications = self.applications.lock();
        applications.insert(id, Arc::clone(&application));
        Ok(Caller::new(me, application))
    }

    /// One more connection of an application. Only the same peer joins: same identity and, where it is known, same process.
    ///
    /// # Errors
    /// [`Kind::ArgumentsBad`] when there is no such application of this peer.
    pub fn join(&self, peer: Peer, application: [u8; 16]) -> Result<Caller> {
        let me = self.me.upgrade().ok_or(Kind::Internal)?;
        let applications = self.applications.lock();
        let found = applications.get(&application).filter(|found| found.peer == peer);
        let application =
            found.ok_or_else(|| Error::new(Kind::ArgumentsBad, "there is no such application of this peer"))?;
        Ok(Caller::new(me, Arc::clone(application)))
    }

    /// One connection less; the last one ends the application.
    pub(crate) fn leave(&self, application: &Arc<Application>) {
        let mut applications = self.applications.lock();
        if application.connections.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        applications.remove(&application.id);
        drop(applications);
        application.sessions.write().clear();
        *application.objects.write() = SessionObjects::default();
        for slot in application.logins.slots() {
            self.end_login(application, slot);
        }
    }
}
