//! A frame with a parsed head, for one or more attempts at sending it.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{Arc, Mutex},
};

use avp_core::{Compression, EncodeError, FrameEncoder, Metadata, OwnedHead};
use bytes::Bytes;

use super::{
    chunks::{Chunks, Feeder, FeederHandle, FileFrom, OnceSlot, ReaderChunks},
    upload::{Meter, Reporter, Upload},
};

/// A frame to send, with its head parsed.
pub(super) struct OutgoingFrame {
    head: OwnedHead,
    /// The head to send.
    head_bytes: Bytes,
    /// The session that replaced the one in `head`.
    session_id: Option<String>,
    body: Body,
    reporter: Reporter,
}

/// The bytes after the head.
pub(super) enum Body {
    Parts(VecDeque<Bytes>),
    File(Arc<Mutex<File>>),
    Borrowed(FeederHandle),
    /// A source that can be read only once.
    Once(OnceSlot),
}

impl OutgoingFrame {
    pub(super) fn new(head: OwnedHead, body: Body, reporter: Reporter) -> Self {
        Self { head_bytes: head.bytes().clone(), head, session_id: None, body, reporter }
    }

    /// The original head.
    pub(super) const fn head(&self) -> &OwnedHead {
        &self.head
    }

    /// The session of the frame to send; `""` for none.
    pub(super) fn session_id(&self) -> &str {
        self.session_id.as_deref().unwrap_or_else(|| self.head.metadata().session_id)
    }

    /// Whether another attempt can send the whole frame.
    pub(super) fn is_whole(&self) -> bool {
        match &self.body {
            Body::Parts(_) | Body::File(_) | Body::Borrowed(_) => true,
            Body::Once(slot) => slot.is_full(),
        }
    }

    /// Moves the frame to another session. The body and the checksum do not change; the alignment does only if the lengths of
    /// the two ids differ.
    pub(super) fn enter(&mut self, session_id: &str) -> Result<(), EncodeError> {
        let head = self.head.head();
        let sum = head.metadata().payload_checksum;
        let compression = if head.is_compressed() { Compression::Fast } else { Compression::None };
        let entered = FrameEncoder::new(Metadata { session_id, ..head.metadata() })
            .dialect(head.dialect().unwrap_or_default())
            .checksum(sum.is_some())
            .compression(compression)
            .encode_head_for(head.header().body_len() as usize, sum.unwrap_or_default())?;
        self.head_bytes = entered.into();
        self.session_id = Some(session_id.to_owned());
        Ok(())
    }

    /// The request body of a new attempt.
    pub(super) fn upload(&self) -> (Upload, Arc<Meter>) {
        let chunks = match &self.body {
            Body::Parts(parts) => Chunks::Memory(parts.clone()),
            Body::File(file) => {
                let from = FileFrom { file: file.clone(), place: self.head.bytes().len() as u64 };
                Chunks::Reader(ReaderChunks::new(Box::new(from)))
            }
            Body::Borrowed(handle) => Feeder::begin(handle),
            Body::Once(slot) => Chunks::Once(slot.clone()),
        };
        let len = self.head_bytes.len() as u64 + u64::from(self.head.header().body_len());
        Upload::new(self.head_bytes.clone(), chunks, len, self.reporter.clone())
    }
}

#[cfg(test)]
mod tests {
    use avp_core::{Dialect, FrameLimits, OwnedFrame, PayloadType};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::client::FrameBody;

    async fn entered(frame: Vec<u8>, session_id: &str) -> Bytes {
        let (mut outgoing, _) = FrameBody::bytes(frame).open(FrameLimits::default()).await.unwrap();
        outgoing.enter(session_id).unwrap();
        outgoing.upload().0.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn entering_a_session_changes_only_the_session() {
        let fields = Metadata {
            session_id: "old",
            payload_type: PayloadType::KvCache,
            avp_map_id: "vocab:0123",
            extra: (&[("num_steps", "8")]).into(),
            ..Default::default()
        };
        for encoder in [
            FrameEncoder::new(fields),
            FrameEncoder::new(fields).compression(Compression::Fast),
            FrameEncoder::new(fields).checksum(false),
            FrameEncoder::new(fields).dialect(Dialect::V0_2),
        ] {
            let body = vec![7; 1000];
            let frame = encoder.encode(&body).unwrap();
            let again = entered(frame.clone(), "new").await;
            let inside = OwnedFrame::decode(again.clone()).unwrap();
            assert_eq!(inside.frame().metadata().session_id, "new");
            assert_eq!(inside.payload(1000), Ok(Bytes::from(body)));
            assert_eq!(entered(again.to_vec(), "old").await, frame);
        }
    }

    #[tokio::test]
    async fn a_reader_is_whole_until_it_is_read() {
        let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let reader = FrameBody::reader(std::io::Cursor::new(frame.clone()));
        let (outgoing, _) = reader.open(FrameLimits::default()).await.unwrap();
        drop(outgoing.upload());
        assert!(outgoing.is_whole());
        let (upload, meter) = outgoing.upload();
        assert_eq!(upload.collect().await.unwrap().to_bytes(), frame);
        assert!(!outgoing.is_whole());
        let (upload, second) = outgoing.upload();
        assert!(upload.collect().await.is_err());
        assert!(meter.take_fault().is_none() && second.take_fault().is_some());
    }
}
