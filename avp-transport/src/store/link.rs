//! Links: ids with a permission to read, which cannot be guessed and expire.

use std::{
    fmt,
    io::{self, Read as _},
    path::Path,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::{Vault, folder::is_id, part};
use crate::files::sync_folder;

/// The file of a folder's key.
const KEY_FILE: &str = ".avp-link-key";

/// The length of the key, in bytes.
const KEY_LEN: usize = 32;

/// The length of a tag, in bytes: half of an HMAC-SHA-256, as RFC 2104 allows.
const TAG_LEN: usize = 16;

/// An id of a stored context with a permission to read it, for whoever has it, until it expires: `ID.EXPIRES.TAG`, with the time in
/// seconds since 1970.
///
/// The tag is an HMAC with a key that never leaves the store, so only the store makes valid links: see [`ContextStore::link`].
///
/// ```
/// use avp_transport::store::ContextLink;
///
/// let link: ContextLink = "7cd9e1bd642cc14659ef4658bb71ba2a.1764320000.00112233445566778899aabbccddeeff".parse()?;
/// assert_eq!(link.id(), "7cd9e1bd642cc14659ef4658bb71ba2a");
/// # Ok::<(), avp_transport::store::NotALink>(())
/// ```
///
/// [`ContextStore::link`]: super::ContextStore::link
#[derive(Clone, PartialEq, Eq)]
pub struct ContextLink {
    id: String,
    expires: u64,
    tag: [u8; TAG_LEN],
}

impl ContextLink {
    /// The id of the context.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for ContextLink {
    type Err = NotALink;

    fn from_str(text: &str) -> Result<Self, NotALink> {
        let mut parts = text.split('.');
        let (Some(id), Some(expires), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotALink);
        };
        let is_number = expires.bytes().all(|byte| byte.is_ascii_digit()) && !expires.starts_with('0');
        let expires = expires.parse().ok().filter(|_| is_number).ok_or(NotALink)?;
        let tag = tag_of_hex(tag).filter(|_| is_id(id)).ok_or(NotALink)?;
        Ok(Self { id: id.to_owned(), expires, tag })
    }
}

impl fmt::Display for ContextLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:032x}", self.id, self.expires, u128::from_be_bytes(self.tag))
    }
}

impl fmt::Debug for ContextLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, expires) = (&self.id, &self.expires);
        f.debug_struct("ContextLink").field("id", id).field("expires", expires).finish_non_exhaustive()
    }
}

/// The text is not a [`ContextLink`]. The error does not show it, because it may be part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a link to a context: its id, a time and a tag of 32 hexadecimal digits, between dots")]
pub struct NotALink;

/// The owner in whose name the key is sealed: no principal's, because the name in a file of tokens has no blank.
const KEY_OWNER: &str = "key of links";

/// The key of a store's links.
pub(super) struct LinkKey {
    key: hmac::Key,
    /// The bytes of a key that lies in the folder.
    kept: Option<[u8; KEY_LEN]>,
}

impl LinkKey {
    /// A key for the life of this process.
    pub(super) fn random() -> Self {
        Self { kept: None, ..Self::new(rand::random()) }
    }

    /// The key in a locked folder, which is created if needed: links outlive the process, as contexts do. In a sealed folder it is sealed,
    /// because it opens every context, and always with the first key. A key that this server cannot open stays where it is.
    pub(super) fn in_folder(folder: &Path, vault: &Vault) -> io::Result<Self> {
        let path = folder.join(KEY_FILE);
        let unreadable =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot read {KEY_FILE}: {error}"));
        if is_gone(&path).map_err(unreadable)? {
            let key = Self::new(rand::random());
            key.seal(folder, vault)?;
            return Ok(key);
        }
        let file = match vault.open(&path, KEY_OWNER) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(
                    %error,
                    "the key of the links stays as it is, and links end with this process; to go on without the links of before, remove \
                     {KEY_FILE}"
                );
                return Ok(Self::random());
            }
            opened => opened.map_err(unreadable)?,
        };
        let is_current = vault.is_current(&file, KEY_OWNER);
        let mut bytes = Vec::new();
        file.take(KEY_LEN as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| {
            let got = bytes.len();
            let message = format!(
                "expected {KEY_LEN} bytes in {KEY_FILE}, got {got} or more; remove it to end the validity of all links"
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        let key = Self::new(bytes);
        if !is_current {
            key.seal(folder, vault)?;
        }
        Ok(key)
    }

    /// Writes the key into its folder anew, sealed with the first key, so that the others can be removed.
    pub(super) fn seal(&self, folder: &Path, vault: &Vault) -> io::Result<()> {
        let Some(bytes) = &self.kept else { return Ok(()) };
        let mut file = part::create(folder)?;
        vault.write(KEY_OWNER, bytes, &mut file)?;
        file.as_file().sync_data()?;
        file.persist(folder.join(KEY_FILE))?;
        sync_folder(folder)
    }

    fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), kept: Some(bytes) }
    }

    /// A link to the context with this id, for `valid_for`.
    pub(super) fn link(&self, id: &str, valid_for: Duration) -> ContextLink {
        let expires = now().saturating_add(valid_for.as_secs());
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hmac::sign(&self.key, &signed(id, expires)).as_ref()[..TAG_LEN]);
        ContextLink { id: id.to_owned(), expires, tag }
    }

    /// Whether the link was made with this key and has not expired.
    pub(super) fn is_valid(&self, link: &ContextLink) -> bool {
        let expected = hmac::sign(&self.key, &signed(&link.id, link.expires));
        bool::from(expected.as_ref()[..TAG_LEN].ct_eq(&link.tag)) && now() < link.expires
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey")
    }
}

