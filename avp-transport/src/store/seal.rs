//! Sealed files: contexts that are encrypted on the disk, in pieces that can be read alone.
//!
//! A sealed file is a header (8 bytes that name the format, the id of the key, a random salt) and pieces of 1 MiB of the frame, the last
//! one shorter, each followed by its tag of 16 bytes. The cipher is AES-256-GCM; its key is of this file alone, so the number of the
//! piece and a mark of the last one are its nonce, as in STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, 2015). The header is
//! authenticated with each piece.
//!
//! The key of a file comes by HKDF-SHA-256 from the key of its owner and the salt, and the key of an owner from a key of [`SealKeys`].

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    str::FromStr,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};

use super::sha256;

/// The first bytes of a sealed file. Behind `AV`, a frame has its version, which is not `P`.
const MAGIC: [u8; 8] = *b"AVPSEAL1";

/// The length of a header: [`MAGIC`], the id of the key, the salt.
const HEADER_LEN: usize = 8 + KEY_ID_LEN + 32;

type Header = [u8; HEADER_LEN];

const KEY_ID_LEN: usize = 8;

/// The length of a piece of a frame, in bytes.
const PIECE: usize = 1 << 20;

/// The length of a piece in the file, in bytes.
const SEALED_PIECE: usize = PIECE + TAG_LEN;

const TAG_LEN: usize = 16;

/// The memory that writing or reading a sealed file needs at most, in bytes: a piece as it
/// is, sealed, and on its way to the file.
pub(crate) const SEAL_MEMORY: u64 = 4 * PIECE as u64;

/// The keys of sealed contexts: each a line of 64 hexadecimal digits, for everybody or for the one principal whose name stands behind it.
/// Blank lines and those that start with `#` are ignored.
///
/// A context is sealed with the first key of its owner, else with the first key for everybody, and opened with the key that sealed it. So a new
/// key above the others is used from then on, and what was sealed with a key that is removed is unreadable, wherever copies of it are.
///
/// ```
/// use avp_transport::store::SealKeys;
///
/// let (new, old, alice) = ("1f".repeat(32), "2e".repeat(32), "3d".repeat(32));
/// let keys: SealKeys = format!("# since June\n{new}\n{old}\n{alice} alice\n").parse()?;
/// # let _ = keys;
/// # Ok::<(), avp_transport::store::InvalidSealKeys>(())
/// ```
#[derive(Clone)]
pub struct SealKeys(Vec<SealKey>);

#[derive(Clone)]
struct SealKey {
    id: [u8; KEY_ID_LEN],
    secret: Prk,
    /// The principal that it is for; `None` for everybody.
    principal: Option<String>,
}

/// The text has no [`SealKeys`]. The error does not show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealKeys {
    /// A line is not a key.
    #[error(
        "line {line} is not a key: expected 64 hexadecimal digits, of 32 random bytes, and behind them perhaps the name of a principal"
    )]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A key stands on two lines.
    #[error("line {line} repeats a key: everybody's key must not be a principal's too")]
    Repeated {
        /// Its number, from 1.
        line: usize,
    },
    /// Every key is a principal's.
    #[error("expected at least one key for everybody: 64 hexadecimal digits, without a name behind them")]
    NoneForAll,
}

impl FromStr for SealKeys {
    type Err = InvalidSealKeys;

    fn from_str(text: &str) -> Result<Self, InvalidSealKeys> {
        let mut keys: Vec<SealKey> = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let key = SealKey::parse(text).ok_or(InvalidSealKeys::Line { line })?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(InvalidSealKeys::Repeated { line });
            }
            keys.push(key);
        }
        match keys.iter().any(|key| key.principal.is_none()) {
            true => Ok(Self(keys)),
            false => Err(InvalidSealKeys::NoneForAll),
        }
    }
}

