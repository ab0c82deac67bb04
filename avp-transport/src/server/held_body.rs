//! A response that is in memory whole: its bytes are reserved until they are sent or dropped.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};

use super::{
    Caller, NoRoom, ResponseBody,
    admission::{Admission, Room},
};

/// Shorter responses belong to the [memory of a connection](super::CONNECTION_MEMORY): an account that is full must not swallow the
/// answer that says so.
pub(super) const SMALL: u64 = 4 << 10;

/// Reserves the memory of a response for `caller`. A body without a length is read as the client takes it, and is counted by its maker.
///
/// # Errors
/// [`NoRoom`] if the caller may not occupy that much now.
pub(super) fn hold(
    response: Response<ResponseBody>,
    admission: &Admission,
    caller: &Caller,
) -> Result<Response<ResponseBody>, NoRoom> {
    match response.body().size_hint().exact() {
        Some(len) if len > SMALL => {
            let room = Arc::new(admission.memory(caller, len)?);
            Ok(response.map(|body| ResponseBody::new(HeldBody { body, room })))
        }
        _ => Ok(response),
    }
}

/// A body with the memory for it.
struct HeldBody {
    body: ResponseBody,
    room: Arc<Room>,
}

/// Bytes of the body. A connection may hold them when the body has ended, so they have the memory too.
struct HeldBytes {
    bytes: Bytes,
    _room: Arc<Room>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let room = &self.room;
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Bytes::from_owner(HeldBytes { bytes, _room: room.clone() }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::{super::FairShares, *};

    #[tokio::test]
    async fn the_bytes_of_a_response_are_reserved_until_the_last_of_them_is_dropped() {
        let shares = FairShares::new(1 << 20);
        let (admission, caller) = (Admission::new(1, shares.clone()), Caller::at(None));
        let response = |len: u64| Response::new(ResponseBody::from(vec![7; len as usize]));
        let held = hold(response(100_000), &admission, &caller).unwrap();
        assert_eq!((shares.taken(), held.body().size_hint().exact()), (100_000, Some(100_000)));
        let mut body = held.into_body();
        let mut bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.frame().await.is_none());
        drop(body);
        let last = bytes.split_off(99_999);
        drop(bytes);
        assert_eq!(shares.taken(), 100_000, "the connection has yet to send a byte");
        drop(last);
        assert_eq!(shares.taken(), 0);
        drop(hold(response(SMALL), &admission, &caller).unwrap());
        assert!(hold(response(1 << 20), &admission, &caller).is_err());
    }
}
