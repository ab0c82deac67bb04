//! The audit log: one line for each request, with its sender, its contexts and its outcome.

use std::{
    fmt,
    io::{self, Write},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use super::{Principal, RequestInfo, service::method_name};

/// A log of all requests but health checks: one JSON object per line, never payload. No log level turns it off. A line is written before
/// the response is sent.
///
/// ```
/// use avp_transport::server::{AuditLog, ServerOptions};
///
/// let options = ServerOptions { audit: Some(AuditLog::new(std::io::sink())), ..Default::default() };
/// # let _ = options;
/// ```
///
/// | field | meaning |
/// |---|---|
/// | `time` | the end of the request, in UTC |
/// | `request_id` | as in the log and in the response |
/// | `principal` | the principal of the token, or `null` |
/// | `address` | the client's network address, or `null` |
/// | `action` | the endpoint: `handshake`, `transmit`, `context`, `text`, `metrics`, or `other` for the handler's own |
/// | `method` | the method, such as `GET` or `DELETE`, or `unknown` for one that HTTP does not define |
/// | `contexts` | up to 16 ids of contexts that were named or stored, each with its `etag` where that is known |
/// | `status` | of the response; `null` if the client had gone before it: the line is then written when the request's work has ended |
/// | `code` | of a refusal, `disconnected` if the client had gone, or `null` |
#[derive(Clone)]
pub struct AuditLog(Arc<Mutex<LogFile>>);

/// The contexts that a request has named or stored so far. Work that goes on for a client that has gone has a clone of them.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    contexts: Vec<AuditedContext>,
    /// The line of a client that has gone, until the last work for it has ended.
    gone: Option<Request>,
}

