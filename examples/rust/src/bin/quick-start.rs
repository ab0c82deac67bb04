//! One agent reads, the other answers: `cargo run -p avp-examples --bin quick-start`.

use avp_runtime_ort::{
    Context, Error, FrameOptions, GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions,
};

fn main() -> Result<(), Error> {
    let runtime = Runtime::find()?;
    let model = Model::load(&runtime, "models/facts", &LoadOptions::default())?;

    // Agent A reads the notes.
    let notes = "Notes: Rosa lives in Lisbon. Rosa has a parrot.";
    let context = model.think(notes, None, &ThinkOptions::default())?.into_context()?;
    let frame = context.to_frame(&FrameOptions::default())?;
    println!("{} bytes", frame.len());

    // Agent B has not seen the notes. It continues from the frame.
    let context = Context::from_frame(&runtime, &frame)?;
    let answer = model.generate("Where does Rosa live?", Some(&context), &GenerateOptions::default())?;
    println!("{}", answer.text);
    Ok(())
}
