//! Handshakes, and the session that they leave behind.

use std::sync::{Arc, PoisonError};

use avp_core::{Dialect, messages::Hello};
use tokio::time::Instant;

use super::{Client, ClientError, Session, retry::Retries, session::negotiate};
use crate::wire::VERSION_HEADER;

/// A session, and when it ends by itself.
#[derive(Debug)]
pub(super) struct Kept {
    session: Arc<Session>,
    until: Option<Instant>,
}

impl Client {
    /// Says hello, and keeps the session that comes of it in place of any before.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] where the answer is not AVP's; else as the exchange fails.
    pub async fn handshake(&self) -> Result<Arc<Session>, ClientError> {
        self.within_total(async {
            let _alone = self.inner.shaking.lock().await;
            self.shake_hands().await
        })
        .await
    }

    /// The session that was agreed on, by a handshake where there is none that still holds.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub async fn session(&self) -> Result<Arc<Session>, ClientError> {
        self.within_total(self.current_session()).await
    }

    /// The session that was last agreed on, even if its time is up.
    #[must_use]
    pub fn kept_session(&self) -> Option<Arc<Session>> {
        let kept = self.inner.session.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|kept| kept.session.clone())
    }

    /// The dialect that the server reads, as far as is known.
    pub(super) fn dialect(&self) -> Dialect {
        self.kept_session().map_or(self.inner.options.dialect, |session| session.dialect)
    }

    pub(super) async fn current_session(&self) -> Result<Arc<Session>, ClientError> {
        if let Some(session) = self.valid_session() {
            return Ok(session);
        }
        let _alone = self.inner.shaking.lock().await;
        // Another deed may have found the same and been first.
        match self.valid_session() {
            Some(session) => Ok(session),
            None => self.shake_hands().await,
        }
    }

    /// A session after the one with this id, of which the server says that it has expired.
    pub(super) async fn renewed_session(&self, expired_id: &str) -> Result<Arc<Session>, ClientError> {
        let _alone = self.inner.shaking.lock().await;
        match self.valid_session() {
            Some(session) if session.id != expired_id => Ok(session),
            _ => self.shake_hands().await,
        }
    }

    fn valid_session(&self) -> Option<Arc<Session>> {
        let kept = self.inner.session.read().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref()?;
        kept.until.is_none_or(|until| Instant::now() < until).then(|| kept.session.clone())
    }

    async fn shake_hands(&self) -> Result<Arc<Session>, ClientError> {
        let options = &self.inner.options;
        let hello = Hello {
            agent_id: options.agent_id.clone(),
            identity: options.identity.clone(),
            capabilities: options.capabilities.clone(),
            ..Default::default()
        };
        let text = hello.to_string();
        let mut retries = Retries::new(&options.retry);
        // The session lives from some moment after this one.
        let (asked, (reply, headers)) = loop {
            let asked = Instant::now();
            let (request, attempt) = self.json_request(&["avp", "v2", "handshake"], &text);
            match self.reply(request, Some(attempt)).await {
                Ok(answer) => break (asked, answer),
                Err(error) => retries.pause(error, true).await?,
            }
        };
        let ours = options.identity.clone().unwrap_or_default();
        let version = headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok());
        let session = negotiate(&ours, &reply, version, options.dialect, |ours, theirs| {
            options.evidence.as_ref().map(|lookup| lookup.find(ours, theirs)).unwrap_or_default()
        })?;
        let until = session.expires_in.and_then(|life| asked.checked_add(life));
        let session = Arc::new(session);
        let kept = Kept { session: session.clone(), until };
        *self.inner.session.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        tracing::debug!(mode = session.mode.as_str(), rule = session.rule.as_str(), "session agreed on");
        Ok(session)
    }
}