impl Drop for Notes {
    fn drop(&mut self) {
        if let Some(request) = self.gone.take() {
            request.write(&self.contexts, None, Some("disconnected"));
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct AuditedContext {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

/// The longest id in the log, in bytes: a request may name anything.
const MAX_ID: usize = 128;

/// The most contexts of one request in the log.
const MAX_CONTEXTS: usize = 16;

impl AuditNotes {
    pub(super) fn context(&self, id: &str, etag: Option<&str>) {
        let contexts = &mut self.notes().contexts;
        if contexts.len() < MAX_CONTEXTS {
            let id = if id.len() <= MAX_ID { id } else { "(too long)" };
            contexts.push(AuditedContext { id: id.to_owned(), etag: etag.map(str::to_owned) });
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of a request. If it is dropped before the response, the client has gone.
pub(super) struct AuditEntry {
    request: Option<Request>,
    notes: AuditNotes,
}

impl AuditEntry {
    /// The line of a request that begins now, for `log` if there is one.
    pub(super) fn new(
        log: Option<&AuditLog>,
        info: &RequestInfo,
        action: &'static str,
        method: &Method,
    ) -> Self {
        let request = log.map(|log| Request {
            log: log.clone(),
            request_id: info.request_id.clone(),
            principal: info.principal.clone(),
            address: info.address.map(|address| address.ip()),
            action,
            method: method.clone(),
        });
        Self { request, notes: info.audit_notes().clone() }
    }

    /// Writes the line of a request that was answered.
    pub(super) fn answered(mut self, status: u16, code: Option<&str>) {
        if let Some(request) = self.request.take() {
            request.write(&self.notes.notes().contexts, Some(status), code);
        }
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.notes.notes().gone = Some(request);
        }
    }
}

/// A request whose line has yet to be written.
#[derive(Debug)]
struct Request {
    log: AuditLog,
    request_id: String,
    principal: Option<Arc<Principal>>,
    address: Option<IpAddr>,
    action: &'static str,
    method: Method,
}

impl Request {
    fn write(&self, contexts: &[AuditedContext], status: Option<u16>, code: Option<&str>) {
        let line = Line {
            time: Timestamp::now().to_string(),
            request_id: &self.request_id,
            principal: self.principal.as_ref().map(|principal| &*principal.name),
            address: self.address,
            action: self.action,
            method: method_name(&self.method),
            contexts,
            status,
            code,
        };
        if let Err(error) = self.log.write(&line) {
            tracing::error!(kind = %error.kind(), "cannot write to the audit log");
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    principal: Option<&'a str>,
    address: Option<IpAddr>,
    action: &'a str,
    method: &'a str,
    contexts: &'a [AuditedContext],
    status: Option<u16>,
    code: Option<&'a str>,
}

impl AuditLog {
    /// A log in this file or other writer. Each line is written at once.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(LogFile { writer: Box::new(writer), is_torn: false })))
    }

    /// Writes to another file from now on, such as after the first one was renamed.
    pub fn replace(&self, writer: impl Write + Send + 'static) {
        *self.file() = LogFile { writer: Box::new(writer), is_torn: false };
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.file().write(line)
    }

    fn file(&self) -> MutexGuard<'_, LogFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the lines go.
struct LogFile {
    writer: Box<dyn Write + Send>,
    /// Whether a part of a line was written, and the rest was not.
    is_torn: bool,
}

impl LogFile {
    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.is_torn {
            line.insert(0, b'\n');
        }
        let mut rest = &line[..];
        // One call, so that a line is whole also where several processes append to a file.
        while !rest.is_empty() {
            match self.writer.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.is_torn = !rest.is_empty();
        }
        self.writer.flush()
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A writer whose bytes can be read.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap();
            bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect()
        }
    }

    #[test]
    fn a_line_says_who_did_what_and_a_client_that_has_gone_has_one_too() {
        let (written, info) =
            (Shared::default(), RequestInfo { request_id: "r\n1".into(), ..Default::default() });
        let log = AuditLog::new(written.clone());
        let entry = AuditEntry::new(Some(&log), &info, "context", &Method::GET);
        info.audit_notes().context("c1", Some("\"tag\""));
        info.audit_notes().context(&"x".repeat(MAX_ID + 1), None);
        entry.answered(200, None);
        let (info, stored) = (RequestInfo::default(), "c2");
        drop(AuditEntry::new(Some(&log), &info, "other", &Method::POST));
        assert_eq!(written.lines().len(), 1, "work for it goes on");
        info.audit_notes().context(stored, None);
        drop(info);
        let [mut answered, gone] = <[Value; 2]>::try_from(written.lines()).unwrap();
        assert!(answered["time"].take().as_str().unwrap().ends_with('Z'));
        assert_eq!(
            answered,
            json!({
                "time": null, "request_id": "r\n1", "principal": null, "address": null, "action": "context", "method": "GET",
                "contexts": [{ "id": "c1", "etag": "\"tag\"" }, { "id": "(too long)" }], "status": 200, "code": null,
            })
        );
        assert_eq!((&gone["status"], &gone["code"]), (&Value::Null, &"disconnected".into()));
        assert_eq!(gone["contexts"][0]["id"], stored);
    }

    /// A writer with room for so many bytes at a time.
    struct Narrow(Shared, Arc<Mutex<usize>>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.1.lock().unwrap();
            let len = bytes.len().min(*room);
            *room -= len;
            if len == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(&bytes[..len]) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_ends_before_the_next_one() {
        let (written, room) = (Shared::default(), Arc::new(Mutex::new(0)));
        let (log, info) = (AuditLog::new(Narrow(written.clone(), room.clone())), RequestInfo::default());
        for bytes in [0, 20, 10_000] {
            *room.lock().unwrap() = bytes;
            AuditEntry::new(Some(&log), &info, "text", &Method::POST).answered(200, None);
        }
        let bytes = written.0.lock().unwrap().clone();
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        assert_eq!((lines.len(), lines[0].len(), lines[2].len()), (3, 20, 0));
        assert!(serde_json::from_slice::<Value>(lines[1]).is_ok());
    }

    #[test]
    fn a_method_of_the_clients_own_is_not_written() {
        let (written, info) = (Shared::default(), RequestInfo::default());
        let method = Method::from_bytes(&[b'A'; 60_000]).unwrap();
        AuditEntry::new(Some(&AuditLog::new(written.clone())), &info, "other", &method).answered(501, None);
        assert_eq!(written.lines()[0]["method"], "unknown");
    }

    #[test]
    fn a_replaced_log_gets_the_next_line() {
        let (first, second, info) = (Shared::default(), Shared::default(), RequestInfo::default());
        let log = AuditLog::new(first.clone());
        AuditEntry::new(Some(&log), &info, "text", &Method::POST).answered(200, None);
        log.replace(second.clone());
        AuditEntry::new(Some(&log), &info, "text", &Method::POST).answered(403, Some("missing_scope"));
        assert_eq!((first.lines().len(), &second.lines()[0]["code"]), (1, &"missing_scope".into()));
    }
}
