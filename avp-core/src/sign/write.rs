//! Signing frames.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use sha2::{Digest as _, Sha256};

use super::{
    SIGNATURE_LEN, SigningKey,
    entries::{
        MetadataField, NAMES, SIGNATURE, SIGNED_AT, SIGNED_BY, SIGNED_FOR, SIGNED_NONCE, SIGNED_UNTIL,
        metadata_of, next_field,
    },
    message,
};
use crate::{
    DecodeError, EncodeError, Frame, FrameHead, Header, PADDING_KEY, hex,
    metadata::field,
    protobuf::{Writer, map_entry_len},
};

/// The greatest alignment of tensors in a frame, in bytes, which a signature keeps.
const MAX_ALIGNMENT: usize = 4096;

/// What a signature states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignOptions<'a> {
    /// The name of the receiver; `""` for any, which a receiver with a name refuses.
    pub audience: &'a str,
    /// The time, in seconds since 1970.
    pub signed_at: u64,
    /// How long it is valid, in seconds.
    pub valid_for: u64,
    /// 16 bytes of a generator of random numbers, of this signature alone.
    pub nonce: [u8; 16],
}

/// A frame with a signature, in place of one that it may have. The body stays as it is, and as aligned as it was.
///
/// # Errors
///
/// [`SignError::Frame`] where the bytes are not exactly one frame, and those of [`sign_head`].
pub fn sign_frame(frame: &[u8], key: &SigningKey, options: &SignOptions<'_>) -> Result<Vec<u8>, SignError> {
    let body = Frame::decode(frame)?.body();
    let mut signed = sign_head(frame, &Sha256::digest(body).into(), key, options)?;
    signed.extend_from_slice(body);
    Ok(signed)
}

/// The head of a frame with a signature, for a body that has this SHA-256 and follows it unchanged. So a large body need not be in
/// memory. Bytes behind the head are not looked at.
///
/// # Errors
///
/// [`SignError::Frame`] where the bytes do not begin with a head; [`SignError::TooLarge`].
pub fn sign_head(
    bytes: &[u8],
    body_sha256: &[u8; 32],
    key: &SigningKey,
    options: &SignOptions<'_>,
) -> Result<Vec<u8>, SignError> {
    let decoded = FrameHead::decode(bytes)?;
    let head = bytes.get(..decoded.body_offset()).unwrap_or(bytes);
    let mut signed = Vec::with_capacity(head.len() + 512);
    signed.extend_from_slice(&head[..Header::LEN]);
    let is_padded = copy_without_signature(head, &mut signed)?;

    let entries = entries(key, options);
    let entries_len: usize =
        entries.iter().map(|(name, value)| map_entry_len(field::EXTRA, name.len(), value.len())).sum();
    if is_padded {
        pad(&mut signed, entries_len, head.len());
    }
    for (name, value) in &entries {
        append(&mut signed, name, value);
    }
    set_lengths(&mut signed, decoded.header().body_len())?;

    let digest = Sha256::digest(&signed).into();
    let signature = key.sign(&message(&digest, body_sha256));
    // The signature is the last entry, and its value the last part of it.
    let end = signed.len() - 2 * SIGNATURE_LEN;
    signed.truncate(end);
    signed.extend_from_slice(hex::encode(&signature).as_bytes());
    Ok(signed)
}

/// Why a frame was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The bytes are not a frame.
    Frame(DecodeError),
    /// The frame would be longer than a frame can be.
    TooLarge(EncodeError),
}

impl From<DecodeError> for SignError {
    fn from(error: DecodeError) -> Self {
        Self::Frame(error)
    }
}

impl core::fmt::Display for SignError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::TooLarge(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SignError {}

/// Appends the metadata of `head` without a signature and without padding, and returns whether there was padding.
fn copy_without_signature(head: &[u8], signed: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let (mut metadata, mut is_padded) = (metadata_of(head), false);
    while let Some(MetadataField { range, entry }) = next_field(&mut metadata, head.len())? {
        let name = entry.map_or("", |entry| entry.name);
        is_padded |= name == PADDING_KEY;
        if name != PADDING_KEY && !NAMES.contains(&name) {
            signed.extend_from_slice(&head[range]);
        }
    }
    Ok(is_padded)
}

/// The entries of a signature, whose own value is left open.
fn entries(key: &SigningKey, options: &SignOptions<'_>) -> Vec<(&'static str, String)> {
    let mut entries = Vec::with_capacity(NAMES.len());
    entries.push((SIGNED_BY, key.public_key().to_string()));
    if !options.audience.is_empty() {
        entries.push((SIGNED_FOR, String::from(options.audience)));
    }
    entries.push((SIGNED_AT, options.signed_at.to_string()));
    entries.push((SIGNED_UNTIL, until(options).to_string()));
    entries.push((SIGNED_NONCE, hex::encode(&options.nonce)));
    entries.push((SIGNATURE, "0".repeat(2 * SIGNATURE_LEN)));
    entries
}

/// Readers know times of at most 15 digits.
fn until(options: &SignOptions<'_>) -> u64 {
    options.signed_at.saturating_add(options.valid_for).min(999_999_999_999_999)
}

/// Pads a head to which `more` bytes will be added, so that its body is aligned as behind `head_len` bytes.
fn pad(signed: &mut Vec<u8>, more: usize, head_len: usize) {
    let len_with = |spaces| signed.len() + more + map_entry_len(field::EXTRA, PADDING_KEY.len(), spaces);
    let is_aligned = |spaces: &usize| len_with(*spaces) % MAX_ALIGNMENT == head_len % MAX_ALIGNMENT;
    // The length of a length may skip one number, but not twice in a row.
    if let Some(spaces) = (0..2 * MAX_ALIGNMENT).find(is_aligned) {
        append(signed, PADDING_KEY, &" ".repeat(spaces));
    }
}

fn append(head: &mut Vec<u8>, name: &str, value: &str) {
    let start = head.len();
    head.resize(start + map_entry_len(field::EXTRA, name.len(), value.len()), 0);
    Writer::new(&mut head[start..]).map_entry(field::EXTRA, name, value);
}

/// Writes the lengths of the metadata and of the whole into the header.
fn set_lengths(head: &mut [u8], body_len: u32) -> Result<(), SignError> {
    let metadata_len = head.len() - Header::LEN;
    let too_large = || SignError::TooLarge(EncodeError::TooLarge { what: "metadata", len: metadata_len });
    let payload_len = u32::try_from(metadata_len).ok().and_then(|len| body_len.checked_add(len));
    let payload_len = payload_len.ok_or_else(too_large)?;
    head[4..8].copy_from_slice(&payload_len.to_le_bytes());
    head[8..12].copy_from_slice(&(metadata_len as u32).to_le_bytes());
    Ok(())
}
