//! A short body that a client is sending: read to its end, or left.

use std::{fmt, sync::Arc};

use http::StatusCode;

use super::{Refusal, admission::Admission, source::Source};

/// The body of a request that carries no frame. Nothing of it is read before it is asked for, and no more of it than the
/// server's limit for JSON, at the pace that the server waits for.
///
/// ```
/// # use avp_transport::server::{IncomingBody, Refusal};
/// async fn shout(body: IncomingBody) -> Result<String, Refusal> {
///     Ok(body.into_text().await?.to_uppercase())
/// }
/// ```
pub struct IncomingBody {
    source: Source,
    limit: usize,
    admission: Arc<Admission>,
}

impl IncomingBody {
    pub(super) const fn new(source: Source, limit: usize, admission: Arc<Admission>) -> Self {
        Self { source, limit, admission }
    }

    /// All of it.
    ///
    /// # Errors
    /// 503 where the server is receiving as many bodies as it may, 413 where it is longer than the limit; and as a [`BodyError`](super::BodyError) where it does not arrive.
    pub async fn into_bytes(mut self) -> Result<Vec<u8>, Refusal> {
        let _place = self.admission.admit()?;
        let mut body = Vec::new();
        while let Some(bytes) = self.source.chunk().await? {
            if body.len() + bytes.len() > self.limit {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "json_too_large",
                    format!("the JSON is longer than the limit of {} bytes", self.limit),
                ));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// All of it, as text.
    ///
    /// # Errors
    /// As [`into_bytes`](Self::into_bytes), and 400 where it is not UTF-8.
    pub async fn into_text(self) -> Result<String, Refusal> {
        String::from_utf8(self.into_bytes().await?).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Refusal::bad_request("bad_utf8", format!("the JSON is not UTF-8 at byte {at}"))
        })
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingBody").field("limit", &self.limit).finish_non_exhaustive()
    }
}
