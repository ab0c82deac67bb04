//! Measures what latent steps do on a model: to the continuation of a text, and to answers from a context.

use std::fmt;

use anyhow::{Context as _, Result};
use avp_runtime_ort::{
    Calibration, Context, GenerateOptions, MeasuredSteps, Model, Prompt, StepForm, StepLimits, StepState,
    ThinkOptions, Thought,
};

use super::{
    Loaded, Questions,
    dataset::Task,
    distinct,
    material::TEXTS,
    plan::{Pipeline, Wording},
    progress::Progress,
    score::Paired,
};
use crate::{statistics::median, table::write_table};

/// Measures latent steps in several forms.
///
/// A number of steps counts as harmless if it and every smaller one that was tried make the continuation of a text at most 0.5 nats a
/// token more surprising, by the upper end of the 95 % interval, and keep nine of ten right answers. Eight tokens of its own cost
/// SmolLM2-135M 0.2 nats there, and eight steps in the peer's form 5.6. Steps are recommended only where
/// they answer more than none, by McNemar's test at a level of 5 % divided by the number of things tried: with thirty tries, one in
/// twenty comes out well by chance.
#[derive(Debug, Clone)]
pub struct Calibrate {
    /// Forms to try.
    pub forms: Vec<StepForm>,
    /// Numbers of steps to try; 0 is tried always.
    pub steps: Vec<usize>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
}

/// The figures of [`Calibrate`]: `Display` prints a table.
#[derive(Debug)]
pub struct CalibrateReport {
    /// What was found, to be saved.
    pub calibration: Calibration,
}

/// Tokens of a text's second half that are continued.
const CONTINUED: usize = 32;
/// Nats of a token that the model rules out: finite, since JSON has no infinity.
const IMPOSSIBLE: f64 = 1000.0;
/// Most by which a harmless step makes text more surprising, in nats a token.
const HARMLESS_SURPRISE: f64 = 0.5;
/// Share of the answers that harmless steps keep.
const HARMLESS_KEPT: f64 = 0.9;
/// Level of the test by which steps are recommended, before it is divided by the number of tries.
const LEVEL: f64 = 0.05;

impl Default for Calibrate {
    fn default() -> Self {
        let forms =
            ["peer", "soft:rescale", "soft:temperature=0.3", "token", "hidden", "mixed:hidden=0.5,rescale"];
        Self {
            forms: forms.iter().filter_map(|form| form.parse().ok()).collect(),
            steps: vec![1, 4, 8, 16],
            max_tokens: 24,
        }
    }
}

impl Calibrate {
    /// Measures on built-in texts and on the questions of one pipeline of two agents.
    ///
    /// # Errors
    /// When the model fails, or a text or question does not fit its window.
    pub fn run(&self, loaded: &Loaded<'_>, questions: &Questions) -> Result<CalibrateReport> {
        let mut steps = distinct(&self.steps);
        steps.retain(|&steps| steps > 0);
        steps.sort_unstable();
        let (wording, data) = questions.only(Pipeline::TwoAgent)?;
        let measure = Measure { model: loaded.model, steps: &steps, max_tokens: self.max_tokens };
        let forms = distinct(&self.forms);
        let progress = Progress::new(forms.len() * (TEXTS.len() + data.tasks.len()), "texts and questions")?;
        let mut none = None;
        let mut measured = Vec::new();
        let mut tries = Vec::new();
        for &form in &forms {
            progress.name(form.to_string());
            let texts = TEXTS.iter().map(|text| {
                let surprise = measure.text(text, form);
                progress.done();
                surprise
            });
            let texts = texts.collect::<Result<Vec<_>>>()?;
            let answers = data.tasks.iter().map(|task| {
                let right = measure.question(wording, task, form);
                progress.done();
                right.with_context(|| format!("question {} of {}", task.number, data.name))
            });
            let answers = answers.collect::<Result<Vec<_>>>()?;
            // Without steps, every form is the same.
            none.get_or_insert_with(|| sum_up(StepForm::Peer, 0, 0, &texts, &answers));
            for (at, &steps) in steps.iter().enumerate() {
                measured.push(sum_up(form, steps, at + 1, &texts, &answers));
                tries.push(pairs(&answers, at + 1));
            }
        }
        progress.clear();
        let none = none.context("no form to try")?;
        let choice = Choice::of(&none, &measured, &tries);
        Ok(CalibrateReport {
            calibration: Calibration {
                format: Calibration::FORMAT,
                weights_hash: loaded.model.weights_hash().to_owned(),
                form: choice.form,
                steps: choice.steps,
                max_steps: choice.max_steps,
                limits: limits(loaded.model)?,
                seed: questions.seed(),
                measured: [vec![none], measured].concat(),
            },
        })
    }
}

