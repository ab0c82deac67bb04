//! Any values: what the builder writes, a strict reader reads back.

#![no_main]

use aacp::{Builder, Validator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|values: Vec<String>| {
    let Some((return_agent, values)) = values.split_first() else { return };
    let values = &values[..values.len().min(200)];
    let builder = Builder::new("SEND", "HR", return_agent);
    let builder =
        values.iter().enumerate().fold(builder, |builder, (n, value)| builder.field(format!("k{n}"), value));
    let Ok(text) = builder.build() else {
        assert!(return_agent.is_empty(), "only an empty return agent is refused");
        return;
    };
    let packet = Validator::strict().parse(&text).expect("what the builder writes is strict");
    let read = packet.fields_decoded().map(|(_, value)| value.to_string());
    assert!(read.eq([return_agent.clone(), "1.2".into()].into_iter().chain(values.iter().cloned())));
});
