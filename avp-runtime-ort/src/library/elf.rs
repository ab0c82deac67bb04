//! ELF headers: whether a file is truncated, and the libraries that it needs.
//!
//! A loader maps the segments of a file's header without checking the file's length; reading beyond the end kills the process
//! (SIGBUS). An interrupted download leaves such a file.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// The expected and actual length in bytes of a 64-bit little-endian ELF that ends before its last segment.
///
/// `None` for any other file: the loader checks the headers of other formats, or refuses them.
///
/// Offsets are those of the System V ABI, "ELF Header" and "Program Header".
pub(super) fn cut_off(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let mut file = File::open(path)?;
    let got = file.metadata()?.len();
    Ok(match Segments::read(&mut file)? {
        Table::NotElf => None,
        Table::BeyondEnd(expected) => Some((expected, got)),
        Table::Here(segments) => {
            let ends = segments.0.iter().map(|segment| segment.offset.saturating_add(segment.file_size));
            ends.max().filter(|&expected| expected > got).map(|expected| (expected, got))
        }
    })
}

/// The libraries that a 64-bit little-endian ELF needs, in the file's order; empty for any other file.
///
/// Tags are those of the System V ABI, "Dynamic Section".
pub(super) fn needed(path: &Path) -> io::Result<Vec<String>> {
    const DYNAMIC: u32 = 2;
    const NEEDED: u64 = 1;
    const STRING_TABLE: u64 = 5;
    /// More than any linker writes: a longer list is invalid.
    const MAX_LEN: u64 = 1 << 24;

    let mut file = File::open(path)?;
    let Table::Here(segments) = Segments::read(&mut file)? else { return Ok(Vec::new()) };
    let Some(dynamic) = segments.0.iter().find(|segment| segment.kind == DYNAMIC) else {
        return Ok(Vec::new());
    };
    let entries = read_at(&mut file, dynamic.offset, dynamic.file_size.min(MAX_LEN))?;
    let entries = entries.chunks_exact(16).map(|entry| (u64_at(entry, 0), u64_at(entry, 8)));
    let strings = entries.clone().find(|&(tag, _)| tag == STRING_TABLE);
    let Some((start, rest)) = strings.and_then(|(_, address)| segments.file_range(address)) else {
        return Ok(Vec::new());
    };
    let strings = read_at(&mut file, start, rest.min(MAX_LEN))?;
    let name = |at: u64| {
        let name = strings.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()?;
        String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
    };
    Ok(entries.filter(|&(tag, _)| tag == NEEDED).filter_map(|(_, at)| name(at)).collect())
}

/// The segments of a file's program headers.
struct Segments(Vec<Segment>);

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

/// The program headers of a file.
enum Table {
    /// Not a 64-bit little-endian ELF, or of an unsupported kind.
    NotElf,
    /// They end at this byte, beyond the end of the file.
    BeyondEnd(u64),
    Here(Segments),
}

impl Segments {
    /// Offsets are those of the System V ABI, "ELF Header" and "Program Header".
    fn read(file: &mut File) -> io::Result<Table> {
        const ELF64_LITTLE_ENDIAN: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
        const HEADER_LEN: usize = 64;
        const ENTRY_LEN: usize = 56;

        let header = read_at(file, 0, HEADER_LEN as u64)?;
        if !header.starts_with(&ELF64_LITTLE_ENDIAN) {
            return Ok(Table::NotElf);
        }
        if header.len() < HEADER_LEN {
            return Ok(Table::BeyondEnd(HEADER_LEN as u64));
        }
        if usize::from(u16_at(&header, 54)) != ENTRY_LEN {
            return Ok(Table::NotElf);
        }
        let start = u64_at(&header, 32);
        // At most 65,535 entries of 56 bytes.
        let len = ENTRY_LEN as u64 * u64::from(u16_at(&header, 56));
        let table = read_at(file, start, len)?;
        if (table.len() as u64) < len {
            return Ok(Table::BeyondEnd(start.saturating_add(len)));
        }
        let segment = |entry: &[u8]| Segment {
            kind: u32_at(entry, 0),
            offset: u64_at(entry, 8),
            address: u64_at(entry, 16),
            file_size: u64_at(entry, 32),
        };
        Ok(Table::Here(Self(table.chunks_exact(ENTRY_LEN).map(segment).collect())))
    }

    /// The file offset of the byte at this address, and the number of bytes that follow in its segment.
    fn file_range(&self, address: u64) -> Option<(u64, u64)> {
        const LOAD: u32 = 1;
        self.0.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            let rest = segment.file_size.checked_sub(into)?;
            Some((segment.offset.checked_add(into)?, rest))
        })
    }
}

/// The bytes at `start`, at most `len` and up to the end of the file.
fn read_at(file: &mut File, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_env = "gnu"))]
    fn the_needs_of_a_program_are_read_in_its_order() {
        let own = std::env::current_exe().unwrap();
        let needed = needed(&own).unwrap();
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
        assert!(needed.iter().all(|name| name.contains(".so")), "{needed:?}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn hostile_bytes_are_read_without_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile");
        let mut own =
            read_at(&mut File::open(std::env::current_exe().unwrap()).unwrap(), 0, 1 << 12).unwrap();
        for at in 0..1024 {
            for value in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut own[at], value);
                std::fs::write(&path, &own).unwrap();
                let _any_answer_will_do = (cut_off(&path).is_ok(), needed(&path).is_ok());
                own[at] = before;
            }
        }
    }
}
