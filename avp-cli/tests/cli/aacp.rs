//! `avp aacp`: packets checked, explained, built and learned.

use std::fs;

use serde_json::Value;

use crate::common::{avp, avp_with_input, failure, repository, stdout, text};

const PACKET: &str =
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.1|res:emp_salary|period:2024-08|filter:status=active|fmt:json";

fn aacp(arguments: &[&str]) -> std::process::Output {
    avp(["aacp"].iter().chain(arguments))
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_peers_verdict_is_given_for_every_packet_of_the_vectors() {
    for release in ["1.1.0", "1.4.0"] {
        let path = repository("test-vectors/aacp").join(format!("aacp-{release}.json"));
        let vectors: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let one_line = |case: &&Value| !case["packet"].as_str().unwrap().contains(['\n', '\r']);
        let cases: Vec<&Value> = vectors["validate"].as_array().unwrap().iter().filter(one_line).collect();
        assert!(cases.len() > 100);
        let input: String =
            cases.iter().map(|case| format!("{}\n", case["packet"].as_str().unwrap())).collect();
        let output = avp_with_input(["aacp", "validate", "-", "--json", "--peer", release], input.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        let lines = lines(&output.stdout);
        assert_eq!(lines.len(), cases.len());
        for (case, line) in cases.iter().zip(&lines) {
            for key in ["packet", "valid", "errors", "warnings"] {
                assert_eq!(line[key], case[key], "{release}: {}", case["packet"]);
            }
        }
    }
}

#[test]
fn one_bad_line_in_a_stream_spoils_no_other_and_no_packet_writes_to_the_terminal() {
    let input = [PACKET.as_bytes(), b"\r\n\xff\xfe\n", PACKET.as_bytes(), b"\n"].concat();
    let output = avp_with_input(["aacp", "validate", "--json", "-"], &input);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output.stdout).iter().filter(|line| line["valid"] == true).count(), 2);
    assert!(text(&output.stderr).contains("line 2"));
    let forged = avp(["aacp", "validate", "FETCH|HR|return:A\nvalid    \u{1b}[31m"]);
    assert!(
        !text(&forged.stdout).contains('\u{1b}')
            && text(&forged.stdout).lines().next().unwrap().contains("\\n")
    );
}

#[test]
fn packets_are_explained_field_by_name() {
    let english = "Retrieve (Human Resources domain). Resource: emp salary. For period: 2024-08. \
                   Filter: status = active. Format: JSON. Priority: critical priority. Return to: HR-Agent.";
    assert_eq!(text(stdout(&aacp(&["explain", PACKET]))).trim(), english);
    let line = &lines(stdout(&aacp(&["explain", "--json", PACKET])))[0];
    assert_eq!((&line["english"], &line["complete"]), (&english.into(), &true.into()));
    assert_eq!(text(stdout(&aacp(&["parse", PACKET]))).lines().count(), 9);
}

#[test]
fn what_is_built_is_valid_and_says_what_was_meant() {
    let built = aacp(&["build", "SEND", "HR", "--return", "A", "--priority", "2", "subj=a|b", "to=x"]);
    let packet = text(stdout(&built)).trim().to_owned();
    assert!(aacp(&["validate", "--strict", &packet]).status.success(), "{packet}");
    let line = &lines(stdout(&aacp(&["parse", "--json", &packet])))[0];
    let subject = line["fields"].as_array().unwrap().iter().find(|field| field["key"] == "subj").unwrap();
    assert_eq!(subject["value"], "a|b");
    let calls = aacp(&["build", "--workflow", "payroll"]);
    assert!(text(stdout(&calls)).contains("fetch_employees period"));
    let run = aacp(&["build", "--workflow", "payroll", "full_run", "period=2024-08", "prev_period=2024-07"]);
    assert!(text(stdout(&run)).lines().count() > 3);
    assert!(failure(&aacp(&["build", "--workflow", "payroll", "fetch_employees"])).contains("period"));
    let routed = aacp(&[
        "build",
        "--workflow",
        "payroll",
        "fetch_employees",
        "period=2024-08",
        "--return",
        "Me",
        "--priority",
        "3",
    ]);
    assert!(text(stdout(&routed)).contains("|return:Me|p:3|"));
    assert!(failure(&aacp(&["build", "SEND"])).contains("DOM"));
}

