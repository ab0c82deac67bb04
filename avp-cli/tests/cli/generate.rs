//! `avp generate` and `avp think`: what is read, how tokens are chosen, what is printed.

use std::fs;

use serde_json::{Value, json};

use crate::common::{avp, avp_with_input, failure, repository, stdout, text};

fn facts() -> String {
    repository("models/facts").display().to_string()
}

fn tiny() -> String {
    repository("test-vectors/parity/tiny-qwen2").display().to_string()
}

/// The answer of the embedded model behind notes on Rosa.
fn ask(options: &[&str]) -> String {
    let system = "Notes: Rosa lives in Lisbon. Rosa has a parrot.";
    let messages = json!([
        {"role": "user", "content": system},
        {"role": "user", "content": "Where does Rosa live?"},
    ]);
    let model = facts();
    let arguments = ["generate", &model, "--messages", "-"].into_iter().chain(options.iter().copied());
    text(stdout(&avp_with_input(arguments, messages.to_string().as_bytes()))).to_owned()
}

#[test]
fn the_answer_alone_is_printed_and_ends_where_it_is_told_to() {
    let whole = ask(&[]);
    assert!(whole.contains("Lisbon") && whole.ends_with('\n'), "{whole:?}");
    let cut = ask(&["--stop", "Lis"]);
    assert_eq!(cut.trim_end_matches('\n'), &whole[..whole.find("Lis").unwrap()]);
    assert_eq!(ask(&["--stop", "no such text"]), whole);
    assert!(ask(&["--max-tokens", "2"]).len() < whole.len());
}

#[test]
fn json_holds_the_text_why_it_ended_and_what_it_took() {
    let answer: Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    assert_eq!(answer["text"].as_str().unwrap(), ask(&[]).trim_end_matches('\n'));
    assert_eq!(answer["finish"], "end_of_turn");
    assert_eq!(
        answer["generated_tokens"].as_u64().unwrap() as usize,
        answer["tokens"].as_array().unwrap().len()
    );
    assert!(answer["prompt_tokens"].as_u64().unwrap() > 10);
    assert_eq!((&answer["reused_tokens"], &answer["context_tokens"]), (&json!(0), &json!(0)));
    assert!(answer["first_token_s"].as_f64().unwrap() < answer["total_s"].as_f64().unwrap());
    assert!(answer["tokens_per_second"].as_f64().unwrap() > 0.0);
    let cut: Value = serde_json::from_str(&ask(&["--json", "--stop", "Lis"])).unwrap();
    assert_eq!(cut["finish"], "stop");
}

#[test]
fn every_way_of_choosing_tokens_changes_the_answer_or_leaves_it_greedy() {
    let model = tiny();
    let generate = |options: &[&str]| {
        let arguments = ["generate", &model, "--prompt", "x", "--max-tokens", "20"];
        stdout(&avp(arguments.into_iter().chain(options.iter().copied()))).to_vec()
    };
    let greedy = generate(&[]);
    for narrow in [["--top-k", "1"], ["--top-p", "0.00001"], ["--min-p", "1"]] {
        assert_eq!(generate(&["--temperature", "3", narrow[0], narrow[1]]), greedy, "{narrow:?}");
    }
    for options in [
        ["--repetition-penalty", "1.8"],
        ["--frequency-penalty", "2"],
        ["--presence-penalty", "2"],
        ["--temperature", "3"],
    ] {
        assert_ne!(generate(&options), greedy, "{options:?}");
    }
}

#[test]
fn a_token_can_be_forbidden_or_stopped_at() {
    let first = |options: &[&str]| -> Value {
        let model = tiny();
        let arguments = ["generate", &model, "--prompt", "x", "--max-tokens", "3", "--json"];
        serde_json::from_slice(stdout(&avp(arguments.into_iter().chain(options.iter().copied())))).unwrap()
    };
    let greedy = first(&[]);
    let token = greedy["tokens"][0].as_u64().unwrap();
    let forbidden = first(&["--logit-bias", &format!("{token}=-inf")]);
    assert_ne!(forbidden["tokens"][0], greedy["tokens"][0]);
    let stopped = first(&["--stop-token", &token.to_string()]);
    assert_eq!((&stopped["text"], &stopped["finish"]), (&json!(""), &json!("stop")));
}

#[test]
fn a_system_message_and_a_raw_prompt_are_what_they_say() {
    let model = facts();
    let json = |arguments: &[&str]| -> Value {
        let all =
            ["generate", &model, "--json", "--max-tokens", "4"].into_iter().chain(arguments.iter().copied());
        serde_json::from_slice(stdout(&avp(all))).unwrap()
    };
    let rendered = json(&["--system", "Be brief.", "--prompt", "Hi"]);
    let raw =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let raw = json(&["--raw", "--prompt", raw]);
    assert_eq!(rendered["tokens"], raw["tokens"]);
    assert_eq!(rendered["prompt_tokens"], raw["prompt_tokens"]);
}