impl SealKey {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split_ascii_whitespace();
        let (hex, principal) = (parts.next()?, parts.next().map(str::to_owned));
        let is_whole = parts.next().is_none() && hex.len() == 64 && hex.is_ascii();
        let bytes: Vec<u8> =
            (0..32).map_while(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect();
        if !is_whole || bytes.len() != 32 || hex.contains('+') {
            return None;
        }
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&sha256(&[b"avp seal key", &bytes[..]].concat())[..KEY_ID_LEN]);
        let secret = Salt::new(HKDF_SHA256, b"avp seal keys v1").extract(&bytes);
        Some(Self { id, secret, principal })
    }

    /// The key of a file of `owner`.
    fn file_key(&self, owner: &str, salt: &[u8]) -> io::Result<LessSafeKey> {
        let failed = |_| io::Error::other("cannot derive the key of a context");
        let mut of_owner = [0; 32];
        let info = [b"owner ", owner.as_bytes()];
        self.secret.expand(&info, HKDF_SHA256).and_then(|key| key.fill(&mut of_owner)).map_err(failed)?;
        let of_file = Salt::new(HKDF_SHA256, salt).extract(&of_owner);
        let key = of_file.expand(&[b"file"], &AES_256_GCM).map_err(failed)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl SealKeys {
    /// Begins a sealed file of `owner`.
    pub(super) fn seal(&self, owner: &str) -> io::Result<Sealer> {
        let key = self.current(owner).ok_or_else(|| io::Error::other("no key seals this context"))?;
        let salt = rand::random::<[u8; 32]>();
        let mut header = [0; HEADER_LEN];
        let (magic, rest) = header.split_at_mut(MAGIC.len());
        let (id, rest) = rest.split_at_mut(KEY_ID_LEN);
        magic.copy_from_slice(&MAGIC);
        id.copy_from_slice(&key.id);
        rest.copy_from_slice(&salt);
        let cipher = Cipher { key: key.file_key(owner, &salt)?, header };
        let piece = Vec::with_capacity(SEALED_PIECE);
        Ok(Sealer { cipher, is_new: true, index: 0, piece, sealed: Vec::with_capacity(SEALED_PIECE) })
    }

    /// Whether new files of `owner` are sealed with the key of this one.
    pub(super) fn is_current(&self, file: &SealedFile, owner: &str) -> bool {
        self.current(owner).is_some_and(|key| file.cipher.header[MAGIC.len()..].starts_with(&key.id))
    }

    /// The key of new files of `owner`.
    fn current(&self, owner: &str) -> Option<&SealKey> {
        let own = self.0.iter().find(|key| key.principal.as_deref() == Some(owner));
        own.or_else(|| self.0.iter().find(|key| key.principal.is_none()))
    }

    /// Opens the sealed file of `owner` that begins with `header`.
    fn cipher(&self, owner: &str, header: Header) -> io::Result<Cipher> {
        let (id, salt) = header[MAGIC.len()..].split_at(KEY_ID_LEN);
        let key = self.0.iter().find(|key| key.id == *id).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the key that sealed it is not among the keys")
        })?;
        Ok(Cipher { key: key.file_key(owner, salt)?, header })
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.principal)).finish()
    }
}

/// The number of bytes of the file with a sealed frame of `len` bytes.
pub(super) fn sealed_len(len: u64) -> u64 {
    let tags = len.div_ceil(PIECE as u64).saturating_mul(TAG_LEN as u64);
    len.saturating_add(tags).saturating_add(HEADER_LEN as u64)
}

/// The cipher of one file.
struct Cipher {
    key: LessSafeKey,
    header: Header,
}

impl Cipher {
    fn nonce(index: u64, is_last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&index.to_be_bytes());
        nonce[11] = is_last.into();
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, index: u64, is_last: bool, piece: &mut Vec<u8>) -> io::Result<()> {
        let sealed =
            self.key.seal_in_place_append_tag(Self::nonce(index, is_last), Aad::from(&self.header), piece);
        sealed.map_err(|_| io::Error::other("cannot seal a context"))
    }

    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where the piece is not what was sealed.
    fn open(&self, index: u64, is_last: bool, piece: &mut Vec<u8>) -> io::Result<()> {
        let opened = self.key.open_in_place(Self::nonce(index, is_last), Aad::from(&self.header), piece);
        let len = opened.map_err(|_| changed())?.len();
        piece.truncate(len);
        Ok(())
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it was changed after it was sealed, or is another owner's")
}

/// Seals a frame as it arrives.
pub(crate) struct Sealer {
    cipher: Cipher,
    /// Whether the header has yet to be written.
    is_new: bool,
    index: u64,
    /// The bytes that are not sealed yet: at most a whole piece, because the last one is marked.
    piece: Vec<u8>,
    /// The bytes for the file that have not been taken yet.
    sealed: Vec<u8>,
}