/// Measurements on one model.
struct Measure<'m> {
    model: &'m Model,
    /// Numbers of steps, ascending, without 0.
    steps: &'m [usize],
    max_tokens: usize,
}

/// What a text became behind each number of steps, none first.
struct Continued {
    surprise: Vec<f64>,
    norm: Vec<f64>,
    entropy: Vec<f64>,
}

impl Measure<'_> {
    fn most(&self) -> usize {
        self.steps.last().copied().unwrap_or(0)
    }

    /// 0, then the numbers of steps.
    fn all(&self) -> impl Iterator<Item = usize> {
        [0].into_iter().chain(self.steps.iter().copied())
    }

    /// The context of `prompt` with the most steps, and its length without steps.
    fn think(&self, prompt: impl Into<Prompt>, form: StepForm) -> Result<(Context, usize, Vec<StepState>)> {
        let options = ThinkOptions { form, diagnostics: true, ..ThinkOptions::steps(self.most()) };
        let thought: Thought = self.model.think(prompt, None, &options)?;
        let states = thought.states.clone();
        let prompt_tokens = thought.prompt_tokens;
        Ok((thought.into_context()?, prompt_tokens, states))
    }

    fn text(&self, text: &str, form: StepForm) -> Result<Continued> {
        // Between two sentences, as a hand-over is: within one, any step breaks the sentence.
        let half = text.len() / 3;
        let (begun, rest) = text.split_at(half + text[half..].find(". ").map_or(0, |end| end + 1));
        let mut tokens = self.model.tokenize(&Prompt::Raw(rest.to_owned()))?;
        tokens.truncate(CONTINUED);
        let (context, begun, states) = self.think(Prompt::Raw(begun.to_owned()), form)?;
        let mut continued = Continued { surprise: Vec::new(), norm: Vec::new(), entropy: Vec::new() };
        for steps in self.all() {
            let surprise = self.model.inspect().surprise(&context.truncate(begun + steps)?, &tokens)?;
            let sum: f64 = surprise.iter().map(|&nats| f64::from(nats).min(IMPOSSIBLE)).sum();
            continued.surprise.push(sum / surprise.len().max(1) as f64);
            let state = states.get(steps).context("a state for each step")?;
            continued.norm.push(state.norm.into());
            continued.entropy.push(state.entropy.into());
        }
        Ok(continued)
    }

    /// Whether the answer behind each number of steps holds the reference.
    fn question(&self, wording: &Wording, task: &Task, form: StepForm) -> Result<Vec<bool>> {
        let plan = wording.plan(Pipeline::TwoAgent, task, 1);
        let [reader, solver] = &plan.turns[..] else { anyhow::bail!("the pipeline has not two agents") };
        let (context, read, _) = self.think(reader.behind_context.as_str(), form)?;
        let options = GenerateOptions { max_tokens: self.max_tokens, ..GenerateOptions::default() };
        self.all()
            .map(|steps| {
                let context = context.truncate(read + steps)?;
                let answer = self.model.generate(solver.behind_context.as_str(), Some(&context), &options)?;
                Ok(task.metric.score(&answer.text, &task.answers).contains)
            })
            .collect()
    }
}

