//! Latent steps that are asked for by number or by calibration, and their limits.

use avp_runtime_ort::{
    Calibration, Departure, LoadOptions, MeasuredSteps, Model, RunError, StepForm, StepLimits, Steps,
    ThinkOptions,
};

use crate::common::{load, repository, runtime};

const NOTES: &str = "Notes: Rosa lives in Lisbon.";

fn model() -> Model {
    load("test-vectors/parity/tiny-qwen2")
}

/// A calibration of `model`.
fn calibration(model: &Model, steps: usize) -> Calibration {
    Calibration {
        format: Calibration::FORMAT,
        weights_hash: model.weights_hash().to_owned(),
        form: StepForm::Hidden,
        steps,
        max_steps: 8,
        limits: StepLimits::default(),
        seed: 1,
        measured: vec![MeasuredSteps {
            form: StepForm::Peer,
            steps: 0,
            texts: 8,
            surprise: 0.0,
            surprise_interval: [0.0, 0.0],
            questions: 10,
            right: 5,
            kept: 5,
            norm: 1.0,
            entropy: 1.0,
        }],
    }
}

#[test]
fn a_prompt_is_only_read_unless_steps_are_asked_for() {
    let thought = model().think(NOTES, None, &ThinkOptions::default()).unwrap();
    assert_eq!((thought.num_steps, thought.context.unwrap().seq_len()), (0, thought.prompt_tokens));
}

#[test]
fn limits_end_the_steps_and_say_why() {
    let model = model();
    let free = ThinkOptions { diagnostics: true, ..ThinkOptions::steps(12) };
    let free = model.think(NOTES, None, &free).unwrap();
    assert_eq!((free.num_steps, free.departure, free.states.len()), (12, None, 13));
    let entropy = free.states.iter().map(|state| state.entropy).fold(f32::INFINITY, f32::min);
    for (limits, departure, taken) in [
        (StepLimits { max_norm: 0.0, ..StepLimits::default() }, Departure::Norm, 0),
        (StepLimits { max_entropy: entropy - 1e-3, ..StepLimits::default() }, Departure::Entropy, 1),
        (StepLimits { max_repeats: 0, ..StepLimits::default() }, Departure::Repeats, 0),
    ] {
        let options = ThinkOptions { limits: Some(limits), ..ThinkOptions::steps(12) };
        let thought = model.think(NOTES, None, &options).unwrap();
        assert_eq!((thought.departure, thought.num_steps), (Some(departure), taken));
        let context = thought.context.unwrap();
        assert_eq!((context.seq_len(), context.num_steps()), (thought.prompt_tokens + taken, taken));
        // Steps that were not taken are no positions either.
        assert_eq!(context.tokens().map(|positions| positions.len()), Some(context.seq_len()));
    }
}

#[test]
fn limits_that_hold_change_nothing() {
    let model = model();
    let limits = StepLimits { max_repeats: 100, ..StepLimits::default() };
    let watched = ThinkOptions { limits: Some(limits), ..ThinkOptions::steps(5) };
    let watched = model.think(NOTES, None, &watched).unwrap();
    let free = model.think(NOTES, None, &ThinkOptions::steps(5)).unwrap();
    assert_eq!((watched.num_steps, watched.departure), (5, None));
    assert_eq!(watched.last_hidden_state, free.last_hidden_state);
}

#[test]
fn automatic_steps_are_those_of_the_calibration_of_these_weights() {
    // A model of its own, so that no other test finds its calibration.
    let model =
        Model::load(runtime(), repository("test-vectors/models/optimum-gpt2"), &LoadOptions::default())
            .unwrap();
    if let Some(found) = model.calibration().unwrap() {
        panic!("a calibration is left from another run: {found:?}");
    }
    assert_eq!(ThinkOptions::calibrated(&model), Err(RunError::NotCalibrated));
    assert_eq!(Steps::Auto.options(&model, Some(StepForm::Peer)), Err(RunError::CalibratedForm));

    let path = calibration(&model, 3).save().unwrap();
    let found = model.calibration().unwrap();
    let options = Steps::Auto.options(&model, None);
    let other = Calibration { weights_hash: "other".to_owned(), ..calibration(&model, 3) };
    std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
    let of_others = ThinkOptions::calibrated(&model);
    std::fs::write(&path, &serde_json::to_vec(&calibration(&model, 3)).unwrap()[..100]).unwrap();
    let damaged = model.calibration();
    std::fs::remove_file(&path).unwrap();

    assert_eq!(found, Some(calibration(&model, 3)));
    let options = options.unwrap();
    assert_eq!(
        (options.steps, options.form, options.limits),
        (3, StepForm::Hidden, Some(StepLimits::default()))
    );
    let RunError::Calibration { message } = of_others.unwrap_err() else { panic!() };
    assert!(
        message.contains("got one of other") && message.contains("run `avp calibrate` again"),
        "{message}"
    );
    assert!(damaged.unwrap_err().to_string().contains(&path.display().to_string()));
}
