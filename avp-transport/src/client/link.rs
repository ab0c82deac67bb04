//! Links to stored contexts, for agents without a token of the server.

use std::time::Duration;

use super::{Client, ClientError, retry::Retries};

impl Client {
    /// Asks for a link to a stored context: an id with which anybody can fetch it, without a token, for `valid_for`. The server may
    /// shorten that time, and `None` is as long as it allows.
    ///
    /// ```no_run
    /// # async fn example(client: avp_transport::client::Client) -> Result<(), avp_transport::client::ClientError> {
    /// let link = client.link_context("c1", Some(std::time::Duration::from_secs(60))).await?;
    /// let fetched = client.fetch_context(&link).to_memory().await?; // any other client can do this too
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the exchange; for an unknown context, and from a server without links, [`ClientError::Refused`] with status 404 or
    /// 405.
    pub async fn link_context(&self, id: &str, valid_for: Option<Duration>) -> Result<String, ClientError> {
        let body = match valid_for {
            // In whole seconds, rounded up.
            Some(valid_for) => {
                let seconds = valid_for.as_secs() + u64::from(valid_for.subsec_nanos() > 0);
                serde_json::json!({ "expires_in": seconds })
            }
            None => serde_json::json!({}),
        };
        self.within_total(async {
            let mut retries = Retries::new(&self.inner.options.retry);
            loop {
                let (request, attempt) = self.json_request(&Self::context_path(id)?, &body.to_string());
                match self.reply(request, Some(attempt)).await {
                    Ok((reply, _)) => {
                        let link = reply.text("link").map(str::to_owned);
                        return link.ok_or(ClientError::Protocol { expected: "a link" });
                    }
                    // A link that nobody has learned of does no harm.
                    Err(error) => retries.pause(error, true).await?,
                }
            }
        })
        .await
    }
}