fn sum_up(
    form: StepForm,
    steps: usize,
    at: usize,
    texts: &[Continued],
    answers: &[Vec<bool>],
) -> MeasuredSteps {
    let more: Vec<f64> = texts.iter().map(|text| text.surprise[at] - text.surprise[0]).collect();
    let (surprise, half) = mean_and_half_interval(&more);
    MeasuredSteps {
        form,
        steps,
        texts: texts.len(),
        surprise,
        surprise_interval: [surprise - half, surprise + half],
        questions: answers.len(),
        right: answers.iter().filter(|answer| answer[at]).count(),
        kept: answers.iter().filter(|answer| answer[0] && answer[at]).count(),
        norm: median(texts.iter().map(|text| text.norm[at])).unwrap_or(f64::NAN),
        entropy: median(texts.iter().map(|text| text.entropy[at])).unwrap_or(f64::NAN),
    }
}

/// Steps against none.
fn pairs(answers: &[Vec<bool>], at: usize) -> Paired {
    let only = |first: usize, second: usize| {
        answers.iter().filter(|answer| answer[first] && !answer[second]).count()
    };
    Paired::new(only(at, 0), only(0, at))
}

/// The mean, and half of its 95 % interval by Student's t.
fn mean_and_half_interval(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, f64::INFINITY);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, student_quantile(n - 1.0) * (variance / n).sqrt())
}

/// The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion (Abramowitz and Stegun, 26.7.5); exact to 1 % from four
/// degrees of freedom on.
fn student_quantile(degrees: f64) -> f64 {
    const Z: f64 = 1.959_963_984_540_054;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
}

/// The form and the numbers of steps that follow from the measurements.
struct Choice {
    form: StepForm,
    steps: usize,
    max_steps: usize,
}

impl Choice {
    fn of(none: &MeasuredSteps, measured: &[MeasuredSteps], tries: &[Paired]) -> Self {
        let harmless = |found: &MeasuredSteps| {
            found.surprise_interval[1] <= HARMLESS_SURPRISE
                && found.kept as f64 >= HARMLESS_KEPT * none.right as f64
        };
        let max_steps = |form: StepForm| {
            let of_form = measured.iter().filter(|found| found.form == form);
            of_form.take_while(|found| harmless(found)).last().map_or(0, |found| found.steps)
        };
        let helps = |found: &MeasuredSteps, pair: &Paired| {
            found.steps <= max_steps(found.form)
                && pair.only_first > pair.only_second
                && pair.p < LEVEL / tries.len().max(1) as f64
        };
        let helping = measured.iter().zip(tries).filter(|(found, pair)| helps(found, pair));
        if let Some((best, _)) =
            helping.max_by_key(|(found, _)| (found.right, std::cmp::Reverse(found.steps)))
        {
            return Self { form: best.form, steps: best.steps, max_steps: max_steps(best.form) };
        }
        // None helps: the form in which most steps do no harm, and of those the least surprising.
        let least = measured.iter().max_by(|one, other| {
            let (most, least) = (max_steps(one.form), max_steps(other.form));
            most.cmp(&least).then(other.surprise.total_cmp(&one.surprise))
        });
        let form = least.map_or(StepForm::Peer, |found| found.form);
        Self { form, steps: 0, max_steps: max_steps(form) }
    }
}

/// What the state is like behind the tokens of the texts. The first token is left out: its norm is often far from all others.
fn limits(model: &Model) -> Result<StepLimits> {
    let mut limits =
        StepLimits { min_norm: f32::INFINITY, max_norm: 0.0, max_entropy: 0.0, ..StepLimits::default() };
    for text in TEXTS {
        let tokens = model.tokenize(&Prompt::Raw(text.to_owned()))?;
        let states = model.inspect().states(&tokens)?;
        for pair in states.get(1..).unwrap_or_default().windows(2) {
            let [state, next] = pair else { continue };
            limits.min_norm = limits.min_norm.min(state.norm);
            limits.max_norm = limits.max_norm.max(state.norm);
            limits.max_entropy = limits.max_entropy.max(state.entropy.min(next.entropy));
        }
    }
    // Eight texts do not show the extremes.
    Ok(StepLimits { min_norm: limits.min_norm * 0.9, max_norm: limits.max_norm * 1.1, ..limits })
}

const HEADER: [&str; 7] = ["form", "steps", "surprise", "95 % interval", "right", "kept", "norm, entropy"];