/// Whether nothing has this name, not even what cannot be opened.
fn is_gone(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => found.map(|_| false),
    }
}

/// The bytes below a link's tag.
fn signed(id: &str, expires: u64) -> Vec<u8> {
    format!("avp context link v1\n{id}\n{expires}").into_bytes()
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Lower-case digits alone: a link has one spelling.
fn tag_of_hex(text: &str) -> Option<[u8; TAG_LEN]> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_tag = text.len() == 2 * TAG_LEN && text.bytes().all(is_hex);
    u128::from_str_radix(text, 16).ok().filter(|_| is_tag).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7cd9e1bd642cc14659ef4658bb71ba2a";
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_link_is_valid_for_its_key_its_id_and_its_time() {
        let (key, other) = (LinkKey::random(), LinkKey::random());
        let link = key.link(ID, MINUTE);
        assert!(key.is_valid(&link) && !other.is_valid(&link));
        assert_eq!(link.to_string().parse(), Ok(link.clone()));
        assert!(!key.is_valid(&ContextLink { expires: link.expires + 1, ..link.clone() }));
        assert!(!key.is_valid(&ContextLink { id: ID.replace('7', "8"), ..link.clone() }));
        for bit in 0..8 * TAG_LEN {
            let mut forged = link.clone();
            forged.tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.is_valid(&forged), "{bit}");
        }
        assert!(!key.is_valid(&key.link(ID, Duration::ZERO)));
    }

    #[test]
    fn a_link_has_one_spelling_and_a_debug_output_without_the_tag() {
        let tag = "00112233445566778899aabbccddeeff";
        let link: ContextLink = format!("{ID}.1764320000.{tag}").parse().unwrap();
        assert!(!format!("{link:?}").contains(tag));
        for wrong in [
            String::new(),
            ID.to_owned(),
            format!("{ID}.1764320000"),
            format!("{ID}.1764320000.{tag}."),
            format!("{ID}..{tag}"),
            format!("{ID}.+1.{tag}"),
            format!("{ID}.01764320000.{tag}"),
            format!("{ID}.-1.{tag}"),
            format!("{ID}.99999999999999999999.{tag}"),
            format!("{ID}.1764320000.{}", tag.to_uppercase()),
            format!("{ID}.1764320000.+{}", &tag[1..]),
            format!("{}.1764320000.{tag}", &ID[1..]),
        ] {
            assert_eq!(wrong.parse::<ContextLink>(), Err(NotALink), "{wrong}");
        }
    }

    #[test]
    fn the_key_of_a_folder_outlives_the_process_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = |vault: &Vault| LinkKey::in_folder(folder.path(), vault);
        let plain = Vault::default();
        let link = key(&plain).unwrap().link(ID, MINUTE);
        assert!(key(&plain).unwrap().is_valid(&link));
        for damaged in [&b""[..], &[7; 31], &[7; 33]] {
            std::fs::write(folder.path().join(KEY_FILE), damaged).unwrap();
            let error = key(&plain).unwrap_err();
            assert!(error.to_string().contains(KEY_FILE), "{error}");
        }

        std::fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
        let sealed = |digits: &str| Vault::sealed(digits.repeat(32).parse().unwrap());
        let before = key(&sealed("1f")).unwrap().link(ID, MINUTE);
        assert!(key(&sealed("1f")).unwrap().is_valid(&before));
        assert!(key(&plain).is_err(), "it is not told without the keys");
        assert!(!key(&sealed("2e")).unwrap().is_valid(&before));
        assert!(key(&sealed("1f")).unwrap().is_valid(&before), "a wrong key overwrites nothing");
    }

    #[test]
    fn links_outlive_every_key_that_sealed_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let vault = |keys: &[&str]| {
            let lines = keys.iter().map(|digits| digits.repeat(32)).collect::<Vec<_>>();
            Vault::sealed(lines.join("\n").parse().unwrap())
        };
        let key = |keys: &[&str]| LinkKey::in_folder(folder.path(), &vault(keys)).unwrap();
        let link = key(&["1f"]).link(ID, MINUTE);
        assert!(key(&["2e", "1f"]).is_valid(&link));
        assert!(key(&["2e"]).is_valid(&link), "it was sealed anew at the start before");
        key(&["2e"]).seal(folder.path(), &vault(&["3d"])).unwrap();
        assert!(key(&["3d"]).is_valid(&link), "and when the keys were replaced");
    }

    #[test]
    fn a_key_that_is_not_sealed_is_not_trusted_in_a_sealed_folder() {
        let folder = tempfile::tempdir().unwrap();
        let plain = LinkKey::in_folder(folder.path(), &Vault::default()).unwrap();
        let sealed = Vault::sealed("1f".repeat(32).parse().unwrap());
        let other = LinkKey::in_folder(folder.path(), &sealed).unwrap();
        assert!(!other.is_valid(&plain.link(ID, MINUTE)));
        assert!(
            LinkKey::in_folder(folder.path(), &Vault::default()).unwrap().is_valid(&plain.link(ID, MINUTE))
        );
    }
}
