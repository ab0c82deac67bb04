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

use super::{RequestInfo, service::method_name};

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
/// | `status` | of the response; `null` if the client had gone before it |
/// | `code` | of a refusal, `disconnected` if the client had gone, or `null` |
#[derive(Clone)]
pub struct AuditLog(Arc<Mutex<Box<dyn Write + Send>>>);

/// The contexts that a request has named or stored so far.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditNotes(Arc<Mutex<Vec<AuditedContext>>>);

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
        let mut contexts = self.contexts();
        if contexts.len() < MAX_CONTEXTS {
            let id = if id.len() <= MAX_ID { id } else { "(too long)" };
            contexts.push(AuditedContext { id: id.to_owned(), etag: etag.map(str::to_owned) });
        }
    }

    fn contexts(&self) -> MutexGuard<'_, Vec<AuditedContext>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of a request. If it is dropped before the response, the client has gone.
pub(super) struct AuditEntry {
    log: Option<AuditLog>,
    info: Arc<RequestInfo>,
    action: &'static str,
    method: Method,
}

impl AuditEntry {
    /// The line of a request that begins now, for `log` if there is one.
    pub(super) fn new(
        log: Option<&AuditLog>,
        info: &Arc<RequestInfo>,
        action: &'static str,
        method: &Method,
    ) -> Self {
        Self { log: log.cloned(), info: info.clone(), action, method: method.clone() }
    }

    /// Writes the line of a request that was answered.
    pub(super) fn answered(mut self, status: u16, code: Option<&str>) {
        self.write(Some(status), code);
    }

    fn write(&mut self, status: Option<u16>, code: Option<&str>) {
        let Some(log) = self.log.take() else { return };
        let line = Line {
            time: Timestamp::now().to_string(),
            request_id: &self.info.request_id,
            principal: self.info.principal.as_ref().map(|principal| &*principal.name),
            address: self.info.address.map(|address| address.ip()),
            action: self.action,
            method: method_name(&self.method),
            contexts: &self.info.audit_notes().contexts(),
            status,
            code,
        };
        if let Err(error) = log.write(&line) {
            tracing::error!(kind = %error.kind(), "cannot write to the audit log");
        }
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        self.write(None, Some("disconnected"));
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
        Self(Arc::new(Mutex::new(Box::new(writer))))
    }

    /// Writes to another file from now on, such as after the first one was renamed.
    pub fn replace(&self, writer: impl Write + Send + 'static) {
        *self.writer() = Box::new(writer);
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let mut writer = self.writer();
        // One call, so that a line is whole also where several processes append to a file.
        writer.write_all(&line)?;
        writer.flush()
    }

    fn writer(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            (Shared::default(), Arc::new(RequestInfo { request_id: "r\n1".into(), ..Default::default() }));
        let log = AuditLog::new(written.clone());
        let entry = AuditEntry::new(Some(&log), &info, "context", &Method::GET);
        info.audit_notes().context("c1", Some("\"tag\""));
        info.audit_notes().context(&"x".repeat(MAX_ID + 1), None);
        entry.answered(200, None);
        drop(AuditEntry::new(Some(&log), &info, "other", &Method::POST));
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
    }

    #[test]
    fn a_method_of_the_clients_own_is_not_written() {
        let (written, info) = (Shared::default(), Arc::new(RequestInfo::default()));
        let method = Method::from_bytes(&[b'A'; 60_000]).unwrap();
        AuditEntry::new(Some(&AuditLog::new(written.clone())), &info, "other", &method).answered(501, None);
        assert_eq!(written.lines()[0]["method"], "unknown");
    }

    #[test]
    fn a_replaced_log_gets_the_next_line() {
        let (first, second, info) = (Shared::default(), Shared::default(), Arc::new(RequestInfo::default()));
        let log = AuditLog::new(first.clone());
        AuditEntry::new(Some(&log), &info, "text", &Method::POST).answered(200, None);
        log.replace(second.clone());
        AuditEntry::new(Some(&log), &info, "text", &Method::POST).answered(403, Some("missing_scope"));
        assert_eq!((first.lines().len(), &second.lines()[0]["code"]), (1, &"missing_scope".into()));
    }
}
