//! Handshakes and the cached session.

use std::sync::{Arc, PoisonError};

use avp_core::{Dialect, messages::Hello};
use tokio::time::Instant;

use super::{Client, ClientError, Session, retry::Retries, session::negotiate};
use crate::wire::VERSION_HEADER;

/// A session and its expiry.
#[derive(Debug)]
pub(super) struct CachedSession {
    session: Arc<Session>,
    expires: Option<Instant>,
}

impl Client {
    /// Performs a handshake and caches its session in place of an earlier one.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] where the response is not AVP's, or the error of the exchange.
    pub async fn handshake(&self) -> Result<Arc<Session>, ClientError> {
        self.within_total(async {
            let _lock = self.inner.handshake_lock.lock().await;
            self.perform_handshake().await
        })
        .await
    }

    /// The cached session, or that of a new handshake where there is none or it has expired.
    ///
    /// # Errors
    /// Those of [`handshake`](Self::handshake).
    pub async fn session(&self) -> Result<Arc<Session>, ClientError> {
        self.within_total(self.current_session()).await
    }

    /// The cached session, even if it has expired.
    #[must_use]
    pub fn cached_session(&self) -> Option<Arc<Session>> {
        let cached = self.inner.session.read().unwrap_or_else(PoisonError::into_inner);
        cached.as_ref().map(|cached| cached.session.clone())
    }

    /// The server's dialect if known, else the configured one.
    pub(super) fn dialect(&self) -> Dialect {
        self.cached_session().map_or(self.inner.options.dialect, |session| session.dialect)
    }

    pub(super) async fn current_session(&self) -> Result<Arc<Session>, ClientError> {
        if let Some(session) = self.valid_session() {
            return Ok(session);
        }
        let _lock = self.inner.handshake_lock.lock().await;
        // Another task may have performed the handshake while this one waited.
        match self.valid_session() {
            Some(session) => Ok(session),
            None => self.perform_handshake().await,
        }
    }

    /// A session newer than the one with this id, which the server has reported as expired.
    pub(super) async fn renewed_session(&self, expired_id: &str) -> Result<Arc<Session>, ClientError> {
        let _lock = self.inner.handshake_lock.lock().await;
        match self.valid_session() {
            Some(session) if session.id != expired_id => Ok(session),
            _ => self.perform_handshake().await,
        }
    }

    fn valid_session(&self) -> Option<Arc<Session>> {
        let cached = self.inner.session.read().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.as_ref()?;
        cached.expires.is_none_or(|expires| Instant::now() < expires).then(|| cached.session.clone())
    }

    async fn perform_handshake(&self) -> Result<Arc<Session>, ClientError> {
        let options = &self.inner.options;
        let hello = Hello {
            agent_id: options.agent_id.clone(),
            identity: options.identity.clone(),
            capabilities: options.capabilities.clone(),
            ..Default::default()
        };
        let text = hello.to_string();
        let mut retries = Retries::new(&options.retry);
        // The session's lifetime begins after this moment.
        let (asked, (reply, headers)) = loop {
            let asked = Instant::now();
            let (request, attempt) = self.json_request(&["avp", "v2", "handshake"], &text);
            match self.reply(request, Some(attempt)).await {
                Ok(reply) => break (asked, reply),
                Err(error) => retries.pause(error, true).await?,
            }
        };
        let ours = options.identity.clone().unwrap_or_default();
        let version = headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok());
        let session = negotiate(&ours, &reply, version, options.dialect, |ours, theirs| {
            options.evidence.as_ref().map(|lookup| lookup.find(ours, theirs)).unwrap_or_default()
        })?;
        let expires = session.expires_in.and_then(|life| asked.checked_add(life));
        let session = Arc::new(session);
        let cached = CachedSession { session: session.clone(), expires };
        *self.inner.session.write().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        tracing::debug!(mode = session.mode.as_str(), rule = session.rule.as_str(), "session negotiated");
        Ok(session)
    }
}
