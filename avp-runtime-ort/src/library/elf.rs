//! Whether an ELF file is whole.
//!
//! A loader maps the segments that a file's header names without asking how long the file is; touching what lies
//! beyond the end kills the process (SIGBUS). A download that broke off leaves just such a file.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Gives `(expected, got)` bytes where the file is a 64-bit little-endian ELF that ends before its last segment.
///
/// Any other file gives `None`: the loader reads other formats' headers with care, or refuses them.
///
/// Offsets are those of the System V ABI, "ELF Header" and "Program Header".
pub(super) fn cut_off(path: &Path) -> io::Result<Option<(u64, u64)>> {
    const ELF64_LITTLE_ENDIAN: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
    const HEADER_LEN: usize = 64;
    const ENTRY_LEN: usize = 56;

    let mut file = File::open(path)?;
    let got = file.metadata()?.len();
    let mut header = Vec::with_capacity(HEADER_LEN);
    file.by_ref().take(HEADER_LEN as u64).read_to_end(&mut header)?;
    if !header.starts_with(&ELF64_LITTLE_ENDIAN) {
        return Ok(None);
    }
    if header.len() < HEADER_LEN {
        return Ok(Some((HEADER_LEN as u64, got)));
    }
    let table_start = u64_at(&header, 32);
    let entry_len = u64::from(u16_at(&header, 54));
    let entry_count = u64::from(u16_at(&header, 56));
    if entry_len != ENTRY_LEN as u64 {
        return Ok(None);
    }
    // At most 65,535 entries of 56 bytes.
    let table_len = entry_len * entry_count;
    let table_end = table_start.saturating_add(table_len);
    if table_end > got {
        return Ok(Some((table_end, got)));
    }
    let mut table = Vec::new();
    file.seek(SeekFrom::Start(table_start))?;
    file.take(table_len).read_to_end(&mut table)?;
    let expected = table
        .chunks_exact(ENTRY_LEN)
        .map(|entry| u64_at(entry, 8).saturating_add(u64_at(entry, 32)))
        .max()
        .unwrap_or(table_end);
    Ok((expected > got).then_some((expected, got)))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
