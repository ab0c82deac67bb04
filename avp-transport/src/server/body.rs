//! A short request body, read on demand.

use std::{fmt, sync::Arc};

use http::StatusCode;

use super::{
    Caller, ErrorResponse,
    admission::{Admission, RequestMemory},
    json_cost::JsonCost,
    request_body::RequestBody,
};
use crate::wire;

/// The body of a request without a frame. It is read on demand, up to the server's limit for JSON and within its
/// [`BodyTimeouts`](super::BodyTimeouts).
///
/// ```
/// use avp_transport::server::{IncomingBody, ErrorResponse};
///
/// async fn shout(body: IncomingBody) -> Result<String, ErrorResponse> {
///     Ok(body.into_text().await?.to_uppercase())
/// }
/// ```
pub struct IncomingBody {
    body: RequestBody,
    is_json: bool,
    limit: usize,
    /// The bytes of the body that the connection may hold.
    window: u64,
    caller: Caller,
    admission: Arc<Admission>,
    memory: RequestMemory,
}

impl IncomingBody {
    pub(super) const fn new(
        body: RequestBody,
        is_json: bool,
        limit: usize,
        window: u64,
        caller: Caller,
        admission: Arc<Admission>,
        memory: RequestMemory,
    ) -> Self {
        Self { body, is_json, limit, window, caller, admission, memory }
    }

    /// The whole body.
    ///
    /// # Errors
    /// 415 where the content type is not that of JSON, 503 where the caller has reached its part of the bodies or of the memory, 413 where
    /// this one exceeds its limit, and those of [`BodyError`](super::BodyError).
    pub async fn into_bytes(mut self) -> Result<Vec<u8>, ErrorResponse> {
        if !self.is_json {
            return Err(ErrorResponse::content_type("not_json", wire::JSON));
        }
        let _permit = self.admission.admit(&self.caller, self.window)?;
        let mut room = self.admission.memory(&self.caller, 0)?;
        let (mut whole, mut cost) = (Vec::new(), JsonCost::default());
        while let Some(bytes) = self.body.chunk().await? {
            if whole.len() + bytes.len() > self.limit {
                return Err(ErrorResponse::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "json_too_large",
                    format!("the JSON exceeds the limit of {} bytes", self.limit),
                ));
            }
            cost.feed(&bytes);
            room.cover(cost.memory())?;
            whole.extend_from_slice(&bytes);
        }
        self.memory.hold(room);
        Ok(whole)
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// Those of [`into_bytes`](Self::into_bytes), and 400 where the body is not UTF-8.
    pub async fn into_text(self) -> Result<String, ErrorResponse> {
        String::from_utf8(self.into_bytes().await?).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ErrorResponse::bad_request("bad_utf8", format!("the JSON is not UTF-8 at byte {at}"))
        })
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingBody").field("limit", &self.limit).finish_non_exhaustive()
    }
}
