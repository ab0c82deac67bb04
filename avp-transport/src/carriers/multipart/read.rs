//! Reading a whole `multipart/related` body.

use avp_core::OwnedFrame;
use bytes::Bytes;
use mime::Mime;
use serde_json::Value;

use super::{ContentId, delimiters::Delimiters};
use crate::{
    carriers::{
        CarrierError, Limits,
        json::{self, check_size, is_frame_type, wrong},
    },
    wire,
};

/// Maximum length of a part's headers, in bytes.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// Maximum number of a part's headers.
const MAX_HEADERS: usize = 16;

/// A parsed `multipart/related` body. The parts share its memory.
#[derive(Debug, Clone)]
pub struct Related {
    parts: Vec<RelatedPart>,
    root: usize,
    limits: Limits,
}

/// A part of a body.
#[derive(Clone, PartialEq, Eq)]
pub struct RelatedPart {
    /// Its id, if it has one.
    pub content_id: Option<ContentId>,
    /// Its media type, if it has one.
    pub content_type: Option<String>,
    /// Its content.
    pub body: Bytes,
}

impl Related {
    /// Parses a whole body with this `Content-Type`.
    ///
    /// # Errors
    /// [`CarrierError`] if the type is not `multipart/related`, the body is truncated or malformed, two parts have the same
    /// id, a part is encoded in base64 or quoted-printable, or there are more parts than the limit.
    pub fn read(content_type: &str, body: Bytes, limits: &Limits) -> Result<Self, CarrierError> {
        let bad = wrong("Content-Type", "multipart/related with a boundary", "another type");
        let mime: Mime = content_type.parse().map_err(|_| bad)?;
        if mime.essence_str() != "multipart/related" {
            return Err(bad);
        }
        let delimiters = Delimiters::new(mime.get_param(mime::BOUNDARY).ok_or(bad)?.as_str())?;
        let parts = parse_parts(&delimiters, &body, limits)?;
        let root = match mime.get_param("start") {
            None => 0,
            Some(start) => {
                let id = Some(ContentId::from_header(start.as_str())?);
                let place = parts.iter().position(|part| part.content_id == id);
                place.ok_or(wrong("start", "the id of a part", "another id"))?
            }
        };
        Ok(Self { parts, root, limits: *limits })
    }

    /// The root part: the one that `start` in the `Content-Type` names, or else the first.
    #[must_use]
    pub fn root(&self) -> &RelatedPart {
        &self.parts[self.root]
    }

    /// All parts in order, at least one.
    #[must_use]
    pub fn parts(&self) -> &[RelatedPart] {
        &self.parts
    }

    /// The JSON of the root part.
    ///
    /// # Errors
    /// [`CarrierError`] if it exceeds the limit, has another media type, or is not JSON.
    pub fn root_json(&self) -> Result<Value, CarrierError> {
        let root = self.root();
        check_size("root", root.body.len(), self.limits.json)?;
        if !root.content_type.as_deref().is_some_and(is_json_type) {
            return Err(wrong("root", wire::JSON, "another type"));
        }
        serde_json::from_slice(&root.body).map_err(|_| wrong("root", "JSON", "invalid JSON"))
    }

    /// The frame in the part with this id.
    ///
    /// # Errors
    /// [`CarrierError`] if no part has this id, or its content is not a frame.
    pub fn frame(&self, id: &ContentId) -> Result<OwnedFrame, CarrierError> {
        let part = self.parts.iter().find(|part| part.content_id.as_ref() == Some(id));
        let part = part.ok_or(wrong("Content-ID", "the id of a part", "another id"))?;
        if !part.content_type.as_deref().is_some_and(is_frame_type) {
            return Err(wrong("Content-Type", wire::FRAME, "another type"));
        }
        json::frame("part", part.body.clone(), &self.limits)
    }
}

// A derived `Debug` would print the payload.
impl std::fmt::Debug for RelatedPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { content_id, content_type, body } = self;
        write!(f, "RelatedPart({content_id:?}, {content_type:?}, {} bytes)", body.len())
    }
}