impl Sealer {
    /// Takes more of the frame, and returns the next bytes of the file.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> io::Result<&[u8]> {
        self.begin();
        while !bytes.is_empty() {
            if self.piece.len() == PIECE {
                self.seal_piece(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
        }
        Ok(&self.sealed)
    }

    /// The last bytes of the file.
    pub(crate) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.begin();
        self.seal_piece(true)?;
        Ok(self.sealed)
    }

    fn begin(&mut self) {
        self.sealed.clear();
        if std::mem::take(&mut self.is_new) {
            self.sealed.extend_from_slice(&self.cipher.header);
        }
    }

    fn seal_piece(&mut self, is_last: bool) -> io::Result<()> {
        self.cipher.seal(self.index, is_last, &mut self.piece)?;
        self.index += 1;
        self.sealed.extend_from_slice(&self.piece);
        self.piece.clear();
        Ok(())
    }
}

/// A sealed file, read as the frame in it.
pub(crate) struct SealedFile {
    file: File,
    cipher: Cipher,
    /// The length of the frame, in bytes.
    len: u64,
    position: u64,
    /// The opened piece, and its number.
    piece: Vec<u8>,
    index: Option<u64>,
}

impl SealedFile {
    /// Opens the file of `owner` that begins with `header`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] without its key; [`io::ErrorKind::InvalidData`] where it is too short.
    pub(super) fn open(file: File, header: Header, keys: &SealKeys, owner: &str) -> io::Result<Self> {
        let body = file.metadata()?.len().saturating_sub(HEADER_LEN as u64);
        let tags = body.div_ceil(SEALED_PIECE as u64) * TAG_LEN as u64;
        // No frame is empty.
        let len = body.checked_sub(tags).filter(|len| *len > 0).ok_or_else(changed)?;
        let cipher = keys.cipher(owner, header)?;
        Ok(Self { file, cipher, len, position: 0, piece: Vec::new(), index: None })
    }

    /// The length of the frame, in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Opens the piece with this number.
    fn load(&mut self, index: u64) -> io::Result<()> {
        self.index = None;
        let start = index * PIECE as u64;
        let len = (self.len - start).min(PIECE as u64);
        self.piece.resize(len as usize + TAG_LEN, 0);
        self.file.seek(SeekFrom::Start(HEADER_LEN as u64 + index * SEALED_PIECE as u64))?;
        self.file.read_exact(&mut self.piece)?;
        self.cipher.open(index, start + len == self.len, &mut self.piece)?;
        self.index = Some(index);
        Ok(())
    }
}

