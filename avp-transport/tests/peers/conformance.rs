//! The standards of HTTP/1.1 and HTTP/2, tried by `tools/transport/conformance.py`: what no friendly client sends.

use avp_transport::server::ServerOptions;
use serde_json::Value;

use crate::{
    common::Running,
    python::{NEW, output},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_to_the_standards_whatever_it_is_sent() {
    let Some(mut script) = NEW.script("conformance.py") else { return };
    let server = Running::stock(ServerOptions::default()).await;
    script.arg(server.address.ip().to_string()).arg(server.address.port().to_string());
    let found = String::from_utf8(output(script).await).unwrap();
    let cases: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() >= 80, "{} cases were tried", cases.len());
    let faults: Vec<String> = cases
        .iter()
        .filter(|case| !case["fault"].is_null())
        .map(|case| format!("{} ({}): {}", case["case"], case["rule"], case["fault"]))
        .collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}
