//! The id of a part, in its header and in URLs.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::carriers::{CarrierError, json::wrong};

const SCHEME: &str = "cid:";

/// The characters of ids that a URL must percent-encode: those that are not `pchar` in RFC 3986.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b'%')
    .add(b'#')
    .add(b'?')
    .add(b'/')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The id of a part in a `multipart/related` body.
///
/// ```
/// use avp_transport::carriers::multipart::ContentId;
///
/// let id = ContentId::new("frame/1@a.example")?;
/// assert_eq!(id.header(), "<frame/1@a.example>");
/// assert_eq!(id.url(), "cid:frame%2F1@a.example");
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
///
/// Visible ASCII without `<`, `>`, `"`, `\`, `(`, `)` and `,`. It should have the form `name@domain`
/// and be globally unique; readers do not require either.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentId(String);

impl ContentId {
    /// Creates an id from a string without angle brackets.
    ///
    /// # Errors
    /// [`CarrierError::Field`] if it is empty or has another character.
    pub fn new(id: impl Into<String>) -> Result<Self, CarrierError> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"<>\"\\(),".contains(&byte);
        if id.is_empty() || !id.bytes().all(allowed) {
            return Err(wrong("Content-ID", "an id in visible ASCII", "another string"));
        }
        Ok(Self(id))
    }

    /// The id in a `Content-ID` header.
    ///
    /// # Errors
    /// [`CarrierError::Field`] if the value is not an id in angle brackets.
    pub fn from_header(value: &str) -> Result<Self, CarrierError> {
        let id = value.trim().strip_prefix('<').and_then(|value| value.strip_suffix('>'));
        Self::new(id.ok_or(wrong("Content-ID", "an id in angle brackets", "another string"))?)
    }

    /// The id in a `cid:` URL; `None` for another scheme.
    ///
    /// # Errors
    /// [`CarrierError::Field`] for a `cid:` URL without a valid id.
    pub fn from_url(url: &str) -> Result<Option<Self>, CarrierError> {
        let Some(scheme) = url.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
        else {
            return Ok(None);
        };
        let id = percent_decode_str(&url[scheme.len()..]).decode_utf8_lossy();
        Self::new(id).map(Some)
    }

    /// The value of a `Content-ID` header.
    #[must_use]
    pub fn header(&self) -> String {
        format!("<{}>", self.0)
    }

    /// The `cid:` URL by which another part refers to this one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{SCHEME}{}", utf8_percent_encode(&self.0, ENCODED))
    }

    /// The id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_would_break_its_header_or_its_address_is_refused() {
        for id in ["", "a b", "a\r\nX: y", "a>b", "\"a\"", "ä@b", "a\0"] {
            assert_eq!(ContentId::new(id).unwrap_err().kind(), "bad_field", "{id:?}");
        }
        for header in ["a@b", "<a@b", "a@b>", "<>", "<<a@b>>", ""] {
            assert_eq!(ContentId::from_header(header).unwrap_err().kind(), "bad_field", "{header:?}");
        }
        for url in ["cid:", "cid:a%20b", "cid:%00", "cid:%ff"] {
            assert_eq!(ContentId::from_url(url).unwrap_err().kind(), "bad_field", "{url:?}");
        }
        for url in ["", "ci", "https://a.example/", "mid:a@b", "ä:a@b"] {
            assert_eq!(ContentId::from_url(url), Ok(None), "{url:?}");
        }
    }

    #[test]
    fn the_example_of_rfc_2392_is_read() {
        let id = ContentId::from_header("<foo4%foo1@bar.net>").unwrap();
        assert_eq!(ContentId::from_url("cid:foo4%25foo1@bar.net"), Ok(Some(id.clone())));
        assert_eq!(id.url(), "cid:foo4%25foo1@bar.net");
    }

    proptest! {
        #[test]
        fn an_id_is_the_same_in_its_header_and_in_its_address(id in "[!#-'*+./0-;=?-\\[\\]-~-]{1,20}") {
            let id = ContentId::new(id).unwrap();
            prop_assert_eq!(ContentId::from_header(&id.header()), Ok(id.clone()));
            prop_assert_eq!(ContentId::from_url(&id.url()), Ok(Some(id)));
        }

        #[test]
        fn no_address_makes_the_reader_panic(url in "\\PC{0,9}") {
            let _ = ContentId::from_url(&url);
            let _ = ContentId::from_url(&format!("cid:{url}"));
        }
    }
}