#[test]
fn tools_documents_and_variables_reach_the_template() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(repository("test-vectors/parity/tiny-qwen2")).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    let template = "{{ raise_exception((tools | tojson) ~ documents[0].title ~ (thinking is false) ~ day) }}";
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tools = write("tools.json", r#"[{"z": 1, "a": "é"}]"#);
    let documents = write("documents.json", r#"[{"title": "Map"}]"#);
    let model = folder.path().display().to_string();
    let output = avp([
        "generate",
        &model,
        "--prompt",
        "x",
        "--tools",
        &tools,
        "--documents",
        &documents,
        "--set",
        "thinking=false",
        "--set",
        "day=Monday",
    ]);
    assert_eq!(failure(&output), r#"avp: chat template, line 1: [{"z": 1, "a": "é"}]MapTrueMonday"#);
}

#[test]
fn metrics_are_written_beside_answer_and_frame() {
    let folder = tempfile::tempdir().unwrap();
    let (frame, metrics) = (folder.path().join("f.avp"), folder.path().join("m.json"));
    let [frame, metrics] = [frame, metrics].map(|path| path.display().to_string());
    let model = facts();
    let prompt = ["--prompt", "Rosa has a parrot."];
    let think = ["think", &model, "--steps", "3", "-o", &frame, "--metrics", &metrics];
    stdout(&avp(think.into_iter().chain(prompt)));
    let read = || -> Value { serde_json::from_slice(&fs::read(&metrics).unwrap()).unwrap() };
    let thought = read();
    assert_eq!((&thought["steps"], &thought["has_prior_context"]), (&json!(3), &json!(false)));
    assert_eq!(thought["diagnostics"]["norm_trajectory"].as_array().unwrap().len(), 4);

    let generate = ["generate", &model, "--context", &frame, "--metrics", &metrics, "--compare"];
    let answer = text(stdout(&avp(generate.into_iter().chain(prompt)))).trim().to_owned();
    let found = &read()["diagnostics"];
    assert_eq!(found["output_length"].as_u64().unwrap() as usize, answer.chars().count());
    assert_eq!(found["transfer_mode"], "latent");
    assert!(found["text_overlap"].is_number() && found["text_baseline_output"].is_string());
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let model = tiny();
    let refused = |arguments: &[&str], input: &str| {
        let all = ["generate", &model].into_iter().chain(arguments.iter().copied());
        failure(&avp_with_input(all, input.as_bytes())).to_owned()
    };
    for (options, names) in [
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "0"], "top_p"),
        (["--min-p", "-0.1"], "min_p"),
        (["--repetition-penalty", "0"], "repetition_penalty"),
        (["--frequency-penalty", "-2.5"], "frequency_penalty"),
        (["--presence-penalty", "3"], "presence_penalty"),
        (["--max-tokens", "0"], "max_tokens"),
        (["--logit-bias", "320=1"], "there is no token 320"),
        (["--stop-token", "999"], "there is no token 999"),
        (["--stop", ""], "stop"),
        (["--template", "rag"], "rag"),
        (["--timeout", "0"], "not done within"),
    ] {
        let message = refused(&["--prompt", "x", options[0], options[1]], "");
        assert!(message.contains(names), "{options:?}: {message}");
    }
    for (messages, names) in [
        ("[{\"role\":\"user\"", "line 1"),
        ("{}", "an array of messages"),
        ("[{\"content\":\"x\"}]", "role"),
        ("[]", "no messages"),
    ] {
        let message = refused(&["--messages", "-"], messages);
        assert!(message.contains(names), "{messages}: {message}");
    }
    assert!(refused(&["--messages", "-", "--context", "-"], "").contains("once"));
    assert!(refused(&["--messages", "/no/such/file"], "").contains("/no/such/file"));
}

#[test]
fn wrong_arguments_are_explained_with_exit_code_2() {
    for arguments in [
        &["generate", "m"][..],
        &["generate", "m", "--prompt", "x", "--messages", "f"],
        &["generate", "m", "--prompt", "x", "--raw", "--system", "y"],
        &["generate", "m", "--prompt", "x", "--logit-bias", "5"],
        &["generate", "m", "--prompt", "x", "--set", "name"],
        &["generate", "m", "--prompt", "x", "--timeout", "soon"],
        &["generate", "m", "--prompt", "x", "--compare"],
        &["think", "m", "--prompt", "x", "-o", "f", "--model-hash", "zz"],
    ] {
        assert_eq!(avp(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