fn parse_parts(
    delimiters: &Delimiters,
    body: &Bytes,
    limits: &Limits,
) -> Result<Vec<RelatedPart>, CarrierError> {
    let mut parts: Vec<RelatedPart> = Vec::new();
    let mut last = delimiters.first(body)?;
    while !last.closes {
        check_size("parts", parts.len() + 1, limits.parts)?;
        // The line break of one delimiter may begin the next: a part without headers and body.
        let next = delimiters.next(body, last.end - 2)?;
        let part = read_part(&body.slice(last.end.min(next.start)..next.start), last.end)?;
        if part.content_id.is_some() && parts.iter().any(|other| other.content_id == part.content_id) {
            return Err(wrong("Content-ID", "a unique id for each part", "a duplicate"));
        }
        parts.push(part);
        last = next;
    }
    if parts.is_empty() {
        return Err(CarrierError::Multipart {
            expected: "a part",
            got: "the last boundary",
            offset: last.start,
        });
    }
    Ok(parts)
}

/// Parses `bytes`, at `offset` in the body, as a part.
fn read_part(bytes: &Bytes, offset: usize) -> Result<RelatedPart, CarrierError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let head = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let (start, headers) = match httparse::parse_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) | Err(_) => {
            let expected = "at most 16 headers in 8 KiB, and an empty line";
            return Err(CarrierError::Multipart { expected, got: "other bytes", offset });
        }
    };
    let header = |name: &'static str| {
        let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (Some(header), None) => match std::str::from_utf8(header.value) {
                Ok(value) => Ok(Some(value.trim())),
                Err(_) => Err(wrong(name, "UTF-8", "other bytes")),
            },
            (Some(_), Some(_)) => Err(wrong(name, "one header", "two")),
            (None, _) => Ok(None),
        }
    };
    let identity = ["binary", "8bit", "7bit"];
    let encoding = header("Content-Transfer-Encoding")?;
    if encoding.is_some_and(|encoding| !identity.iter().any(|plain| encoding.eq_ignore_ascii_case(plain))) {
        return Err(wrong("Content-Transfer-Encoding", "binary", "another encoding"));
    }
    Ok(RelatedPart {
        content_id: header("Content-ID")?.map(ContentId::from_header).transpose()?,
        content_type: header("Content-Type")?.map(str::to_owned),
        body: bytes.slice(start..),
    })
}