impl fmt::Display for CalibrateReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.calibration;
        let row = |one: &MeasuredSteps| {
            let [low, high] = one.surprise_interval;
            [
                if one.steps == 0 { "none".to_owned() } else { one.form.to_string() },
                one.steps.to_string(),
                format!("{:+.3}", one.surprise),
                format!("{low:+.3} to {high:+.3}"),
                format!("{}/{}", one.right, one.questions),
                one.kept.to_string(),
                format!("{:.0}, {:.1}", one.norm, one.entropy),
            ]
        };
        write_table(formatter, &HEADER, &found.measured.iter().map(row).collect::<Vec<_>>())?;
        writeln!(formatter)?;
        match found.steps {
            0 => writeln!(
                formatter,
                "No number of steps answered better than none, so `--steps auto` takes none."
            )?,
            steps => writeln!(formatter, "`--steps auto` takes {steps} steps of form {}.", found.form)?,
        }
        match found.max_steps {
            0 => writeln!(formatter, "Every form did harm at the fewest steps that were tried.")?,
            most => writeln!(formatter, "Up to {most} steps of form {} did no harm.", found.form)?,
        }
        writeln!(formatter, "{LEGEND}")
    }
}

const LEGEND: &str = "\
surprise: nats a token by which the continuation of a text is less expected than without steps
right: answers behind the context that hold the reference; kept: those of them that are right without steps
norm, entropy: medians of the hidden state's norm and of the next token's entropy in nats, behind the last step";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(form: &str, steps: usize, high: f64, right: usize, kept: usize) -> MeasuredSteps {
        MeasuredSteps {
            form: form.parse().unwrap(),
            steps,
            texts: 8,
            surprise: high / 2.0,
            surprise_interval: [0.0, high],
            questions: 40,
            right,
            kept,
            norm: 1.0,
            entropy: 1.0,
        }
    }

    #[test]
    fn steps_are_recommended_only_where_chance_does_not_explain_their_answers() {
        let none = found("peer", 0, 0.0, 20, 20);
        let measured = [found("hidden", 4, 0.25, 30, 20), found("hidden", 8, 0.05, 26, 20)];
        let choice = Choice::of(&none, &measured, &[Paired::new(10, 0), Paired::new(6, 0)]);
        assert_eq!((choice.steps, choice.max_steps, choice.form), (4, 8, StepForm::Hidden));
        // 6 of 6 has p = 0.03, above 0.05 / 2.
        let choice = Choice::of(&none, &measured, &[Paired::new(6, 0), Paired::new(6, 0)]);
        assert_eq!((choice.steps, choice.max_steps), (0, 8));
    }

    #[test]
    fn harm_ends_the_steps_of_a_form_even_where_more_steps_look_well() {
        let none = found("peer", 0, 0.0, 20, 20);
        let surprised =
            [found("peer", 1, 0.05, 20, 20), found("peer", 4, 0.8, 20, 20), found("peer", 8, 0.05, 20, 20)];
        let even = [Paired::new(0, 0), Paired::new(0, 0), Paired::new(0, 0)];
        assert_eq!(Choice::of(&none, &surprised, &even).max_steps, 1);
        let forgetful = [found("peer", 1, 0.05, 30, 17)];
        assert_eq!(Choice::of(&none, &forgetful, &even[..1]).max_steps, 0);
        let both = [forgetful[0].clone(), found("token", 1, 0.05, 20, 20)];
        assert_eq!(Choice::of(&none, &both, &even[..2]).form, "token".parse().unwrap());
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        // Eight values, 0 to 7: a mean of 3.5, a standard error of sqrt(6 / 8), and t = 2.3646 with seven degrees of freedom.
        let values: Vec<f64> = (0..8).map(f64::from).collect();
        let (mean, half) = mean_and_half_interval(&values);
        assert_eq!(mean, 3.5);
        assert!((half - 2.3646 * (6.0_f64 / 8.0).sqrt()).abs() < 0.01, "{half}");
        assert_eq!(mean_and_half_interval(&[1.0]).1, f64::INFINITY);
    }
}
