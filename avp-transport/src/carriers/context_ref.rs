//! A reference to a stored context.

use avp_core::{DecodeError, OwnedFrame, OwnedModelIdentity};
use serde_json::{Map, Value};
use url::Url;

use super::{
    CarrierError,
    json::{Object, fetchable, to_value, wrong},
};

/// A reference to a stored context: the URL of its frame, and a description that needs no fetch.
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// use avp_transport::carriers::ContextRef;
///
/// let frame = OwnedFrame::decode(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into())?;
/// let context = ContextRef::new("https://a.example/avp/v2/contexts/c1".parse()?)?.describing(&frame);
/// assert_eq!(context.id, "c1");
/// context.verify(&frame)?; // after fetching it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In JSON, all fields but the URL are one object with these names; `None` is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRef {
    url: Url,
    /// The context's id in its store.
    pub id: String,
    /// Length of the frame, in bytes.
    pub size: Option<u64>,
    /// CRC-32 (IEEE) of the uncompressed body, as in the frame's metadata.
    pub crc32: Option<u32>,
    /// The `ETag` of the store's response, with quotes.
    pub etag: Option<String>,
    /// The model that computed the context, as in a handshake.
    pub identity: Option<OwnedModelIdentity>,
    /// The session of the context.
    pub session_id: Option<String>,
}

impl ContextRef {
    /// A reference without a description. The id is the last segment of the URL's path.
    ///
    /// # Errors
    /// [`CarrierError::Field`] if the URL is not `http` or `https`, or has a user name or a password.
    pub fn new(url: Url) -> Result<Self, CarrierError> {
        let url = fetchable(url, "url")?;
        let id = url.path().rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default().to_owned();
        Ok(Self { url, id, size: None, crc32: None, etag: None, identity: None, session_id: None })
    }

    /// Sets size, checksum and session from the frame.
    #[must_use]
    pub fn describing(mut self, frame: &OwnedFrame) -> Self {
        let view = frame.frame();
        self.size = Some(frame.bytes().len() as u64);
        self.crc32 = view.metadata().payload_checksum;
        self.session_id = Some(view.metadata().session_id).filter(|id| !id.is_empty()).map(str::to_owned);
        self
    }

    /// The URL of the frame: `http` or `https`, without user name and password.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Checks that `frame`, fetched from the URL, has the size and the checksum of the reference.
    ///
    /// The checksum is that of the frame's metadata. Whether the body matches it is verified when the body is read.
    ///
    /// # Errors
    /// [`CarrierError::Frame`] for another checksum; [`CarrierError::Field`] for another size, or if the frame has no
    /// checksum but the reference has.
    pub fn verify(&self, frame: &OwnedFrame) -> Result<(), CarrierError> {
        if self.size.is_some_and(|size| size != frame.bytes().len() as u64) {
            return Err(wrong("size", "the length of the frame", "another number"));
        }
        let Some(expected) = self.crc32 else { return Ok(()) };
        let view = frame.frame();
        match view.metadata().payload_checksum {
            Some(actual) if actual == expected => Ok(()),
            Some(actual) => {
                let error = DecodeError::ChecksumMismatch { expected, actual, offset: view.body_offset() };
                Err(CarrierError::Frame { field: "crc32", error })
            }
            None => Err(wrong("crc32", "a frame with this checksum", "a frame without a checksum")),
        }
    }

    /// All fields but the URL.
    pub(super) fn details(&self) -> Value {
        let mut details = Map::new();
        details.insert("id".to_owned(), self.id.as_str().into());
        let entries = [
            ("size", self.size.map(Value::from)),
            ("crc32", self.crc32.map(Value::from)),
            ("etag", self.etag.as_deref().map(Value::from)),
            ("session_id", self.session_id.as_deref().map(Value::from)),
            ("identity", self.identity.as_ref().map(to_value)),
        ];
        details.extend(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Value::Object(details)
    }

    /// Sets the fields that `details` has.
    pub(super) fn with_details(mut self, details: Option<Object<'_>>) -> Result<Self, CarrierError> {
        let Some(details) = details else { return Ok(self) };
        let owned = |field| details.text(field).map(|text| text.map(str::to_owned));
        if let Some(id) = owned("id")? {
            self.id = id;
        }
        self.size = details.integer("size")?.or(self.size);
        self.crc32 = details.u32("crc32")?;
        self.etag = owned("etag")?;
        self.session_id = owned("session_id")?;
        self.identity = details.identity("identity")?;
        Ok(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use avp_core::{FrameEncoder, Metadata};
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::Limits, *};

    /// Any reference.
    pub(in super::super) fn any_context() -> impl Strategy<Value = ContextRef> {
        let identity = ("\\PC{0,9}", any::<u32>(), "[0-9a-f]{0,9}").prop_map(|(text, number, hash)| {
            OwnedModelIdentity {
                model_family: text.clone(),
                model_id: text,
                hidden_dim: number,
                head_dim: number / 2,
                tokenizer_hash: hash,
                ..Default::default()
            }
        });
        let text = || proptest::option::of("\\PC{0,9}");
        let numbers = (proptest::option::of(0..=1_u64 << 53), proptest::option::of(any::<u32>()));
        ("\\PC{0,9}", numbers, text(), text(), proptest::option::of(identity)).prop_map(
            |(id, (size, crc32), etag, session_id, identity)| {
                let url = "https://a.example/avp/v2/contexts/c1?x=1".parse().unwrap();
                ContextRef { id, size, crc32, etag, session_id, identity, ..ContextRef::new(url).unwrap() }
            },
        )
    }

    fn frame(body: &[u8]) -> OwnedFrame {
        let bytes = FrameEncoder::new(Metadata::default()).encode(body).unwrap();
        OwnedFrame::decode(bytes.into()).unwrap()
    }

    #[test]
    fn another_frame_than_the_one_meant_is_refused() {
        let url: Url = "http://localhost:8000/avp/v2/contexts/c1/".parse().unwrap();
        let context = ContextRef::new(url).unwrap();
        assert_eq!((context.id.as_str(), context.verify(&frame(b"any"))), ("c1", Ok(())));
        let context = context.describing(&frame(b"tensor"));
        assert_eq!(context.verify(&frame(b"tensor")), Ok(()));
        assert_eq!(context.verify(&frame(b"tensOr")).unwrap_err().kind(), "checksum_mismatch");
        assert_eq!(context.verify(&frame(b"tensors")).unwrap_err().kind(), "bad_field");
    }

    #[test]
    fn details_of_another_type_are_refused_by_name() {
        let limits = Limits::default();
        for (field, value) in [
            ("id", json!(1)),
            ("size", json!("1")),
            ("crc32", json!(1_u64 << 32)),
            ("etag", json!({})),
            ("identity", json!("qwen2")),
            ("identity", json!({ "hidden_dim": -1 })),
        ] {
            let url = "https://a.example/c1".parse().unwrap();
            let value = json!({ field: value });
            let details = Object::of(&value, "metadata", &limits).unwrap();
            let error = ContextRef::new(url).unwrap().with_details(Some(details)).unwrap_err();
            assert_eq!(error.kind(), "bad_field", "{value}");
        }
    }
}
