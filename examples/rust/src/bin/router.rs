//! A router without an allocator: it reads a frame's head and forwards the frame to the file of its target agent.
//!
//! `cargo run -p avp-examples --bin router -- reader=reader.avp writer=writer.avp < frame.avp`

use std::{
    error::Error,
    fs::File,
    io::{self, Read, Write},
};

use avp_core::{FrameHead, Header, Metadata};

/// Room for a head with 16 KiB of metadata, or for a piece of the body.
const BUFFER: usize = Header::LEN + (16 << 10);

fn main() -> Result<(), Box<dyn Error>> {
    let routes: Vec<String> = std::env::args().skip(1).collect();
    let to = forward(&mut io::stdin().lock(), |metadata| {
        let routes = routes.iter().filter_map(|route| route.split_once('='));
        let file = routes.into_iter().find(|(agent, _)| *agent == metadata.target_agent_id)?.1;
        Some(File::create(file))
    })?;
    to.sync_all()?;
    Ok(())
}

/// Reads the head of a frame, opens its route, and copies the frame there, in constant memory and without allocation.
fn forward<W: Write>(
    frame: &mut impl Read,
    route: impl FnOnce(&Metadata<'_>) -> Option<io::Result<W>>,
) -> io::Result<W> {
    let mut buffer = [0; BUFFER];
    frame.read_exact(&mut buffer[..Header::LEN])?;
    let header = Header::decode(&buffer).map_err(invalid)?;
    let head_len = Header::LEN + header.metadata_len() as usize;
    let bytes = buffer.get_mut(..head_len).ok_or_else(|| invalid("the metadata is longer than 16 KiB"))?;
    frame.read_exact(&mut bytes[Header::LEN..])?;

    let head = FrameHead::decode(bytes).map_err(invalid)?;
    let no_route = || io::Error::new(io::ErrorKind::NotFound, "no route for the frame's target agent");
    let mut to = route(&head.metadata()).ok_or_else(no_route)??;
    to.write_all(bytes)?;
    let mut missing = u64::from(header.body_len());
    while missing > 0 {
        let len = missing.min(BUFFER as u64) as usize;
        frame.read_exact(&mut buffer[..len])?;
        to.write_all(&buffer[..len])?;
        missing -= len as u64;
    }
    Ok(to)
}

fn invalid(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use avp_core::FrameEncoder;

    const LEN: usize = 40_000;

    fn frame(target: &str) -> ([u8; LEN], usize) {
        let mut bytes = [0; LEN];
        let metadata = Metadata { target_agent_id: target, ..Metadata::default() };
        let len = FrameEncoder::new(metadata).encode_into(&[7; LEN - 100], &mut bytes).unwrap();
        (bytes, len)
    }

    #[test]
    fn a_frame_is_forwarded_whole_and_without_allocation() {
        let (bytes, len) = frame("reader");
        let mut out = [0; LEN];
        let allocations = allocation_counter::measure(|| {
            let rest = forward(&mut &bytes[..len], |metadata| {
                assert_eq!(metadata.target_agent_id, "reader");
                Some(Ok(&mut out[..]))
            });
            assert_eq!(rest.unwrap().len(), LEN - len);
        });
        assert_eq!(allocations.count_total, 0);
        assert_eq!(out[..len], bytes[..len]);
    }

    #[test]
    fn a_frame_without_a_route_is_not_forwarded() {
        let (bytes, len) = frame("nobody");
        let error = forward(&mut &bytes[..len], |_| None::<io::Result<File>>).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "no route for the frame's target agent");
    }

    #[test]
    fn an_invalid_frame_is_an_error_with_its_fault() {
        let (mut bytes, len) = frame("reader");
        bytes[0] = b'B';
        let error = forward(&mut &bytes[..len], |_| Some(Ok(io::sink()))).unwrap_err();
        assert_eq!(error.to_string(), Header::decode(&bytes).unwrap_err().to_string());
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let (bytes, len) = frame("reader");
        for len in [0, 11, 12, 14, len - 1] {
            let error = forward(&mut &bytes[..len], |_| Some(Ok(io::sink()))).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len}");
        }
    }
}