impl Read for SealedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        let (index, within) = (self.position / PIECE as u64, (self.position % PIECE as u64) as usize);
        if self.index != Some(index) {
            self.load(index)?;
        }
        let rest = self.piece.get(within..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for SealedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The header of a sealed file that is at its start; `None` for another file, which is at its start again. A header that is cut ends in
/// zeros.
pub(super) fn header_of(file: &mut File) -> io::Result<Option<Header>> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    file.by_ref().take(HEADER_LEN as u64).read_to_end(&mut header)?;
    if !header.starts_with(&MAGIC) {
        file.seek(SeekFrom::Start(0))?;
        return Ok(None);
    }
    header.resize(HEADER_LEN, 0);
    Ok(header.try_into().ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn keys(text: &str) -> SealKeys {
        text.parse().unwrap()
    }

    fn hex(digits: &str) -> String {
        digits.repeat(32)
    }

    fn sealed(keys: &SealKeys, owner: &str, bytes: &[u8]) -> Vec<u8> {
        let mut sealer = keys.seal(owner).unwrap();
        let mut file = Vec::new();
        // In pieces of other lengths than those of the file.
        file.extend_from_slice(sealer.push(b"").unwrap());
        for chunk in bytes.chunks(700_001) {
            file.extend_from_slice(sealer.push(chunk).unwrap());
        }
        file.extend(sealer.finish().unwrap());
        assert_eq!(file.len() as u64, sealed_len(bytes.len() as u64));
        file
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn opened(keys: &SealKeys, owner: &str, file: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = file_of(file);
        let header = header_of(&mut file)?.unwrap();
        let mut sealed = SealedFile::open(file, header, keys, owner)?;
        let mut bytes = Vec::new();
        sealed.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn frame(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn what_is_sealed_is_read_whole_and_in_any_part() {
        let keys = keys(&hex("1f"));
        for len in [1, 12, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 77] {
            let frame = frame(len);
            let file = sealed(&keys, "alice", &frame);
            assert_eq!(opened(&keys, "alice", &file).unwrap(), frame, "{len}");
            let mut part = file_of(&file);
            let header = header_of(&mut part).unwrap().unwrap();
            let mut part = SealedFile::open(part, header, &keys, "alice").unwrap();
            for start in [0, len / 2, len - 1, len] {
                part.seek(SeekFrom::Start(start as u64)).unwrap();
                let mut bytes = vec![0; (len - start).min(5)];
                part.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, frame[start..start + bytes.len()], "{len} from {start}");
            }
        }
    }

    #[test]
    fn what_was_changed_is_refused() {
        let keys = keys(&hex("1f"));
        let file = sealed(&keys, "alice", &frame(2 * PIECE + 5));
        let refused = |file: &[u8]| opened(&keys, "alice", file).unwrap_err().kind();
        for at in [16, HEADER_LEN, HEADER_LEN + PIECE, HEADER_LEN + SEALED_PIECE, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(refused(&changed), io::ErrorKind::InvalidData, "byte {at}");
        }
        let (first, second) = (HEADER_LEN, HEADER_LEN + SEALED_PIECE);
        let swapped = [
            &file[..first],
            &file[second..second + SEALED_PIECE],
            &file[first..second],
            &file[second + SEALED_PIECE..],
        ];
        assert_eq!(refused(&swapped.concat()), io::ErrorKind::InvalidData);
        for end in [
            HEADER_LEN - 1,
            HEADER_LEN,
            HEADER_LEN + 3,
            HEADER_LEN + TAG_LEN,
            second,
            second + SEALED_PIECE,
            file.len() - 1,
        ] {
            assert_eq!(refused(&file[..end]), io::ErrorKind::InvalidData, "cut at {end}");
        }
        assert_eq!(refused(&[&file[..], &[0]].concat()), io::ErrorKind::InvalidData);
        assert_eq!(opened(&keys, "bob", &file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_first_key_of_an_owner_seals_and_the_key_that_sealed_opens() {
        let (new, old, alice) = (hex("1f"), hex("2e"), hex("3d"));
        let before = sealed(&keys(&old), "bob", b"frame");
        let all = keys(&format!("{new}\n{old}\n{alice} alice"));
        assert_eq!(opened(&all, "bob", &before).unwrap(), b"frame");
        let (bobs, hers) = (sealed(&all, "bob", b"frame"), sealed(&all, "alice", b"frame"));
        assert_ne!(bobs, sealed(&all, "bob", b"frame"), "each file has a key of its own");
        let without = |text: String, owner, file: &[u8]| {
            opened(&keys(&text), owner, file).map_err(|error| error.kind())
        };
        assert_eq!(without(format!("{new}\n{alice} alice"), "bob", &before), Err(io::ErrorKind::NotFound));
        assert_eq!(without(format!("{new}\n{old}"), "alice", &hers), Err(io::ErrorKind::NotFound));
        assert_eq!(without(new, "bob", &bobs), Ok(b"frame".to_vec()));
    }

    #[test]
    fn a_frame_is_no_sealed_file() {
        for plain in [&b""[..], b"AV\x01", &[0; 100]] {
            let mut file = file_of(plain);
            assert_eq!(header_of(&mut file).unwrap(), None);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, plain);
        }
    }

    #[test]
    fn keys_are_whole_lines_and_not_shown() {
        let key = hex("1f");
        let error = |text: &str| text.parse::<SealKeys>().unwrap_err();
        assert_eq!(error(&format!("# one\n\n{}", &key[1..])), InvalidSealKeys::Line { line: 3 });
        assert_eq!(error(&format!("{key} alice bob")), InvalidSealKeys::Line { line: 1 });
        assert_eq!(error(&key.replace("1f", "+f")), InvalidSealKeys::Line { line: 1 });
        assert_eq!(error(&"\u{e9}".repeat(32)), InvalidSealKeys::Line { line: 1 });
        assert_eq!(
            error(&format!("{key}\n{} bob", key.to_uppercase())),
            InvalidSealKeys::Repeated { line: 2 }
        );
        for text in [String::new(), format!("{key} alice")] {
            assert_eq!(error(&text), InvalidSealKeys::NoneForAll);
        }
        assert!(!format!("{:?}", keys(&key)).contains("1f"));
    }
}
