//! Stopping a run in progress, detected by the state of its thread in Linux.

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use prost::Message;

use super::{steps, works};
use crate::{
    GenerateOptions, LoadOptions, Model, Prompt, RunError, Runtime, ThinkOptions,
    onnx::{
        GraphProto, ModelProto, TensorProto, constant, int64_tensor, node, tensor_proto::DataType,
        tensor_value,
    },
};

/// A model that reads one token as any other does, and never comes to an end with two.
fn endless() -> Model {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors");
    let folder = tempfile::tempdir().unwrap();
    for (source, file) in [
        ("runtime/intact", "config.json"),
        ("parity/tiny-qwen2", "tokenizer.json"),
        ("parity/tiny-qwen2", "tokenizer_config.json"),
    ] {
        fs::copy(vectors.join(source).join(file), folder.path().join(file)).unwrap();
    }
    let export = fs::read(vectors.join("runtime/intact/model.onnx")).unwrap();
    let mut model = ModelProto::decode(export.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let position = graph.node.iter().position(|node| node.op_type() == "Gather").unwrap();
    let embedded = std::mem::replace(&mut graph.node[position].output[0], "looked_up".to_owned());

    let again = |name| tensor_value(name, DataType::Bool as i32, &[]);
    let row = |name| {
        tensor_value(name, DataType::Float as i32, &[Err("batch_size"), Err("sequence_length"), Err("width")])
    };
    let body = GraphProto {
        name: Some("turn".into()),
        node: vec![
            node("Identity", "again", ["again"], ["still_again"]),
            node("Identity", "kept", ["turned"], ["kept"]),
        ],
        input: vec![tensor_value("turn", DataType::Int64 as i32, &[]), again("again"), row("turned")],
        output: vec![again("still_again"), row("kept")],
        ..GraphProto::default()
    };
    let one = TensorProto { dims: Vec::new(), ..int64_tensor("one", &[1]) };
    graph.node.splice(
        position + 1..position + 1,
        [
            constant("one", "one", one),
            node("Size", "tokens", ["input_ids"], ["tokens"]),
            node("Greater", "endless", ["tokens", "one"], ["endless"]),
            node("Loop", "loop", ["", "endless", "looked_up"], [embedded.as_str()]).with_graph("body", body),
        ],
    );
    fs::write(folder.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    Model::load(&Runtime::find().unwrap(), folder.path(), &LoadOptions::default()).unwrap()
}

/// Whether a run is under way is seen by the time on the processor of the thread that is in it.
#[test]
fn a_run_that_is_under_way_ends_when_its_call_is_cancelled_or_out_of_time() {
    let model = endless();
    let thread =
        model.run(steps(|| Ok(ControlFlow::Break(fs::read_link("/proc/thread-self").unwrap()))), None);
    let thread = Path::new("/proc").join(thread.unwrap()).join("stat");
    // In ticks: the 14th and 15th field, counted behind the name in brackets, which is the second.
    let busy = || -> u64 {
        let stat = fs::read_to_string(&thread).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
    };
    // Binding what a run reads takes none.
    let ticks_of_a_run = 5;
    let two = || Prompt::Raw("ab ab".into());
    assert!(works(&model) && model.tokenize(&two()).unwrap().len() > 1);

    let before = busy();
    let pending = model.start_think(two(), None, &ThinkOptions::steps(0));
    let begun = Instant::now();
    while busy() < before + ticks_of_a_run {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run is not under way");
        thread::yield_now();
    }
    pending.canceller().cancel();
    assert_eq!(pending.wait().map(|_| ()), Err(RunError::Cancelled));
    // The thread is free for it only if that run has ended.
    assert!(works(&model));

    // Where the thread had no turn within this time, it is given more.
    let mut after = Duration::from_millis(100);
    loop {
        let before = busy();
        let options = ThinkOptions { timeout: Some(after), ..ThinkOptions::steps(0) };
        let error = model.think(two(), None, &options).unwrap_err();
        assert_eq!(error, RunError::TimedOut { after });
        let was_under_way = busy() >= before + ticks_of_a_run;
        assert!(works(&model));
        if was_under_way {
            return;
        }
        after *= 2;
    }
}

#[test]
fn an_answer_is_kept_when_the_time_is_up_for_the_one_to_compare_it_with() {
    let model = endless();
    let raw = |text: &str| Prompt::Raw(text.to_owned());
    let context = model.think(raw("a"), None, &ThinkOptions::steps(0)).unwrap().context;
    // Behind the context one token is left to read; without it there are two.
    assert_eq!(model.tokenize(&raw("a a")).unwrap().len(), 2);
    let mut after = Duration::from_millis(100);
    let answer = loop {
        let options = GenerateOptions {
            max_tokens: 1,
            reuse_prefix: true,
            compare: true,
            timeout: Some(after),
            ..GenerateOptions::default()
        };
        match model.generate(raw("a a"), context.as_ref(), &options) {
            // The answer itself had no turn within this time.
            Err(error) if after < Duration::from_secs(60) => assert_eq!(error, RunError::TimedOut { after }),
            answer => break answer.unwrap(),
        }
        after *= 2;
    };
    let found = answer.metrics.diagnostics.unwrap();
    assert_eq!(answer.reused_tokens, 1);
    assert_eq!((found.text_baseline_output, found.text_overlap), (None, None));
    assert_eq!(found.warnings, [format!("compare baseline failed: not done within {after:?}")]);
    assert!(works(&model));
}