#[test]
fn rules_answer_without_a_model_and_a_missing_key_names_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.json");
    let packet = "FETCH|HR|return:HR-Agent|p:2|aacp:1.2|res:employees";
    let rule = serde_json::json!({"rules": [{
        "id": "hr-1", "name": "List employees", "description": "Fetch the list of active employees", "task": "FETCH",
        "dom": "HR", "packet": packet, "tags": ["employees", "active", "list"], "version": "1.2", "source": "test",
        "validated": true,
    }]});
    fs::write(&rules, rule.to_string()).unwrap();
    let rules = rules.display().to_string();
    let found = aacp(&["rules", &rules, "active", "employees", "--json"]);
    assert_eq!(lines(stdout(&found))[0]["rule"]["id"], "hr-1");
    let english = "Fetch the list of active employees";
    let encoded = aacp(&["encode", english, "--domain", "HR", "--return", "Me", "--rules", &rules, "--json"]);
    let line = &lines(stdout(&encoded))[0];
    assert_eq!(line["tier"], "rule");
    assert!(line["packet"].as_str().unwrap().contains("return:Me"), "{line}");
    for command in [&["rules", "/no/such/rules"][..], &["tokens", "--rules", "/no/such/rules"]] {
        let output = aacp(command);
        assert!(
            failure(&output).starts_with("avp: cannot read /no/such/rules: No such file")
                && output.stdout.is_empty()
        );
    }
    let unknown = aacp(&["encode", "Paint the fence", "--domain", "HR", "--return", "Me"]);
    assert!(failure(&unknown).contains("no model"));
    let keyless = std::process::Command::new(env!("CARGO_BIN_EXE_avp"))
        .args(["aacp", "encode", "x", "--domain", "HR", "--return", "Me", "--model", "anthropic:m"])
        .env_remove("ANTHROPIC_API_KEY")
        .output()
        .unwrap();
    assert!(failure(&keyless).contains("ANTHROPIC_API_KEY"));
}

#[test]
fn tokens_are_counted_with_any_tokenizer() {
    let tokenizer = repository("models/facts/tokenizer.json").display().to_string();
    let output = aacp(&["tokens", "--tokenizer", &tokenizer]);
    let tables = text(stdout(&output));
    assert!(tables.contains("The four published payroll hops") && tables.contains("| total "), "{tables}");
}

#[test]
fn inspect_explains_the_packet_that_a_frame_carries() {
    let arguments =
        ["encode", "--meta", "{}", "--payload", "-", "--dialect", "0.2", "--text", PACKET, "-o", "-"];
    let frame = avp_with_input(arguments, b"latent");
    let record = &lines(stdout(&avp_with_input(["inspect", "--json", "-"], stdout(&frame))))[0];
    assert!(record["aacp"].as_str().unwrap().starts_with("Retrieve (Human Resources domain)."));
    let message = serde_json::json!({
        "avp_version": "0.6.2", "session_id": "s", "source_agent_id": "a", "target_agent_id": "b", "content": PACKET,
    });
    let arguments = ["encode", "--meta", r#"{"mode":"json"}"#, "--payload", "-", "-o", "-"];
    let frame = avp_with_input(arguments, message.to_string().as_bytes());
    let report = avp_with_input(["inspect", "-"], stdout(&frame));
    assert!(text(stdout(&report)).contains("Return to: HR-Agent."));
}

#[test]
fn a_model_folder_that_cannot_answer_says_why() {
    let asked = |folder: &str| {
        let model = format!("onnx:{}", repository(folder).display());
        let call = ["encode", "Fetch the salaries", "--domain", "HR", "--return", "A", "--model"];
        aacp(&[&call[..], &[model.as_str()]].concat())
    };
    assert!(failure(&asked("test-vectors/parity/tiny-qwen2")).contains("window is 512"));
    assert!(failure(&asked("docs")).contains("config.json"));
}