fn is_json_type(text: &str) -> bool {
    let Ok(mime) = text.parse::<Mime>() else { return false };
    mime.essence_str() == wire::JSON || mime.suffix() == Some(mime::JSON)
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, Metadata};
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::RelatedBody, *};
    use crate::carriers::{Content, a2a};

    const TYPE: &str = "multipart/related; boundary=b";

    /// What bodies are made of, right ones and wrong ones.
    const PIECES: [&[u8]; 10] = [
        b"--b",
        b"\r\n--b",
        b"--",
        b"\r\n",
        b"\r",
        b" ",
        b"Content-ID: <a@b>",
        b"Content-Type: a/b",
        b"X: y\r\n\r\n",
        b"\xff\0",
    ];

    fn frame(body: &[u8]) -> OwnedFrame {
        let bytes = FrameEncoder::new(Metadata::default()).encode(body).unwrap();
        OwnedFrame::decode(bytes.into()).unwrap()
    }

    fn id(text: &str) -> ContentId {
        ContentId::new(text).unwrap()
    }

    fn read(content_type: &str, body: &[u8]) -> Result<Related, CarrierError> {
        Related::read(content_type, Bytes::copy_from_slice(body), &Limits::default())
    }

    fn bodies(body: &[u8]) -> Vec<Bytes> {
        read(TYPE, body).unwrap().parts.into_iter().map(|part| part.body).collect()
    }

    #[test]
    fn a_frame_is_a_slice_of_the_body_it_came_in() {
        let frame = frame(&[7; 1000]);
        let root = json!({ "parts": [a2a::attached_part(&id("f@a"))] });
        let sent = RelatedBody::new(&root, &id("f@a"), &frame);
        assert_eq!(sent.chunks()[1].as_ptr(), frame.bytes().as_ptr());
        let body = Bytes::from(sent.chunks().concat());
        assert_eq!(sent.content_length(), body.len() as u64);

        let related =
            Related::read(sent.content_type().to_str().unwrap(), body.clone(), &Limits::default()).unwrap();
        let [Content::Attached(named)] =
            &a2a::read_parts(&related.root_json().unwrap(), &Limits::default()).unwrap()[..]
        else {
            panic!("nothing attached");
        };
        let received = related.frame(named).unwrap();
        assert_eq!(received, frame);
        assert!(body.as_ptr_range().contains(&received.bytes().as_ptr()));
    }

    #[test]
    fn parts_end_before_the_break_of_the_line_that_ends_them() {
        assert_eq!(bodies(b"--b\r\n\r\none\r\n\r\n--b\r\n\r\n\r\n--b--"), [&b"one\r\n"[..], b""]);
        assert_eq!(
            bodies(b"for mail programs\r\n--b\r\nX: y\r\n\r\none\r\n--b--\r\nthe rest\r\n--b\r\n"),
            [&b"one"[..]]
        );
        // A line of another boundary, and ours with no break before it, are content.
        assert_eq!(bodies(b"--b\r\n\r\n\r\n--c\r\nx--b\r\n--b--"), [&b"\r\n--c\r\nx--b"[..]]);
    }

    #[test]
    fn the_root_is_the_first_part_or_the_one_that_is_named() {
        let body = b"--b\r\nContent-ID: <one@a>\r\n\r\n1\r\n--b\r\nContent-ID: <two@a>\r\n\r\n2\r\n--b--";
        let root = |content_type: &str| read(content_type, body).map(|related| related.root().body.clone());
        assert_eq!(root(TYPE).unwrap(), "1");
        assert_eq!(root("Multipart/Related; Boundary=\"b\"").unwrap(), "1");
        assert_eq!(root(&format!("{TYPE}; start=\"<two@a>\"; type=\"text/plain\"")).unwrap(), "2");
        assert_eq!(root(&format!("{TYPE}; start=\"<three@a>\"")).unwrap_err().kind(), "bad_field");
    }

    #[test]
    fn another_type_or_boundary_is_refused() {
        for content_type in [
            "",
            "application/json",
            "multipart/form-data; boundary=b",
            "multipart/related",
            "multipart/related; boundary=\"\"",
            "multipart/related; boundary=\"b \"",
        ] {
            let error = read(content_type, b"--b\r\n\r\n1\r\n--b--").unwrap_err();
            assert_eq!(error.kind(), "bad_field", "{content_type}");
        }
    }

    #[test]
    fn a_body_that_is_not_put_together_is_refused_by_its_place() {
        for (body, offset) in [
            (&b""[..], 0),
            (b"no boundary", 11),
            (b"--b--", 0),
            (b"--b\r\n\r\n1", 8),
            (b"--b\r\n\r\n1\r\n--bc\r\n", 13),
            (b"--b\r\n--b--", 5),
            (b"--b\r\nX: y\r\n--b--", 5),
            (b"--b\r\nX y\r\n\r\n1\r\n--b--", 5),
        ] {
            match read(TYPE, body) {
                Err(CarrierError::Multipart { offset: told, .. }) => assert_eq!(told, offset),
                other => panic!("{:?} gave {other:?}", body.escape_ascii().to_string()),
            }
        }
    }

    #[test]
    fn headers_that_contradict_each_other_or_ask_for_decoding_are_refused() {
        for headers in [
            "Content-ID: <a@b>\r\nContent-ID: <a@b>",
            "Content-ID: a@b",
            "Content-Type: a/b\r\nContent-Type: a/c",
            "Content-Transfer-Encoding: base64",
            "Content-Transfer-Encoding: quoted-printable",
        ] {
            let body = format!("--b\r\n{headers}\r\n\r\n1\r\n--b--");
            assert_eq!(read(TYPE, body.as_bytes()).unwrap_err().kind(), "bad_field", "{headers}");
        }
        let twice = b"--b\r\nContent-ID: <a@b>\r\n\r\n1\r\n--b\r\nContent-ID: <a@b>\r\n\r\n2\r\n--b--";
        assert_eq!(read(TYPE, twice).unwrap_err().kind(), "bad_field");
        let long = format!("--b\r\nX: {}\r\n\r\n1\r\n--b--", "y".repeat(MAX_HEADER_BYTES));
        assert_eq!(read(TYPE, long.as_bytes()).unwrap_err().kind(), "bad_multipart");
        let many = format!("--b\r\n{}\r\n1\r\n--b--", "X: y\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(read(TYPE, many.as_bytes()).unwrap_err().kind(), "bad_multipart");
    }

    #[test]
    fn limits_on_parts_and_json_hold_to_the_unit() {
        let body = Bytes::from_static(
            b"--b\r\nContent-Type: application/a2a+json\r\n\r\n[1]\r\n--b\r\n\r\n2\r\n--b--",
        );
        let read = |limits: &Limits| Related::read(TYPE, body.clone(), limits);
        let tight = Limits { parts: 2, json: 3, ..Default::default() };
        assert_eq!(read(&tight).unwrap().root_json(), Ok(json!([1])));
        assert_eq!(read(&Limits { json: 2, ..tight }).unwrap().root_json().unwrap_err().kind(), "too_large");
        assert_eq!(read(&Limits { parts: 1, ..tight }).unwrap_err().kind(), "too_large");
    }

    #[test]
    fn a_frame_is_taken_only_from_a_part_of_its_type_that_holds_one() {
        let frame = frame(b"tensor");
        let part = |name: &str, content_type: &str, body: &[u8]| {
            [
                format!("--b\r\nContent-ID: <{name}>\r\nContent-Type: {content_type}\r\n\r\n").as_bytes(),
                body,
                b"\r\n",
            ]
            .concat()
        };
        let body = [
            part("good@a", wire::FRAME, frame.bytes()),
            part("text@a", "text/plain", frame.bytes()),
            part("short@a", wire::FRAME, &frame.bytes()[1..]),
            b"--b--".to_vec(),
        ]
        .concat();
        let related = read(TYPE, &body).unwrap();
        assert_eq!(related.frame(&id("good@a")), Ok(frame));
        for (name, kind) in [("none@a", "bad_field"), ("text@a", "bad_field"), ("short@a", "bad_magic")] {
            assert_eq!(related.frame(&id(name)).unwrap_err().kind(), kind, "{name}");
        }
        assert_eq!(related.root_json().unwrap_err().kind(), "bad_field");
    }

    proptest! {
        #[test]
        fn any_body_comes_out_as_it_went_in(body: Vec<u8>, text in "\\PC{0,20}") {
            let (frame, root) = (frame(&body), json!({ "text": text }));
            let sent = RelatedBody::new(&root, &id("f@a"), &frame);
            let related = read(sent.content_type().to_str().unwrap(), &sent.chunks().concat()).unwrap();
            prop_assert_eq!(related.root_json().unwrap(), root);
            prop_assert_eq!(related.frame(&id("f@a")).unwrap(), frame);
        }

        #[test]
        fn no_body_makes_the_reader_panic_or_look_outside(
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..20),
        ) {
            let body = pieces.concat();
            if let Ok(related) = read(TYPE, &body) {
                let held: usize = related.parts().iter().map(|part| part.body.len()).sum();
                prop_assert!(held < body.len());
                let _ = (related.root_json(), related.frame(&id("a@b")));
            }
        }
    }
}
